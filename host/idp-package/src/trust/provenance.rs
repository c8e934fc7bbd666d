//! How a package came to be: the predicate `https://slsa.dev/provenance/v1` (SLSA 1.0, "Provenance").

use std::collections::BTreeMap;

use idp_oci::digest::Digest;
use serde::Serialize;
use serde_json::Value;

use super::statement::Statement;
use super::{Timestamp, TrustError};

/// The predicate type.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// How `idp package build` builds. A template for what the parameters mean.
pub const BUILD_TYPE: &str = "https://packages.cnoe.io/build/v1";

/// What is known of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// Who built it: the URI of a builder that whoever verifies may trust.
    pub builder_id: String,
    /// Programs of the builder by their versions: `idp`, ….
    pub builder_version: BTreeMap<String, String>,
    /// What was asked for from outside: the version, the source, options.
    pub parameters: BTreeMap<String, Value>,
    /// What went into it: the entries of the lock, the revision of the source.
    pub materials: Vec<Material>,
    /// One run of the builder, by its own name for it.
    pub invocation: Option<String>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it was done.
    pub finished: Option<Timestamp>,
}

/// Something that went into a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Material {
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is: `oci://registry/repository:version`, `git+https://…`.
    pub uri: String,
    /// Its digests, in hex by algorithm (`sha256`, `gitCommit`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
}

impl Material {
    /// A package or an image of the lock.
    pub fn oci(name: &str, reference: &str, digest: &Digest) -> Self {
        let prefixed = reference.starts_with("oci://");
        Self {
            name: Some(name.to_owned()),
            uri: if prefixed { reference.to_owned() } else { format!("oci://{reference}") },
            digest: [(digest.algorithm().as_str().to_owned(), digest.hex().to_owned())].into(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Predicate<'a> {
    build_definition: Definition<'a>,
    run_details: Details<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    build_type: &'static str,
    external_parameters: &'a BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    resolved_dependencies: &'a [Material],
}

#[derive(Serialize)]
struct Details<'a> {
    builder: Builder<'a>,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Builder<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    version: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    invocation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_on: Option<String>,
}

impl Metadata<'_> {
    fn is_empty(&self) -> bool {
        self.invocation_id.is_none() && self.started_on.is_none() && self.finished_on.is_none()
    }
}

/// The statement about a package, for [`super::sign::attest`] or [`super::sign::state`].
///
/// # Errors
/// When the builder's name is no URI.
pub fn statement(subject: &Digest, build: &Build) -> Result<Statement, TrustError> {
    let uri = build.builder_id.split_once(':').is_some_and(|(scheme, rest)| {
        let letters = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
        letters && !rest.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    if !uri || build.builder_id.chars().any(char::is_whitespace) {
        let shown = super::clip(&build.builder_id);
        let problem =
            format!("the builder is named by a URI, as https://ci.example/builders/main; `{shown}` is none");
        return Err(TrustError::document("provenance", problem));
    }
    let predicate = Predicate {
        build_definition: Definition {
            build_type: BUILD_TYPE,
            external_parameters: &build.parameters,
            resolved_dependencies: &build.materials,
        },
        run_details: Details {
            builder: Builder { id: &build.builder_id, version: &build.builder_version },
            metadata: Metadata {
                invocation_id: build.invocation.as_deref(),
                started_on: build.started.map(|time| time.to_string()),
                finished_on: build.finished.map(|time| time.to_string()),
            },
        },
    };
    let predicate =
        serde_json::to_value(&predicate).map_err(|error| TrustError::document("provenance", error))?;
    Ok(Statement::new(subject, PREDICATE_TYPE, predicate))
}

#[cfg(test)]
mod tests {
    use super::{Build, Digest, Material, Timestamp, statement};

    fn build(builder: &str) -> Build {
        Build {
            builder_id: builder.to_owned(),
            builder_version: [("idp".to_owned(), "0.1.0".to_owned())].into(),
            parameters: [("version".to_owned(), "1.4.0".into())].into(),
            materials: vec![Material::oci(
                "cert-manager",
                "registry.example/x/cert-manager:1.14.2",
                &Digest::of(b"c"),
            )],
            invocation: None,
            started: Some(Timestamp::EPOCH),
            finished: None,
        }
    }

    #[test]
    fn a_statement() {
        let made = statement(&Digest::of(b"p"), &build("https://ci.example/main")).expect("a statement");
        assert_eq!(made.objection(&Digest::of(b"p")), None);
        insta::assert_snapshot!(serde_json::to_string_pretty(&made).expect("JSON"));
    }

    #[test]
    fn builders_have_uris() {
        for builder in ["", "me", ":x", "a b:c", "https:", "1a:b"] {
            assert!(statement(&Digest::of(b"p"), &build(builder)).is_err(), "{builder}");
        }
        statement(&Digest::of(b"p"), &build("urn:x:y")).expect("a URI");
    }
}
