//! What a package is made of, as documents that scanners read. In: plain facts. Out: JSON, the same bytes for the same facts: no random
//! number and no clock goes in.
//!
//! | module | format |
//! |---|---|
//! | [`spdx`] | SPDX 2.3 |
//! | [`cyclonedx`] | CycloneDX 1.6 |

pub mod cyclonedx;
pub mod spdx;

use std::collections::BTreeMap;

use bytes::Bytes;
use idp_oci::digest::Digest;
use idp_oci::manifest::Descriptor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::PrivateKey;
use super::referrer::Referrer;
use super::sign;
use super::statement::Statement;
use super::{Timestamp, TrustError};

/// A package, as far as an SBOM tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFacts {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Where it is: `registry/repository`.
    pub repository: Option<String>,
    /// One or two sentences.
    pub description: Option<String>,
    /// Its licence, an SPDX expression.
    pub licenses: Option<String>,
    /// Who makes it.
    pub supplier: Option<String>,
    /// Its files.
    pub files: Vec<FileFacts>,
    /// Images that it names.
    pub images: Vec<ImageFacts>,
    /// Packages that it needs.
    pub dependencies: Vec<DependencyFacts>,
    /// When it was made.
    pub created: Timestamp,
    /// Which idp says so: its version.
    pub tool_version: String,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// From the package's root, with forward slashes.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// In hex.
    pub sha256: String,
    /// In hex; see [`spdx`] for what it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha1: Option<String>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// As the package names it.
    pub reference: String,
    /// Of its manifest or index, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// Another package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyFacts {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it is: `registry/repository`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Of its manifest.
    pub digest: Digest,
}

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// SPDX 2.3 in JSON.
    Spdx,
    /// CycloneDX 1.6 in JSON.
    CycloneDx,
}

impl Format {
    /// The media type of a document, and of a referrer that is one.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Spdx => "application/spdx+json",
            Self::CycloneDx => "application/vnd.cyclonedx+json",
        }
    }

    /// The predicate type of an attestation.
    pub fn predicate_type(self) -> &'static str {
        match self {
            Self::Spdx => "https://spdx.dev/Document",
            Self::CycloneDx => "https://cyclonedx.org/bom",
        }
    }

    /// The document about a package.
    pub fn document(self, package: &PackageFacts) -> Value {
        match self {
            Self::Spdx => spdx::document(package),
            Self::CycloneDx => cyclonedx::document(package),
        }
    }
}

/// A document as a referrer of the package, with nobody's name under it.
///
/// # Errors
/// When the manifest cannot be made of it.
pub fn attach(subject: &Descriptor, format: Format, package: &PackageFacts) -> Result<Referrer, TrustError> {
    let document = serde_json::to_vec(&format.document(package))
        .map_err(|error| TrustError::document("an SBOM", error))?;
    let document = Bytes::from(document);
    Referrer::new(subject, format.media_type(), document, BTreeMap::new(), package.created)
}

/// A document as a signed statement about the package.
///
/// # Errors
/// When the key cannot sign.
pub fn attest(
    subject: &Descriptor,
    format: Format,
    package: &PackageFacts,
    key: &PrivateKey,
) -> Result<Referrer, TrustError> {
    let document = format.document(package);
    let statement = Statement::new(&subject.digest, format.predicate_type(), document);
    sign::attest(subject, &statement, key, package.created)
}

/// `name`, `tag` and `registry/repository` of an image reference, by the rules of Docker (`nginx` is `docker.io/library/nginx`).
struct Reference<'a> {
    name: &'a str,
    tag: Option<&'a str>,
    repository: String,
}

impl<'a> Reference<'a> {
    fn of(text: &'a str) -> Self {
        let text = text.strip_prefix("oci://").unwrap_or(text);
        let text = text.split_once('@').map_or(text, |(before, _)| before);
        let (path, tag) = match text.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (text, None),
        };
        let repository = match path.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => path.to_owned(),
            Some(_) => format!("docker.io/{path}"),
            None => format!("docker.io/library/{path}"),
        };
        Self { name: path.rsplit('/').next().unwrap_or(path), tag, repository }
    }
}

/// A package URL of type `oci` (purl-spec, `PURL-TYPES`).
fn purl(name: &str, version: Option<&Digest>, repository: Option<&str>, tag: Option<&str>) -> String {
    let mut purl = format!("pkg:oci/{}", escaped(&name.to_lowercase()));
    if let Some(digest) = version {
        purl = format!("{purl}@{}", escaped(digest.as_str()));
    }
    let qualifiers = [("repository_url", repository), ("tag", tag)];
    let mut separator = '?';
    for (key, value) in qualifiers {
        if let Some(value) = value {
            purl = format!("{purl}{separator}{key}={}", escaped(value));
            separator = '&';
        }
    }
    purl
}

/// Percent-encoded, but for what a package URL may hold as it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The expression, if it is one.
fn expression(licenses: Option<&str>) -> Option<&str> {
    licenses.filter(|text| spdx_expression::Expression::parse(text).is_ok())
}

use ::spdx as spdx_expression;

#[cfg(test)]
mod tests;
