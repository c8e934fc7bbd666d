//! What objects are called. No I/O: names in, keys out, and keys back into what they say.
//!
//! A name that can be the beginning of another one (`v1` and `v1-rc`, `a` and `a/b`) ends with `!`, which sorts before every
//! character of names. So the order of keys is the order of names, and nothing under one name is under another.
//!
//! ```text
//! idp-registry.json                                    which layout this is
//! repositories/<repository>!                           known here; empty when it surely holds a manifest, else one byte
//! manifests/<repository>!/<algorithm>/<hex>            life, media type, referral, and the bytes
//! tags/<repository>!/<tag>!/<turn>.<id>.<life>.<algorithm>.<hex>
//! referrers/<repository>!/<algorithm>/<hex of the subject>/<algorithm>.<hex>.<life>
//! blobs/<algorithm>/<2>/<hex>/content/<content>        the bytes; of a large one nothing, they are under large/
//! blobs/<algorithm>/<2>/<hex>/condemned/<content>      nobody may take this content up any more
//! blobs/<algorithm>/<2>/<hex>/in/<repository>!/<id>.<content>.<size>[.leaving]
//! large/<2>/<id>                                       bytes of a blob that came in parts
//! uploads/<id>                                         parts under way, for who must sweep them
//! ```

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::name::{Repository, Tag};
use crate::store::upload::UploadId;

pub(super) const LAYOUT: &str = "idp-registry.json";
pub(super) const REPOSITORIES: &str = "repositories";
pub(super) const MANIFESTS: &str = "manifests";
pub(super) const TAGS: &str = "tags";
pub(super) const REFERRERS: &str = "referrers";
pub(super) const BLOBS: &str = "blobs";
pub(super) const UPLOADS: &str = "uploads";

/// Sorts after everything that a key can go on with: where a list begins that is to be past all of something.
const PAST: &str = "z";

/// Which bytes: the same blob may have been stored twice, by two pushes that did not know of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) id: UploadId,
    /// It came in parts, before its digest was known.
    pub(super) large: bool,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.large { 'l' } else { 's' }, self.id)
    }
}

impl FromStr for Content {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (large, id) = match text.split_at_checked(1) {
            Some(("l", id)) => (true, id),
            Some(("s", id)) => (false, id),
            _ => return Err(()),
        };
        Ok(Self { id: id.parse().map_err(|_| ())?, large })
    }
}

/// That a repository has a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) id: UploadId,
    pub(super) content: Content,
    pub(super) size: u64,
}

impl Membership {
    pub(super) fn key(&self, repository: &Repository, digest: &Digest) -> String {
        let Self { id, content, size } = self;
        format!("{}/{id}.{content}.{size}", members(repository, digest))
    }
}

/// The key of a membership says, when it is no longer wanted: it goes when nobody takes it up again.
pub(super) const LEAVING: &str = ".leaving";

/// The last part of a membership's key: the membership, and whether it is leaving.
pub(super) fn parse_membership(name: &str) -> Option<(Membership, bool)> {
    let (name, leaving) = match name.strip_suffix(LEAVING) {
        Some(name) => (name, true),
        None => (name, false),
    };
    let mut fields = name.split('.');
    let membership = Membership {
        id: fields.next()?.parse().ok()?,
        content: fields.next()?.parse().ok()?,
        size: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some((membership, leaving))
}

/// A tag as it was once put. The greatest of a tag's keys is the one that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TagEntry {
    pub(super) turn: u64,
    pub(super) id: UploadId,
    /// Of the manifest that it names. A manifest that is pushed again after its deletion has another one.
    pub(super) life: UploadId,
    pub(super) digest: Digest,
}

impl TagEntry {
    pub(super) fn key(&self, repository: &Repository, tag: &str) -> String {
        let Self { turn, id, life, digest } = self;
        let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
        format!("{}/{turn:016x}.{id}.{life}.{algorithm}.{hex}", tag_entries(repository, tag))
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut fields = name.split('.');
        let entry = Self {
            turn: u64::from_str_radix(fields.next()?, 16).ok()?,
            id: fields.next()?.parse().ok()?,
            life: fields.next()?.parse().ok()?,
            digest: format!("{}:{}", fields.next()?, fields.next()?).parse().ok()?,
        };
        fields.next().is_none().then_some(entry)
    }
}

