//! The rows, derived again from manifests, tags and blobs, and compared: one transaction sees all of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;

use bytes::Bytes;
use redb::ReadableTable as _;

use crate::digest::{Digest, Hasher};
use crate::manifest::{Descriptor, Manifest, Shape};
use crate::media;
use crate::store::disk::{Disk, named};
use crate::store::fsck::{Bad, Finding, FindingKind, FsckOptions};
use crate::store::rows::table::{Counts, FIRST, Needs, Record, Usage, digest, key, namespaces};
use crate::store::rows::trash::Discarded;
use crate::store::rows::{Fault, Tables};
use crate::store::{Referral, Referrer, StoredManifest, durable};

/// What the rows say, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) repositories: u64,
    pub(crate) manifests: u64,
    pub(crate) tags: u64,
    pub(crate) blobs: u64,
    pub(crate) incomplete: BTreeMap<String, Vec<Digest>>,
    pub(crate) findings: Vec<Finding>,
}

type Key = Vec<u8>;

struct Check<'c, 't> {
    tables: &'c mut Tables<'t>,
    disk: &'c Disk,
    bad: &'c HashMap<Digest, Bad>,
    options: FsckOptions,
    seen: Seen,
    /// What the rows need of content: size, rows, repositories that have it as a blob.
    needed: BTreeMap<Key, Needs>,
    /// What the namespaces hold.
    namespaces: BTreeMap<String, Usage>,
    /// Repositories whose rows named bad content.
    suffered: BTreeMap<Digest, BTreeSet<String>>,
}

/// A repository's manifests as they should be seen.
#[derive(Default)]
struct Expected {
    usage: Usage,
    manifests: BTreeSet<Key>,
    references: BTreeMap<(Key, Key), u8>,
    referrers: BTreeMap<(Key, Key), Vec<u8>>,
    /// Referrers of manifests that we cannot derive from: what is there counts.
    taken: BTreeSet<(Key, Key)>,
}

pub(crate) fn check(
    tables: &mut Tables<'_>,
    disk: &Disk,
    bad: &HashMap<Digest, Bad>,
    options: FsckOptions,
) -> Result<Seen, Fault> {
    let repositories = repositories(tables)?;
    let (seen, needed, suffered) = (Seen::default(), BTreeMap::new(), BTreeMap::new());
    let namespaces = BTreeMap::new();
    let mut check = Check { tables, disk, bad, options, seen, needed, namespaces, suffered };
    for repository in repositories {
        check.repository(&repository)?;
    }
    check.content()?;
    check.namespaces()?;
    Ok(check.seen)
}

/// Every repository that any row belongs to.
fn repositories(tables: &Tables<'_>) -> Result<BTreeSet<String>, Fault> {
    let mut all = BTreeSet::new();
    let mut see = |name: &str| {
        if !all.contains(name) {
            all.insert(name.to_owned());
        }
    };
    for row in tables.repositories.iter()? {
        see(row?.0.value());
    }
    for row in tables.catalogue.iter()? {
        see(row?.0.value());
    }
    for row in tables.blobs.iter()? {
        see(row?.0.value().0);
    }
    for row in tables.manifests.iter()? {
        see(row?.0.value().0);
    }
    for row in tables.tags.iter()? {
        see(row?.0.value().0);
    }
    for row in tables.tagged.iter()? {
        see(row?.0.value().0);
    }
    for row in tables.trash.iter()? {
        see(row?.0.value().0);
    }
    for row in tables.references.iter()? {
        see(row?.0.value().0);
    }
    for row in tables.referrers.iter()? {
        see(row?.0.value().0);
    }
    Ok(all)
}

impl Check<'_, '_> {
    /// Notes something wrong; whether it is to be put right now.
    fn find(&mut self, kind: FindingKind, what: impl Display) -> bool {
        let repaired = self.options.repair;
        if repaired {
            self.tables.touch();
        }
        self.seen.findings.push(Finding { kind, what: what.to_string(), repaired });
        repaired
    }

