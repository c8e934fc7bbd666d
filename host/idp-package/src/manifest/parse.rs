//! From the file's text to a checked manifest, with the place of what is wrong.

use super::{API_VERSION, KIND, Manifest, check};

/// No manifest is longer; a wrong file is refused before it is parsed.
const LARGEST: usize = 1024 * 1024;

/// Why a text is no package manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no file of this kind.
    #[error("{0}")]
    Kind(String),
    /// It is not YAML, or has keys or values that the format does not know.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What is wrong.
        message: String,
    },
    /// A value that means nothing.
    #[error("{}{key}: {message}", line.map(|line| format!("line {line}, ")).unwrap_or_default())]
    Value {
        /// From 1, where it could be found.
        line: Option<u64>,
        /// The way to it: `spec.dependencies[1].version`.
        key: String,
        /// What is wrong, and what would be right.
        message: String,
    },
}

impl ManifestError {
    /// The line it is about, from 1.
    pub fn line(&self) -> Option<u64> {
        match self {
            Self::Kind(_) => None,
            Self::Syntax { line, .. } => Some(*line),
            Self::Value { line, .. } => *line,
        }
    }
}

/// Reads a manifest and checks every value that can be checked without the package's files.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
    if text.len() > LARGEST {
        return Err(ManifestError::Kind(format!("longer than {LARGEST} bytes; this is no package manifest")));
    }
    let manifest: Manifest = serde_saphyr::from_str(text).map_err(|error| {
        let message = plain(&error.without_snippet().to_string());
        match error.location() {
            Some(place) => ManifestError::Syntax { line: place.line(), column: place.column(), message },
            None => ManifestError::Kind(message),
        }
    })?;
    if manifest.api_version != API_VERSION || manifest.kind != KIND {
        return Err(ManifestError::Kind(format!(
            "`apiVersion: {}` and `kind: {}` are not of this format; a package says `apiVersion: {API_VERSION}` and `kind: {KIND}`",
            manifest.api_version, manifest.kind
        )));
    }
    check::check(&manifest).map_err(|(key, message)| ManifestError::Value {
        line: line_of(text, &key),
        key,
        message,
    })?;
    Ok(manifest)
}

/// Without the place, which is said apart.
fn plain(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    match message.rsplit_once(" at line ") {
        Some((before, _)) => before.to_owned(),
        None => message.to_owned(),
    }
}

/// The line on which the last part of a key's path stands, looking for its parts one below the other.
fn line_of(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().enumerate();
    let mut found = None;
    for part in key.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, rest)) => (name, rest.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let at_name = |line: &str| {
            let line = line.trim_start().trim_start_matches("- ").trim_start_matches('{').trim_start();
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'))
                || line.contains(&format!(" {name}:"))
        };
        let (at, _) = lines.find(|(_, line)| at_name(line))?;
        found = Some(at);
        if let Some(index) = index {
            let (at, _) =
                lines.by_ref().filter(|(_, line)| line.trim_start().starts_with("- ")).nth(index)?;
            found = Some(at);
            // The item's own first line holds a key, too.
            let skip = at;
            lines = text.lines().enumerate();
            if skip > 0 {
                lines.nth(skip - 1);
            }
        }
    }
    found.map(|at| at as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::{line_of, parse};

    const WHOLE: &str = "\
apiVersion: packages.cnoe.io/v1alpha1
kind: Package
metadata:
  name: argo-workflows
  version: 1.4.0
spec:
  type: manifests
  dependencies:
  - {name: ingress-nginx, version: \">=1.2 <2\"}
  - name: cert-manager
    version: ^1.14
    repository: oci://registry.example/x/cert-manager
";

    #[test]
    fn a_manifest_is_read() {
        let manifest = parse(WHOLE).expect("a manifest");
        assert_eq!(manifest.metadata.name, "argo-workflows");
        assert_eq!(manifest.spec.dependencies.len(), 2);
    }

    #[test]
    fn lines_are_found() {
        assert_eq!(line_of(WHOLE, "metadata.version"), Some(5));
        assert_eq!(line_of(WHOLE, "spec.dependencies[0].version"), Some(9));
        assert_eq!(line_of(WHOLE, "spec.dependencies[1].repository"), Some(12));
        assert_eq!(line_of(WHOLE, "spec.nothing"), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = |from: &str, to: &str| {
            assert!(WHOLE.contains(from));
            parse(&WHOLE.replace(from, to)).expect_err(to).to_string()
        };
        let all = [
            ("type: manifests", "type: manifest"),
            ("type: manifests", "typ: manifests"),
            ("name: argo-workflows", "name: Argo Workflows"),
            ("version: 1.4.0", "version: 1.4"),
            ("version: 1.4.0", "version: 1.4.0-RC.1"),
            ("version: 1.4.0", "version: 1.4.0+build.1"),
            ("version: 1.4.0", "version: v1.4.0"),
            ("kind: Package", "kind: Deployment"),
            ("oci://registry.example/x/cert-manager", "https://registry.example/x"),
            ("version: ^1.14", "version: ''"),
            ("spec:", "spec: ["),
            ("  name: argo-workflows\n", ""),
        ]
        .map(|(from, to)| wrong(from, to));
        insta::assert_snapshot!(all.join("\n"), @r#"
        line 7, column 9: unknown variant `manifest`, expected one of manifests, kustomize, helm, argocd-apps, bundle
        line 7, column 3: unknown field `typ`, expected one of type, content, dependencies, requires, provides, conflicts, replaces, values, targets, variants, hooks, images, compatibility
        line 4, metadata.name: `Argo Workflows` is no name; at most 63 lower-case letters, digits and dashes, no dash at either end
        line 5, metadata.version: `1.4` is no version; write MAJOR.MINOR.PATCH, for example 1.4.0 or 1.4.0-rc.1
        line 5, metadata.version: `1.4.0-RC.1` has capitals; some registries lower them, and then it is another version
        line 5, metadata.version: `1.4.0+build.1` has build metadata; a tag cannot say `+`, and Argo CD fails on what stands for it
        line 5, metadata.version: `v1.4.0` is no version; write MAJOR.MINOR.PATCH, for example 1.4.0 or 1.4.0-rc.1; without the v: 1.4.0
        `apiVersion: packages.cnoe.io/v1alpha1` and `kind: Deployment` are not of this format; a package says `apiVersion: packages.cnoe.io/v1alpha1` and `kind: Package`
        line 12, spec.dependencies[1].repository: `https://registry.example/x` is no repository; write oci://registry/repository, or ./name for one beside this package
        line 11, spec.dependencies[1].version: an empty constraint; write * for any version
        line 6, column 7: expected mapping start
        line 4, column 3: missing field `name`
        "#);
    }
}
