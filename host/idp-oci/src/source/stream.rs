//! The archive that a daemon streams, read once while it comes, in whatever order its members stand.
//!
//! Layers leave as they pass: plain tars compressed, others as they are, each in an unnamed temporary file of its own.
//! What is small, or cannot be judged before the manifests have come, waits in one shared temporary file. Nothing is held
//! in memory but the table of names.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;

use crate::blob::Blob;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::layout::{self, Contents, INDEX, Resolved};
use crate::manifest::{Descriptor, MAX_MANIFEST};
use crate::media;
use crate::source::archive::{given_up_or, is_plain, normal, tar_error};
use crate::source::classic::{self, Layer};
use crate::source::compress::{self, Format};
use crate::source::outlet::Outlet;
use crate::source::{Image, Selection, SourceError};
use crate::tarball::{Kind, Member, Reader, StreamInput};

/// Links to links to links.
const MAX_LINKS: usize = 8;

/// What is known of an image before its archive comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expect {
    /// The daemon keeps images as registries do: what comes is already what is to be pushed, plain tars included.
    pub(crate) as_stored: bool,
}

/// What became of a member.
#[derive(Debug, Clone)]
enum Held {
    /// It waits in the shared file.
    Waiting { offset: u64, size: u64 },
    /// It went out as a layer. `diff_id` is known where it was a plain tar, and then the layer is its compressed form.
    Sent { descriptor: Box<Descriptor>, diff_id: Option<Digest> },
    /// It is a name for another member.
    Link(String),
}

/// Reads the whole archive from `input`, sending layers as they come.
pub(crate) fn read(
    input: impl Read,
    expect: Expect,
    selection: &Selection,
    what: &str,
    outlet: &Outlet,
) -> Result<Image, SourceError> {
    let spool = tempfile::tempfile().map_err(|error| SourceError::Io { what: what.to_owned(), error })?;
    // With one platform wanted, a compressed layer that passes may belong to another one.
    let hold = expect.as_stored && selection.platform.is_some();
    let mut stream = Stream {
        members: HashMap::new(),
        sent: HashSet::new(),
        spool: Arc::new(spool),
        spooled: 0,
        compress: !expect.as_stored,
        hold,
        what,
        outlet,
    };
    let mut reader = Reader::new(StreamInput(input));
    while let Some(member) = reader.next().map_err(|error| tar_error(error, what))? {
        stream.take(&member, &mut reader)?;
    }
    stream.finish(selection)
}

struct Stream<'a> {
    members: HashMap<String, Held>,
    /// Layers by the digest of their tar, for those that stand twice under different names.
    sent: HashSet<Digest>,
    spool: Arc<File>,
    spooled: u64,
    compress: bool,
    hold: bool,
    what: &'a str,
    outlet: &'a Outlet,
}

