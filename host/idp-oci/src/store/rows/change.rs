//! What can be done to the rows, inside a transaction. Each function keeps all tables in step: counts, usage, what names what.

use redb::{ReadableTable as _, ReadableTableMetadata as _, Table, WriteTransaction};

use crate::digest::Digest;
use crate::store::Referrer;
use crate::store::policy::Scope;
use crate::store::rows::Fault;
use crate::store::rows::query::{Row, damaged};
use crate::store::rows::table::{
    BLOBS, ByDigest, ByDigestAndTag, ByDigests, ByTag, CATALOGUE, CONTENT, Counts, DigestAndMoment, FIRST,
    INLINE, MANIFESTS, Moment, NAMESPACES, Naming, Needs, REFERENCES, REFERRERS, REPOSITORIES, Record,
    RecordAndBytes, TAGGED, TAGS, TRASH, TRASH_TAGS, Usage, digest, is_named, key, namespaces,
};
use crate::store::rows::trash::Taken;

/// The tables, open in a transaction.
pub(crate) struct Tables<'t> {
    pub(crate) repositories: Table<'t, &'static str, Counts>,
    pub(crate) catalogue: Table<'t, &'static str, ()>,
    pub(crate) blobs: Table<'t, ByDigest, (u64, Moment)>,
    pub(crate) content: Table<'t, &'static [u8], Needs>,
    pub(crate) manifests: Table<'t, ByDigest, RecordAndBytes>,
    pub(crate) references: Table<'t, ByDigests, u8>,
    pub(crate) tags: Table<'t, ByTag, DigestAndMoment>,
    pub(crate) tagged: Table<'t, ByDigestAndTag, ()>,
    pub(crate) referrers: Table<'t, ByDigests, &'static [u8]>,
    pub(crate) namespaces: Table<'t, &'static str, Counts>,
    pub(crate) trash: Table<'t, ByDigest, RecordAndBytes>,
    pub(crate) trash_tags: Table<'t, ByTag, DigestAndMoment>,
    changed: bool,
}

/// A manifest to be put, with what was read out of it before the transaction.
#[derive(Debug)]
pub(crate) struct NewManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: bytes::Bytes,
    pub(crate) named: Vec<(Digest, Naming)>,
    pub(crate) referrer: Option<(Digest, Referrer)>,
}

/// Whether content is needed as a blob, which can be mounted, or as a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Blob,
    Manifest,
}

