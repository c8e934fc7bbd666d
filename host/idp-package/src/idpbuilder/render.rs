//! The text of an Application that deploys a directory beside it.

use std::fmt::Write as _;

use super::sources::SCHEME;

/// What an Application says.
#[derive(Debug, Clone)]
pub(super) struct Deployed<'a> {
    pub name: &'a str,
    pub package: &'a str,
    pub version: &'a str,
    pub wave: Option<i32>,
    /// The directory beside the file.
    pub directory: &'a str,
    /// Below it.
    pub path: &'a str,
    pub recurse: bool,
    /// Files of values, from the top of the directory.
    pub value_files: Vec<String>,
    pub namespace: &'a str,
    pub create_namespace: bool,
}

pub(super) fn application(deployed: &Deployed<'_>) -> String {
    let mut text = format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata:\n  name: {}\n  namespace: argocd\n  labels:\n    packages.cnoe.io/name: {}\n  \
         annotations:\n    packages.cnoe.io/version: {}\n",
        scalar(deployed.name),
        scalar(deployed.package),
        quoted(deployed.version)
    );
    // Writing to a String does not fail.
    if let Some(wave) = deployed.wave {
        let _ = writeln!(text, "    argocd.argoproj.io/sync-wave: \"{wave}\"");
    }
    let url = format!("{SCHEME}{}", deployed.directory);
    let _ = write!(
        text,
        "spec:\n  project: default\n  source:\n    repoURL: {}\n    targetRevision: HEAD\n    path: {}\n",
        if scalar(deployed.directory).starts_with('"') { quoted(&url) } else { url },
        scalar(deployed.path)
    );
    if deployed.recurse {
        text.push_str("    directory:\n      recurse: true\n");
    }
    if !deployed.value_files.is_empty() {
        text.push_str("    helm:\n      valueFiles:\n");
        for file in &deployed.value_files {
            let _ = writeln!(text, "      - {}", quoted(file));
        }
    }
    let _ = write!(
        text,
        "  destination:\n    server: https://kubernetes.default.svc\n    namespace: {}\n  syncPolicy:\n    automated:\n      selfHeal: true\n",
        scalar(deployed.namespace)
    );
    if deployed.create_namespace {
        text.push_str("    syncOptions:\n    - CreateNamespace=true\n");
    }
    text
}

/// A text as YAML, bare where nothing else can be read into it.
fn scalar(text: &str) -> String {
    let bare = text.starts_with(|char: char| char.is_ascii_alphabetic())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || "._/-".contains(char))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "null"
        );
    if bare { text.to_owned() } else { quoted(text) }
}

/// In quotes; a string of JSON is one of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
