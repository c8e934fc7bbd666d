//! Push: a source of the command line to a repository of a registry.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use idp_oci::blob::Part;
use idp_oci::client::dialect::Created;
use idp_oci::digest::Digest;
use idp_oci::manifest::Platform;
use idp_oci::name::{Reference, Repository, Tag};
use idp_oci::pipeline::{self, PushOptions};
use idp_oci::source::{self, Compression, Memo, Offer, Selection, Source};
use serde::Serialize;

use super::session::{self, Subject};
use super::{Context, Error, room};

/// What is pushed and where to.
#[derive(Debug, Clone)]
pub struct Request {
    /// As [`source::open`] takes it.
    pub source: String,
    /// A reference, `repository[:tag]` in the default registry, or the source's own name.
    pub destination: Option<String>,
    /// Only this platform.
    pub platform: Option<Platform>,
    /// What becomes of layers that are plain tars.
    pub compression: Compression,
    /// Repositories of the same registry that may have some of the blobs.
    pub mount_from: Vec<Repository>,
}

/// What was pushed, or would be.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pushed {
    /// What it was.
    pub source: String,
    /// Where it is, with its tag.
    pub reference: String,
    /// `registry/repository@digest`.
    pub pinned: String,
    /// The digest of the root manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Manifests, the root included.
    pub manifests: usize,
    /// Blobs of all manifests, each once.
    pub blobs: usize,
    /// Those whose bytes were sent.
    pub blobs_sent: usize,
    /// How many bytes these have.
    pub bytes_sent: u64,
    /// Those that the registry had, or took from another repository.
    pub blobs_reused: usize,
    /// The provider's name and version.
    pub provider: String,
    /// What was made at the registry for it, or would be.
    pub created: Vec<Created>,
    /// Nothing was written.
    pub dry_run: bool,
}

/// Pushes. With `dry_run` the source is read, the registry is asked what it would have to make, and nothing is written.
pub async fn push(context: &Context, request: Request) -> Result<Pushed, Error> {
    if !context.registries.oci_push.enabled {
        return Err(Error::PushDisabled(context.registries.file().map(Path::to_owned).unwrap_or_default()));
    }
    let destination = destination(context, &request)?;
    let base = std::env::current_dir()
        .map_err(|error| Error::Io { what: "finding the current directory".to_owned(), error })?;
    let source = source::open(&request.source, &base)?;
    let name = source.describe();
    let selection = Selection {
        name: None,
        platform: request.platform,
        compression: request.compression,
        memo: context.paths.layers().map(|file| Arc::new(Memo::load(file))),
    };
    if context.options.dry_run {
        let mut pushed = rehearse(source, &selection, &destination, name).await?;
        let room = room::rehearse(context, &destination).await?;
        (pushed.provider, pushed.created) = (room.provider, room.created);
        return Ok(pushed);
    }
    let session = session::open(context, Subject::from(&destination)).await?;
    room::check(context, &session, &destination).await?;
    let tags = tags(&destination);
    let options = PushOptions { selection, mount_from: request.mount_from, ..PushOptions::default() };
    let pushed = pipeline::push(
        &session.client,
        session.on_wire(&destination.repository),
        &tags,
        source,
        &options,
        &context.cancel,
    )
    .await
    .map_err(|error| session.pipeline_failed(error))?;
    check(&destination, &pushed.digest)?;
    let blobs_reused = pushed.blobs_mounted + pushed.blobs_existing;
    Ok(Pushed {
        source: name,
        reference: shown(&destination),
        pinned: destination.pinned(&pushed.digest),
        digest: pushed.digest,
        media_type: pushed.media_type,
        manifests: pushed.manifests,
        blobs: pushed.blobs_sent + blobs_reused,
        blobs_sent: pushed.blobs_sent,
        bytes_sent: pushed.bytes_sent,
        blobs_reused,
        created: session.client.created(),
        provider: session.provider,
        dry_run: false,
    })
}

/// `latest`, unless a tag or a digest is written.
fn tags(destination: &Reference) -> Vec<Tag> {
    match (&destination.tag, &destination.digest) {
        (Some(tag), _) => vec![tag.clone()],
        (None, Some(_)) => Vec::new(),
        (None, None) => vec![Tag::latest()],
    }
}

fn shown(destination: &Reference) -> String {
    let mut shown = destination.clone();
    if shown.tag.is_none() && shown.digest.is_none() {
        shown.tag = Some(Tag::latest());
    }
    shown.to_string()
}

/// A digest in DEST is a promise about what is pushed.
fn check(destination: &Reference, digest: &Digest) -> Result<(), Error> {
    match &destination.digest {
        Some(expected) if expected != digest => {
            Err(Error::Usage(format!("the destination names {expected}, and what was pushed is {digest}")))
        }
        _ => Ok(()),
    }
}

