//! OCI image layouts (image-spec, image-layout.md), wherever they lie: in a directory, in a tar, in a stream gone by.
//!
//! In: `index.json` and content by digest ([`Contents`]). Out: the manifests and blobs of one image of it. Shared by the
//! sources; does no I/O of its own.

use std::collections::HashSet;

use bytes::Bytes;

use crate::blob::Blob;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::manifest::{Descriptor, MAX_MANIFEST, Manifest, Platform, Shape};
use crate::media;
use crate::source::{Selection, SourceError};

/// The marker file.
pub(crate) const MARKER: &str = "oci-layout";
/// What the marker says.
pub(crate) const MARKER_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The entry point.
pub(crate) const INDEX: &str = "index.json";
/// Which annotation of an entry holds its tag.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Which annotation holds the full name, in what containerd and Docker write.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";

/// Indexes in indexes in indexes.
const MAX_DEPTH: usize = 8;
/// Manifests of one image, and the bytes of all of them.
const MAX_MANIFESTS: usize = 10_000;
const MAX_MANIFEST_BYTES: u64 = 64 * 1024 * 1024;

/// `blobs/sha256/<hex>`.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// The digest that a path of a layout stands for.
pub(crate) fn digest_of_path(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Content by digest. Called on blocking threads.
pub(crate) trait Contents {
    /// How many bytes are there under this digest; none when it is not there.
    fn size(&self, digest: &Digest) -> Result<Option<u64>, SourceError>;

    /// The content. Only asked for what [`Contents::size`] found.
    fn open(&self, descriptor: &Descriptor) -> Result<Blob, SourceError>;
}

/// What one image of a layout consists of.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// Children first, the root last.
    pub(crate) manifests: Vec<Manifest>,
    /// The blobs they need, each once; foreign layers left out.
    pub(crate) blobs: Vec<Descriptor>,
    /// What the layout calls it, where that is more than a tag.
    pub(crate) name: Option<String>,
}

impl Resolved {
    /// The blobs in the order in which they are best moved: what takes longest begins first.
    pub(crate) fn largest_first(&self) -> Vec<&Descriptor> {
        let mut blobs: Vec<&Descriptor> = self.blobs.iter().collect();
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        blobs
    }
}

/// Finds the image that `selection` asks for. `what` names the layout in errors; nothing is opened but manifests (and one
/// config, where a platform must be read from it), so whatever is missing is reported before anything is sent.
pub(crate) fn resolve(
    contents: &dyn Contents,
    index: Bytes,
    selection: &Selection,
    what: &str,
) -> Result<Resolved, SourceError> {
    let index = Manifest::parse(index, Some(media::OCI_INDEX))
        .map_err(|error| SourceError::Manifest { what: format!("{what}: {INDEX}"), error })?;
    let Shape::Index { manifests: entries } = index.shape() else {
        return Err(SourceError::Invalid(format!("{what}: {INDEX} is not an image index")));
    };
    let entry = choose(entries, selection, what)?;
    let mut walk =
        Walk { contents, what, seen: HashSet::new(), blobs: Vec::new(), manifests: Vec::new(), bytes: 0 };
    let root = match &selection.platform {
        Some(platform) => walk.find_platform(entry, platform)?,
        None => entry.clone(),
    };
    walk.visit(&root, 1)?;
    // Some tools write the full name where the tag belongs; a tag alone names no repository.
    let name = entry.annotations.get(IMAGE_NAME).map(String::as_str);
    let full = entry.annotations.get(REF_NAME).filter(|name| name.contains(['/', ':']));
    let name = name.or(full.map(String::as_str)).map(|name| familiar_name(name).to_owned());
    Ok(Resolved { manifests: walk.manifests, blobs: walk.blobs, name })
}

