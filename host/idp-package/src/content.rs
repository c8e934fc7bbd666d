//! Which files of a package's directory are its content: the tree that becomes the layer.

use std::collections::HashMap;
use std::path::Path;

use idp_oci::source::{SourceError, Tree};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use unicode_normalization::UnicodeNormalization as _;

use crate::manifest::{self, Manifest, Type};

/// Patterns of files that are no content, as in `.gitignore`.
pub const IGNORE_FILE: &str = ".idpignore";
/// The lock file.
pub const LOCK_FILE: &str = "idp.lock";

/// What is never content, wherever it lies.
const NEVER: [&str; 6] = [".git/", ".hg/", ".svn/", ".DS_Store", ".idp-*", "Thumbs.db"];
/// What belongs to the package and is not deployed, where the content starts at the package's own directory.
const OWN: [&str; 7] =
    ["/README*", "/LICENSE*", "/LICENCE*", "/NOTICE*", "/CHANGELOG*", "/CODEOWNERS", "/.editorconfig"];

/// Why the content cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// A pattern that means nothing.
    #[error("{place}: `{pattern}` is no pattern: {message}")]
    Pattern {
        /// Where it stands.
        place: String,
        /// It.
        pattern: String,
        /// What is wrong with it.
        message: String,
    },
    /// Reading failed.
    #[error("{what}: {error}")]
    Io {
        /// What was read.
        what: String,
        /// Why not.
        error: std::io::Error,
    },
    /// The directory.
    #[error(transparent)]
    Tree(#[from] SourceError),
    /// There is nothing.
    #[error("{0}")]
    Empty(String),
}

/// The content of the package in `directory`, named as it will be in the archive.
///
/// # Errors
/// A pattern is wrong, the directory holds what does not unpack alike everywhere, or no file is left.
pub fn content(directory: &Path, manifest: &Manifest) -> Result<Tree, ContentError> {
    let spec = &manifest.spec;
    if spec.r#type == Type::Bundle {
        return Ok(Tree::default());
    }
    let root = spec.content.root.trim_start_matches("./").trim_end_matches('/');
    let at_top = root.is_empty() || root == ".";
    let from = if at_top { directory.to_owned() } else { directory.join(root) };
    let include = match spec.content.include.as_slice() {
        [] => None,
        patterns => Some(matcher("spec.content.include", patterns)?),
    };
    let mut without: Vec<String> = NEVER.iter().map(|pattern| (*pattern).to_owned()).collect();
    if at_top {
        let own = [manifest::FILE, LOCK_FILE, IGNORE_FILE].map(|name| format!("/{name}"));
        without.extend(own);
        without.extend(OWN.iter().map(|pattern| (*pattern).to_owned()));
        let told = [&manifest.metadata.icon, &manifest.metadata.release_notes].into_iter().flatten();
        without.extend(told.map(|path| literal(path)));
        // They are in the config blob; in a directory of manifests Flux would take them for objects.
        if let (Some(values), Type::Manifests | Type::Kustomize | Type::ArgocdApps) =
            (&spec.values, spec.r#type)
        {
            without
                .extend([&values.schema, &values.defaults].into_iter().flatten().map(|path| literal(path)));
        }
    }
    if spec.r#type == Type::Helm {
        without.extend(lines(&from.join(".helmignore"))?);
        without.push("/.helmignore".to_owned());
    }
    let ignored = matcher("what is no content", &without)?;
    let excluded = matcher("spec.content.exclude", &spec.content.exclude)?;
    // Its patterns are written from the package's directory.
    let listed = matcher(IGNORE_FILE, &lines(&directory.join(IGNORE_FILE))?)?;
    let wanted = |path: &str, is_directory: bool| {
        let in_package = if at_top { path.to_owned() } else { format!("{root}/{path}") };
        let refused = ignored.matched(path, is_directory).is_ignore()
            || excluded.matched(path, is_directory).is_ignore()
            || listed.matched(&in_package, is_directory).is_ignore();
        let named = |include: &Gitignore| include.matched_path_or_any_parents(path, is_directory).is_ignore();
        !refused && (is_directory || include.as_ref().is_none_or(named))
    };
    let tree = Tree::of_those(&from, &wanted)?.without_empty();
    refuse_twins(&tree)?;
    if tree.files().next().is_none() {
        let more = if include.is_some() { ", or `spec.content.include` matches nothing" } else { "" };
        return Err(ContentError::Empty(format!(
            "{} holds no file that would be content{more}",
            from.display()
        )));
    }
    if spec.r#type == Type::Helm {
        return Ok(tree.below(&manifest.metadata.name)?);
    }
    Ok(tree)
}

