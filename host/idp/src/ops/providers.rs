//! What providers there are, and what one of them says about itself. Nothing is compiled or run.

use serde::Serialize;

use super::{Context, Error, choose};
use crate::provider::{EnsureWhen, ProviderInfo};

/// A provider, by its manifest.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// `built in`, or the path of the component.
    pub source: String,
    /// SHA-256 of the component, for files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The line of the contract that it was written for.
    pub contract: String,
    /// SPDX expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Where it lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// Patterns of the hosts it serves.
    pub hosts: Vec<String>,
    /// What it asks to reach, and whose credentials it asks for.
    pub asks_for: Vec<String>,
    /// Slots of credentials, with the kinds it can use.
    pub credentials: Vec<String>,
    /// Settings it understands.
    pub settings: Vec<String>,
    /// When it makes repositories.
    pub makes_repositories: &'static str,
}

impl From<&ProviderInfo> for Provider {
    fn from(info: &ProviderInfo) -> Self {
        let manifest = &info.manifest;
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            display_name: manifest.display_name.clone(),
            source: info.source.to_string(),
            digest: info.digest.clone(),
            contract: manifest.contract.clone(),
            license: manifest.license.clone(),
            homepage: manifest.homepage.clone(),
            hosts: manifest.host.iter().map(|rule| rule.pattern.to_string()).collect(),
            asks_for: manifest
                .egress
                .iter()
                .map(|rule| {
                    format!("egress={} {} {}", rule.origin, rule.methods.join(","), rule.paths.join(" "))
                })
                .chain(manifest.ambient_sources().iter().map(|source| format!("source={source}")))
                .collect(),
            credentials: manifest
                .credential
                .iter()
                .map(|slot| format!("{} ({})", slot.slot, slot.kinds.join(", ")))
                .collect(),
            settings: manifest
                .setting
                .iter()
                .map(|setting| format!("{}: {}", setting.name, setting.description))
                .collect(),
            makes_repositories: match manifest.ensure.when {
                EnsureWhen::Never => "never",
                EnsureWhen::BeforePush => "before a push",
                EnsureWhen::AfterFailure => "after a refused push",
            },
        }
    }
}

/// All that take part in selection.
pub fn list(context: &Context) -> Vec<Provider> {
    choose::catalogue(context).list().iter().map(Provider::from).collect()
}

/// One, by name or path.
pub fn show(context: &Context, name: &str) -> Result<Provider, Error> {
    Ok(Provider::from(&choose::show(context, name)?))
}