    fn repository(&mut self, repository: &str) -> Result<(), Fault> {
        self.seen.repositories += 1;
        let mut expected = Expected::default();
        self.blobs(repository, &mut expected)?;
        self.manifests(repository, &mut expected)?;
        self.trash(repository, &mut expected)?;
        self.tags(repository, &mut expected)?;
        self.references(repository, &expected)?;
        self.referrers(repository, &expected)?;
        let kept = self.tables.usage(repository)?;
        let listed = self.tables.catalogue.get(repository)?.is_some();
        let usage = expected.usage;
        if (kept != Some(usage) || listed != (usage.manifests > 0))
            && self.find(
                FindingKind::Usage,
                format_args!("`{repository}` is counted as {kept:?} (listed: {listed}) and holds {usage:?}"),
            )
        {
            self.tables.repositories.insert(repository, Counts::from(usage))?;
            if usage.manifests > 0 {
                self.tables.catalogue.insert(repository, ())?;
            } else {
                self.tables.catalogue.remove(repository)?;
            }
        }
        for namespace in namespaces(repository) {
            *self.namespaces.entry(namespace.to_owned()).or_default() += usage;
        }
        self.seen.manifests += usage.manifests;
        self.seen.tags += usage.tags;
        self.seen.blobs += usage.blobs;
        Ok(())
    }

    /// Whether content is (still) bad: it may have been pushed again since it was looked at.
    fn is_bad(&self, content: &Digest, size: u64) -> Result<bool, Fault> {
        let Some(why) = self.bad.get(content) else { return Ok(false) };
        if !self.options.repair && matches!(why, Bad::Digest(_)) {
            return Ok(true);
        }
        let found = self.disk.content.size(content).map_err(redb::StorageError::from)?;
        Ok(found != Some(size))
    }

    fn blobs(&mut self, repository: &str, expected: &mut Expected) -> Result<(), Fault> {
        let mut rows = Vec::new();
        for row in self.tables.blobs.range((repository, FIRST)..)? {
            let (at, value) = row?;
            if at.value().0 != repository {
                break;
            }
            rows.push((at.value().1.to_vec(), value.value().0));
        }
        for (at, size) in rows {
            let remove = match digest(&at) {
                None => {
                    self.find(FindingKind::RowStrange, format_args!("a blob of `{repository}` has no digest"))
                }
                Some(digest) if self.is_bad(&digest, size)? => {
                    self.suffered.entry(digest).or_default().insert(repository.to_owned());
                    self.options.repair
                }
                Some(_) => false,
            };
            if remove {
                self.tables.blobs.remove((repository, &*at))?;
                // A consequence, and no finding of its own.
                self.tables.count(repository, |usage| {
                    usage.blobs = usage.blobs.saturating_sub(1);
                    usage.bytes = usage.bytes.saturating_sub(size);
                })?;
                continue;
            }
            expected.usage.blobs += 1;
            expected.usage.bytes += size;
            let needed = self.needed.entry(at).or_insert((size, 0, 0));
            needed.1 += 1;
            needed.2 += 1;
        }
        Ok(())
    }

    fn manifests(&mut self, repository: &str, expected: &mut Expected) -> Result<(), Fault> {
        let mut rows = Vec::new();
        for row in self.tables.manifests.range((repository, FIRST)..)? {
            let (at, value) = row?;
            if at.value().0 != repository {
                break;
            }
            let (record, bytes) = value.value();
            rows.push((at.value().1.to_vec(), record.to_vec(), bytes.to_vec()));
        }
        for (at, record, bytes) in rows {
            match self.manifest(&at, &record, bytes) {
                Ok((record, bytes)) => self.expect(repository, at, &record, &bytes, expected)?,
                Err(why) => {
                    let name = digest(&at).map_or_else(|| "without a digest".to_owned(), |it| it.to_string());
                    let what = format!("the manifest {name} of `{repository}` {why}");
                    if self.find(FindingKind::ManifestDamaged, what) {
                        self.tables.manifests.remove((repository, &*at))?;
                    } else {
                        expected.manifests.insert(at);
                    }
                }
            }
        }
        Ok(())
    }

