//! The credentials of a provider's slots: what the user said about this registry, then what the sources of the manifest give, as far as
//! the provider may have it. Joins `config`, which finds them, with `provider`, which asks. Services of the clouds are asked only when the
//! provider asks for the credential.

use std::collections::HashMap;
use std::sync::Arc;

use idp_oci::name::Registry;

use super::{Context, Error};
use crate::config::cloud::{self, CloudCredential, Tools, Wanted};
use crate::config::credentials::{Found, REGISTRY_SLOT};
use crate::config::sources::{Cloud, Source};
use crate::provider::{CredentialSet, Deferred, Find, Selection};

/// The setting that names a profile of the cloud's own tools.
const PROFILE: &str = "profile";

/// What is known about the credentials of a provider for one registry.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// By slot.
    pub(super) sets: HashMap<String, CredentialSet>,
    /// By slot: found when they are asked for.
    pub(super) deferred: HashMap<String, Arc<Deferred>>,
    /// The one of the registry itself, where it needed no looking for.
    pub(super) registry: Option<Found>,
    /// Sources that the provider names and may not use, with what would let it.
    pub(super) withheld: Vec<String>,
}

/// The credentials of all slots that the provider declares. `files` is what the user and Docker's files say about the registry.
pub(super) async fn of(
    context: &Context,
    selection: &Selection,
    registry: &Registry,
    files: Option<&Found>,
) -> Result<Slots, Error> {
    let mut slots = Slots { registry: files.cloned(), ..Slots::default() };
    let tools = Tools::new(context.env.clone(), context.credentials.known().clone());
    let config = context.registries.get(registry);
    let profile = config.and_then(|config| config.settings.get(PROFILE)).cloned();
    let wanted = Wanted { profile: profile.or_else(|| selection.settings.get(PROFILE).cloned()) };
    for slot in &selection.provider.manifest.credential {
        let is_registry = slot.slot == REGISTRY_SLOT;
        let decided = context.credentials.decided(&slot.slot, registry).await?;
        let (mut clouds, mut withheld) = (Vec::new(), Vec::new());
        let mut eager = decided;
        if eager.is_none() {
            // Those before Docker's files come before them; without any, the files are all there is.
            let everybodys = [Source::Docker];
            let sources = if slot.sources.is_empty() { &everybodys[..] } else { &slot.sources };
            for source in sources {
                if let Err(why) = may_use(context, selection, registry, source) {
                    // Worth a word only where it would have given something.
                    let gives = match source {
                        Source::Variables(variables) => variables.find(registry, &context.env).is_some(),
                        Source::Cloud(_) | Source::Docker | Source::Prompt => true,
                    };
                    withheld.extend(gives.then_some(why));
                    continue;
                }
                eager = match source {
                    Source::Docker if is_registry => files.cloned(),
                    Source::Docker | Source::Prompt => None,
                    Source::Variables(variables) => {
                        let found = variables.find(registry, &context.env);
                        found.inspect(|found| context.credentials.learn(found))
                    }
                    Source::Cloud(cloud) => {
                        clouds.push(*cloud);
                        None
                    }
                };
                if eager.is_some() {
                    break;
                }
            }
        }
        if is_registry {
            slots.registry.clone_from(&eager);
        }
        if eager.is_none() {
            slots.withheld.append(&mut withheld);
        }
        let set = eager.as_ref().map(set);
        if clouds.is_empty() {
            slots.sets.extend(set.map(|set| (slot.slot.clone(), set)));
        } else {
            let ambient = Ambient { clouds, wanted: wanted.clone(), tools: tools.clone(), otherwise: set };
            slots.deferred.insert(slot.slot.clone(), Deferred::new(ambient));
        }
    }
    Ok(slots)
}

