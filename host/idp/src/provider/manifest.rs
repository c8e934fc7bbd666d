//! The manifest of a provider (`wit/README.md`, "The manifest"): found in a component's bytes without compiling them, parsed into types.
//! Bytes in, [`Manifest`] out; runs nothing and grants nothing.

use idp_oci::name::Registry;
use serde::Deserialize;
use wasmparser::{Encoding, Parser, Payload};

use super::pattern::{HostPattern, OriginPattern};
use super::scrub::printable;
use crate::config::sources::Source;

/// Name of the custom section.
pub(crate) const SECTION: &str = "idp:provider";
/// Bytes of the largest manifest.
pub(crate) const MANIFEST_MAX: usize = 64 * 1024;
/// Bytes of the largest component: interpreters of other languages are below it.
pub(crate) const COMPONENT_MAX: u64 = 24 * 1024 * 1024;
/// The contract that this host offers.
pub(crate) const CONTRACT: (u64, u64, u64) = (0, 1, 0);

/// Why a file is no provider that this host can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// An ELF file or what wasmtime writes.
    #[error("this is precompiled code, not a component: a provider is given as .wasm, and compiled here")]
    Precompiled,
    /// Something else.
    #[error("this is not a WebAssembly component: {0}")]
    NotComponent(String),
    /// Beyond [`COMPONENT_MAX`].
    #[error("the component has {0} bytes; the most is {COMPONENT_MAX}")]
    TooLarge(u64),
    /// No section.
    #[error(
        "the component carries no `{SECTION}` section, so it says neither its name nor what it asks for \
         (the SDK puts provider.toml there; see wit/README.md, \"The manifest\")"
    )]
    Missing,
    /// More than one.
    #[error("the component carries {0} `{SECTION}` sections; one is what counts")]
    Several(usize),
    /// Beyond [`MANIFEST_MAX`].
    #[error("the manifest has {0} bytes; the most is {MANIFEST_MAX}")]
    Long(usize),
    /// Not what the schema says.
    #[error("the manifest does not parse: {0}")]
    Syntax(String),
    /// A schema of a later host.
    #[error("the manifest has schema {0}; this idp knows schema 1: a newer idp is needed")]
    Schema(u64),
    /// A contract of a later host, or of another line.
    #[error(
        "the provider is built for contract {wanted}; this idp offers {offered}: it needs idp ≥ {wanted}",
        offered = offered()
    )]
    Contract {
        /// What the manifest says.
        wanted: String,
    },
    /// A value that makes no sense.
    #[error("the manifest's {key} is wrong: {why}")]
    Value {
        /// Where.
        key: String,
        /// Why.
        why: String,
    },
}

fn offered() -> String {
    format!("{}.{}.{}", CONTRACT.0, CONTRACT.1, CONTRACT.2)
}

/// What a provider says about itself and asks for. Nothing in it is granted by being there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// 1.
    pub schema: u64,
    /// `0.1`, or `0.1.2` when a later addition is needed.
    pub contract: String,
    /// `[a-z0-9-]{1,63}`
    pub name: String,
    /// The provider's own version.
    pub version: String,
    /// For people.
    pub display_name: Option<String>,
    /// SPDX expression.
    pub license: Option<String>,
    /// Where it lives.
    pub homepage: Option<String>,
    /// Selection by name.
    #[serde(default)]
    pub host: Vec<HostRule>,
    /// Selection by answer.
    #[serde(default)]
    pub fingerprint: Vec<Fingerprint>,
    /// What it asks to reach.
    #[serde(default)]
    pub egress: Vec<EgressRule>,
    /// Slots of credentials.
    #[serde(default)]
    pub credential: Vec<CredentialSlot>,
    /// Where tokens come from; answers from there are sealed.
    #[serde(default)]
    pub token_endpoint: Vec<TokenEndpoint>,
    /// What may be read of sealed answers.
    #[serde(default)]
    pub public: Vec<PublicPointers>,
    /// Settings it understands.
    #[serde(default)]
    pub setting: Vec<Setting>,
    /// When `repositories.ensure` is wanted.
    #[serde(default)]
    pub ensure: Ensure,
    /// Limits it asks for.
    #[serde(default)]
    pub limits: Limits,
}

/// `[[host]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostRule {
    /// Which registries.
    pub pattern: HostPattern,
    /// The host that is really spoken to, where the name is only what people write. [`super::ProviderDialect::normalize`] says the
    /// same of a repository; this is for questions about none.
    pub wire: Option<String>,
}

/// `[[fingerprint]]`: every given key must match the answer to an unauthenticated `GET /v2/`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fingerprint {
    /// Scheme of a challenge, lower-case.
    pub scheme: Option<String>,
    /// Service of the challenge; exact, or with one `*` at an end.
    pub service: Option<String>,
    /// Path of the challenge's realm; exact, or with one `*` at an end.
    pub realm_path: Option<String>,
    /// A header that is there.
    pub header: Option<String>,
    /// Said in `why`; sent by `identify`.
    pub probe: Option<String>,
    /// What the match alone is worth, 0 to 100.
    pub certainty: u8,
}

