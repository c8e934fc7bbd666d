//! The directory of a registry: its layout, who may use it, and how it is opened.
//!
//! ```text
//! layout                                   the number of this layout
//! lock                                     held while a registry runs
//! tmp/                                     what has no name yet; emptied on opening
//! blobs/<algorithm>/<2 hex>/<hex>          content, once, named by its digest
//! metadata.redb                            everything else: see `rows/table.rs`
//! quarantine/<algorithm>-<hex>             content that a check found damaged
//! ```
//!
//! A file comes into its place, durably, before the row that needs it is committed, and goes after the last such row is gone.
//! So there is no moment at which a crash leaves something that can be seen and not be served; what it may leave is content
//! that no row needs, which the next collection or check takes away.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Deserialize;

use crate::digest::Digest;
use crate::manifest::{Manifest, Shape};
use crate::store::content::Content;
use crate::store::policy::{Policy, StoreSettings};
use crate::store::rows::change::NewManifest;
use crate::store::rows::query::Row;
use crate::store::rows::table::{Moment, Naming};
use crate::store::rows::{Durability, Keeping, Rows};
use crate::store::{Referral, Referrer, StoreError, StoredManifest, durable, layout1};

const LAYOUT: u32 = 2;

/// How a registry keeps its directory (`storage` of its configuration file).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StorageSettings {
    /// `strict` (the default): what is acknowledged is on the disk. `relaxed`: within about a second.
    pub durability: Durability,
    /// Memory for the database's pages, in bytes; 4 MiB unless given.
    pub cache_bytes: Option<usize>,
    /// How long a blob that no manifest names is kept, in seconds; 3600 unless given. Pushes that take longer from their
    /// first blob to their manifest are safe while they have an upload open.
    pub grace_seconds: Option<u64>,
}

impl StorageSettings {
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds.unwrap_or(3600))
    }
}

/// Whether a name may stand in a directory that is no registry's yet: users and keys can be there before any content.
fn is_ours(name: &str) -> bool {
    let name = name.strip_prefix('.').and_then(|hidden| hidden.strip_suffix(".lock")).unwrap_or(name);
    matches!(name, "lock" | "tmp" | "users" | "token-keys.json" | "tls" | "control.sock")
}

#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) content: Arc<Content>,
    // Before the lock: its committer works until it is dropped.
    pub(crate) rows: Rows,
    pub(crate) settings: StorageSettings,
    // Shared with work that waits for the committer, which must not be the last to hold all of this.
    pub(crate) policy: Arc<Policy>,
    _lock: File,
}

