//! Where the manifest of a provider wants credentials to come from (`wit/README.md`, "Credential sources"), and those of them that are
//! variables of the vendor's own tools. Text and environment in, credentials out; who may use what is decided by the caller.

use std::fmt;
use std::str::FromStr;

use idp_oci::name::Registry;
use idp_oci::secret::Secret;
use serde::{Deserialize, Deserializer};

use super::credentials::{Credential, Found};
use super::env::Environment;
use super::registries::Address;

/// One entry of `sources`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Docker's and podman's files and helpers.
    Docker,
    /// `idp login`.
    Prompt,
    /// `env:…`
    Variables(Variables),
    /// `cloud:…`
    Cloud(Cloud),
}

/// `env:PASSWORD`, `env:USER+PASSWORD`, `env:USER+PASSWORD@HOST`: names of variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variables {
    /// Holds the user name.
    pub user: Option<String>,
    /// Holds the password or token.
    pub password: String,
    /// Must name the registry, for the two others to count.
    pub host: Option<String>,
}

/// A cloud whose own tools know who is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// `cloud:aws`
    Aws,
    /// `cloud:azure`
    Azure,
    /// `cloud:google`
    Google,
}

/// A source of a later host, or a misspelt one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no source of credentials that this idp knows")]
pub struct UnknownSource(String);

impl FromStr for Source {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, UnknownSource> {
        let unknown = || UnknownSource(text.chars().take(100).collect());
        match text {
            "docker" => return Ok(Self::Docker),
            "prompt" => return Ok(Self::Prompt),
            "cloud:aws" => return Ok(Self::Cloud(Cloud::Aws)),
            "cloud:azure" => return Ok(Self::Cloud(Cloud::Azure)),
            "cloud:google" => return Ok(Self::Cloud(Cloud::Google)),
            _ => {}
        }
        let names = text.strip_prefix("env:").ok_or_else(unknown)?;
        let (names, host) = match names.split_once('@') {
            Some((names, host)) => (names, Some(host)),
            None => (names, None),
        };
        let (user, password) = match names.split_once('+') {
            Some((user, password)) => (Some(user), password),
            None => (None, names),
        };
        if !user.iter().chain(&host).chain([&password]).all(|name| is_variable(name)) {
            return Err(unknown());
        }
        Ok(Self::Variables(Variables {
            user: user.map(str::to_owned),
            password: password.to_owned(),
            host: host.map(str::to_owned),
        }))
    }
}

/// `[A-Z0-9_]+`
fn is_variable(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker => f.write_str("docker"),
            Self::Prompt => f.write_str("prompt"),
            Self::Variables(variables) => write!(f, "env:{variables}"),
            Self::Cloud(cloud) => write!(f, "cloud:{cloud}"),
        }
    }
}

impl fmt::Display for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}+")?;
        }
        f.write_str(&self.password)?;
        if let Some(host) = &self.host {
            write!(f, "@{host}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Google => "google",
        })
    }
}

impl Source {
    /// Whether it gives what was not put there for a registry: nobody gets that who was not named.
    pub fn is_ambient(&self) -> bool {
        matches!(self, Self::Variables(_) | Self::Cloud(_))
    }

    /// For a manifest: those that this host knows, so that a provider may name more than an old host has.
    pub fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Self>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

impl Variables {
    /// Whether the variable after `@` names this very registry.
    pub fn names(&self, registry: &Registry, env: &Environment) -> bool {
        let value = self.host.as_deref().and_then(|name| env.named(name));
        value.is_some_and(|value| value.parse::<Address>().is_ok_and(|address| address.registry == *registry))
    }

    /// What they hold for a registry.
    pub fn find(&self, registry: &Registry, env: &Environment) -> Option<Found> {
        if self.host.is_some() && !self.names(registry, env) {
            return None;
        }
        let username = match &self.user {
            Some(name) => env.named(name)?,
            None => String::new(),
        };
        let password = Secret::new(env.named(&self.password)?);
        let names: Vec<&str> = self.user.iter().chain([&self.password]).map(String::as_str).collect();
        let source = format!("the environment ({})", names.join(", "));
        Some(Found { credential: Credential::Basic { username, password }, source })
    }
}

#[cfg(test)]
mod tests {
    use super::{Cloud, Environment, Source, Variables};
    use crate::config::credentials::Credential;

    fn variables(text: &str) -> Variables {
        match text.parse() {
            Ok(Source::Variables(variables)) => variables,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_manifests_may_name() {
        for text in [
            "docker",
            "prompt",
            "env:GITHUB_TOKEN",
            "env:USER+PASSWORD",
            "env:USER+PASSWORD@HOST",
            "env:TOKEN@HOST_2",
            "cloud:aws",
            "cloud:azure",
            "cloud:google",
        ] {
            assert_eq!(text.parse::<Source>().expect(text).to_string(), text);
        }
        for text in
            ["", "env:", "env:a", "env:A+", "env:+A", "env:A@", "env:A+B+C", "cloud:", "cloud:other", "AWS"]
        {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
        assert!(Source::Cloud(Cloud::Aws).is_ambient() && !Source::Docker.is_ambient());
    }

    #[test]
    fn variables_that_name_their_registry_are_about_that_one() {
        let env = Environment::of([("U", "ci"), ("P", "hunter22"), ("H", "https://r.example:5050/")]);
        let here = "r.example:5050".parse().expect("a registry");
        let elsewhere = "r.example".parse().expect("a registry");
        for (text, registry, expect) in [
            ("env:P", &here, Some("")),
            ("env:U+P", &here, Some("ci")),
            ("env:U+P@H", &here, Some("ci")),
            ("env:U+P@H", &elsewhere, None),
            ("env:U+P@MISSING", &here, None),
            ("env:MISSING+P", &here, None),
            ("env:U+MISSING", &here, None),
        ] {
            let found = variables(text).find(registry, &env);
            let user = found.as_ref().map(|found| found.credential.username().expect("basic"));
            assert_eq!(user, expect, "{text} {registry}");
            assert!(found.is_none_or(|found| matches!(found.credential, Credential::Basic { .. })));
        }
        assert!(!variables("env:P").names(&here, &env), "only the variable after @ names one");
    }
}
