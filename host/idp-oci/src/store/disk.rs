//! The layout of a registry on disk, and its operations: blocking, one repository at a time.
//!
//! ```text
//! layout                                   the number of this layout
//! lock                                     held while a registry runs
//! tmp/                                     what has no name yet; emptied on opening
//! blobs/<algorithm>/<2 hex>/<hex>          content, once, named by its digest
//! repositories/<name>/_blobs/<algorithm>/<hex>       empty: the repository has this blob
//! repositories/<name>/_manifests/<algorithm>/<hex>   the manifest's record (JSON); its bytes are under blobs/
//! repositories/<name>/_tags/<tag>                    the digest that the tag names
//! repositories/<name>/_referrers/<subject>/<digest>  a descriptor (JSON), `:` written as `-`
//! ```
//!
//! No component of a repository's name begins with `_`, so the two never meet. A manifest is there when its record is:
//! bytes and referrer are written before it, tags after it, and a referrer without a record does not count. So there is no
//! moment at which a crash leaves something that can be seen and not be served. Content that no repository has any more
//! stays under `blobs/` until garbage is collected.

use std::fs::File;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::name::{Repository, Tag, Target};
use crate::store::durable::{self, Pending};
use crate::store::{Listing, OCTETS, Page, Referral, Referrer, StoreError, StoredManifest};

const LAYOUT: u32 = 1;

#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    scratch: PathBuf,
    /// Who changes a repository holds the lock that its name falls on.
    changing: [Mutex<()>; 64],
    _lock: File,
}

/// What is kept of a manifest besides its bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Digest>,
}

