//! A package to export, and what is asked of its targets and files.

use std::collections::BTreeSet;

use idp_oci::source::{FileEntry, Tree};

use super::export::ExportError;
use crate::manifest::{DeployTarget, Manifest, Renderer, Type};

/// A package to export.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// Its content, as in the archive.
    pub files: &'a Tree,
    /// How many images with digests are recorded of it.
    pub images: usize,
    /// Whether it carries a lock.
    pub locked: bool,
}

impl Part<'_> {
    pub(super) fn name(&self) -> &str {
        &self.manifest.metadata.name
    }

    pub(super) fn target_of(&self, variant: &str) -> Option<&str> {
        let mut variants = self.manifest.spec.variants.iter();
        variants.find(|found| found.name == variant).map(|found| found.target.as_str())
    }

    /// The targets that are exported; the whole content where there is none.
    pub(super) fn targets(&self, variant: Option<&str>) -> Vec<DeployTarget> {
        let targets = &self.manifest.spec.targets;
        if targets.is_empty() {
            let path = ".".to_owned();
            return vec![DeployTarget {
                name: "default".to_owned(),
                path,
                renderer: None,
                namespace: None,
                create_namespace: false,
                wave: None,
                recurse: false,
            }];
        }
        match variant.and_then(|variant| self.target_of(variant)) {
            Some(name) => targets.iter().filter(|target| target.name == name).cloned().collect(),
            None => targets.clone(),
        }
    }

    /// The content without the directory that charts have around them.
    pub(super) fn content(&self) -> impl Iterator<Item = (&str, &FileEntry)> {
        let around = format!("{}/", self.name());
        let is_chart = self.manifest.spec.r#type == Type::Helm;
        self.files.files().map(move |(path, file)| match path.strip_prefix(&around) {
            Some(inner) if is_chart => (inner, file),
            _ => (path, file),
        })
    }

    /// The paths of the files of its content, and what is asked of them.
    pub(super) fn paths(&self) -> Paths<'_> {
        Paths {
            root: tidy(&self.manifest.spec.content.root),
            files: self.content().map(|(path, _)| path).collect(),
        }
    }
}

/// The paths of the files of a content.
pub(super) struct Paths<'a> {
    /// Where in the package it begins.
    root: &'a str,
    files: BTreeSet<&'a str>,
}

impl Paths<'_> {
    /// The path in the content of a file of the package.
    pub(super) fn of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let path = path.trim_start_matches("./");
        let path =
            if self.root.is_empty() { path } else { path.strip_prefix(self.root)?.strip_prefix('/')? };
        self.files.contains(path).then_some(path)
    }

    pub(super) fn has(&self, directory: &str, name: &str) -> bool {
        self.files.contains(&*join(directory, name))
    }

    pub(super) fn has_directory(&self, directory: &str) -> bool {
        let inside = join(directory, "");
        self.files.range(&*inside..).next().is_some_and(|file| file.starts_with(&inside))
    }

    /// The directory of a target, empty for all of it.
    pub(super) fn directory<'t>(
        &self,
        package: &str,
        target: &'t DeployTarget,
    ) -> Result<&'t str, ExportError> {
        let path = tidy(&target.path);
        if self.has_directory(path) {
            return Ok(path);
        }
        Err(ExportError::Target {
            package: package.to_owned(),
            target: target.name.clone(),
            path: target.path.clone(),
        })
    }

    /// What Argo CD takes a directory for.
    pub(super) fn renderer(&self, directory: &str) -> Renderer {
        let kustomizations = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
        if kustomizations.into_iter().any(|name| self.has(directory, name)) {
            Renderer::Kustomize
        } else if self.has(directory, "Chart.yaml") {
            Renderer::Helm
        } else {
            Renderer::Directory
        }
    }
}

pub(super) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// A directory's path without what says nothing; empty for the top.
pub(super) fn tidy(path: &str) -> &str {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    if path == "." { "" } else { path }
}