/// Whether a provider may have what a source gives: what lies in the environment is for registries that were named, by the user or by a
/// host pattern; a provider of a third party needs a grant on top.
fn may_use(
    context: &Context,
    selection: &Selection,
    registry: &Registry,
    source: &Source,
) -> Result<(), String> {
    if !source.is_ambient() {
        return Ok(());
    }
    let name = &selection.provider.manifest.name;
    let named = match source {
        Source::Variables(variables) if variables.names(registry, &context.env) => true,
        _ => selection.is_named(),
    };
    if !named {
        return Err(format!(
            "`{source}` is not used, because nobody said that {registry} is a registry of {name}: \
             --provider {name}, or `provider: {name}` in registries.yaml, says so"
        ));
    }
    selection.grants.allows(source).map_err(|line| {
        format!(
            "provider {name} asks for `{source}`, and is not part of idp: to allow it, add --grant '{line}'"
        )
    })
}

impl Slots {
    /// Where the credential of the registry came from.
    pub(super) fn source(&self) -> Option<String> {
        let found = self.deferred.get(REGISTRY_SLOT).and_then(|deferred| deferred.found());
        match found {
            Some(Ok(Some(set))) => {
                let source = set.public.iter().find(|(name, _)| name == "source");
                source.map(|(_, source)| source.clone())
            }
            _ => self.registry.as_ref().map(|found| found.source.clone()),
        }
    }

    /// Where the credential of the registry would come from, told without looking for it.
    pub(super) fn origin(&self, selection: &Selection) -> Option<String> {
        if self.deferred.contains_key(REGISTRY_SLOT) {
            let slots = &selection.provider.manifest.credential;
            let sources = slots.iter().find(|slot| slot.slot == REGISTRY_SLOT).map(|slot| &slot.sources);
            let clouds = sources.into_iter().flatten().filter(|source| matches!(source, Source::Cloud(_)));
            let names: Vec<String> = clouds.map(ToString::to_string).collect();
            return Some(format!("{}, when the registry asks", names.join(", ")));
        }
        self.source()
    }

    /// What to tell somebody who was not let in: places that were looked at in vain, and sources that were not to be used.
    pub(super) fn notes(&self) -> Vec<String> {
        let in_vain = self.deferred.values().filter(|deferred| matches!(deferred.found(), Some(Ok(None))));
        in_vain.map(|deferred| deferred.looked()).chain(self.withheld.iter().cloned()).collect()
    }
}

/// A credential as the provider contract words it.
fn set(found: &Found) -> CredentialSet {
    let mut public = vec![("source".to_owned(), found.source.clone())];
    if let Some(username) = found.credential.username() {
        public.push(("username".to_owned(), username.to_owned()));
    }
    let (name, secret) = found.credential.secret();
    CredentialSet {
        kind: found.credential.kind().to_owned(),
        public,
        secrets: vec![(name.to_owned(), secret.clone())],
        audience: Vec::new(),
    }
}

/// What the clouds' own tools would use.
#[derive(Debug)]
struct Ambient {
    clouds: Vec<Cloud>,
    wanted: Wanted,
    tools: Tools,
    /// When they have nothing.
    otherwise: Option<CredentialSet>,
}

#[async_trait::async_trait]
impl Find for Ambient {
    async fn find(&self) -> Result<Option<CredentialSet>, String> {
        for cloud in &self.clouds {
            match cloud::find(*cloud, &self.wanted, &self.tools).await {
                Ok(Some(found)) => {
                    tracing::debug!(target: "idp::cloud", %cloud, source = found.public("source"), "found");
                    return Ok(Some(found.into()));
                }
                Ok(None) => tracing::debug!(target: "idp::cloud", %cloud, "nothing is configured"),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(self.otherwise.clone())
    }

    fn selector(&self) -> String {
        let clouds = self.clouds.iter().map(|cloud| cloud::selector(*cloud, &self.wanted, &self.tools));
        clouds.collect::<Vec<_>>().join("\n\n")
    }

    fn looked(&self) -> String {
        let places: Vec<&str> = self.clouds.iter().map(|cloud| cloud::places(*cloud)).collect();
        format!("no credentials were found in {}", places.join(", "))
    }
}

impl From<CloudCredential> for CredentialSet {
    fn from(found: CloudCredential) -> Self {
        let CloudCredential { kind, public, secrets } = found;
        Self { kind: kind.to_owned(), public, secrets, audience: Vec::new() }
    }
}