/// `[[egress]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EgressRule {
    /// Where.
    pub origin: OriginPattern,
    /// Upper-case.
    #[serde(default = "get")]
    pub methods: Vec<String>,
    /// Prefixes.
    #[serde(default = "everywhere")]
    pub paths: Vec<String>,
}

/// `[[credential]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CredentialSlot {
    /// `registry`, `management`, …
    pub slot: String,
    /// Kinds it can use.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Where the host looks, in order.
    #[serde(default, deserialize_with = "Source::known")]
    pub sources: Vec<Source>,
    /// Where it may be sent.
    #[serde(default = "registry_and_realm")]
    pub audience: Vec<OriginPattern>,
}

/// `[[token-endpoint]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TokenEndpoint {
    /// Where.
    pub origin: OriginPattern,
    /// Prefix.
    #[serde(default = "everything")]
    pub path: String,
}

/// `[[public]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PublicPointers {
    /// Prefix.
    pub path: String,
    /// JSON pointers, or `*` alone for the whole body.
    #[serde(default)]
    pub pointers: Vec<String>,
    /// Headers of the product's own, lower-case. A token endpoint shows none of them.
    #[serde(default)]
    pub headers: Vec<String>,
}

/// `[[setting]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Setting {
    /// Key in `registries.yaml`.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Variables that give it where the configuration does not, in order: those that the vendor's own tools read. Only built-in
    /// providers see the environment.
    #[serde(default)]
    pub env: Vec<String>,
}

/// `[ensure]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ensure {
    /// When.
    #[serde(default)]
    pub when: EnsureWhen,
    /// After which classes of failure.
    #[serde(default)]
    pub classes: Vec<String>,
}

/// When `repositories.ensure` is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnsureWhen {
    /// Repositories come into being by themselves.
    #[default]
    Never,
    /// Always.
    BeforePush,
    /// When a push was refused with one of the classes.
    AfterFailure,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Units of fuel a call.
    pub fuel: Option<u64>,
}

fn get() -> Vec<String> {
    vec!["GET".to_owned()]
}

fn everywhere() -> Vec<String> {
    vec!["/".to_owned()]
}

fn everything() -> String {
    "*".to_owned()
}

fn registry_and_realm() -> Vec<OriginPattern> {
    vec![OriginPattern::Registry, OriginPattern::Realm]
}

impl Manifest {
    /// Finds and parses the manifest of a component.
    pub fn of_component(component: &[u8]) -> Result<Self, ManifestError> {
        Self::parse(&section(component)?)
    }