/// Reads the source to its end and writes nothing.
async fn rehearse(
    source: Box<dyn Source>,
    selection: &Selection,
    destination: &Reference,
    name: String,
) -> Result<Pushed, Error> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Offer>(4);
    let drain = async {
        let mut blobs = BTreeMap::new();
        while let Some(offer) = receiver.recv().await {
            match offer {
                Offer::Manifests(_) | Offer::Question(_) => {}
                Offer::Blob(blob) => {
                    blobs.insert(blob.descriptor.digest.to_string(), blob.descriptor.size);
                }
                Offer::Live(mut live) => {
                    while let Some(part) = live.parts.recv().await {
                        if let Part::End(made) = part {
                            blobs.insert(made.digest.to_string(), made.size);
                        }
                    }
                    let _ = live.taken.send(true);
                }
            }
        }
        blobs
    };
    let (image, blobs) = tokio::join!(source.read(selection, sender), drain);
    let image = image?;
    let root = image
        .manifests
        .last()
        .ok_or_else(|| source::SourceError::Invalid(format!("{name} holds no manifest")))?;
    check(destination, root.digest())?;
    Ok(Pushed {
        source: name,
        reference: shown(destination),
        pinned: destination.pinned(root.digest()),
        digest: root.digest().clone(),
        media_type: root.descriptor().media_type.clone(),
        manifests: image.manifests.len(),
        blobs: blobs.len(),
        blobs_sent: blobs.len(),
        bytes_sent: blobs.values().sum(),
        blobs_reused: 0,
        provider: String::new(),
        created: Vec::new(),
        dry_run: true,
    })
}

fn destination(context: &Context, request: &Request) -> Result<Reference, Error> {
    let Some(text) = &request.destination else {
        let name = own_name(&request.source).ok_or_else(|| {
            Error::Usage(format!(
                "`{}` has no name of its own; give a DEST, for example team/app:1.0",
                request.source
            ))
        })?;
        let mut reference = context.reference(&name).map_err(|error| match error {
            Error::Name(error) => {
                Error::Usage(format!("the source has no usable name of its own ({error}); give a DEST"))
            }
            other => other,
        })?;
        // The name of an image says where it came from; a flag says where it goes to.
        if context.options.registry.is_some()
            && let Some((address, _)) = context.default_registry()?
        {
            reference.registry = address.registry;
        }
        return Ok(reference);
    };
    context.reference(text)
}

/// The name of a source by what is written: the image's name, else the file's or directory's.
fn own_name(source: &str) -> Option<String> {
    let named = |rest: &str| {
        // `DIR:TAG`: the directory's name with that tag; `FILE:NAME` and a tag that is a name itself stand for themselves.
        let (path, name) = match rest.rsplit_once('/') {
            Some((_, last)) => last.split_once(':').map_or((last, None), |(path, name)| (path, Some(name))),
            None => rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name))),
        };
        let path = path.strip_suffix(".tar.gz").or_else(|| path.strip_suffix(".tar")).unwrap_or(path);
        let plain = path.to_ascii_lowercase();
        match name {
            None => Some(plain).filter(|plain| !plain.is_empty() && plain != "." && plain != ".."),
            Some(name) if name.contains(['/', ':']) => Some(name.to_owned()),
            Some(name) => Some(format!("{plain}:{name}")),
        }
    };
    match source.split_once(':') {
        Some(("oci" | "oci-archive", rest)) => named(rest),
        Some(("docker-archive", rest)) => {
            let (path, name) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
            name.map(str::to_owned).or_else(|| named(path))
        }
        Some(("docker" | "docker-daemon", rest)) => Some(rest.to_owned()),
        _ if Path::new(source).exists() => {
            // `.` and `..` have a name where they really are.
            let path = fs_err::canonicalize(source).ok()?;
            named(path.file_name()?.to_str()?)
        }
        _ => Some(source.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::own_name;

    #[test]
    fn names_of_sources() {
        for (source, expect) in [
            ("app:1.0", "app:1.0"),
            ("docker-daemon:team/app:1.0", "team/app:1.0"),
            ("oci:./Layout", "layout"),
            ("oci:./layout:1.0", "layout:1.0"),
            ("oci-archive:dir/app.tar", "app"),
            ("oci-archive:dir/app.tar:2", "app:2"),
            ("docker-archive:app.tar:team/app:1.0", "team/app:1.0"),
            ("docker-archive:app.tar.gz", "app"),
        ] {
            assert_eq!(own_name(source).as_deref(), Some(expect), "{source}");
        }
        assert_eq!(own_name("oci:"), None);
        assert!(own_name(env!("CARGO_MANIFEST_DIR")).is_some_and(|name| name == "idp"));
    }
}