impl Stream<'_> {
    fn invalid(&self, text: &str) -> SourceError {
        SourceError::Invalid(format!("{}: {text}", self.what))
    }

    fn take(&mut self, member: &Member, body: &mut dyn Read) -> Result<(), SourceError> {
        let Some(path) = normal("", &member.path) else { return Ok(()) };
        let parent = path.rsplit_once('/').map(|(parent, _)| parent).unwrap_or_default();
        let held = match &member.kind {
            Kind::File => self.file(&path, body)?,
            Kind::Symlink(target) => match normal(parent, target) {
                Some(target) => Held::Link(target),
                None => return Ok(()),
            },
            Kind::Hardlink(target) => match normal("", target) {
                Some(target) => Held::Link(target),
                None => return Ok(()),
            },
            Kind::Directory | Kind::Other(_) => return Ok(()),
        };
        self.members.insert(path, held);
        Ok(())
    }

    fn file(&mut self, path: &str, body: &mut dyn Read) -> Result<Held, SourceError> {
        let what = format!("{}: `{path}`", self.what);
        let failed = |error: io::Error| given_up_or(error, &what);
        let mut head = Vec::with_capacity(512);
        (&mut *body).take(512).read_to_end(&mut head).map_err(failed)?;
        let named = layout::digest_of_path(path);
        let format = Format::of(&head);
        let mut body = io::Read::chain(&*head, body);
        match format {
            Format::Tar if self.compress => self.plain_layer(&mut body, named, &what),
            Format::Tar | Format::Gzip | Format::Zstd if !self.hold => {
                let media_type = match format {
                    Format::Gzip => media::OCI_LAYER_GZIP,
                    Format::Zstd => media::OCI_LAYER_ZSTD,
                    _ => media::OCI_LAYER,
                };
                let mut file = tempfile::tempfile().map_err(failed)?;
                let (digest, size) = self.copy(&mut body, named.as_ref(), &mut file, &what)?;
                let descriptor = Descriptor::new(media_type, digest, size);
                self.outlet.send(Blob::from_file(descriptor.clone(), Arc::new(file), 0))?;
                Ok(Held::Sent { descriptor: descriptor.into(), diff_id: None })
            }
            _ => {
                let spool = Arc::clone(&self.spool);
                let (_, size) = self.copy(&mut body, named.as_ref(), &mut &*spool, &what)?;
                let offset = self.spooled;
                self.spooled += size;
                Ok(Held::Waiting { offset, size })
            }
        }
    }

    fn plain_layer(
        &mut self,
        body: &mut dyn Read,
        named: Option<Digest>,
        what: &str,
    ) -> Result<Held, SourceError> {
        let compressed =
            compress::gzip(body, &|| self.outlet.is_closed()).map_err(|error| given_up_or(error, what))?;
        let diff_id = compressed.diff_id;
        check_name(named.as_ref(), &diff_id, what)?;
        let descriptor = compressed.descriptor;
        if self.sent.insert(diff_id.clone()) {
            self.outlet.send(Blob::from_file(descriptor.clone(), Arc::new(compressed.file), 0))?;
        }
        Ok(Held::Sent { descriptor: descriptor.into(), diff_id: Some(diff_id) })
    }

    /// Copies a body, and checks it against its name where the name is a digest.
    fn copy(
        &self,
        body: &mut dyn Read,
        named: Option<&Digest>,
        output: &mut dyn io::Write,
        what: &str,
    ) -> Result<(Digest, u64), SourceError> {
        let mut hasher = Hasher::new(named.map_or(Algorithm::Sha256, Digest::algorithm));
        compress::copy(body, &|| self.outlet.is_closed(), &mut |chunk| {
            hasher.update(chunk);
            output.write_all(chunk)
        })
        .map_err(|error| given_up_or(error, what))?;
        let size = hasher.count();
        let digest = hasher.finish();
        check_name(named, &digest, what)?;
        Ok((digest, size))
    }

    /// The manifests have come: what they need has gone out already, or waits.
    fn finish(self, selection: &Selection) -> Result<Image, SourceError> {
        let index = self.small(INDEX)?;
        let manifest = self.small(classic::MANIFEST)?;
        if let Some(index) = index {
            let resolved = layout::resolve(&self, index, selection, self.what);
            match resolved {
                Ok(resolved) if !self.compress || !is_plain(&resolved) => return self.send(resolved),
                Err(error) if manifest.is_none() || !self.compress => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        let manifest = manifest.ok_or_else(|| {
            self.invalid(&format!("there is neither {INDEX} nor {} in it", classic::MANIFEST))
        })?;
        let saved = classic::choose(&manifest, selection, self.what, &|path| self.small(path))?;
        let config = Blob::from_bytes(media::OCI_CONFIG, saved.config);
        let config_descriptor = config.descriptor.clone();
        self.outlet.send(config)?;
        let layers: Vec<_> = saved.layers.iter().map(|layer| self.layer(layer)).collect::<Result<_, _>>()?;
        let manifest = classic::manifest(&config_descriptor, &layers)?;
        Ok(Image { manifests: vec![manifest], name: saved.name })
    }

    fn send(&self, resolved: Resolved) -> Result<Image, SourceError> {
        for descriptor in &resolved.blobs {
            if let Some(Held::Waiting { .. }) = self.find(&layout::blob_path(&descriptor.digest)) {
                self.outlet.send(self.open(descriptor)?)?;
            }
        }
        Ok(Image { manifests: resolved.manifests, name: resolved.name })
    }

    fn layer(&self, layer: &Layer) -> Result<Descriptor, SourceError> {
        if let Some(foreign) = &layer.foreign {
            return Ok(foreign.clone());
        }
        match self.find(&layer.path) {
            Some(Held::Sent { descriptor, diff_id }) => match diff_id {
                Some(found) if *found != layer.diff_id => {
                    Err(classic::wrong_diff_id(self.what, layer, found))
                }
                _ => Ok((**descriptor).clone()),
            },
            Some(Held::Waiting { .. } | Held::Link(_)) => {
                Err(self.invalid(&format!("the layer `{}` is neither a tar nor gzip nor zstd", layer.path)))
            }
            None => Err(self.invalid(&format!("the layer `{}` is missing", layer.path))),
        }
    }

    fn find(&self, path: &str) -> Option<&Held> {
        let mut path = normal("", path)?;
        for _ in 0..MAX_LINKS {
            match self.members.get(&path)? {
                Held::Link(target) => path.clone_from(target),
                held => return Some(held),
            }
        }
        None
    }

    fn small(&self, path: &str) -> Result<Option<Bytes>, SourceError> {
        let Some(Held::Waiting { offset, size }) = self.find(path) else { return Ok(None) };
        let descriptor = Descriptor::new("", Digest::of(b""), *size);
        match Blob::from_file(descriptor, Arc::clone(&self.spool), *offset).read_whole(MAX_MANIFEST) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(SourceError::Io { what: format!("{}: {path}", self.what), error }),
        }
    }
}

fn check_name(named: Option<&Digest>, found: &Digest, what: &str) -> Result<(), SourceError> {
    match named {
        Some(named) if named != found => {
            Err(SourceError::Invalid(format!("{what} is damaged: its bytes hash to {found}")))
        }
        _ => Ok(()),
    }
}

impl Contents for Stream<'_> {
    fn size(&self, digest: &Digest) -> Result<Option<u64>, SourceError> {
        Ok(match self.find(&layout::blob_path(digest)) {
            Some(Held::Waiting { size, .. }) => Some(*size),
            Some(Held::Sent { descriptor, diff_id: None }) => Some(descriptor.size),
            // What it was is gone; only its compressed form was kept.
            Some(Held::Sent { diff_id: Some(_), .. } | Held::Link(_)) | None => None,
        })
    }

    fn open(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        match self.find(&layout::blob_path(&descriptor.digest)) {
            Some(Held::Waiting { offset, .. }) => {
                Ok(Blob::from_file(descriptor.clone(), Arc::clone(&self.spool), *offset))
            }
            _ => Err(self.invalid(&format!("{} is not a manifest", descriptor.digest))),
        }
    }
}