    /// Parses and checks the TOML text.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        // The schema decides what the rest means, so it is looked at first.
        let peek: toml::Table = toml::from_str(text).map_err(|error| syntax(&error, text))?;
        if let Some(schema) = peek.get("schema").and_then(toml::Value::as_integer)
            && schema != 1
        {
            return Err(ManifestError::Schema(schema.unsigned_abs()));
        }
        let manifest: Self = toml::from_str(text).map_err(|error| syntax(&error, text))?;
        if let Some(text) = peek.values().find_map(unprintable) {
            let why = format!("`{}` holds control characters", printable(text, 200));
            return Err(ManifestError::Value { key: "text".to_owned(), why });
        }
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let wrong = |key: &str, why: String| Err(ManifestError::Value { key: key.to_owned(), why });
        let numbers: Option<Vec<u64>> = self.contract.split('.').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some([major, minor]) if (*major, *minor) == (CONTRACT.0, CONTRACT.1) => {}
            Some([major, minor, patch])
                if (*major, *minor) == (CONTRACT.0, CONTRACT.1) && *patch <= CONTRACT.2 => {}
            Some([_, _] | [_, _, _]) => {
                return Err(ManifestError::Contract { wanted: self.contract.clone() });
            }
            _ => return wrong("contract", format!("`{}` is not like \"0.1\"", self.contract.escape_debug())),
        }
        if !is_name(&self.name) {
            return wrong("name", format!("`{}` is not [a-z0-9-]{{1,63}}", self.name.escape_debug()));
        }
        let plain = |text: &str| !text.is_empty() && text.len() <= 64 && !text.chars().any(char::is_control);
        if !plain(&self.version) {
            return wrong("version", "empty, longer than 64 bytes, or not text".to_owned());
        }
        for fingerprint in &self.fingerprint {
            let keys =
                [&fingerprint.scheme, &fingerprint.service, &fingerprint.realm_path, &fingerprint.header];
            if keys.iter().all(|key| key.is_none()) {
                return wrong("fingerprint", "one without a key would match every registry".to_owned());
            }
            if fingerprint.certainty > 100 {
                return wrong("fingerprint.certainty", "more than 100".to_owned());
            }
        }
        if let Some(wire) = self
            .host
            .iter()
            .filter_map(|rule| rule.wire.as_deref())
            .find(|wire| wire.parse::<Registry>().is_err())
        {
            return wrong("host.wire", format!("`{}` is not a registry", wire.escape_debug()));
        }
        for rule in &self.egress {
            for method in &rule.methods {
                if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
                    return wrong("egress.methods", format!("`{}` is not a method", method.escape_debug()));
                }
            }
            if let Some(path) = rule.paths.iter().find(|path| !path.starts_with('/') && *path != "*") {
                return wrong("egress.paths", format!("`{}` does not start with `/`", path.escape_debug()));
            }
        }
        for setting in &self.setting {
            if let Some(name) = setting.env.iter().find(|name| !is_variable(name)) {
                return wrong("setting.env", format!("`{}` is not a variable", name.escape_debug()));
            }
        }
        for public in &self.public {
            let alone = public.pointers.len() == 1;
            let good = |pointer: &str| pointer.starts_with('/') || (pointer == "*" && alone);
            if let Some(pointer) = public.pointers.iter().find(|pointer| !good(pointer)) {
                return wrong(
                    "public.pointers",
                    format!("`{}` is not a JSON pointer", pointer.escape_debug()),
                );
            }
            if let Some(name) = public.headers.iter().find(|name| !is_own_header(name)) {
                let why =
                    format!("`{}` is not a header of a product (`x-…`, lower-case)", name.escape_debug());
                return wrong("public.headers", why);
            }
        }
        Ok(())
    }

    /// The host that is spoken to for a registry, where a host pattern says that it is another one.
    pub fn wire_host(&self, registry: &Registry) -> Option<Registry> {
        let rule = self.host.iter().find(|rule| rule.pattern.matches(registry.as_str()).is_some())?;
        rule.wire.as_deref()?.parse().ok()
    }

    /// The sources it names that are not there for everybody, each once.
    pub fn ambient_sources(&self) -> Vec<&Source> {
        let mut found: Vec<&Source> = Vec::new();
        for source in self.credential.iter().flat_map(|slot| &slot.sources) {
            if source.is_ambient() && !found.contains(&source) {
                found.push(source);
            }
        }
        found
    }

    /// `gitea 0.1.0`
    pub fn label(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Units of fuel a call may use: what is asked for, within bounds.
    pub fn fuel(&self) -> u64 {
        self.limits.fuel.unwrap_or(FUEL_DEFAULT).clamp(FUEL_MIN, FUEL_MAX)
    }
}

const FUEL_MIN: u64 = 1_000_000;
const FUEL_DEFAULT: u64 = 200_000_000;
const FUEL_MAX: u64 = 5_000_000_000;

/// What a parser says, fit for a terminal: it quotes what strangers wrote.
fn syntax(error: &toml::de::Error, text: &str) -> ManifestError {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    ManifestError::Syntax(format!("line {line}: {}", printable(error.message(), 1000)))
}

/// The first text in a value that would move a terminal's cursor or reorder what it shows: `provider show` prints these.
fn unprintable(value: &toml::Value) -> Option<&str> {
    match value {
        toml::Value::String(text) => (printable(text, usize::MAX) != *text).then_some(text),
        toml::Value::Array(values) => values.iter().find_map(unprintable),
        toml::Value::Table(table) => table.values().find_map(unprintable),
        _ => None,
    }
}

/// `[A-Z0-9_]+`
fn is_variable(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Whether it is a header of a product: what the standards name is harmless or is not shown.
fn is_own_header(name: &str) -> bool {
    name.starts_with("x-")
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// `[a-z0-9-]{1,63}`
fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The text of the manifest section, in the component itself or in a core module inside it.
fn section(component: &[u8]) -> Result<String, ManifestError> {
    if component.len() as u64 > COMPONENT_MAX {
        return Err(ManifestError::TooLarge(component.len() as u64));
    }
    if component.starts_with(b"\x7fELF") {
        return Err(ManifestError::Precompiled);
    }
    let mut found: Vec<&[u8]> = Vec::new();
    let mut top = true;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| ManifestError::NotComponent(error.message().to_owned()))? {
            Payload::Version { encoding, .. } => {
                if top && encoding != Encoding::Component {
                    return Err(ManifestError::NotComponent("it is a core module".to_owned()));
                }
                top = false;
            }
            Payload::CustomSection(section) if section.name() == SECTION => {
                if section.data().len() > MANIFEST_MAX {
                    return Err(ManifestError::Long(section.data().len()));
                }
                found.push(section.data());
            }
            _ => {}
        }
    }
    match found.as_slice() {
        [] => Err(ManifestError::Missing),
        [one] => std::str::from_utf8(one)
            .map(str::to_owned)
            .map_err(|_| ManifestError::Syntax("it is not UTF-8".to_owned())),
        several => Err(ManifestError::Several(several.len())),
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