pub(super) fn repository(repository: &Repository) -> String {
    format!("{REPOSITORIES}/{repository}!")
}

pub(super) fn manifests(repository: &Repository) -> String {
    format!("{MANIFESTS}/{repository}!")
}

pub(super) fn manifest(repository: &Repository, digest: &Digest) -> String {
    format!("{}/{}/{}", manifests(repository), digest.algorithm().as_str(), digest.hex())
}

pub(super) fn tags(repository: &Repository) -> String {
    format!("{TAGS}/{repository}!")
}

pub(super) fn tag_entries(repository: &Repository, tag: &str) -> String {
    format!("{}/{tag}!", tags(repository))
}

/// Where the list of tags begins for what sorts after `name`, which need not be a tag.
pub(super) fn tags_after(repository: &Repository, name: &str) -> Option<String> {
    if name.parse::<Tag>().is_ok() {
        return Some(format!("{}/{PAST}", tag_entries(repository, name)));
    }
    let begin = longest::<Tag>(name)?;
    Some(format!("{}/{begin}", tags(repository)))
}

/// Where the list of repositories begins for what sorts after `name`, which need not be one.
pub(super) fn repositories_after(name: &str) -> Option<String> {
    if let Ok(name) = name.parse::<Repository>() {
        return Some(repository(&name));
    }
    Some(format!("{REPOSITORIES}/{}", longest::<Repository>(name)?))
}

/// The longest beginning that is a name: it sorts no later, and can stand in a key.
fn longest<T: FromStr>(name: &str) -> Option<&str> {
    // No name is longer, and the search stays short whatever is asked.
    let most = name.floor_char_boundary(256);
    (1..=most).rev().filter_map(|end| name.get(..end)).find(|begin| begin.parse::<T>().is_ok())
}

pub(super) fn referrers(repository: &Repository, subject: &Digest) -> String {
    format!("{REFERRERS}/{repository}!/{}/{}", subject.algorithm().as_str(), subject.hex())
}

pub(super) fn referrer(repository: &Repository, subject: &Digest, digest: &Digest, life: UploadId) -> String {
    let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
    format!("{}/{algorithm}.{hex}.{life}", referrers(repository, subject))
}

/// The last part of a referrer's key: which manifest, and in which of its lives.
pub(super) fn parse_referrer(name: &str) -> Option<(Digest, UploadId)> {
    let mut fields = name.split('.');
    let digest = format!("{}:{}", fields.next()?, fields.next()?).parse().ok()?;
    let life = fields.next()?.parse().ok()?;
    fields.next().is_none().then_some((digest, life))
}

pub(super) fn blob(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{BLOBS}/{}/{}/{hex}", digest.algorithm().as_str(), &hex[..2])
}

/// The entry that says that there is such content; of small content, the bytes.
pub(super) fn content(digest: &Digest, content: Content) -> String {
    format!("{}/content/{content}", blob(digest))
}

/// Where the bytes are.
pub(super) fn bytes(digest: &Digest, wanted: Content) -> String {
    if wanted.large { large(wanted.id) } else { content(digest, wanted) }
}

pub(super) fn large(id: UploadId) -> String {
    let id = id.to_string();
    format!("large/{}/{id}", &id[..2])
}

pub(super) fn condemned(digest: &Digest, content: Content) -> String {
    format!("{}/condemned/{content}", blob(digest))
}

/// All memberships of a blob.
pub(super) fn all_members(digest: &Digest) -> String {
    format!("{}/in", blob(digest))
}

/// Those of one repository.
pub(super) fn members(repository: &Repository, digest: &Digest) -> String {
    format!("{}/{repository}!", all_members(digest))
}

pub(super) fn upload(id: UploadId) -> String {
    format!("{UPLOADS}/{id}")
}

/// What a key under [`BLOBS`] says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BlobEntry {
    Content(Content),
    Condemned(Content),
    Member { repository: Repository, membership: Membership, leaving: bool },
}

