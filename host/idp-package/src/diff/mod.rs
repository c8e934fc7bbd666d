//! What differs between two packages: files, Kubernetes objects, images, metadata.
//!
//! Two sets of [`Files`] with their manifests in, a [`Diff`] out that can be printed or serialised. Bounded: what is too
//! large to compare line by line is said to differ and no more. Values of Secrets are never shown.

mod fields;
mod files;
mod objects;
mod text;

use serde::Serialize;

use crate::kube::{Files, Scan, images};
use crate::manifest::Manifest;

pub use fields::FieldChange;
pub use files::FileChange;
pub use objects::ObjectChange;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Lines of unified diffs in all.
    pub lines: usize,
    /// Lines around a change.
    pub context: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { lines: 5000, context: 3 }
    }
}

/// One of two packages.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its content.
    pub files: &'a Files,
    /// What its author wrote; none for a package of another tool.
    pub manifest: Option<&'a Manifest>,
}

/// Whether something came, went or became another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Only in the new one.
    Added,
    /// Only in the old one.
    Removed,
    /// In both, and not the same.
    Changed,
}

impl Change {
    pub(crate) fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Changed => '~',
        }
    }
}

/// An image that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageChange {
    /// What became of it.
    pub change: Change,
    /// The old reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The new reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// What differs between two packages; everything in the order of names.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Diff {
    /// Keys of the manifest.
    pub metadata: Vec<FieldChange>,
    /// Kubernetes objects.
    pub objects: Vec<ObjectChange>,
    /// Image references.
    pub images: Vec<ImageChange>,
    /// Files.
    pub files: Vec<FileChange>,
}

impl Diff {
    /// Whether the packages are the same.
    pub fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.objects.is_empty() && self.images.is_empty() && self.files.is_empty()
    }
}

/// Compares two packages.
pub fn diff(old: Side<'_>, new: Side<'_>, options: Options) -> Diff {
    let (old_scan, new_scan) = (Scan::new(old.files, old.manifest), Scan::new(new.files, new.manifest));
    Diff {
        metadata: fields::of_manifests(old.manifest, new.manifest),
        objects: objects::compare(&old_scan, &new_scan),
        images: compare_images(&old_scan, &new_scan),
        files: files::compare(&old_scan, &new_scan, options),
    }
}

fn compare_images(old: &Scan<'_>, new: &Scan<'_>) -> Vec<ImageChange> {
    use std::collections::{BTreeMap, BTreeSet};

    // By repository: a repository with one reference on either side is the same image in another version.
    let by_repository = |scan: &Scan<'_>| {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for image in images(scan) {
            let text = image.reference.unwrap_or(image.text);
            let name = text.split('@').next().unwrap_or_default();
            let slash = name.rfind('/').map_or(0, |at| at + 1);
            let end = name[slash..].find(':').map_or(name.len(), |at| slash + at);
            found.entry(name[..end].to_owned()).or_default().insert(text);
        }
        found
    };
    let (old, new) = (by_repository(old), by_repository(new));
    let mut changes = Vec::new();
    let nothing = BTreeSet::new();
    for repository in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let (before, after) =
            (old.get(repository).unwrap_or(&nothing), new.get(repository).unwrap_or(&nothing));
        let gone: Vec<&String> = before.difference(after).collect();
        let come: Vec<&String> = after.difference(before).collect();
        if let ([gone], [come]) = (&gone[..], &come[..]) {
            let (old, new) = (Some((*gone).clone()), Some((*come).clone()));
            changes.push(ImageChange { change: Change::Changed, old, new });
            continue;
        }
        let removed =
            |old: &&String| ImageChange { change: Change::Removed, old: Some((*old).clone()), new: None };
        let added =
            |new: &&String| ImageChange { change: Change::Added, old: None, new: Some((*new).clone()) };
        changes.extend(gone.iter().map(removed));
        changes.extend(come.iter().map(added));
    }
    changes
}

#[cfg(test)]
mod tests;
