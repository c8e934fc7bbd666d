//! Kubernetes objects of two packages, by what names them; where they lie does not matter.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::kube::{Object, ObjectKey, Scan};

use super::Change;
use super::fields::{FieldChange, compare as compare_fields, to_json};

/// An object that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ObjectChange {
    /// Which.
    pub object: ObjectKey,
    /// What became of it.
    pub change: Change,
    /// The file that has it now, or had it.
    pub file: String,
    /// What is different in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
}

type Known<'a> = BTreeMap<(ObjectKey, String), Object<'a>>;

pub(super) fn compare(old: &Scan<'_>, new: &Scan<'_>) -> Vec<ObjectChange> {
    let (mut old, mut new) = (by_key(old), by_key(new));
    // An object that there is once on either side is the same one, even where it lies elsewhere now.
    let (old_keys, new_keys) = (counts(&old), counts(&new));
    for (key, count) in &old_keys {
        if *count == 1 && new_keys.get(key) == Some(&1) {
            old = moved(old, key);
            new = moved(new, key);
        }
    }
    let mut changes = Vec::new();
    for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let object = key.0.clone();
        match (old.get(key), new.get(key)) {
            (Some(before), Some(after)) => {
                let fields = fields_of(before, after);
                if !fields.is_empty() {
                    let file = after.file.to_owned();
                    changes.push(ObjectChange { object, change: Change::Changed, file, fields });
                }
            }
            (Some(gone), None) => {
                let file = gone.file.to_owned();
                changes.push(ObjectChange { object, change: Change::Removed, file, fields: Vec::new() });
            }
            (None, Some(come)) => {
                let file = come.file.to_owned();
                changes.push(ObjectChange { object, change: Change::Added, file, fields: Vec::new() });
            }
            (None, None) => {}
        }
    }
    changes
}

fn by_key<'a>(scan: &'a Scan<'_>) -> Known<'a> {
    scan.objects().into_iter().map(|object| ((object.key(), object.file.to_owned()), object)).collect()
}

fn counts(known: &Known<'_>) -> BTreeMap<ObjectKey, usize> {
    let mut counts = BTreeMap::new();
    for (key, _) in known.keys() {
        *counts.entry(key.clone()).or_default() += 1;
    }
    counts
}

/// With the one object of a key where no file is said.
fn moved<'a>(mut known: Known<'a>, key: &ObjectKey) -> Known<'a> {
    let at = known.range((key.clone(), String::new())..).next().map(|(at, _)| at.clone());
    if let Some(at) = at.filter(|at| at.0 == *key)
        && let Some(object) = known.remove(&at)
    {
        known.insert((key.clone(), String::new()), object);
    }
    known
}

/// What differs in an object; of what a Secret holds, only that it does.
fn fields_of(before: &Object<'_>, after: &Object<'_>) -> Vec<FieldChange> {
    let mut fields = compare_fields(&to_json(before.node), &to_json(after.node));
    if before.is("", "Secret") {
        for field in &mut fields {
            // kubectl keeps a copy of the whole object in an annotation.
            let holds = |start: &str| field.path.starts_with(start);
            if holds("data") || holds("stringData") || holds("metadata.annotations") {
                for value in [&mut field.old, &mut field.new].into_iter().flatten() {
                    "(not shown)".clone_into(value);
                }
            }
        }
    }
    fields
}