/// The entry of `index.json` that is meant.
fn choose<'a>(
    entries: &'a [Descriptor],
    selection: &Selection,
    what: &str,
) -> Result<&'a Descriptor, SourceError> {
    let distinct = |candidates: &[&'a Descriptor]| {
        let digests: HashSet<_> = candidates.iter().map(|entry| &entry.digest).collect();
        if digests.len() == 1 { candidates.first().copied() } else { None }
    };
    if let Some(wanted) = &selection.name {
        let candidates: Vec<_> = entries.iter().filter(|entry| is_called(entry, wanted)).collect();
        return match (candidates.is_empty(), distinct(&candidates)) {
            (_, Some(entry)) => Ok(entry),
            (true, None) => {
                Err(SourceError::NotFound(format!("{what} has no image `{wanted}`; {}", listing(entries))))
            }
            (false, None) => Err(SourceError::Invalid(format!(
                "{what} has several images called `{wanted}`; choose one by digest: {}",
                listing(entries)
            ))),
        };
    }
    let all: Vec<_> = entries.iter().collect();
    if let Some(entry) = distinct(&all) {
        return Ok(entry);
    }
    if let Some(platform) = &selection.platform {
        let fitting: Vec<_> = entries
            .iter()
            .filter(|entry| entry.platform.as_ref().is_some_and(|of| platform_fits(platform, of)))
            .collect();
        if let Some(entry) = distinct(&fitting) {
            return Ok(entry);
        }
    }
    if entries.is_empty() {
        return Err(SourceError::NotFound(format!("{what} has no images: its {INDEX} lists none")));
    }
    Err(SourceError::Invalid(format!("{what} has several images, choose one; {}", listing(entries))))
}

fn is_called(entry: &Descriptor, wanted: &str) -> bool {
    entry.digest.as_str() == wanted
        || entry.annotations.get(REF_NAME).is_some_and(|name| name == wanted)
        || [IMAGE_NAME, REF_NAME].iter().any(|key| {
            entry.annotations.get(*key).is_some_and(|name| canonical_name(name) == canonical_name(wanted))
        })
}

fn listing(entries: &[Descriptor]) -> String {
    let shown = entries.iter().take(20).map(|entry| {
        let name = entry.annotations.get(REF_NAME).or_else(|| entry.annotations.get(IMAGE_NAME));
        name.map_or_else(|| format!("@{}", entry.digest), Clone::clone)
    });
    let more = if entries.len() > 20 { ", …" } else { "" };
    format!("it holds: {}{more}", shown.collect::<Vec<_>>().join(", "))
}

/// `docker.io/library/app:latest` for `app`: what Docker and containerd mean by a short name.
pub(crate) fn canonical_name(name: &str) -> String {
    let (path, rest) = match (name.rfind('@'), name.rfind(':')) {
        (Some(at), _) => name.split_at(at),
        (None, Some(colon)) if !name[colon..].contains('/') => name.split_at(colon),
        _ => (name, ":latest"),
    };
    let is_host = |first: &str| first.contains('.') || first.contains(':') || first == "localhost";
    match path.split_once('/') {
        Some((first, _)) if is_host(first) => format!("{path}{rest}"),
        Some(_) => format!("docker.io/{path}{rest}"),
        None => format!("docker.io/library/{path}{rest}"),
    }
}

/// The other way: `app:1` for `docker.io/library/app:1`.
pub(crate) fn familiar_name(name: &str) -> &str {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    short.strip_prefix("library/").filter(|_| short.len() < name.len()).unwrap_or(short)
}

/// True when `found` is what `wanted` asks for; a variant counts only where one is asked for.
pub(crate) fn platform_fits(wanted: &Platform, found: &Platform) -> bool {
    wanted.os() == found.os()
        && wanted.architecture() == found.architecture()
        && wanted.variant().as_ref().is_none_or(|variant| {
            // image-spec: v8 is what arm64 means without a variant.
            let default = (found.architecture().to_string() == "arm64").then_some("v8");
            found.variant().as_deref().or(default) == Some(variant)
        })
}