/// The digest and what is said of it.
pub(super) fn parse_blob(key: &str) -> Option<(Digest, BlobEntry)> {
    let mut parts = key.strip_prefix(BLOBS)?.strip_prefix('/')?.splitn(5, '/');
    let (algorithm, _, hex) = (parts.next()?, parts.next()?, parts.next()?);
    let digest = format!("{algorithm}:{hex}").parse().ok()?;
    let entry = match (parts.next()?, parts.next()?) {
        ("content", name) => BlobEntry::Content(name.parse().ok()?),
        ("condemned", name) => BlobEntry::Condemned(name.parse().ok()?),
        ("in", rest) => {
            let (repository, name) = rest.split_once("!/")?;
            let (membership, leaving) = parse_membership(name)?;
            BlobEntry::Member { repository: repository.parse().ok()?, membership, leaving }
        }
        _ => return None,
    };
    Some((digest, entry))
}

/// The repository and the rest of a key under one of the folders that are sorted by repository.
pub(super) fn of_repository<'a>(folder: &str, key: &'a str) -> Option<(Repository, &'a str)> {
    let (repository, rest) = key.strip_prefix(folder)?.strip_prefix('/')?.split_once("!/")?;
    Some((repository.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> UploadId {
        UploadId::random().expect("random bytes")
    }

    #[test]
    fn what_is_written_is_read_back() {
        let repository: Repository = "team/app".parse().expect("a repository");
        let digest = Digest::of(b"x");
        for large in [false, true] {
            let content = Content { id: id(), large };
            let membership = Membership { id: id(), content, size: 17 };
            let key = membership.key(&repository, &digest);
            let member = |leaving| BlobEntry::Member {
                repository: repository.clone(),
                membership: membership.clone(),
                leaving,
            };
            assert_eq!(parse_blob(&key), Some((digest.clone(), member(false))));
            assert_eq!(parse_blob(&format!("{key}{LEAVING}")), Some((digest.clone(), member(true))));
            let key = super::content(&digest, content);
            assert_eq!(parse_blob(&key), Some((digest.clone(), BlobEntry::Content(content))));
            let key = condemned(&digest, content);
            assert_eq!(parse_blob(&key), Some((digest.clone(), BlobEntry::Condemned(content))));
        }
        let entry = TagEntry { turn: 11, id: id(), life: id(), digest: digest.clone() };
        let key = entry.key(&repository, "v1.0-x");
        let (of, rest) = of_repository(TAGS, &key).expect("a tag's key");
        assert_eq!(of, repository);
        let (tag, name) = rest.split_once("!/").expect("a tag's key");
        assert_eq!((tag, TagEntry::parse(name)), ("v1.0-x", Some(entry.clone())));
        let key = referrer(&repository, &digest, &digest, entry.life);
        let name = key.rsplit('/').next().expect("a last part");
        assert_eq!(parse_referrer(name), Some((digest, entry.life)));
    }

    #[test]
    fn keys_sort_as_names_do() {
        let mut names = ["a", "a-b", "a.b", "a/b", "a0", "a/b-c", "a/b/c", "b"];
        let key = |name: &str| repository(&name.parse().expect("a repository"));
        names.sort_unstable();
        assert!(names.is_sorted_by_key(|name| key(name)));
        let app: Repository = "a".parse().expect("a repository");
        let mut tags = ["v1", "v1-rc", "v1.0", "v10", "V1", "_v", "v_1", "va"];
        tags.sort_unstable();
        assert!(tags.is_sorted_by_key(|tag| format!("{}/0", tag_entries(&app, tag))));
    }

    #[test]
    fn a_list_begins_no_later_than_what_is_asked_for() {
        let app: Repository = "a".parse().expect("a repository");
        assert_eq!(tags_after(&app, "v1").as_deref(), Some("tags/a!/v1!/z"));
        assert_eq!(tags_after(&app, "v1/../é").as_deref(), Some("tags/a!/v1"));
        assert_eq!(tags_after(&app, "%"), None);
        assert_eq!(repositories_after("a/b").as_deref(), Some("repositories/a/b!"));
        assert_eq!(repositories_after("a//B").as_deref(), Some("repositories/a"));
        assert_eq!(repositories_after(&"é".repeat(300)), None);
    }
}
