//! The manifest as the rules of the test host need it; unknown keys fail here as they do in the real one.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::link;

/// `provider.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code, reason = "every key is read so that a misspelt one is noticed")]
pub(crate) struct Manifest {
    schema: u32,
    contract: String,
    name: String,
    version: String,
    display_name: Option<String>,
    license: Option<String>,
    homepage: Option<String>,
    #[serde(default)]
    host: Vec<toml::Table>,
    #[serde(default)]
    fingerprint: Vec<toml::Table>,
    #[serde(default)]
    egress: Vec<Egress>,
    #[serde(default)]
    credential: Vec<Slot>,
    #[serde(default)]
    token_endpoint: Vec<TokenEndpoint>,
    #[serde(default)]
    public: Vec<Public>,
    #[serde(default)]
    setting: Vec<Setting>,
    ensure: Option<toml::Table>,
    limits: Option<toml::Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Egress {
    origin: String,
    #[serde(default = "get_only")]
    methods: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
}

fn get_only() -> Vec<String> {
    vec!["GET".to_owned()]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "as above")]
struct Slot {
    slot: String,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    audience: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEndpoint {
    origin: String,
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Public {
    path: String,
    #[serde(default)]
    pointers: Vec<String>,
    #[serde(default)]
    headers: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "as above")]
struct Setting {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    env: Vec<String>,
}

/// The origins that `registry`, `realm`, `realm-host` and `setting:NAME` stand for in one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) registry: String,
    /// What the user set.
    pub(crate) settings: BTreeMap<String, String>,
    /// The URLs that challenges of the registry name.
    pub(crate) realms: Vec<String>,
}

impl Known {
    /// Whether an origin of the manifest covers a URL: a realm is the very URL of a challenge; `*` and `{name}` are one label.
    pub(crate) fn covers(&self, pattern: &str, url: &str) -> bool {
        let origin = link::origin(url);
        match pattern {
            "registry" => origin == self.registry,
            "realm" => self
                .realms
                .iter()
                .any(|realm| link::origin(realm) == origin && link::path(realm) == link::path(url)),
            "realm-host" => self.realms.iter().any(|realm| link::origin(realm) == origin),
            pattern if pattern.starts_with("setting:") => {
                let set = self.settings.get(pattern.trim_start_matches("setting:"));
                set.is_some_and(|url| link::origin(url) == origin)
            }
            pattern => {
                let (mut wanted, mut given) = (pattern.split('.'), origin.split('.'));
                loop {
                    match (wanted.next(), given.next()) {
                        (None, None) => return true,
                        (Some(wanted), Some(given)) if label(wanted, given) => {}
                        _ => return false,
                    }
                }
            }
        }
    }
}

/// One label; the first one of an origin has the scheme before it.
fn label(wanted: &str, given: &str) -> bool {
    let (wanted_scheme, wanted) = wanted.split_once("://").unwrap_or(("", wanted));
    let (given_scheme, given) = given.split_once("://").unwrap_or(("", given));
    let placeholder = wanted == "*" || (wanted.starts_with('{') && wanted.ends_with('}'));
    wanted_scheme == given_scheme && (wanted == given || placeholder)
}

impl Manifest {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| format!("the manifest is wrong: {error}"))
    }

    /// The origins that it names as they are.
    pub(crate) fn origins(&self) -> impl Iterator<Item = String> {
        let named = self.egress.iter().filter(|egress| egress.origin.contains("://"));
        named.map(|egress| egress.origin.clone())
    }

    /// Whether a request is granted.
    pub(crate) fn grants(&self, known: &Known, method: &str, url: &str) -> bool {
        self.egress.iter().any(|egress| {
            known.covers(&egress.origin, url)
                && egress
                    .methods
                    .iter()
                    .any(|granted| granted == method || (granted == "GET" && method == "HEAD"))
                && (egress.paths.is_empty()
                    || egress.paths.iter().any(|path| link::path(url).starts_with(path.as_str())))
        })
    }

    /// Whether a URL is a token endpoint.
    pub(crate) fn token_endpoint(&self, known: &Known, url: &str) -> bool {
        self.token_endpoint.iter().any(|endpoint| {
            known.covers(&endpoint.origin, url)
                && endpoint.path.as_deref().is_none_or(|path| path == "*" || path == link::path(url))
        })
    }

    /// Whether a pointer of a sealed answer may be read; `*` asks for the whole body, which a token endpoint never opens.
    pub(crate) fn public(&self, known: &Known, url: &str, pointer: &str) -> bool {
        let token_endpoint = self.token_endpoint(known, url);
        let entries = self.public.iter().filter(|public| link::path(url).starts_with(public.path.as_str()));
        entries.flat_map(|public| &public.pointers).any(|open| match open.as_str() {
            "*" => !token_endpoint,
            open => open == pointer,
        })
    }

    /// Whether a header of a sealed answer may be read, besides the harmless ones; of a token endpoint none.
    pub(crate) fn public_header(&self, known: &Known, url: &str, name: &str) -> bool {
        let mut entries =
            self.public.iter().filter(|public| link::path(url).starts_with(public.path.as_str()));
        !self.token_endpoint(known, url)
            && entries.any(|public| public.headers.iter().any(|open| open.as_str() == name))
    }

    /// Where the credentials of a slot may be sent; nothing for a slot that is not declared.
    pub(crate) fn audience(&self, known: &Known, slot: &str) -> Option<super::value::Audience> {
        let slot = self.credential.iter().find(|declared| declared.slot == slot)?;
        let origins = slot.audience.iter().flat_map(|name| match name.as_str() {
            "registry" => vec![known.registry.clone()],
            "realm" | "realm-host" => {
                known.realms.iter().map(|realm| link::origin(realm).to_owned()).collect()
            }
            setting if setting.starts_with("setting:") => {
                let set = known.settings.get(setting.trim_start_matches("setting:"));
                set.map(|url| link::origin(url).to_owned()).into_iter().collect()
            }
            origin => vec![origin.to_owned()],
        });
        Some(origins.chain([known.registry.clone()]).collect())
    }

    pub(crate) fn declares_setting(&self, name: &str) -> bool {
        self.setting.iter().any(|setting| setting.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let known = Known {
            registry: "http://r:5000".to_owned(),
            settings: [("api".to_owned(), "https://git.example/sub".to_owned())].into(),
            realms: vec!["https://auth.r/token".to_owned()],
        };
        for (pattern, url, expected) in [
            ("registry", "http://r:5000", true),
            ("registry", "https://r:5000", false),
            ("realm", "https://auth.r/token?scope=x", true),
            ("realm", "https://auth.r/other", false),
            ("realm-host", "https://auth.r/other", true),
            ("realm-host", "https://other.r/other", false),
            ("setting:api", "https://git.example/api", true),
            ("setting:other", "https://git.example/api", false),
            ("https://*.example.com", "https://api.example.com", true),
            ("https://*.example.com", "http://api.example.com", false),
            ("https://*.example.com", "https://a.b.example.com", false),
            ("https://api.{region}.example.com", "https://api.eu.example.com", true),
            ("https://api.example.com", "https://api.example.com.evil", false),
        ] {
            assert_eq!(known.covers(pattern, url), expected, "{pattern} {url}");
        }
    }
}