/// `os/architecture[/variant]`.
pub(crate) fn platform_text(platform: &Platform) -> String {
    let variant = platform.variant().as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os(), platform.architecture())
}

/// The platform that a config names; none for what is no image config.
pub(crate) fn platform_of_config(config: &[u8]) -> Option<Platform> {
    serde_json::from_slice(config).ok()
}

struct Walk<'a> {
    contents: &'a dyn Contents,
    what: &'a str,
    seen: HashSet<Digest>,
    blobs: Vec<Descriptor>,
    manifests: Vec<Manifest>,
    bytes: u64,
}

impl Walk<'_> {
    fn load(&mut self, descriptor: &Descriptor) -> Result<Manifest, SourceError> {
        let what = || format!("{}: manifest {}", self.what, descriptor.digest);
        self.bytes = self.bytes.saturating_add(descriptor.size);
        if self.bytes > MAX_MANIFEST_BYTES || self.manifests.len() >= MAX_MANIFESTS {
            return Err(SourceError::Invalid(format!(
                "{}: the image has more than {MAX_MANIFESTS} manifests or {MAX_MANIFEST_BYTES} bytes of them",
                self.what
            )));
        }
        if descriptor.digest.algorithm() != Algorithm::Sha256 {
            return Err(SourceError::Invalid(format!(
                "{} is not named by sha256, which a push needs",
                what()
            )));
        }
        self.check(descriptor)?;
        let blob = self.contents.open(descriptor)?;
        let bytes = blob.read_whole(MAX_MANIFEST).map_err(|error| SourceError::Io { what: what(), error })?;
        let mut hasher = Hasher::new(descriptor.digest.algorithm());
        hasher.update(&bytes);
        let found = hasher.finish();
        if found != descriptor.digest {
            return Err(SourceError::Invalid(format!("{} is damaged: its bytes hash to {found}", what())));
        }
        Manifest::parse(bytes, Some(&descriptor.media_type))
            .map_err(|error| SourceError::Manifest { what: what(), error })
    }

    /// There, and of the size its descriptor gives.
    fn check(&self, descriptor: &Descriptor) -> Result<(), SourceError> {
        match self.contents.size(&descriptor.digest)? {
            Some(size) if size == descriptor.size => Ok(()),
            Some(size) => Err(SourceError::Invalid(format!(
                "{}: {} has {size} bytes, and its descriptor says {}",
                self.what, descriptor.digest, descriptor.size
            ))),
            None => Err(SourceError::Invalid(format!("{}: {} is missing", self.what, descriptor.digest))),
        }
    }

    fn visit(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), SourceError> {
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(SourceError::Invalid(format!(
                "{}: indexes are nested more than {MAX_DEPTH} deep",
                self.what
            )));
        }
        let manifest = self.load(descriptor)?;
        match manifest.shape() {
            Shape::Image { config, layers } => {
                for blob in std::iter::once(&**config).chain(layers) {
                    if !media::is_foreign(&blob.media_type) && self.seen.insert(blob.digest.clone()) {
                        self.check(blob)?;
                        self.blobs.push(blob.clone());
                    }
                }
            }
            Shape::Index { manifests } => {
                for child in manifests {
                    // An index may name children that are not here (a sparse index); it is moved as it is.
                    if self.contents.size(&child.digest)?.is_some() {
                        self.visit(child, depth + 1)?;
                    }
                }
            }
        }
        self.manifests.push(manifest);
        Ok(())
    }

    /// The image for a platform, at or below `top`; the first one in order.
    fn find_platform(&mut self, top: &Descriptor, platform: &Platform) -> Result<Descriptor, SourceError> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let chosen = self.search(top, platform, 1, &mut seen, &mut found)?;
        self.bytes = 0;
        chosen.ok_or_else(|| {
            let list = if found.is_empty() { "none that is known".to_owned() } else { found.join(", ") };
            SourceError::NotFound(format!(
                "{} has no image for {}; it has {list}",
                self.what,
                platform_text(platform)
            ))
        })
    }

    fn search(
        &mut self,
        at: &Descriptor,
        platform: &Platform,
        depth: usize,
        seen: &mut HashSet<Digest>,
        found: &mut Vec<String>,
    ) -> Result<Option<Descriptor>, SourceError> {
        if !seen.insert(at.digest.clone()) || depth > MAX_DEPTH {
            return Ok(None);
        }
        let is_index = media::is_index(&at.media_type);
        let of = match (&at.platform, is_index) {
            (Some(of), _) => Some(of.clone()),
            (None, true) => None,
            (None, false) => self.platform_from_config(at)?,
        };
        if !is_index {
            found.extend(of.iter().map(platform_text).take(20usize.saturating_sub(found.len())));
            return Ok(of.filter(|of| platform_fits(platform, of)).map(|_| at.clone()));
        }
        if self.contents.size(&at.digest)?.is_none() {
            return Ok(None);
        }
        let Shape::Index { manifests } = self.load(at)?.shape().clone() else { return Ok(None) };
        for child in &manifests {
            if let Some(chosen) = self.search(child, platform, depth + 1, seen, found)? {
                return Ok(Some(chosen));
            }
        }
        Ok(None)
    }

    fn platform_from_config(&mut self, at: &Descriptor) -> Result<Option<Platform>, SourceError> {
        if self.contents.size(&at.digest)?.is_none() {
            return Ok(None);
        }
        let Shape::Image { config, .. } = self.load(at)?.shape().clone() else { return Ok(None) };
        if self.contents.size(&config.digest)? != Some(config.size) {
            return Ok(None);
        }
        let what = || format!("{}: config {}", self.what, config.digest);
        let bytes = self.contents.open(&config)?.read_whole(MAX_MANIFEST);
        Ok(platform_of_config(&bytes.map_err(|error| SourceError::Io { what: what(), error })?))
    }
}

