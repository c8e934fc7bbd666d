//! How a registry is set up here, or what is known of one of its repositories: `idp registry show`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use idp_oci::client::dialect::ErrorKind;
use serde::Serialize;

use super::detect::{self, Detected};
use super::entry::Entry;
use super::list::{find_for, place_of};
use super::session::{self, Subject};
use super::{Context, Error};
use crate::config::registries::Visibility;
use crate::provider::Create;

/// A registry as it is set up here, and one of its repositories where one was named.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shown {
    /// How it is reached, and by which provider.
    #[serde(flatten)]
    pub detected: Detected,
    /// Settings of `registries.yaml`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// What a push may make: `never`, `repository`, `parent`.
    pub create: &'static str,
    /// The visibility of what is made, where one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<&'static str>,
    /// What the product says of the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<Entry>,
}

/// Shows. Of a registry alone nothing is asked beyond what it takes to choose the provider.
pub async fn show(context: &Context, place: Option<&str>) -> Result<Shown, Error> {
    find_for(context, place).await?;
    let (registry, repository) = place_of(context, place)?;
    let detected = detect::why(context, &registry, false).await?;
    let config = context.registries.get(&registry);
    let repository = match &repository {
        None => None,
        Some(repository) => {
            let subject = Subject { registry: &registry, repository: Some(repository), tag: None };
            let session = session::open(context, subject).await?;
            let what = format!("looking at {registry}/{repository}");
            match &session.dialect {
                None => Some(Entry { name: repository.to_string(), ..Entry::default() }),
                Some(dialect) => match dialect.info(session.on_wire(repository)).await {
                    Ok(info) => Some(info.into()),
                    Err(error) if error.kind == ErrorKind::Unsupported => {
                        let text = format!("nothing more is known of {registry}/{repository}: {error}");
                        context.progress.event(idp_oci::client::Event::Note { text });
                        Some(Entry { name: repository.to_string(), ..Entry::default() })
                    }
                    Err(error) => return Err(session.refused(what, error)),
                },
            }
        }
    };
    Ok(Shown {
        detected,
        settings: config.map(|config| config.settings.clone()).unwrap_or_default(),
        create: match context.create(&registry) {
            Create::Never => "never",
            Create::Repository => "repository",
            Create::Parent => "parent",
        },
        visibility: config.and_then(|config| config.visibility).map(Visibility::as_str),
        repository,
    })
}

impl Shown {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = self.detected.text();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<11} {value}");
        };
        for (name, value) in &self.settings {
            line("setting", &format!("{name}={value}"));
        }
        line("create", self.create);
        if let Some(visibility) = self.visibility {
            line("visibility", visibility);
        }
        if let Some(repository) = &self.repository {
            text.push('\n');
            text.push_str(&facts(repository));
        }
        text
    }
}

/// What is known of a repository, a line each.
fn facts(entry: &Entry) -> String {
    let facts = &entry.facts;
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let known: [(&str, Option<String>); 12] = [
        ("repository", Some(entry.name.clone())),
        ("visibility", facts.visibility.clone()),
        ("description", facts.description.clone()),
        ("tags", number(facts.tags)),
        ("bytes", number(facts.size)),
        ("pulls", number(facts.pulls)),
        ("created", facts.created_at.clone()),
        ("updated", facts.updated_at.clone()),
        ("immutable", facts.immutable.map(|immutable| immutable.to_string())),
        ("quota used", number(facts.quota_used)),
        ("quota", number(facts.quota_limit)),
        ("url", facts.url.clone()),
    ];
    let mut text = String::new();
    for (name, value) in known {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<11} {value}");
        }
    }
    for (name, value) in facts.details.iter().filter(|(name, _)| *name != "state") {
        let _ = writeln!(text, "{name:<11} {value}");
    }
    text
}