impl Disk {
    /// Opens a registry's directory, or makes one of an empty or missing directory.
    pub(crate) fn open(root: &Path, settings: StoreSettings) -> Result<Self, StoreError> {
        Self::open_unguarded(root, settings).map_err(|error| match error {
            StoreError::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                StoreError::NotWritable { path: root.to_owned(), error }
            }
            other => other,
        })
    }

    fn open_unguarded(root: &Path, settings: StoreSettings) -> Result<Self, StoreError> {
        let policy = Arc::new(Policy::new(settings)?);
        let settings = policy.settings.storage.clone();
        durable::create_dir(root)?;
        let layout = durable::read(&root.join("layout"))?;
        let names = durable::list(root)?.unwrap_or_default();
        if layout.is_none() && names.iter().any(|name| !is_ours(name)) {
            return Err(StoreError::NotAStore(root.to_owned()));
        }
        let found = layout.map(|text| layout_of(root, &text)).transpose()?;
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
        let metadata = root.join("metadata.redb");
        let write_layout =
            || durable::write(&scratch, &root.join("layout"), format!("{LAYOUT}\n").as_bytes());
        match found {
            None => write_layout()?,
            Some(1) => {
                layout1::migrate(root, &scratch, &metadata)?;
                write_layout()?;
            }
            Some(_) if !metadata.exists() && root.join("blobs").exists() => {
                let what = format!("`{}` is missing beside its content", metadata.display());
                return Err(StoreError::Damaged { what });
            }
            Some(_) => {}
        }
        layout1::forget(root)?;
        let cache_bytes = settings.cache_bytes.unwrap_or(4 * 1024 * 1024);
        let keeping = Keeping { durability: settings.durability, cache_bytes };
        let rows = Rows::open(&metadata, keeping)?;
        durable::sync_dir(root)?;
        let content = Arc::new(Content::new(root, settings.durability == Durability::Strict));
        Ok(Self { content, rows, settings, policy, _lock: lock })
    }

    /// What a manifest of the repository names; none where it cannot be read.
    pub(crate) fn names(
        &self,
        repository: &str,
        manifest: &Digest,
    ) -> Result<Option<Vec<(Digest, Naming)>>, StoreError> {
        let row = self.rows.read(|rows| rows.manifest(repository, manifest))?;
        row.map_or(Ok(None), |row| self.names_in(manifest, row))
    }

    /// What a deleted manifest named; none where it cannot be read.
    pub(crate) fn discarded_names(
        &self,
        repository: &str,
        manifest: &Digest,
    ) -> Result<Option<Vec<(Digest, Naming)>>, StoreError> {
        let row = self.rows.read(|rows| rows.discarded(repository, manifest))?;
        row.map_or(Ok(None), |row| self.names_in(manifest, row))
    }

    fn names_in(
        &self,
        manifest: &Digest,
        Row { record, bytes }: Row,
    ) -> Result<Option<Vec<(Digest, Naming)>>, StoreError> {
        let bytes = match bytes {
            Some(bytes) => Some(bytes),
            None => durable::read(&self.content.path(manifest))?,
        };
        let whole = bytes.filter(|bytes| bytes.len() as u64 == record.size);
        Ok(whole.map(|bytes| named(&bytes.into(), &record.media_type)))
    }

    /// Takes away content that no row needs any more.
    pub(crate) fn drop_content(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.content.remove(digest, || Ok(self.rows.read(|rows| rows.content(digest))?.is_none()))
    }
}

fn layout_of(root: &Path, text: &[u8]) -> Result<u32, StoreError> {
    let text = String::from_utf8_lossy(text);
    let found = text.trim().parse().map_err(|_| StoreError::Damaged {
        what: format!("`{}` says `{}`", root.join("layout").display(), text.trim()),
    })?;
    if matches!(found, 1..=LAYOUT) {
        Ok(found)
    } else {
        Err(StoreError::Layout { path: root.to_owned(), found, known: LAYOUT })
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> Moment {
    moment(SystemTime::now())
}

pub(crate) fn moment(time: SystemTime) -> Moment {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a manifest names: its blobs, or the children of an index. What cannot be parsed names nothing; the server lets
/// none of that in.
pub(crate) fn named(bytes: &Bytes, media_type: &str) -> Vec<(Digest, Naming)> {
    let Ok(manifest) = Manifest::parse(bytes.clone(), Some(media_type)) else { return Vec::new() };
    let mut named: Vec<(Digest, Naming)> = match manifest.shape() {
        Shape::Image { config, layers } => std::iter::once(&**config)
            .chain(layers)
            .map(|layer| (layer.digest.clone(), Naming::Blob))
            .collect(),
        Shape::Index { manifests } => {
            manifests.iter().map(|child| (child.digest.clone(), Naming::Manifest)).collect()
        }
    };
    named.sort_unstable();
    named.dedup();
    named
}

/// A manifest as the rows take it.
pub(crate) fn prepare(manifest: &StoredManifest, referral: Option<&Referral>) -> NewManifest {
    NewManifest {
        digest: manifest.digest.clone(),
        media_type: manifest.media_type.clone(),
        bytes: manifest.bytes.clone(),
        named: named(&manifest.bytes, &manifest.media_type),
        referrer: referral.map(|referral| (referral.subject.clone(), Referrer::new(manifest, referral))),
    }
}
