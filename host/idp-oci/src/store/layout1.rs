//! The first layout of a registry's directory, read once to make the second out of it.
//!
//! ```text
//! repositories/<name>/_blobs/<algorithm>/<hex>       empty: the repository has this blob
//! repositories/<name>/_manifests/<algorithm>/<hex>   the manifest's record (JSON); its bytes are under blobs/
//! repositories/<name>/_tags/<tag>                    the digest that the tag names
//! repositories/<name>/_referrers/<subject>/<digest>  a descriptor (JSON), `:` written as `-`
//! ```
//!
//! The rules it was read by: a blob is there when its link and its content are, a manifest when its record is, a tag when its
//! manifest is. The database is built aside and renamed into its place; until the layout's number is written after that, the
//! old files count, and a crash begins anew.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;

use crate::digest::Digest;
use crate::store::content::Content;
use crate::store::disk::{moment, now, prepare};
use crate::store::rows::change::NewManifest;
use crate::store::rows::table::Moment;
use crate::store::rows::{Durability, Keeping, Rows};
use crate::store::{Referral, Referrer, StoreError, StoredManifest, durable};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    media_type: String,
    #[serde(default)]
    subject: Option<Digest>,
}

/// What one repository holds.
#[derive(Debug, Default)]
struct Old {
    blobs: Vec<(Digest, u64, Moment)>,
    manifests: Vec<(NewManifest, Moment)>,
    tags: Vec<(String, Digest, Moment)>,
}

/// Builds the database out of the old files and puts it in its place.
pub(crate) fn migrate(root: &Path, scratch: &Path, metadata: &Path) -> Result<(), StoreError> {
    let building = scratch.join("metadata.redb");
    durable::remove(&building)?;
    {
        let keeping = Keeping { durability: Durability::Relaxed, cache_bytes: 16 * 1024 * 1024 };
        let rows = Rows::open(&building, keeping)?;
        let mut failed = Ok(());
        walk(&root.join("repositories"), &mut |repository| {
            failed = migrate_repository(root, &rows, repository);
            failed.is_ok()
        })?;
        failed?;
    }
    fs_err::File::open(&building)?.sync_all()?;
    fs_err::rename(&building, metadata)?;
    durable::sync_dir(root)?;
    tracing::info!(target: "idp::registry", root = %root.display(), "the registry's directory has the new layout");
    Ok(())
}

/// Removes what the first layout left, once the second counts.
pub(crate) fn forget(root: &Path) -> io::Result<()> {
    match fs_err::remove_dir_all(root.join("repositories")) {
        Err(error) if durable::is_absent(&error) => Ok(()),
        other => other,
    }
}

fn migrate_repository(root: &Path, rows: &Rows, repository: &str) -> Result<(), StoreError> {
    let directory = root.join("repositories").join(repository);
    let kinds = ["_blobs", "_manifests", "_tags"];
    if !kinds.iter().any(|kind| directory.join(kind).is_dir()) {
        return Ok(());
    }
    let content = Content::new(root, true);
    let mut old = Old::default();
    for (digest, link) in digests(&directory.join("_blobs"))? {
        match content.size(&digest)? {
            Some(size) => old.blobs.push((digest, size, time_of(&link))),
            None => {
                tracing::warn!(target: "idp::registry", %repository, %digest, "a blob's content was missing")
            }
        }
    }
    for (digest, path) in digests(&directory.join("_manifests"))? {
        let record: Record = parse(&path)?;
        let Some(bytes) = durable::read(&content.path(&digest))? else {
            tracing::warn!(target: "idp::registry", %repository, %digest, "a manifest's bytes were missing");
            continue;
        };
        let manifest =
            StoredManifest { media_type: record.media_type, digest: digest.clone(), bytes: bytes.into() };
        let referral = record.subject.map(|subject| referral(&directory, subject, &digest)).transpose()?;
        old.manifests.push((prepare(&manifest, referral.as_ref()), time_of(&path)));
    }
    let there: HashSet<Digest> = old.manifests.iter().map(|(manifest, _)| manifest.digest.clone()).collect();
    let tags = directory.join("_tags");
    for tag in durable::list(&tags)?.unwrap_or_default() {
        let path = tags.join(&tag);
        let Some(text) = durable::read(&path)? else { continue };
        let digest: Digest = String::from_utf8_lossy(&text)
            .parse()
            .map_err(|error| StoreError::Damaged { what: format!("`{}`: {error}", path.display()) })?;
        if there.contains(&digest) {
            old.tags.push((tag, digest, time_of(&path)));
        }
    }
    let repository = repository.to_owned();
    rows.change_blocking(move |tables| {
        tables.know(&repository)?;
        for (digest, size, since) in &old.blobs {
            tables.link_blob(&repository, digest, *size, *since)?;
        }
        for (manifest, since) in &old.manifests {
            tables.put_manifest(&repository, manifest, &[], *since)?;
        }
        for (tag, digest, since) in &old.tags {
            tables.put_tag(&repository, tag, &crate::store::rows::table::key(digest), *since)?;
        }
        Ok(())
    })
}

/// What the old file said of the referrer; of a file that is not there, what the manifest's record alone says.
fn referral(directory: &Path, subject: Digest, manifest: &Digest) -> Result<Referral, StoreError> {
    let directory = directory.join("_referrers").join(durable::file_name(&subject));
    let path = directory.join(durable::file_name(manifest));
    if !path.exists() {
        return Ok(Referral { subject, artifact_type: None, annotations: std::collections::BTreeMap::new() });
    }
    let referrer: Referrer = parse(&path)?;
    Ok(Referral { subject, artifact_type: referrer.artifact_type, annotations: referrer.annotations })
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let bytes: Bytes = fs_err::read(path)?.into();
    serde_json::from_slice(&bytes)
        .map_err(|error| StoreError::Damaged { what: format!("`{}`: {error}", path.display()) })
}

