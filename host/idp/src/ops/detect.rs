//! Which provider serves a registry, on what evidence, and what it may do there.

use std::fmt::Write as _;

use idp_oci::name::Registry;
use serde::Serialize;

use super::choose::choose;
use super::{Context, Error, slots};

/// What was found out.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Detected {
    /// `host[:port]`.
    pub registry: String,
    /// `https` or `http`.
    pub scheme: String,
    /// Name and version of the provider.
    pub provider: String,
    /// `built in`, or the path of the component.
    pub source: String,
    /// In the order in which it was looked at.
    pub evidence: Vec<String>,
    /// What the provider asks to reach.
    pub grants: Vec<Asked>,
    /// Where a credential would come from; `None` for anonymous access.
    pub credential: Option<String>,
}

/// One thing that a provider asks for.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// As `--grant` writes it.
    pub grant: String,
    /// Whether it may.
    pub allowed: bool,
}

impl Detected {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "registry    {} ({})\nprovider    {} ({})\n",
            self.registry, self.scheme, self.provider, self.source
        );
        for evidence in &self.evidence {
            let _ = writeln!(text, "evidence    {evidence}");
        }
        for asked in &self.grants {
            let word = if asked.allowed { "granted" } else { "refused" };
            let _ = writeln!(text, "{word:<11} {}", asked.grant);
        }
        let credential = self.credential.as_deref().unwrap_or("none: anonymous");
        let _ = writeln!(text, "credentials {credential}");
        text
    }
}

/// Asks the default registry afresh, whatever is remembered.
pub async fn detect(context: &Context) -> Result<Detected, Error> {
    let (address, _) = context.default_registry()?.ok_or(Error::NoRegistry)?;
    why(context, &address.registry, true).await
}

/// Explains the choice for the registry of a reference, as a push would make it.
pub async fn why_reference(context: &Context, reference: &str) -> Result<Detected, Error> {
    let is_host = !reference.contains('/') && reference.contains(['.', ':']);
    let registry =
        if is_host { reference.parse::<Registry>()? } else { context.reference(reference)?.registry };
    why(context, &registry, false).await
}

pub(super) async fn why(context: &Context, registry: &Registry, fresh: bool) -> Result<Detected, Error> {
    let chosen = choose(context, registry, fresh).await?;
    // A guess about a registry that does not answer is no answer to the question what it is.
    if let Some(error) = chosen.silence
        && fresh
    {
        return Err(Error::Registry {
            registry: registry.to_string(),
            credential: None,
            notes: Vec::new(),
            error: Box::new(error),
        });
    }
    let files = context.credentials.find(registry, None).await?;
    let selection = &chosen.selection;
    let credential = slots::of(context, selection, registry, files.as_ref()).await?.origin(selection);
    Ok(Detected {
        registry: registry.to_string(),
        scheme: chosen.scheme.as_str().to_owned(),
        provider: selection.provider.manifest.label(),
        source: selection.provider.source.to_string(),
        evidence: selection.evidence.iter().map(ToString::to_string).collect(),
        grants: selection
            .grants
            .lines()
            .into_iter()
            .map(|(grant, allowed)| Asked { grant, allowed })
            .collect(),
        credential,
    })
}
