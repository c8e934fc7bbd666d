//! Every environment variable that `idp` looks at by itself, in one table, and the only place that reads them. Those of vendors are named
//! by the manifests of providers and by [`super::cloud`], and are looked at for registries of that vendor only.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// One variable of [`VARIABLES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, one sentence.
    pub meaning: &'static str,
    /// True when its value must not be printed.
    pub secret: bool,
}

const fn plain(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning, secret: false }
}

const fn secret(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning, secret: true }
}

/// The registry of references that name none.
pub const REGISTRY_URL: Variable =
    plain("IDPBUILDER_REGISTRY_URL", "The registry of names without one, as `--registry`.");
/// User name.
pub const REGISTRY_USERNAME: Variable = plain("IDPBUILDER_REGISTRY_USERNAME", "User name, as `--username`.");
/// Password.
pub const REGISTRY_PASSWORD: Variable =
    secret("IDPBUILDER_REGISTRY_PASSWORD", "Password, as `--password-stdin`.");
/// Bearer or identity token.
pub const REGISTRY_TOKEN: Variable = secret("IDPBUILDER_REGISTRY_TOKEN", "Token, as `--token`.");
/// Plain HTTP and unverified TLS.
pub const REGISTRY_INSECURE: Variable = plain(
    "IDPBUILDER_REGISTRY_INSECURE",
    "`true`: allow plain HTTP and certificates that do not verify, as `--insecure`.",
);
/// Content cache.
pub const CACHE_DIR: Variable =
    plain("IDPBUILDER_OCI_CACHE_DIR", "The content cache; `~/.idpbuilder/oci-cache` unless set.");
/// Whether there is a content cache.
pub const CACHE: Variable = plain(
    "IDPBUILDER_OCI_CACHE",
    "`false`: the content cache is not used; as `cache.enabled` in `registries.yaml`.",
);
/// Seconds without progress.
pub const TIMEOUT: Variable =
    plain("IDPBUILDER_OCI_TIMEOUT", "Seconds one request may take without moving a byte; 300 unless set.");
/// Attempts.
pub const RETRY_COUNT: Variable = plain(
    "IDPBUILDER_OCI_RETRY_COUNT",
    "How often something that fails in a passing way is tried, from 0 (as 1) to 10; 10 unless set.",
);
/// Size of manifests.
pub const MANIFEST_MAX: Variable = plain(
    "IDPBUILDER_OCI_MANIFEST_MAX",
    "The largest manifest that is taken from a registry, in MiB, from 1 to 64; 8 unless set.",
);
/// Where development finds providers.
pub const PROVIDER_DIR: Variable = plain(
    "IDP_PROVIDER_DIR",
    "Where a development build looks for provider components that it does not carry.",
);
/// Docker's configuration directory.
pub const DOCKER_CONFIG: Variable =
    plain("DOCKER_CONFIG", "The directory of Docker's `config.json`; `~/.docker` unless set.");
/// Docker's daemon.
pub const DOCKER_HOST: Variable =
    plain("DOCKER_HOST", "The Docker daemon's socket; `unix:///var/run/docker.sock` unless set.");
/// podman's credentials.
pub const REGISTRY_AUTH_FILE: Variable =
    plain("REGISTRY_AUTH_FILE", "podman's credential file, looked at before Docker's when it is set.");
/// Home.
pub const HOME: Variable = plain("HOME", "Where `.idpbuilder`, `.docker` and `.config` are.");
/// Runtime files.
pub const XDG_RUNTIME_DIR: Variable =
    plain("XDG_RUNTIME_DIR", "Where podman keeps `containers/auth.json` of this session.");
/// Configuration files.
pub const XDG_CONFIG_HOME: Variable =
    plain("XDG_CONFIG_HOME", "Where podman keeps `containers/auth.json`; `~/.config` unless set.");
/// Search path.
pub const PATH: Variable = plain("PATH", "Where `docker-credential-…` helpers are found.");
/// Reproducible builds.
pub const SOURCE_DATE_EPOCH: Variable = plain(
    "SOURCE_DATE_EPOCH",
    "Seconds since 1970 that built packages say they were made at; 0 unless given.",
);
/// Password of signing keys.
pub const COSIGN_PASSWORD: Variable =
    secret("COSIGN_PASSWORD", "Password of the key that packages are signed with, as for cosign.");
/// No colour.
pub const NO_COLOR: Variable = plain("NO_COLOR", "Set to anything: no colour.");
/// Terminal.
pub const TERM: Variable = plain("TERM", "`dumb`: no colour and no bars.");
/// Continuous integration.
pub const CI: Variable = plain("CI", "Set to anything: progress in lines, no bars, no prompts.");
/// Log level.
pub const LOG: Variable = plain("IDP_LOG", "Log level, as `--log-level`.");