#[cfg(test)]
mod tests {
    use super::{canonical_name, digest_of_path, familiar_name, platform_fits};
    use crate::manifest::Platform;

    #[test]
    fn short_names_and_long_ones() {
        for (short, long) in [
            ("app:1", "docker.io/library/app:1"),
            ("team/app:1", "docker.io/team/app:1"),
            ("r.example:5000/app:1", "r.example:5000/app:1"),
            ("localhost/app:1", "localhost/app:1"),
        ] {
            assert_eq!(canonical_name(short), long);
            assert_eq!(familiar_name(long), short);
        }
        assert_eq!(canonical_name("app"), "docker.io/library/app:latest");
        assert_eq!(canonical_name("r.example:5000/app"), "r.example:5000/app:latest");
        assert_eq!(canonical_name("app@sha256:00"), "docker.io/library/app@sha256:00");
        assert_eq!(familiar_name("library/app:1"), "library/app:1");
    }

    #[test]
    fn paths_of_blobs() {
        let hex = "0".repeat(64);
        assert!(digest_of_path(&format!("blobs/sha256/{hex}")).is_some());
        for bad in ["blobs/sha256/x", "blobs/md5/00", "sha256/00", "index.json"] {
            assert!(digest_of_path(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn variants_count_where_they_are_asked_for() {
        let platform = |architecture: &str, variant: Option<&str>| -> Platform {
            let value =
                serde_json::json!({ "os": "linux", "architecture": architecture, "variant": variant });
            serde_json::from_value(value).expect("a platform")
        };
        assert!(platform_fits(&platform("arm", None), &platform("arm", Some("v7"))));
        assert!(platform_fits(&platform("arm64", Some("v8")), &platform("arm64", None)));
        assert!(!platform_fits(&platform("arm", Some("v6")), &platform("arm", Some("v7"))));
        assert!(!platform_fits(&platform("amd64", Some("v3")), &platform("amd64", None)));
        assert!(!platform_fits(&platform("arm", None), &platform("arm64", None)));
    }
}
