//! Version: raise it where it is written, and leave every other byte as it is.

use std::path::{Path, PathBuf};

use idp_package::build::Package;
use idp_package::manifest::{self, Type};
use idp_package::version::Version;
use serde::Serialize;

use super::super::Error;

/// What became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bumped {
    /// The package.
    pub name: String,
    /// Its version now.
    pub version: String,
    /// Its version before, where it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The files that changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
}

/// Shows the version, or sets it to `to`: a version, or `major`, `minor` or `patch`.
///
/// # Errors
/// The directory is no package, or `to` is no version.
pub fn bump(directory: &Path, to: Option<&str>) -> Result<Bumped, Error> {
    let package = Package::open(directory)?;
    let metadata = &package.manifest.metadata;
    let (name, before) = (metadata.name.clone(), metadata.version.clone());
    let Some(to) = to else {
        return Ok(Bumped { name, version: before, before: None, files: Vec::new() });
    };
    let next = next(&before, to)?;
    let mut edits = vec![(directory.join(manifest::FILE), Some("metadata"))];
    if package.manifest.spec.r#type == Type::Helm {
        edits.push((directory.join(&package.manifest.spec.content.root).join("Chart.yaml"), None));
    }
    let mut changed = Vec::new();
    for (path, under) in edits {
        let io = |error| Error::Io { what: path.display().to_string(), error };
        let text = fs_err::read_to_string(&path).map_err(io)?;
        let edited = edited(&text, under, &before, &next).ok_or_else(|| {
            Error::Unfit(format!(
                "{}: `version: {before}` does not stand on a line of its own; change it by hand",
                path.display()
            ))
        })?;
        changed.push((path, edited));
    }
    // The first file is what the others follow: nothing is written before all can be.
    manifest::parse(&changed[0].1).map_err(|error| Error::Usage(error.to_string()))?;
    for (path, text) in &changed {
        write(path, text)?;
    }
    let files = changed.into_iter().map(|(path, _)| path).collect();
    Ok(Bumped { name, version: next, before: Some(before), files })
}

/// Puts a text in the place of a file, whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    let io = |error| Error::Io { what: path.display().to_string(), error };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = match std::fs::metadata(path) {
        Ok(metadata) => metadata.permissions(),
        // What a new file gets.
        Err(_) => std::fs::Permissions::from_mode(0o644),
    };
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    std::fs::set_permissions(file.path(), mode).map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

fn next(before: &str, to: &str) -> Result<String, Error> {
    let wrong = |text: &str| {
        Error::Usage(format!("`{text}` is no version; write major, minor, patch or MAJOR.MINOR.PATCH"))
    };
    let version: Version = before.parse().map_err(|_| wrong(before))?;
    let (major, minor, patch) = (version.major(), version.minor(), version.patch());
    Ok(match to {
        "major" => format!("{}.0.0", major + 1),
        "minor" => format!("{major}.{}.0", minor + 1),
        // The release that a prerelease leads to comes first.
        "patch" if before.contains('-') => format!("{major}.{minor}.{patch}"),
        "patch" => format!("{major}.{minor}.{}", patch + 1),
        _ => to.parse::<Version>().map(|version| version.to_string()).map_err(|_| wrong(to))?,
    })
}

/// The text with the version in its line: the first `version:` below the key `under`, or at the margin.
fn edited(text: &str, under: Option<&str>, before: &str, next: &str) -> Option<String> {
    let mut inside = under.is_none();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        if let Some(under) = under
            && !bare.starts_with([' ', '#', '-'])
            && !bare.is_empty()
        {
            inside = bare.strip_prefix(under).is_some_and(|rest| rest.starts_with(':'));
        }
        let starts = line.trim_start().starts_with("version:")
            || line.contains("{version:")
            || line.contains(" version:");
        let at_margin = under.is_some() || line.starts_with("version:");
        if inside
            && starts
            && at_margin
            && let Some(found) = line.find(before)
        {
            let (from, to) = (at + found, at + found + before.len());
            return Some(format!("{}{next}{}", &text[..from], &text[to..]));
        }
        at += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{edited, next};

    #[test]
    fn versions_are_raised() {
        for (before, to, expect) in [
            ("1.2.3", "patch", "1.2.4"),
            ("1.2.3", "minor", "1.3.0"),
            ("1.2.3", "major", "2.0.0"),
            ("1.3.0-rc.1", "patch", "1.3.0"),
            ("1.2.3", "2.0.0-rc.1", "2.0.0-rc.1"),
        ] {
            assert_eq!(next(before, to).expect("a version"), expect, "{before} {to}");
        }
        assert!(next("1.2.3", "next").is_err());
    }

    #[test]
    fn only_the_version_changes() {
        let text = "kind: Package\nspec:\n  dependencies:\n  - {name: a, version: 1.0.0}\nmetadata:\n  name: x # 1.0.0\n  version: \"1.0.0\" # now\n";
        let expect = text.replace("\"1.0.0\"", "\"1.1.0\"");
        assert_eq!(edited(text, Some("metadata"), "1.0.0", "1.1.0").as_deref(), Some(&*expect));
        let inline = "metadata: {name: x, version: 1.0.0}\n";
        assert_eq!(
            edited(inline, Some("metadata"), "1.0.0", "2.0.0").as_deref(),
            Some("metadata: {name: x, version: 2.0.0}\n")
        );
        let chart = "dependencies:\n- name: a\n  version: 1.0.0\nversion: 1.0.0\n";
        let expect = "dependencies:\n- name: a\n  version: 1.0.0\nversion: 2.0.0\n";
        assert_eq!(edited(chart, None, "1.0.0", "2.0.0").as_deref(), Some(expect));
    }
}