/// All of them, in the order of `docs/reference/environment.md`.
pub const VARIABLES: &[Variable] = &[
    REGISTRY_URL,
    REGISTRY_USERNAME,
    REGISTRY_PASSWORD,
    REGISTRY_TOKEN,
    REGISTRY_INSECURE,
    CACHE_DIR,
    CACHE,
    TIMEOUT,
    RETRY_COUNT,
    MANIFEST_MAX,
    LOG,
    PROVIDER_DIR,
    DOCKER_CONFIG,
    DOCKER_HOST,
    REGISTRY_AUTH_FILE,
    HOME,
    XDG_RUNTIME_DIR,
    XDG_CONFIG_HOME,
    PATH,
    NO_COLOR,
    SOURCE_DATE_EPOCH,
    COSIGN_PASSWORD,
    TERM,
    CI,
];

/// Why a variable cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// Not a number.
    #[error("`{name}` is `{value}`, which is not a whole number from {least} to {most}")]
    Number {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// Smallest accepted value.
        least: u64,
        /// Largest accepted value.
        most: u64,
    },
    /// Neither yes nor no.
    #[error("`{name}` is `{value}`; write `true` or `false`")]
    Flag {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
}

/// The environment of the process, or one made up by a test. Does not show values in `Debug`.
#[derive(Clone, Default)]
pub struct Environment(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    Process,
    Given(BTreeMap<String, String>),
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Source::Process => "Environment(process)",
            Source::Given(_) => "Environment(given)",
        })
    }
}

impl Environment {
    /// The environment of this process.
    pub fn process() -> Self {
        Self(Source::Process)
    }

    /// Exactly these variables.
    pub fn of<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Self(Source::Given(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()))
    }

    /// Exactly these variables, as many as there are.
    pub fn given(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(Source::Given(pairs.into_iter().collect()))
    }

    /// The value of a variable of the table; empty counts as not set.
    pub fn get(&self, variable: Variable) -> Option<String> {
        self.named(variable.name)
    }

    /// The value of a variable that a configuration file or a provider's manifest names; empty counts as not set.
    pub fn named(&self, name: &str) -> Option<String> {
        match &self.0 {
            Source::Process => std::env::var(name).ok(),
            Source::Given(values) => values.get(name).cloned(),
        }
        .filter(|value| !value.is_empty())
    }

    /// All variables whose names begin with one of these: what a vendor's own library looks at.
    pub fn beginning(&self, prefixes: &[&str]) -> Vec<(String, String)> {
        let wanted = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        match &self.0 {
            Source::Process => std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .filter(|(name, _)| wanted(name))
                .collect(),
            Source::Given(values) => values
                .iter()
                .filter(|(name, _)| wanted(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }

    /// A directory or file; never relative to nothing.
    pub fn path(&self, variable: Variable) -> Option<PathBuf> {
        match &self.0 {
            Source::Process => std::env::var_os(variable.name)
                .filter(|value: &OsString| !value.is_empty())
                .map(PathBuf::from),
            Source::Given(values) => {
                values.get(variable.name).filter(|value| !value.is_empty()).map(PathBuf::from)
            }
        }
    }

    /// A whole number within bounds.
    pub fn number(&self, variable: Variable, least: u64, most: u64) -> Result<Option<u64>, EnvError> {
        let Some(value) = self.get(variable) else { return Ok(None) };
        match value.trim().parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(EnvError::Number { name: variable.name, value, least, most }),
        }
    }

    /// Yes or no.
    pub fn flag(&self, variable: Variable) -> Result<Option<bool>, EnvError> {
        let Some(value) = self.get(variable) else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(Some(true)),
            "0" | "false" | "no" | "off" => Ok(Some(false)),
            _ => Err(EnvError::Flag { name: variable.name, value }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CI, EnvError, Environment, REGISTRY_INSECURE, TIMEOUT, VARIABLES};

    #[test]
    fn values_are_checked() {
        let env = Environment::of([
            ("IDPBUILDER_OCI_TIMEOUT", "20"),
            ("IDPBUILDER_REGISTRY_INSECURE", "maybe"),
            ("CI", ""),
        ]);
        assert_eq!(env.number(TIMEOUT, 1, 30), Ok(Some(20)));
        assert!(matches!(env.number(TIMEOUT, 1, 10), Err(EnvError::Number { least: 1, most: 10, .. })));
        assert!(matches!(env.flag(REGISTRY_INSECURE), Err(EnvError::Flag { .. })));
        assert_eq!(env.get(CI), None);
        assert_eq!(format!("{env:?}"), "Environment(given)");
    }

    #[test]
    fn the_table_names_each_variable_once() {
        let mut names: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VARIABLES.len());
    }
}
