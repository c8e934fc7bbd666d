//! The tables of the metadata, and how their rows are written.
//!
//! May use names and digests. Keys begin with the repository, so that what belongs to one lies together and every list is a
//! range. A digest in a key is one byte for the algorithm and the hash: half of its text.
//!
//! | table | key | value |
//! |---|---|---|
//! | repositories | repository | [`Usage`]: present once anything was pushed |
//! | catalogue | repository | nothing: it has a manifest |
//! | blobs | repository, digest | size; since when it has its present state |
//! | content | digest | size; rows that need the file; repositories that have it as a blob |
//! | manifests | repository, digest | [`Record`] as JSON; the bytes, or none where they are a file |
//! | references | repository, digest, manifest that names it | [`Naming`] |
//! | tags | repository, tag | digest; when it was put |
//! | tagged | repository, digest, tag | nothing: the tags of a manifest |
//! | referrers | repository, subject, manifest | its descriptor as JSON |
//! | namespaces | first components of names, empty for all | [`Usage`] of the repositories below |
//! | trash | repository, digest | a deleted manifest: what is kept of it as JSON; the bytes |
//! | trash tags | repository, tag | digest; when it was deleted |

use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::digest::{Algorithm, Digest};

/// Milliseconds since 1970.
pub(crate) type Moment = u64;

/// Keys: of what a repository has by digest, by two digests, and by name.
pub(crate) type ByDigest = (&'static str, &'static [u8]);
pub(crate) type ByDigests = (&'static str, &'static [u8], &'static [u8]);
pub(crate) type ByTag = (&'static str, &'static str);
pub(crate) type ByDigestAndTag = (&'static str, &'static [u8], &'static str);
/// Values: four counts, three, a manifest's record and bytes, a digest and a moment.
pub(crate) type Counts = (u64, u64, u64, u64);
pub(crate) type Needs = (u64, u64, u64);
pub(crate) type RecordAndBytes = (&'static [u8], &'static [u8]);
pub(crate) type DigestAndMoment = (&'static [u8], Moment);

pub(crate) const REPOSITORIES: TableDefinition<'_, &str, Counts> = TableDefinition::new("repositories");
pub(crate) const CATALOGUE: TableDefinition<'_, &str, ()> = TableDefinition::new("catalogue");
pub(crate) const BLOBS: TableDefinition<'_, ByDigest, (u64, Moment)> = TableDefinition::new("blobs");
pub(crate) const CONTENT: TableDefinition<'_, &[u8], Needs> = TableDefinition::new("content");
pub(crate) const MANIFESTS: TableDefinition<'_, ByDigest, RecordAndBytes> = TableDefinition::new("manifests");
pub(crate) const REFERENCES: TableDefinition<'_, ByDigests, u8> = TableDefinition::new("references");
pub(crate) const TAGS: TableDefinition<'_, ByTag, DigestAndMoment> = TableDefinition::new("tags");
pub(crate) const TAGGED: TableDefinition<'_, ByDigestAndTag, ()> = TableDefinition::new("tagged");
pub(crate) const REFERRERS: TableDefinition<'_, ByDigests, &[u8]> = TableDefinition::new("referrers");

pub(crate) const NAMESPACES: TableDefinition<'_, &str, Counts> = TableDefinition::new("namespaces");
pub(crate) const TRASH: TableDefinition<'_, ByDigest, RecordAndBytes> = TableDefinition::new("trash");
pub(crate) const TRASH_TAGS: TableDefinition<'_, ByTag, DigestAndMoment> = TableDefinition::new("trash tags");

/// Manifests up to this many bytes lie in their row: no file, no sync of their own. Larger ones are files like blobs.
pub(crate) const INLINE: usize = 64 * 1024;

/// What a repository holds; content counts once in each repository, whoever else has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Manifests.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of blobs and manifests.
    pub bytes: u64,
}

impl From<Counts> for Usage {
    fn from((manifests, tags, blobs, bytes): Counts) -> Self {
        Self { manifests, tags, blobs, bytes }
    }
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        (usage.manifests, usage.tags, usage.blobs, usage.bytes)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.manifests += other.manifests;
        self.tags += other.tags;
        self.blobs += other.blobs;
        self.bytes += other.bytes;
    }
}

/// The namespaces that a repository is in: all of its first components, and the registry itself (empty).
pub(crate) fn namespaces(repository: &str) -> impl Iterator<Item = &str> {
    std::iter::once("").chain(repository.match_indices('/').map(|(at, _)| &repository[..at]))
}

/// What is kept of a manifest besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    /// When it was put first.
    pub(crate) since: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Digest>,
}

impl Record {
    /// Whether the bytes are a file of their own.
    pub(crate) fn is_file(&self) -> bool {
        self.size > INLINE as u64
    }
}

/// As what a manifest names something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Naming {
    /// Config or layer.
    Blob = 0,
    /// Child of an index.
    Manifest = 1,
}

/// A digest as it stands in keys.
pub(crate) fn key(digest: &Digest) -> Vec<u8> {
    let hex = digest.hex().as_bytes();
    let nibble = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
    let mut key = Vec::with_capacity(1 + hex.len() / 2);
    // Sorts as the text does.
    key.push(match digest.algorithm() {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    });
    key.extend(hex.chunks_exact(2).map(|pair| (nibble(pair[0]) << 4) | nibble(pair[1])));
    key
}

/// The digest of a key; none where the key is none of ours.
pub(crate) fn digest(key: &[u8]) -> Option<Digest> {
    let (algorithm, hash) = key.split_first()?;
    let name = match algorithm {
        1 => "sha256",
        2 => "sha512",
        _ => return None,
    };
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}:{hex}").parse().ok()
}

/// The first row of a repository in a table keyed by repository and digest, and of one with two digests.
pub(crate) const FIRST: &[u8] = &[];

/// Whether anything in the repository names this digest.
pub(crate) fn is_named<T>(references: &T, repository: &str, digest: &[u8]) -> Result<bool, redb::StorageError>
where
    T: ReadableTable<ByDigests, u8>,
{
    match references.range((repository, digest, FIRST)..)?.next() {
        None => Ok(false),
        Some(row) => {
            let (at, _) = row?;
            let (in_repository, named, _) = at.value();
            Ok(in_repository == repository && named == digest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{digest, key};
    use crate::digest::{Algorithm, Digest, Hasher};

    #[test]
    fn digests_go_into_keys_and_come_back() {
        let sha512 = Hasher::new(Algorithm::Sha512).finish();
        for one in [Digest::of(b""), Digest::of(b"a"), sha512] {
            assert_eq!(digest(&key(&one)), Some(one));
        }
        for bad in [&b""[..], b"\x01", b"\x03aaaa", &[1; 32], &[2; 33]] {
            assert_eq!(digest(bad), None, "{bad:?}");
        }
    }
}