impl<'t> Tables<'t> {
    pub(crate) fn open(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            repositories: transaction.open_table(REPOSITORIES)?,
            catalogue: transaction.open_table(CATALOGUE)?,
            blobs: transaction.open_table(BLOBS)?,
            content: transaction.open_table(CONTENT)?,
            manifests: transaction.open_table(MANIFESTS)?,
            references: transaction.open_table(REFERENCES)?,
            tags: transaction.open_table(TAGS)?,
            tagged: transaction.open_table(TAGGED)?,
            referrers: transaction.open_table(REFERRERS)?,
            namespaces: transaction.open_table(NAMESPACES)?,
            trash: transaction.open_table(TRASH)?,
            trash_tags: transaction.open_table(TRASH_TAGS)?,
            changed: false,
        })
    }

    /// Whether they may just have been made, or one of them: counts that an older registry did not keep are made here.
    pub(crate) fn are_new(&mut self) -> Result<bool, Fault> {
        if self.repositories.is_empty()? {
            return Ok(true);
        }
        if self.namespaces.is_empty()? {
            let mut all = Vec::new();
            for row in self.repositories.iter()? {
                let (at, usage) = row?;
                all.push((at.value().to_owned(), Usage::from(usage.value())));
            }
            for (repository, usage) in all {
                self.count_above(&repository, Usage::default(), usage)?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Says that something was written past the functions below.
    pub(crate) fn touch(&mut self) {
        self.changed = true;
    }

    /// Counts up or down; a repository that was never counted begins with nothing.
    pub(crate) fn count(&mut self, repository: &str, change: impl FnOnce(&mut Usage)) -> Result<(), Fault> {
        self.changed = true;
        let mut usage = self.usage(repository)?.unwrap_or_default();
        let listed = usage.manifests > 0;
        let before = usage;
        change(&mut usage);
        self.repositories.insert(repository, Counts::from(usage))?;
        self.count_above(repository, before, usage)?;
        if usage.manifests > 0 && !listed {
            self.catalogue.insert(repository, ())?;
        } else if usage.manifests == 0 && listed {
            self.catalogue.remove(repository)?;
        }
        Ok(())
    }

    /// What a repository's namespaces hold, after its own counts changed.
    fn count_above(&mut self, repository: &str, before: Usage, after: Usage) -> Result<(), Fault> {
        for namespace in namespaces(repository) {
            let held = self.namespaces.get(namespace)?.map_or_else(Usage::default, |row| row.value().into());
            let step = |held: u64, before: u64, after: u64| (held + after).saturating_sub(before);
            let held = Usage {
                manifests: step(held.manifests, before.manifests, after.manifests),
                tags: step(held.tags, before.tags, after.tags),
                blobs: step(held.blobs, before.blobs, after.blobs),
                bytes: step(held.bytes, before.bytes, after.bytes),
            };
            self.namespaces.insert(namespace, Counts::from(held))?;
        }
        Ok(())
    }

    /// What a namespace holds, with a repository of that very name.
    pub(crate) fn usage_below(&self, namespace: &str) -> Result<Usage, Fault> {
        let mut usage = self.namespaces.get(namespace)?.map_or_else(Usage::default, |row| row.value().into());
        usage += self.usage(namespace)?.unwrap_or_default();
        Ok(usage)
    }

    /// What a quota asks for.
    pub(crate) fn usage_of(&self, scope: Scope<'_>) -> Result<Usage, Fault> {
        match scope {
            Scope::Repository(name) => Ok(self.usage(name)?.unwrap_or_default()),
            Scope::Namespace(name) => self.usage_below(name),
        }
    }

    /// Whether a manifest is still as it was at that time, and no tag, index or subject keeps it.
    pub(crate) fn is_abandoned(
        &self,
        repository: &str,
        manifest: &Digest,
        since: Moment,
    ) -> Result<bool, Fault> {
        let at = key(manifest);
        let Some(row) = self.manifest(repository, manifest)? else { return Ok(false) };
        if row.record.since != since
            || !self.tags_of(repository, &at)?.is_empty()
            || is_named(&self.references, repository, &at)?
        {
            return Ok(false);
        }
        match &row.record.subject {
            Some(subject) => Ok(self.manifests.get((repository, &*key(subject)))?.is_none()),
            None => Ok(true),
        }
    }

    /// Whether the repository has this blob.
    pub(crate) fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool, Fault> {
        Ok(self.blobs.get((repository, &*key(digest)))?.is_some())
    }

    /// A repository is known from its first push on.
    pub(crate) fn know(&mut self, repository: &str) -> Result<(), Fault> {
        self.count(repository, |_| {})
    }

    pub(crate) fn usage(&self, repository: &str) -> Result<Option<Usage>, Fault> {
        Ok(self.repositories.get(repository)?.map(|row| row.value().into()))
    }

    fn need(&mut self, content: &[u8], size: u64, role: Role) -> Result<(), Fault> {
        let (_, rows, blobs) = self.content.get(content)?.map_or((0, 0, 0), |row| row.value());
        self.content.insert(content, (size, rows + 1, blobs + u64::from(role == Role::Blob)))?;
        Ok(())
    }

    /// Whether nobody needs the content any more: its file may go once this is committed.
    pub(crate) fn release(&mut self, content: &[u8], role: Role) -> Result<bool, Fault> {
        let Some((size, rows, blobs)) = self.content.get(content)?.map(|row| row.value()) else {
            return Ok(false);
        };
        if rows <= 1 {
            self.content.remove(content)?;
            return Ok(true);
        }
        let blobs = blobs.saturating_sub(u64::from(role == Role::Blob));
        self.content.insert(content, (size, rows - 1, blobs))?;
        Ok(false)
    }

    /// Makes content, whose file is in its place, a blob of the repository.
    pub(crate) fn link_blob(
        &mut self,
        repository: &str,
        digest: &Digest,
        size: u64,
        now: Moment,
    ) -> Result<(), Fault> {
        self.changed = true;
        let content = key(digest);
        if self.blobs.insert((repository, &*content), (size, now))?.is_none() {
            self.need(&content, size, Role::Blob)?;
            self.count(repository, |usage| {
                usage.blobs += 1;
                usage.bytes += size;
            })?;
        }
        Ok(())
    }

    /// The size of a blob of `from`, or of anybody; none where there is no such blob.
    pub(crate) fn mountable(&self, digest: &Digest, from: Option<&str>) -> Result<Option<u64>, Fault> {
        let content = key(digest);
        Ok(match from {
            Some(from) => self.blobs.get((from, &*content))?.map(|row| row.value().0),
            None => self.content.get(&*content)?.map(|row| row.value()).and_then(|(size, _, blobs)| {
                // Content that is only a manifest is not to be had by mounting.
                (blobs > 0).then_some(size)
            }),
        })
    }

    pub(crate) fn named_by_tag(&self, repository: &str, tag: &str) -> Result<Option<Digest>, Fault> {
        Ok(self.tags.get((repository, tag))?.and_then(|row| digest(row.value().0)))
    }

    /// Makes a blob of `from`, or of anybody, one of the repository; its size, or none where there is no such blob.
    pub(crate) fn mount(
        &mut self,
        repository: &str,
        digest: &Digest,
        from: Option<&str>,
        now: Moment,
    ) -> Result<Option<u64>, Fault> {
        let size = self.mountable(digest, from)?;
        if let Some(size) = size {
            self.link_blob(repository, digest, size, now)?;
        }
        Ok(size)
    }

    /// Renews the time that an unnamed blob has; false where it is gone.
    pub(crate) fn renew_blob(
        &mut self,
        repository: &str,
        digest: &Digest,
        now: Moment,
    ) -> Result<bool, Fault> {
        let content = key(digest);
        let Some((size, _)) = self.blobs.get((repository, &*content))?.map(|row| row.value()) else {
            return Ok(false);
        };
        self.changed = true;
        self.blobs.insert((repository, &*content), (size, now))?;
        Ok(true)
    }

    /// None where it was not in the repository; else whether its content may go.
    pub(crate) fn delete_blob(&mut self, repository: &str, digest: &Digest) -> Result<Option<bool>, Fault> {
        let content = key(digest);
        let Some((size, _)) = self.blobs.remove((repository, &*content))?.map(|row| row.value()) else {
            return Ok(None);
        };
        self.count(repository, |usage| {
            usage.blobs = usage.blobs.saturating_sub(1);
            usage.bytes = usage.bytes.saturating_sub(size);
        })?;
        self.release(&content, Role::Blob).map(Some)
    }

    pub(crate) fn manifest(&self, repository: &str, digest: &Digest) -> Result<Option<Row>, Fault> {
        let Some(row) = self.manifests.get((repository, &*key(digest)))? else { return Ok(None) };
        let (record, bytes) = row.value();
        Row::parse(record, bytes).map(Some).map_err(|error| damaged("manifests", repository, &error))
    }

    pub(crate) fn write_manifest(
        &mut self,
        repository: &str,
        digest: &[u8],
        record: &Record,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        self.changed = true;
        let inline = if record.is_file() { &[][..] } else { bytes };
        self.manifests.insert((repository, digest), (&*json(record), inline))?;
        Ok(())
    }

    /// Keeps a manifest; content that is a file is in its place.
    pub(crate) fn put_manifest(
        &mut self,
        repository: &str,
        manifest: &NewManifest,
        tags: &[String],
        now: Moment,
    ) -> Result<(), Fault> {
        let digest = key(&manifest.digest);
        let record = Record {
            media_type: manifest.media_type.clone(),
            size: manifest.bytes.len() as u64,
            since: now,
            subject: manifest.referrer.as_ref().map(|(subject, _)| subject.clone()),
        };
        let is_new = self.manifests.get((repository, &*digest))?.is_none();
        self.write_manifest(repository, &digest, &record, &manifest.bytes)?;
        for (named, naming) in &manifest.named {
            self.references.insert((repository, &*key(named), &*digest), *naming as u8)?;
        }
        if let Some((subject, referrer)) = &manifest.referrer {
            self.referrers.insert((repository, &*key(subject), &*digest), &*json(referrer))?;
        }
        // One that was deleted and could be brought back has come by itself, and needs its content already.
        let was_discarded = self.trash.remove((repository, &*digest))?.is_some();
        if is_new {
            if manifest.bytes.len() > INLINE && !was_discarded {
                self.need(&digest, record.size, Role::Manifest)?;
            }
            self.count(repository, |usage| {
                usage.manifests += 1;
                usage.bytes += record.size;
            })?;
        }
        for tag in tags {
            self.put_tag(repository, tag, &digest, now)?;
        }
        Ok(())
    }

    /// Points a tag at a manifest that is there.
    pub(crate) fn put_tag(
        &mut self,
        repository: &str,
        tag: &str,
        digest: &[u8],
        now: Moment,
    ) -> Result<(), Fault> {
        let before = self.tags.insert((repository, tag), (digest, now))?.map(|row| row.value().0.to_vec());
        match before {
            None => self.count(repository, |usage| usage.tags += 1)?,
            Some(before) if before != digest => self.untag(repository, &before, tag, now)?,
            Some(_) => {}
        }
        self.changed = true;
        self.tagged.insert((repository, digest, tag), ())?;
        // One that was deleted before is no more to be had: its name is taken.
        self.trash_tags.remove((repository, tag))?;
        Ok(())
    }

    /// Takes a tag off a manifest, whose time without tags may begin now.
    fn untag(&mut self, repository: &str, digest: &[u8], tag: &str, now: Moment) -> Result<(), Fault> {
        self.tagged.remove((repository, digest, tag))?;
        if self.tags_of(repository, digest)?.is_empty() {
            let row = self.manifests.get((repository, digest))?.map(|row| {
                let (record, bytes) = row.value();
                (Row::parse(record, bytes), bytes.to_vec())
            });
            if let Some((Ok(row), bytes)) = row {
                let record = Record { since: now, ..row.record };
                self.write_manifest(repository, digest, &record, &bytes)?;
            }
        }
        Ok(())
    }

    pub(crate) fn tags_of(&self, repository: &str, digest: &[u8]) -> Result<Vec<String>, Fault> {
        let mut tags = Vec::new();
        for row in self.tagged.range((repository, digest, "")..)? {
            let (at, _) = row?;
            let (of, named, tag) = at.value();
            if of != repository || named != digest {
                break;
            }
            tags.push(tag.to_owned());
        }
        Ok(tags)
    }

    /// The digest that it named, or none where there was no such tag.
    pub(crate) fn delete_tag(
        &mut self,
        repository: &str,
        tag: &str,
        now: Moment,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let Some(digest) = self.tags.remove((repository, tag))?.map(|row| row.value().0.to_vec()) else {
            return Ok(None);
        };
        self.count(repository, |usage| usage.tags = usage.tags.saturating_sub(1))?;
        self.untag(repository, &digest, tag, now)?;
        Ok(Some(digest))
    }

    /// Takes out a manifest with its tags. `named` is what it names, none where its bytes could not be read. None where it
    /// was not in the repository; else whether its content may go.
    pub(crate) fn delete_manifest(
        &mut self,
        repository: &str,
        manifest: &Digest,
        named: Option<&[(Digest, Naming)]>,
        now: Moment,
    ) -> Result<Option<bool>, Fault> {
        let at = key(manifest);
        let Some(taken) = self.take_out(repository, manifest)? else { return Ok(None) };
        self.unname(repository, &at, named, now)?;
        if taken.row.record.is_file() { self.release(&at, Role::Manifest).map(Some) } else { Ok(Some(false)) }
    }

    /// Takes a manifest, its tags and its place among the referrers out of what can be seen.
    pub(crate) fn take_out(&mut self, repository: &str, manifest: &Digest) -> Result<Option<Taken>, Fault> {
        let at = key(manifest);
        let Some(row) = self.manifest(repository, manifest)? else { return Ok(None) };
        let tags = self.tags_of(repository, &at)?;
        for tag in &tags {
            self.tags.remove((repository, &**tag))?;
            self.tagged.remove((repository, &*at, &**tag))?;
        }
        self.manifests.remove((repository, &*at))?;
        let referrer = match &row.record.subject {
            None => None,
            Some(subject) => {
                let row = self.referrers.remove((repository, &*key(subject), &*at))?;
                row.and_then(|row| serde_json::from_slice(row.value()).ok())
            }
        };
        let (size, count) = (row.record.size, tags.len() as u64);
        self.count(repository, |usage| {
            usage.manifests = usage.manifests.saturating_sub(1);
            usage.tags = usage.tags.saturating_sub(count);
            usage.bytes = usage.bytes.saturating_sub(size);
        })?;
        Ok(Some(Taken { row, tags, referrer }))
    }

    /// A manifest names nothing any more.
    pub(crate) fn unname(
        &mut self,
        repository: &str,
        manifest: &[u8],
        named: Option<&[(Digest, Naming)]>,
        now: Moment,
    ) -> Result<(), Fault> {
        let named = match named {
            Some(named) => named.to_vec(),
            None => self.named_by(repository, manifest)?,
        };
        for (digest, _) in &named {
            let digest = key(digest);
            self.references.remove((repository, &*digest, manifest))?;
            self.let_go(repository, &digest, now)?;
        }
        Ok(())
    }

    /// A blob or manifest that one thing less names: if nothing does, its time begins now.
    fn let_go(&mut self, repository: &str, digest: &[u8], now: Moment) -> Result<(), Fault> {
        if is_named(&self.references, repository, digest)? {
            return Ok(());
        }
        let blob = self.blobs.get((repository, digest))?.map(|row| row.value().0);
        if let Some(size) = blob {
            self.blobs.insert((repository, digest), (size, now))?;
        }
        let row = self.manifests.get((repository, digest))?.map(|row| {
            let (record, bytes) = row.value();
            (Row::parse(record, bytes), bytes.to_vec())
        });
        if let Some((Ok(row), bytes)) = row {
            self.write_manifest(repository, digest, &Record { since: now, ..row.record }, &bytes)?;
        }
        Ok(())
    }

    /// What a manifest names, from the rows alone: all references of the repository are looked at.
    fn named_by(&self, repository: &str, manifest: &[u8]) -> Result<Vec<(Digest, Naming)>, Fault> {
        let mut found = Vec::new();
        for row in self.references.range((repository, FIRST, FIRST)..)? {
            let (at, naming) = row?;
            let (of, named, by) = at.value();
            if of != repository {
                break;
            }
            if by == manifest {
                let naming =
                    if naming.value() == Naming::Blob as u8 { Naming::Blob } else { Naming::Manifest };
                found.extend(digest(named).map(|digest| (digest, naming)));
            }
        }
        Ok(found)
    }
}

pub(crate) fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs with text keys can be written as JSON")
}
