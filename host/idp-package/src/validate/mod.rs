//! Rules over the files of a package: each finding has a rule, a place, a severity and what to do.
//!
//! [`validate`] reads [`Files`] and runs every family of [`rules`]; pure but for reading those files. [`sarif`] writes a
//! [`Report`] for other tools. Helm templates are not rendered; charts get rules over their own files, and a note.

mod rule;
mod rules;
pub mod sarif;
pub mod shapes;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::kube::{Files, Image, Scan, images};
use crate::manifest::{self, Manifest};

pub use rule::{Finding, Level, Rule, Settings, Severity, UnknownRule, rule, rules};

use rule::Findings;
use shapes::Schemas;

/// What a validation found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// By file and place.
    pub findings: Vec<Finding>,
    /// How many findings comments in files ignored.
    pub ignored: usize,
    /// How many findings are left out because there are too many of one rule.
    pub left_out: usize,
    /// How many files there are.
    pub files: usize,
    /// How many Kubernetes objects are in them.
    pub objects: usize,
    /// How many image references are in them.
    pub images: usize,
    /// Kinds of objects that no schema is known of, as `group/version Kind`.
    pub unchecked: BTreeSet<String>,
}

impl Report {
    /// The heaviest of its findings.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// How many findings there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// What rules look at.
pub(crate) struct Context<'a> {
    scan: &'a Scan<'a>,
    schemas: Schemas,
    images: Vec<Image>,
}

/// Runs every rule that is not switched off.
///
/// Without a manifest, `idp-package.yaml` among the files is the manifest; a package of another tool has neither.
pub fn validate(files: &Files, manifest: Option<&Manifest>, settings: &Settings) -> Report {
    let own = match manifest {
        Some(_) => None,
        None => files
            .get(manifest::FILE)
            .and_then(|file| file.read(1024 * 1024).ok())
            .and_then(|bytes| manifest::parse(std::str::from_utf8(&bytes).ok()?).ok()),
    };
    let scan = Scan::new(files, manifest.or(own.as_ref()));
    let mut schemas = settings.schemas.clone();
    let objects = scan.objects();
    for object in &objects {
        schemas.add_crd(object);
    }
    let context = Context { scan: &scan, schemas, images: images(&scan) };
    let mut findings = Findings::new(settings, &scan);
    for family in rules::FAMILIES {
        (family.check)(&context, &mut findings);
    }
    let unchecked = rules::unchecked(&context);
    let (findings, ignored, left_out) = findings.into_parts();
    Report {
        findings,
        ignored,
        left_out,
        files: files.len(),
        objects: objects.len(),
        images: context.images.len(),
        unchecked,
    }
}

#[cfg(test)]
mod tests;
