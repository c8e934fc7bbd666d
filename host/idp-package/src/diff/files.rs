//! Files of two packages: which came, went or changed, with the lines where they are text.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::kube::{File, Scan};

use super::{Change, Options};

/// Larger files are not compared line by line.
const LARGEST: u64 = 1024 * 1024;
/// Nor are files with more lines: the time it takes grows with their square.
const MOST_LINES: usize = 20_000;

/// A file that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileChange {
    /// Which.
    pub path: String,
    /// What became of it.
    pub change: Change,
    /// Its old size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_size: Option<u64>,
    /// Its new size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_size: Option<u64>,
    /// Whether it can be executed now, where it could not be before, or the other way round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
    /// The changed lines as a unified diff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why there are no lines, where they are not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_shown: Option<&'static str>,
}

pub(super) fn compare(old: &Scan<'_>, new: &Scan<'_>, options: Options) -> Vec<FileChange> {
    let mut left = options.lines;
    let secrets: BTreeSet<&str> = secrets(old).chain(secrets(new)).collect();
    let paths = old.files.iter().chain(new.files.iter()).map(|(path, _)| path);
    let mut changes = Vec::new();
    for path in paths.collect::<BTreeSet<_>>() {
        let (before, after) = (old.files.get(path), new.files.get(path));
        let change = match (before, after) {
            (Some(before), Some(after)) if is_same(before, after) => continue,
            (Some(_), Some(_)) => Change::Changed,
            (Some(_), None) => Change::Removed,
            (None, _) => Change::Added,
        };
        let executable = match (before, after) {
            (Some(before), Some(after)) if before.executable != after.executable => Some(after.executable),
            _ => None,
        };
        let mut found = FileChange {
            path: path.to_owned(),
            change,
            old_size: before.map(|file| file.size),
            new_size: after.map(|file| file.size),
            executable,
            text: None,
            not_shown: None,
        };
        if let (Some(before), Some(after)) = (before, after) {
            if secrets.contains(path) {
                found.not_shown = Some("it holds a Secret");
            } else {
                match lines(path, before, after, options.context) {
                    Ok(text) if text.is_empty() => {}
                    Ok(text) => {
                        let count = text.lines().count();
                        if count <= left {
                            left -= count;
                            found.text = Some(text);
                        } else {
                            found.not_shown = Some("too many lines changed");
                        }
                    }
                    Err(why) => found.not_shown = Some(why),
                }
            }
        }
        changes.push(found);
    }
    changes
}

/// The files whose lines would show what a Secret holds.
fn secrets<'a>(scan: &'a Scan<'_>) -> impl Iterator<Item = &'a str> {
    let objects = scan.objects().into_iter().chain(scan.patches());
    objects.filter(|object| object.is("", "Secret")).map(|object| object.file)
}

fn is_same(one: &File, other: &File) -> bool {
    if one.size != other.size || one.executable != other.executable {
        return false;
    }
    // A file that cannot be read is taken for another one.
    match (one.read(u64::MAX - 1), other.read(u64::MAX - 1)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn lines(path: &str, before: &File, after: &File, context: usize) -> Result<String, &'static str> {
    let large = "it is too large";
    let before = before.read(LARGEST).map_err(|_| large)?;
    let after = after.read(LARGEST).map_err(|_| large)?;
    let text =
        |bytes| std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or("it is no text");
    let (before, after) = (text(&before)?, text(&after)?);
    // In a template, or in YAML that cannot be read, it is not found as an object.
    let secret = |line: &str| matches!(line.trim_start_matches(['-', ' ']).trim_end(), "kind: Secret");
    if before.lines().chain(after.lines()).any(secret) {
        return Err("it holds a Secret");
    }
    if before.lines().count() + after.lines().count() > MOST_LINES {
        return Err(large);
    }
    Ok(similar::TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(context)
        .header(&format!("a/{path}"), &format!("b/{path}"))
        .to_string())
}