/// Names that are one name where a file system keeps composed letters decomposed, or the other way round.
fn refuse_twins(tree: &Tree) -> Result<(), ContentError> {
    let mut seen = HashMap::new();
    for entry in tree.entries().iter().filter(|entry| !entry.name.is_ascii()) {
        let folded: String = entry.name.to_lowercase().nfc().collect();
        if let Some(other) = seen.insert(folded, &entry.name) {
            let (one, other) = (other.escape_unicode(), entry.name.escape_unicode());
            return Err(SourceError::Invalid(format!(
                "`{one}` and `{other}` look the same and are one name on some file systems"
            ))
            .into());
        }
    }
    Ok(())
}

/// A pattern for one path from the top.
fn literal(path: &str) -> String {
    let mut pattern = "/".to_owned();
    for char in path.trim_start_matches("./").chars() {
        if "*?[]\\!# ".contains(char) {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern
}

fn matcher(place: &str, patterns: &[String]) -> Result<Gitignore, ContentError> {
    let mut builder = GitignoreBuilder::new("");
    let wrong = |pattern: &str, error: &ignore::Error| ContentError::Pattern {
        place: place.to_owned(),
        pattern: pattern.to_owned(),
        message: error.to_string(),
    };
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(|error| wrong(pattern, &error))?;
    }
    builder.build().map_err(|error| wrong("", &error))
}

fn lines(file: &Path) -> Result<Vec<String>, ContentError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(ContentError::Io { what: file.display().to_string(), error }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::content;
    use crate::manifest::{Manifest, parse};

    fn manifest(spec: &str) -> Manifest {
        let text = format!(
            "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata: {{name: demo, version: 1.0.0, icon: icon.svg}}\nspec:\n{spec}"
        );
        parse(&text).expect("a manifest")
    }

    fn names(directory: &Path, spec: &str) -> Vec<String> {
        let tree = content(directory, &manifest(spec)).expect("content");
        tree.entries().iter().map(|entry| entry.name.clone()).collect()
    }

    #[test]
    fn what_is_content() {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path();
        for file in [
            "idp-package.yaml",
            "idp.lock",
            ".idpignore",
            "README.md",
            "LICENSE",
            "icon.svg",
            "values.yaml",
            ".git/config",
            "manifests/a.yaml",
            "manifests/deep/b.yaml",
            "manifests/deep/b.txt",
            "other/c.yaml",
            "other/README.md",
        ] {
            let path = base.join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, "x").expect("written");
        }
        std::fs::create_dir(base.join("empty")).expect("made");
        assert_eq!(
            names(base, "  type: manifests\n  values: {defaults: values.yaml}"),
            [
                "manifests",
                "manifests/a.yaml",
                "manifests/deep",
                "manifests/deep/b.txt",
                "manifests/deep/b.yaml",
                "other",
                "other/README.md",
                "other/c.yaml"
            ]
        );
        assert_eq!(
            names(base, "  type: manifests\n  content: {include: ['manifests/**'], exclude: ['*.txt']}"),
            ["manifests", "manifests/a.yaml", "manifests/deep", "manifests/deep/b.yaml"]
        );
        assert_eq!(names(base, "  type: manifests\n  content: {root: manifests/deep}"), ["b.txt", "b.yaml"]);
        std::fs::write(base.join(".idpignore"), "# a comment\nother\n*.txt\n!b.txt\n").expect("written");
        assert_eq!(
            names(base, "  type: manifests\n  content: {root: ./manifests/}"),
            ["a.yaml", "deep", "deep/b.txt", "deep/b.yaml"]
        );
        let error = content(base, &manifest("  type: manifests\n  content: {include: [nothing]}"))
            .expect_err("empty");
        assert!(error.to_string().contains("`spec.content.include` matches nothing"), "{error}");
        let error = content(base, &manifest("  type: manifests\n  content: {include: ['[z-a]']}"))
            .expect_err("a pattern");
        assert!(error.to_string().starts_with("spec.content.include: `[z-a]` is no pattern"), "{error}");
    }
}