fn time_of(path: &Path) -> Moment {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).map_or_else(|_| now(), moment)
}

/// The digests that have a file in `<directory>/<algorithm>/`, and the file.
fn digests(directory: &Path) -> io::Result<Vec<(Digest, std::path::PathBuf)>> {
    let mut found = Vec::new();
    for algorithm in durable::list(directory)?.unwrap_or_default() {
        for hex in durable::list(&directory.join(&algorithm))?.unwrap_or_default() {
            if let Ok(digest) = format!("{algorithm}:{hex}").parse() {
                found.push((digest, directory.join(&algorithm).join(hex)));
            }
        }
    }
    Ok(found)
}

/// Calls `visit` with the name of every directory that can be a repository, until it says false.
fn walk(root: &Path, visit: &mut dyn FnMut(&str) -> bool) -> io::Result<()> {
    let mut open = vec![String::new()];
    while let Some(at) = open.pop() {
        for name in durable::list(&root.join(&at))?.unwrap_or_default() {
            // No component of a repository's name begins so.
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::digest::Digest;
    use crate::name::{Repository, Target};
    use crate::store::fs::FsStore;
    use crate::store::{Page, Store as _, suite};

    fn put(path: &Path, bytes: &[u8]) {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }

    fn content(root: &Path, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        put(&root.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex()), bytes);
        digest
    }

    /// A directory as the first layout had it, with every kind of thing that a crash could leave in it.
    fn first_layout(root: &Path) {
        put(&root.join("layout"), b"1\n");
        let at = root.join("repositories/team/app");
        let blob = content(root, b"a blob");
        put(&at.join("_blobs/sha256").join(blob.hex()), b"");
        put(&root.join("repositories/only/blobs/_blobs/sha256").join(blob.hex()), b"");
        put(&at.join("_blobs/sha256").join(Digest::of(b"lost").hex()), b"");
        let large = vec![b'x'; 100_000];
        for bytes in [&b"{\"one\":1}"[..], b"{\"two\":2}", &large] {
            let digest = content(root, bytes);
            let record = format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json"{}}}"#,
                if bytes == b"{\"two\":2}" { format!(r#","subject":"{blob}""#) } else { String::new() }
            );
            put(&at.join("_manifests/sha256").join(digest.hex()), record.as_bytes());
        }
        let two = Digest::of(b"{\"two\":2}");
        let descriptor = format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{two}","size":9,"artifactType":"a/b","annotations":{{"key":"value"}}}}"#
        );
        let referrers = at.join("_referrers").join(format!("sha256-{}", blob.hex()));
        put(&referrers.join(format!("sha256-{}", two.hex())), descriptor.as_bytes());
        put(&referrers.join(format!("sha256-{}", Digest::of(b"never").hex())), descriptor.as_bytes());
        put(&at.join("_tags/v1"), Digest::of(b"{\"one\":1}").as_str().as_bytes());
        put(&at.join("_tags/large"), Digest::of(&large).as_str().as_bytes());
        put(&at.join("_tags/nowhere"), Digest::of(b"never").as_str().as_bytes());
    }

    async fn check(root: &Path) {
        let store = FsStore::open(root).await.expect("opened");
        let app: Repository = "team/app".parse().expect("a repository");
        let all = Page { after: None, limit: 100 };
        assert_eq!(store.repositories(&all).await.expect("listed").entries, ["team/app"]);
        let only = "only/blobs".parse().expect("a repository");
        assert_eq!(store.tags(&only, &all).await.expect("listed").expect("known").entries.len(), 0);
        let tags = store.tags(&app, &all).await.expect("listed").expect("known").entries;
        assert_eq!(tags, ["large", "v1"]);
        let blob = Digest::of(b"a blob");
        assert_eq!(store.blob_size(&app, &blob).await.expect("read"), Some(6));
        assert_eq!(store.blob_size(&app, &Digest::of(b"lost")).await.expect("read"), None);
        let one = store.manifest(&app, &Target::Tag("v1".parse().expect("a tag"))).await.expect("read");
        assert_eq!(one, Some(suite::manifest(b"{\"one\":1}")));
        let large = store.manifest(&app, &Target::Tag("large".parse().expect("a tag"))).await.expect("read");
        assert_eq!(large.expect("there").bytes.len(), 100_000);
        let referrers = store.referrers(&app, &blob).await.expect("read");
        let [referrer] = &referrers[..] else { panic!("one referrer, and not {referrers:?}") };
        assert_eq!(referrer.artifact_type.as_deref(), Some("a/b"));
        assert_eq!(referrer.annotations.len(), 1);
        assert!(!root.join("repositories").exists());
        assert_eq!(std::fs::read_to_string(root.join("layout")).expect("read"), "2\n");
    }

    #[tokio::test]
    async fn a_directory_of_the_first_layout_is_taken_over() {
        let directory = tempfile::tempdir().expect("a directory");
        first_layout(directory.path());
        check(directory.path()).await;
        check(directory.path()).await;
    }

    #[tokio::test]
    async fn a_crash_on_the_way_begins_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        first_layout(directory.path());
        // Half a database, in its place and on the way to it.
        put(&directory.path().join("tmp/metadata.redb"), b"half");
        put(&directory.path().join("metadata.redb"), b"half");
        check(directory.path()).await;
        // The number was written, the old files were not removed yet.
        put(&directory.path().join("repositories/team/app/_tags/v1"), b"old");
        check(directory.path()).await;
    }
}