    /// The record and bytes of a manifest, or what is wrong with them.
    fn manifest(&self, at: &[u8], record: &[u8], bytes: Vec<u8>) -> Result<(Record, Bytes), String> {
        let named = digest(at).ok_or("cannot be named")?;
        let record: Record =
            serde_json::from_slice(record).map_err(|error| format!("has an unreadable record ({error})"))?;
        let bytes = if record.is_file() {
            match durable::read(&self.disk.content.path(&named)) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Err("has lost its content".to_owned()),
                Err(error) => return Err(format!("cannot be read ({error})")),
            }
        } else {
            bytes
        };
        if bytes.len() as u64 != record.size {
            return Err(format!("has {} bytes instead of {}", bytes.len(), record.size));
        }
        if !self.options.fast {
            let mut hasher = Hasher::new(named.algorithm());
            hasher.update(&bytes);
            let actual = hasher.finish();
            if actual != named {
                return Err(format!("has other bytes, with digest {actual}"));
            }
        }
        Ok((record, bytes.into()))
    }

    fn expect(
        &mut self,
        repository: &str,
        at: Key,
        record: &Record,
        bytes: &Bytes,
        expected: &mut Expected,
    ) -> Result<(), Fault> {
        expected.usage.manifests += 1;
        expected.usage.bytes += record.size;
        if record.is_file() {
            self.needed.entry(at.clone()).or_insert((record.size, 0, 0)).1 += 1;
        }
        for (named, naming) in named(bytes, &record.media_type) {
            expected.references.insert((key(&named), at.clone()), naming as u8);
        }
        match Manifest::parse(bytes.clone(), Some(&record.media_type)) {
            Ok(manifest) => {
                if let Ok(Some(referral)) = Referral::of(&manifest)
                    && let Some(digest) = digest(&at)
                {
                    let stored = StoredManifest {
                        media_type: record.media_type.clone(),
                        digest,
                        bytes: bytes.clone(),
                    };
                    let referrer = serde_json::to_vec(&Referrer::new(&stored, &referral))
                        .expect("plain structs with text keys can be written as JSON");
                    expected.referrers.insert((key(&referral.subject), at.clone()), referrer);
                }
                self.complete(repository, &at, &manifest)?;
            }
            Err(_) => {
                let subject = record.subject.as_ref().map(key);
                expected.taken.extend(subject.map(|subject| (subject, at.clone())));
            }
        }
        expected.manifests.insert(at);
        Ok(())
    }

    /// What was deleted and can be brought back names and needs what it did.
    fn trash(&mut self, repository: &str, expected: &mut Expected) -> Result<(), Fault> {
        let mut rows = Vec::new();
        for row in self.tables.trash.range((repository, FIRST)..)? {
            let (at, value) = row?;
            if at.value().0 != repository {
                break;
            }
            let (discarded, bytes) = value.value();
            rows.push((at.value().1.to_vec(), discarded.to_vec(), bytes.to_vec()));
        }
        for (at, discarded, bytes) in rows {
            let record = serde_json::from_slice::<Discarded>(&discarded).map(|discarded| discarded.record);
            let read = record.map_err(|error| error.to_string()).and_then(|record| {
                let record = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
                self.manifest(&at, &record, bytes)
            });
            match read {
                Ok((record, bytes)) => {
                    if record.is_file() {
                        self.needed.entry(at.clone()).or_insert((record.size, 0, 0)).1 += 1;
                    }
                    for (named, naming) in named(&bytes, &record.media_type) {
                        expected.references.insert((key(&named), at.clone()), naming as u8);
                    }
                }
                Err(why) => {
                    let what =
                        format!("a deleted manifest of `{repository}` {why}: it cannot be brought back");
                    if self.find(FindingKind::ManifestDamaged, what) {
                        self.tables.trash.remove((repository, &*at))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn complete(&mut self, repository: &str, at: &[u8], manifest: &Manifest) -> Result<(), Fault> {
        let Shape::Image { config, layers } = manifest.shape() else { return Ok(()) };
        let mut lacking = BTreeSet::new();
        for layer in std::iter::once(&**config).chain(layers) {
            if !is_elsewhere(layer) && self.tables.blobs.get((repository, &*key(&layer.digest)))?.is_none() {
                lacking.insert(layer.digest.clone());
            }
        }
        if !lacking.is_empty() {
            let tags = self.tables.tags_of(repository, at)?.join(", ");
            let name = digest(at).map(|digest| digest.to_string()).unwrap_or_default();
            let name = format!("{repository}@{name} ({tags})");
            self.seen.incomplete.insert(name, lacking.into_iter().collect());
        }
        Ok(())
    }

    fn tags(&mut self, repository: &str, expected: &mut Expected) -> Result<(), Fault> {
        let mut rows = Vec::new();
        for row in self.tables.tags.range((repository, "")..)? {
            let (at, value) = row?;
            if at.value().0 != repository {
                break;
            }
            rows.push((at.value().1.to_owned(), value.value().0.to_vec()));
        }
        let mut tagged = BTreeSet::new();
        for (tag, named) in rows {
            if !expected.manifests.contains(&named)
                && self.find(
                    FindingKind::TagDangling,
                    format_args!("`{repository}:{tag}` names a manifest that is not there"),
                )
            {
                self.tables.tags.remove((repository, &*tag))?;
                continue;
            }
            expected.usage.tags += 1;
            tagged.insert((named, tag));
        }
        let mut kept = BTreeSet::new();
        for row in self.tables.tagged.range((repository, FIRST, "")..)? {
            let (at, _) = row?;
            let (of, named, tag) = at.value();
            if of != repository {
                break;
            }
            kept.insert((named.to_vec(), tag.to_owned()));
        }
        if tagged != kept
            && self.find(
                FindingKind::TagIndex,
                format_args!(
                    "`{repository}` has {} tags and knows {} by their manifest",
                    tagged.len(),
                    kept.len()
                ),
            )
        {
            for (named, tag) in kept.difference(&tagged) {
                self.tables.tagged.remove((repository, &**named, &**tag))?;
            }
            for (named, tag) in tagged.difference(&kept) {
                self.tables.tagged.insert((repository, &**named, &**tag), ())?;
            }
        }
        Ok(())
    }

    fn references(&mut self, repository: &str, expected: &Expected) -> Result<(), Fault> {
        let mut kept = BTreeMap::new();
        for row in self.tables.references.range((repository, FIRST, FIRST)..)? {
            let (at, naming) = row?;
            let (of, named, by) = at.value();
            if of != repository {
                break;
            }
            kept.insert((named.to_vec(), by.to_vec()), naming.value());
        }
        if kept != expected.references
            && self.find(
                FindingKind::References,
                format_args!(
                    "the manifests of `{repository}` name {} things, and {} are kept",
                    expected.references.len(),
                    kept.len()
                ),
            )
        {
            for (named, by) in kept.keys() {
                self.tables.references.remove((repository, &**named, &**by))?;
            }
            for ((named, by), naming) in &expected.references {
                self.tables.references.insert((repository, &**named, &**by), *naming)?;
            }
        }
        Ok(())
    }

    fn referrers(&mut self, repository: &str, expected: &Expected) -> Result<(), Fault> {
        let mut kept = BTreeMap::new();
        for row in self.tables.referrers.range((repository, FIRST, FIRST)..)? {
            let (at, descriptor) = row?;
            let (of, subject, by) = at.value();
            if of != repository {
                break;
            }
            let at = (subject.to_vec(), by.to_vec());
            if !expected.taken.contains(&at) {
                kept.insert(at, descriptor.value().to_vec());
            }
        }
        if kept != expected.referrers
            && self.find(
                FindingKind::Referrers,
                format_args!(
                    "`{repository}` has {} referrers, and {} are listed",
                    expected.referrers.len(),
                    kept.len()
                ),
            )
        {
            for (subject, by) in kept.keys() {
                self.tables.referrers.remove((repository, &**subject, &**by))?;
            }
            for ((subject, by), descriptor) in &expected.referrers {
                self.tables.referrers.insert((repository, &**subject, &**by), &**descriptor)?;
            }
        }
        Ok(())
    }

    fn namespaces(&mut self) -> Result<(), Fault> {
        let mut kept = BTreeMap::new();
        for row in self.tables.namespaces.iter()? {
            let (at, usage) = row?;
            kept.insert(at.value().to_owned(), Usage::from(usage.value()));
        }
        let names: BTreeSet<String> = kept.keys().chain(self.namespaces.keys()).cloned().collect();
        for name in names {
            let usage = self.namespaces.get(&name).copied().unwrap_or_default();
            let counted = kept.get(&name).copied().unwrap_or_default();
            if usage != counted
                && self.find(
                    FindingKind::Usage,
                    format_args!("below `{name}` {counted:?} is counted and {usage:?} is held"),
                )
            {
                self.tables.namespaces.insert(&*name, Counts::from(usage))?;
            }
        }
        Ok(())
    }

    /// What is needed of content, against what is counted; and bad content that some row needs or needed.
    fn content(&mut self) -> Result<(), Fault> {
        let mut kept = BTreeMap::new();
        for row in self.tables.content.iter()? {
            let (at, value) = row?;
            kept.insert(at.value().to_vec(), value.value());
        }
        for (content, why) in self.bad {
            let Some((size, _, _)) = kept.get(&key(content)) else { continue };
            if !self.is_bad(content, *size)? {
                continue;
            }
            let who =
                self.suffered.get(content).map(|names| names.iter().cloned().collect::<Vec<_>>().join(", "));
            let who = who.unwrap_or_else(|| "manifests".to_owned());
            match why {
                Bad::Missing => self.find(
                    FindingKind::ContentMissing,
                    format_args!("{content} of {size} bytes is missing; it was in: {who}"),
                ),
                Bad::Size(found) => self.find(
                    FindingKind::ContentDamaged,
                    format_args!("{content} has {found} bytes instead of {size}; it was in: {who}"),
                ),
                Bad::Digest(actual) => self.find(
                    FindingKind::ContentDamaged,
                    format_args!("{content} has other bytes, with digest {actual}; it was in: {who}"),
                ),
            };
        }
        for (content, counted) in &kept {
            let needed = self.needed.get(content).copied();
            // What bad content is needed for went above.
            let is_bad = digest(content).is_some_and(|digest| self.bad.contains_key(&digest));
            if needed == Some(*counted) || (is_bad && !self.options.repair) {
                continue;
            }
            let name =
                digest(content).map_or_else(|| "a row without a digest".to_owned(), |it| it.to_string());
            if (is_bad && self.options.repair)
                || self.find(
                    FindingKind::ContentCount,
                    format_args!("{name} is counted as {counted:?} and needed as {needed:?}"),
                )
            {
                self.tables.touch();
                match needed {
                    None => drop(self.tables.content.remove(&**content)?),
                    Some(needed) => drop(self.tables.content.insert(&**content, needed)?),
                }
            }
        }
        let uncounted: Vec<(Key, Needs)> = self
            .needed
            .iter()
            .filter(|(content, _)| !kept.contains_key(*content))
            .map(|(content, needed)| (content.clone(), *needed))
            .collect();
        for (content, needed) in uncounted {
            let Some(name) = digest(&content) else { continue };
            if self.find(
                FindingKind::ContentCount,
                format_args!("{name} is not counted and needed as {needed:?}"),
            ) {
                self.tables.content.insert(&*content, needed)?;
            }
        }
        Ok(())
    }
}

/// Layers that are to be had from somewhere else need not be here.
fn is_elsewhere(descriptor: &Descriptor) -> bool {
    !descriptor.urls.is_empty() || media::is_foreign(&descriptor.media_type)
}
