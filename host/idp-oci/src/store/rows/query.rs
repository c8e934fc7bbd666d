//! What can be asked of the rows, as of one moment. Every list is a range: a page costs as many rows as it has.

use redb::{ReadOnlyTable, ReadTransaction, TableDefinition};

use crate::digest::Digest;
use crate::store::rows::Fault;
use crate::store::rows::table::{
    BLOBS, CATALOGUE, CONTENT, FIRST, MANIFESTS, Moment, NAMESPACES, REFERENCES, REFERRERS, REPOSITORIES,
    Record, TAGS, TRASH, Usage, digest, is_named, key,
};
use crate::store::rows::trash::Discarded;
use crate::store::{Listing, Page, Referrer, StoreError, UsageReport};

/// The rows as they were when it was made.
pub(crate) struct Snapshot {
    transaction: ReadTransaction,
}

/// A blob of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) size: u64,
    /// Since when it has its present state: pushed, mounted, asked for, or no longer named by a manifest.
    pub(crate) since: Moment,
}

/// A manifest's row.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) record: Record,
    /// None where they are a file.
    pub(crate) bytes: Option<Vec<u8>>,
}

impl Row {
    pub(crate) fn parse(record: &[u8], bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let record: Record = serde_json::from_slice(record)?;
        let bytes = (!record.is_file()).then(|| bytes.to_vec());
        Ok(Self { record, bytes })
    }
}

impl Snapshot {
    pub(crate) fn new(transaction: ReadTransaction) -> Self {
        Self { transaction }
    }

    pub(crate) fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, Fault> {
        Ok(self.transaction.open_table(definition)?)
    }

    pub(crate) fn usage(&self, repository: &str) -> Result<Option<Usage>, Fault> {
        Ok(self.table(REPOSITORIES)?.get(repository)?.map(|row| row.value().into()))
    }

    pub(crate) fn blob(&self, repository: &str, blob: &Digest) -> Result<Option<Held>, Fault> {
        let row = self.table(BLOBS)?.get((repository, &*key(blob)))?;
        Ok(row.map(|row| {
            let (size, since) = row.value();
            Held { size, since }
        }))
    }

    pub(crate) fn is_named(&self, repository: &str, digest: &Digest) -> Result<bool, Fault> {
        Ok(is_named(&self.table(REFERENCES)?, repository, &key(digest))?)
    }

    /// The size of content that some row needs.
    pub(crate) fn content(&self, digest: &Digest) -> Result<Option<u64>, Fault> {
        Ok(self.table(CONTENT)?.get(&*key(digest))?.map(|row| row.value().0))
    }

    pub(crate) fn manifest(&self, repository: &str, manifest: &Digest) -> Result<Option<Row>, Fault> {
        let Some(row) = self.table(MANIFESTS)?.get((repository, &*key(manifest)))? else { return Ok(None) };
        let (record, bytes) = row.value();
        let row = Row::parse(record, bytes).map_err(|error| damaged("manifests", repository, &error))?;
        Ok(Some(row))
    }

    /// A deleted manifest that can be brought back.
    pub(crate) fn discarded(&self, repository: &str, manifest: &Digest) -> Result<Option<Row>, Fault> {
        let Some(row) = self.table(TRASH)?.get((repository, &*key(manifest)))? else { return Ok(None) };
        let (discarded, bytes) = row.value();
        let discarded: Discarded =
            serde_json::from_slice(discarded).map_err(|error| damaged("trash", repository, &error))?;
        let bytes = (!discarded.record.is_file()).then(|| bytes.to_vec());
        Ok(Some(Row { record: discarded.record, bytes }))
    }

    pub(crate) fn has_manifest(&self, repository: &str, manifest: &Digest) -> Result<bool, Fault> {
        Ok(self.table(MANIFESTS)?.get((repository, &*key(manifest)))?.is_some())
    }

    pub(crate) fn tagged(&self, repository: &str, tag: &str) -> Result<Option<Digest>, Fault> {
        let Some(row) = self.table(TAGS)?.get((repository, tag))? else { return Ok(None) };
        match digest(row.value().0) {
            Some(digest) => Ok(Some(digest)),
            None => Err(damaged("tags", repository, &tag)),
        }
    }

    pub(crate) fn tags(&self, repository: &str, page: &Page) -> Result<Option<Listing<String>>, Fault> {
        if self.usage(repository)?.is_none() {
            return Ok(None);
        }
        let table = self.table(TAGS)?;
        let after = page.after.as_deref();
        let mut entries = Vec::new();
        for row in table.range((repository, after.unwrap_or(""))..)? {
            let (at, _) = row?;
            let (of, tag) = at.value();
            if of != repository {
                break;
            }
            if after == Some(tag) {
                continue;
            }
            if entries.len() == page.limit {
                return Ok(Some(Listing { entries, more: true }));
            }
            entries.push(tag.to_owned());
        }
        Ok(Some(Listing { entries, more: false }))
    }

    pub(crate) fn repositories(&self, page: &Page) -> Result<Listing<String>, Fault> {
        let table = self.table(CATALOGUE)?;
        let after = page.after.as_deref();
        let mut entries = Vec::new();
        for row in table.range(after.unwrap_or("")..)? {
            let (at, ()) = {
                let (at, value) = row?;
                (at, value.value())
            };
            let repository = at.value();
            if after == Some(repository) {
                continue;
            }
            if entries.len() == page.limit {
                return Ok(Listing { entries, more: true });
            }
            entries.push(repository.to_owned());
        }
        Ok(Listing { entries, more: false })
    }

    /// What a namespace holds, with a repository of that very name, and a page of its repositories.
    pub(crate) fn usage_below(&self, namespace: &str, page: &Page) -> Result<UsageReport, Fault> {
        let own = self.usage(namespace)?;
        let mut total: Usage =
            self.table(NAMESPACES)?.get(namespace)?.map_or_else(Usage::default, |row| row.value().into());
        total += own.unwrap_or_default();
        let table = self.table(REPOSITORIES)?;
        let below = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let mut report = UsageReport { total, repositories: Vec::new(), more: false };
        let after = page.after.as_deref();
        if let Some(own) = own.filter(|_| page.limit > 0 && after.is_none_or(|after| after < namespace)) {
            report.repositories.push((namespace.to_owned(), own));
        }
        let from = after.filter(|after| *after > below.as_str()).unwrap_or(&below);
        for row in table.range(from..)? {
            let (at, usage) = row?;
            if !at.value().starts_with(&below) {
                break;
            }
            if Some(at.value()) == after {
                continue;
            }
            if report.repositories.len() >= page.limit {
                report.more = true;
                break;
            }
            report.repositories.push((at.value().to_owned(), usage.value().into()));
        }
        Ok(report)
    }

    pub(crate) fn referrers(&self, repository: &str, subject: &Digest) -> Result<Vec<Referrer>, Fault> {
        let table = self.table(REFERRERS)?;
        let subject = key(subject);
        let mut referrers = Vec::new();
        for row in table.range((repository, &*subject, FIRST)..)? {
            let (at, descriptor) = row?;
            let (of, named, _) = at.value();
            if of != repository || named != subject {
                break;
            }
            let referrer = serde_json::from_slice(descriptor.value())
                .map_err(|error| damaged("referrers", repository, &error))?;
            referrers.push(referrer);
        }
        Ok(referrers)
    }
}

pub(crate) fn damaged(table: &str, repository: &str, what: &dyn std::fmt::Display) -> Fault {
    let what = format!("a row of `{repository}` in the table `{table}` is not readable ({what})");
    Fault::refused(StoreError::Damaged { what })
}