impl Disk {
    /// Opens a registry's directory, or makes one of an empty or missing directory.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        durable::create_dir(root)?;
        let layout = durable::read(&root.join("layout"))?;
        let names = durable::list(root)?.unwrap_or_default();
        if layout.is_none() && names.iter().any(|name| !matches!(name.as_str(), "lock" | "tmp")) {
            return Err(StoreError::NotAStore(root.to_owned()));
        }
        let lock: File = fs_err::File::create(root.join("lock"))?.into_parts().0;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::InUse(root.to_owned())),
            Err(error) => return Err(StoreError::Io(error.into())),
        }
        let scratch = root.join("tmp");
        durable::create_dir(&scratch)?;
        for name in durable::list(&scratch)?.unwrap_or_default() {
            durable::remove(&scratch.join(name))?;
        }
        match layout {
            None => durable::write(&scratch, &root.join("layout"), format!("{LAYOUT}\n").as_bytes())?,
            Some(text) => {
                let text = String::from_utf8_lossy(&text);
                let found = text.trim().parse().map_err(|_| StoreError::Damaged {
                    what: format!("`{}` says `{}`", root.join("layout").display(), text.trim()),
                })?;
                if found != LAYOUT {
                    return Err(StoreError::Layout { path: root.to_owned(), found, known: LAYOUT });
                }
            }
        }
        Ok(Self { root: root.to_owned(), scratch, changing: [const { Mutex::new(()) }; 64], _lock: lock })
    }

    pub(crate) fn pending(&self) -> io::Result<Pending> {
        Pending::create(&self.scratch)
    }

    fn change(&self, repository: &Repository) -> MutexGuard<'_, ()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(repository.as_str());
        let index = usize::try_from(hash % 64).unwrap_or(0);
        // The lock guards files; a panic leaves them as a crash would, which every operation allows for.
        self.changing[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn content_path(&self, digest: &Digest) -> PathBuf {
        let mut path = self.root.join("blobs");
        path.extend([digest.algorithm().as_str(), &digest.hex()[..2], digest.hex()]);
        path
    }

    fn repository_path(&self, repository: &Repository) -> PathBuf {
        self.root.join("repositories").join(repository.as_str())
    }

    fn in_repository(&self, repository: &Repository, kind: &str, digest: &Digest) -> PathBuf {
        let mut path = self.repository_path(repository);
        path.extend([kind, digest.algorithm().as_str(), digest.hex()]);
        path
    }

    fn blob_link(&self, repository: &Repository, digest: &Digest) -> PathBuf {
        self.in_repository(repository, "_blobs", digest)
    }

    fn record_path(&self, repository: &Repository, digest: &Digest) -> PathBuf {
        self.in_repository(repository, "_manifests", digest)
    }

    fn tag_path(&self, repository: &Repository, tag: &Tag) -> PathBuf {
        self.repository_path(repository).join("_tags").join(tag.as_str())
    }

    fn referrers_path(&self, repository: &Repository, subject: &Digest) -> PathBuf {
        self.repository_path(repository).join("_referrers").join(file_name(subject))
    }

    fn link(&self, repository: &Repository, digest: &Digest) -> io::Result<()> {
        let path = self.blob_link(repository, digest);
        if path.exists() { Ok(()) } else { durable::write(&self.scratch, &path, b"") }
    }

    /// Names content that is complete and verified. Replaces what is there: if that was damaged, this heals it.
    pub(crate) fn commit_blob(
        &self,
        pending: Pending,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        pending.place(&self.content_path(digest))?;
        let _changing = self.change(repository);
        Ok(self.link(repository, digest)?)
    }

    pub(crate) fn blob_size(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>, StoreError> {
        if !self.blob_link(repository, digest).exists() {
            return Ok(None);
        }
        match fs_err::metadata(self.content_path(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if durable::is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        if !self.blob_link(repository, digest).exists() {
            return Ok(None);
        }
        let file = match fs_err::File::open(self.content_path(digest)) {
            Ok(file) => file,
            Err(error) if durable::is_absent(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let size = file.metadata()?.len();
        let descriptor = Descriptor::new(OCTETS, digest.clone(), size);
        Ok(Some(Blob::from_file(descriptor, Arc::new(file.into_parts().0), 0)))
    }

    pub(crate) fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, StoreError> {
        let found = match from {
            Some(from) => self.blob_size(from, digest)?.is_some(),
            None => self.content_path(digest).exists() && self.is_held(digest)?,
        };
        if found {
            let _changing = self.change(repository);
            self.link(repository, digest)?;
        }
        Ok(found)
    }

    /// Whether any repository has this blob: content that is only a manifest, or garbage, is not to be had by mounting.
    fn is_held(&self, digest: &Digest) -> Result<bool, StoreError> {
        let mut held = false;
        self.walk(&mut |repository| {
            held |= self.in_directory(repository, "_blobs", digest).exists();
            !held
        })?;
        Ok(held)
    }

    fn in_directory(&self, repository: &str, kind: &str, digest: &Digest) -> PathBuf {
        let mut path = self.root.join("repositories").join(repository);
        path.extend([kind, digest.algorithm().as_str(), digest.hex()]);
        path
    }

    pub(crate) fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let _changing = self.change(repository);
        Ok(durable::remove(&self.blob_link(repository, digest))?)
    }

    pub(crate) fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &StoredManifest,
        referral: Option<&Referral>,
        tags: &[Tag],
    ) -> Result<(), StoreError> {
        durable::write(&self.scratch, &self.content_path(&manifest.digest), &manifest.bytes)?;
        let _changing = self.change(repository);
        if let Some(referral) = referral {
            let path = self.referrers_path(repository, &referral.subject).join(file_name(&manifest.digest));
            durable::write(&self.scratch, &path, &json(&Referrer::new(manifest, referral)))?;
        }
        let record = Record {
            media_type: manifest.media_type.clone(),
            subject: referral.map(|referral| referral.subject.clone()),
        };
        durable::write(&self.scratch, &self.record_path(repository, &manifest.digest), &json(&record))?;
        for tag in tags {
            durable::write(
                &self.scratch,
                &self.tag_path(repository, tag),
                manifest.digest.as_str().as_bytes(),
            )?;
        }
        Ok(())
    }

    pub(crate) fn manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let digest = match target {
            Target::Digest(digest) => Some(digest.clone()),
            Target::Tag(tag) => self.tagged(&self.tag_path(repository, tag))?,
        };
        let Some(digest) = digest else { return Ok(None) };
        let Some(record) = parse::<Record>(&self.record_path(repository, &digest))? else { return Ok(None) };
        let path = self.content_path(&digest);
        let Some(bytes) = durable::read(&path)? else {
            return Err(StoreError::Damaged { what: format!("`{}` is missing", path.display()) });
        };
        Ok(Some(StoredManifest { media_type: record.media_type, digest, bytes: bytes.into() }))
    }

    fn tagged(&self, path: &Path) -> Result<Option<Digest>, StoreError> {
        let Some(text) = durable::read(path)? else { return Ok(None) };
        let digest = String::from_utf8_lossy(&text)
            .parse()
            .map_err(|error| StoreError::Damaged { what: format!("`{}`: {error}", path.display()) })?;
        Ok(Some(digest))
    }

    pub(crate) fn has_manifest(&self, repository: &Repository, digest: &Digest) -> bool {
        self.record_path(repository, digest).exists()
    }

    pub(crate) fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let _changing = self.change(repository);
        let path = self.record_path(repository, digest);
        let Some(record) = parse::<Record>(&path)? else { return Ok(false) };
        let tags = self.repository_path(repository).join("_tags");
        for name in durable::list(&tags)?.unwrap_or_default() {
            if self.tagged(&tags.join(&name))?.as_ref() == Some(digest) {
                durable::remove(&tags.join(&name))?;
            }
        }
        let removed = durable::remove(&path)?;
        if let Some(subject) = record.subject {
            durable::remove(&self.referrers_path(repository, &subject).join(file_name(digest)))?;
        }
        Ok(removed)
    }

    pub(crate) fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
        let _changing = self.change(repository);
        Ok(durable::remove(&self.tag_path(repository, tag))?)
    }

    pub(crate) fn tags(
        &self,
        repository: &Repository,
        page: &Page,
    ) -> Result<Option<Listing<String>>, StoreError> {
        let path = self.repository_path(repository);
        if let Some(names) = durable::list(&path.join("_tags"))? {
            return Ok(Some(page.cut(names)));
        }
        let known = ["_blobs", "_manifests"].iter().any(|kind| path.join(kind).is_dir());
        Ok(known.then(|| page.cut([])))
    }

    pub(crate) fn repositories(&self, page: &Page) -> Result<Listing<String>, StoreError> {
        let mut names = Vec::new();
        let mut failed = Ok(());
        self.walk(&mut |repository| {
            match self.holds_manifests(repository) {
                Ok(true) => names.push(repository.to_owned()),
                Ok(false) => {}
                Err(error) => failed = Err(error),
            }
            failed.is_ok()
        })?;
        failed?;
        names.sort_unstable();
        Ok(page.cut(names))
    }

    fn holds_manifests(&self, repository: &str) -> io::Result<bool> {
        let path = self.root.join("repositories").join(repository).join("_manifests");
        for algorithm in durable::list(&path)?.unwrap_or_default() {
            if fs_err::read_dir(path.join(algorithm))?.next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Calls `visit` with the name of every directory that can be a repository, until it says false.
    fn walk(&self, visit: &mut dyn FnMut(&str) -> bool) -> io::Result<()> {
        let root = self.root.join("repositories");
        let mut open = vec![String::new()];
        while let Some(at) = open.pop() {
            for name in durable::list(&root.join(&at))?.unwrap_or_default() {
                if name.starts_with('_') {
                    continue;
                }
                let name = if at.is_empty() { name } else { format!("{at}/{name}") };
                if !visit(&name) {
                    return Ok(());
                }
                open.push(name);
            }
        }
        Ok(())
    }

    pub(crate) fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, StoreError> {
        let directory = self.referrers_path(repository, subject);
        let mut referrers = Vec::new();
        for name in durable::list(&directory)?.unwrap_or_default() {
            if let Some(referrer) = parse::<Referrer>(&directory.join(name))?
                && self.has_manifest(repository, &referrer.digest)
            {
                referrers.push(referrer);
            }
        }
        Ok(referrers)
    }
}

fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs with text keys can be written as JSON")
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let Some(bytes) = durable::read(path)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&bytes)
        .map_err(|error| StoreError::Damaged { what: format!("`{}`: {error}", path.display()) })?;
    Ok(Some(parsed))
}
