//! Which credential is used for a registry, and where it came from: flag, environment, `registries.yaml`, Docker's and podman's
//! files, nothing. The first that has one wins; a place that is broken is an error, not a reason to try the next.

use std::path::PathBuf;

use idp_oci::name::{Registry, Repository};
use idp_oci::secret::Secret;

use super::docker::{self, DockerConfig, DockerError};
use super::env::{self, Environment};
use super::helper::{Helper, HelperError};
use super::known::Known;
use super::registries::{Address, CredentialSource, Registries};

/// The slot of the registry itself (`wit/README.md`, "The manifest"); flags and the environment speak about this one.
pub const REGISTRY_SLOT: &str = "registry";

/// Something that lets one in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user with a password, or with a token in its place.
    Basic {
        /// User name.
        username: String,
        /// Password or token.
        password: Secret,
    },
    /// A refresh token for OAuth2 (Docker's `identitytoken`).
    IdentityToken(Secret),
    /// A ready bearer token.
    Bearer(Secret),
}

impl Credential {
    /// The kind, as the provider contract names it (`credential-set.kind`).
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Basic { .. } => "basic",
            Self::IdentityToken(_) => "identity-token",
            Self::Bearer(_) => "bearer",
        }
    }

    /// The user name, where there is one.
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::Basic { username, .. } => Some(username),
            Self::IdentityToken(_) | Self::Bearer(_) => None,
        }
    }

    /// The secret part with its name in the contract (`credential-set.secret`).
    pub fn secret(&self) -> (&'static str, &Secret) {
        match self {
            Self::Basic { password, .. } => ("password", password),
            Self::IdentityToken(token) | Self::Bearer(token) => ("token", token),
        }
    }
}

/// A credential and where it came from, in words that complete "credentials came from …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What lets one in.
    pub credential: Credential,
    /// `the environment (IDPBUILDER_REGISTRY_TOKEN)`; never holds the credential.
    pub source: String,
}

/// What flags said.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--username`.
    pub username: Option<String>,
    /// `--password` or `--password-stdin`.
    pub password: Option<Secret>,
    /// `--token`.
    pub token: Option<Secret>,
}

/// Why no credential could be found out. Says which place is broken; never what it holds.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A user without a password or token.
    #[error("{0} gives a user name and neither a password nor a token")]
    NoPassword(&'static str),
    /// A password without a user.
    #[error("{0} gives a password and no user name")]
    NoUsername(&'static str),
    /// Both.
    #[error("{0} gives a password and a token; one of them is enough")]
    Both(&'static str),
    /// `registries.yaml` names a variable that is not set.
    #[error("`{file}` takes a credential of `{registry}` from `{variable}`, which is not set")]
    Unset {
        /// The file.
        file: String,
        /// The registry.
        registry: String,
        /// The variable.
        variable: String,
    },
    /// `registries.yaml` names a file that cannot be read.
    #[error("cannot read `{}`, which `registries.yaml` names for `{registry}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The registry.
        registry: String,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// `registries.yaml` names a helper that failed.
    #[error("`registries.yaml` names a credential helper for `{registry}`")]
    Helper {
        /// The registry.
        registry: String,
        /// What it did.
        #[source]
        error: HelperError,
    },
    /// A helper that `registries.yaml` names has nothing.
    #[error(
        "credential helper `{helper}`, which `registries.yaml` names for `{registry}`, has nothing for it"
    )]
    Nothing {
        /// The registry.
        registry: String,
        /// The program.
        helper: String,
    },
    /// Docker's or podman's file.
    #[error(transparent)]
    Docker(#[from] DockerError),
}

/// Finds credentials. Reads files and runs helpers only when asked.
#[derive(Debug, Clone)]
pub struct Credentials {
    given: Given,
    env: Environment,
    registries: std::sync::Arc<Registries>,
    known: Known,
    several: bool,
}

impl Credentials {
    /// `known` learns every secret that is found.
    pub fn new(given: Given, env: Environment, registries: std::sync::Arc<Registries>, known: Known) -> Self {
        let user = given.username.clone().or_else(|| env.get(env::REGISTRY_USERNAME)).unwrap_or_default();
        let variables = env::VARIABLES.iter().filter(|variable| variable.secret);
        let from_env = variables.filter_map(|variable| env.get(*variable)).map(Secret::new);
        for secret in given.password.iter().chain(&given.token).cloned().chain(from_env) {
            known.add_basic(&user, &secret);
        }
        Self { given, env, registries, known, several: false }
    }

    /// Without what flags said.
    #[must_use]
    pub fn without_given(mut self) -> Self {
        self.given = Given::default();
        self
    }

    /// For a command about several registries: an environment that does not name its registry is about none of them.
    #[must_use]
    pub fn of_several(mut self) -> Self {
        self.several = true;
        self
    }

    /// The credential for a repository of a registry, or `None` for anonymous access.
    pub async fn find(
        &self,
        registry: &Registry,
        repository: Option<&Repository>,
    ) -> Result<Option<Found>, CredentialError> {
        self.slot(REGISTRY_SLOT, registry, repository).await
    }

    /// The credential of a slot; only [`REGISTRY_SLOT`] is answered by flags, environment and credential files.
    pub async fn slot(
        &self,
        slot: &str,
        registry: &Registry,
        repository: Option<&Repository>,
    ) -> Result<Option<Found>, CredentialError> {
        if let Some(found) = self.decided(slot, registry).await? {
            return Ok(Some(found));
        }
        if slot != REGISTRY_SLOT {
            return Ok(None);
        }
        for file in docker::files(&self.env) {
            if let Some(config) = DockerConfig::load(&file)?
                && let Some(found) = config.find(&file, registry, repository, &self.env).await?
            {
                self.learn(&found);
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The credential of a slot as far as the user said something about this very registry: flags, environment, `registries.yaml`.
    pub async fn decided(&self, slot: &str, registry: &Registry) -> Result<Option<Found>, CredentialError> {
        let found = self.look(slot, registry).await?;
        found.iter().for_each(|found| self.learn(found));
        Ok(found)
    }

    /// From now on a credential is blanked in all output.
    pub fn learn(&self, found: &Found) {
        match &found.credential {
            Credential::Basic { username, password } => self.known.add_basic(username, password),
            Credential::IdentityToken(token) | Credential::Bearer(token) => self.known.add(token),
        }
    }

    /// What is blanked.
    pub fn known(&self) -> &Known {
        &self.known
    }

    async fn look(&self, slot: &str, registry: &Registry) -> Result<Option<Found>, CredentialError> {
        if slot == REGISTRY_SLOT
            && let Some(found) = self.explicit(registry)?
        {
            return Ok(Some(found));
        }
        if let Some(config) = self.registries.get(registry) {
            let source =
                if slot == REGISTRY_SLOT { config.credentials.as_ref() } else { config.slots.get(slot) };
            if let Some(source) = source {
                return self.configured(source, registry).await.map(Some);
            }
        }
        Ok(None)
    }

    /// Flags, then the environment. A user name from the environment completes a password flag and the other way round, so the
    /// two are read together; what is from a flag wins. An environment that names its registry says nothing about others.
    pub fn explicit(&self, registry: &Registry) -> Result<Option<Found>, CredentialError> {
        let is_this = |url: String| url.parse::<Address>().is_ok_and(|address| address.registry == *registry);
        let about_this = self.env.get(env::REGISTRY_URL).map_or(!self.several, is_this);
        let from_env = |variable| self.env.get(variable).filter(|_| about_this);
        let Given { username, password, token } = &self.given;
        if password.is_some() || token.is_some() {
            let username = username.clone().or_else(|| from_env(env::REGISTRY_USERNAME));
            return pair(username, password.clone(), token.clone(), "the command line", "the command line");
        }
        let secrets = (
            from_env(env::REGISTRY_PASSWORD).map(Secret::new),
            from_env(env::REGISTRY_TOKEN).map(Secret::new),
        );
        if username.is_some() {
            return pair(
                username.clone(),
                secrets.0,
                secrets.1,
                "the command line (user) and the environment (password)",
                "the command line",
            );
        }
        pair(
            from_env(env::REGISTRY_USERNAME),
            secrets.0,
            secrets.1,
            "the environment (IDPBUILDER_REGISTRY_…)",
            "the environment (IDPBUILDER_REGISTRY_…)",
        )
    }

    async fn configured(
        &self,
        source: &CredentialSource,
        registry: &Registry,
    ) -> Result<Found, CredentialError> {
        let file = self.registries.file().map(|file| file.display().to_string()).unwrap_or_default();
        let variable = |name: &String| {
            self.env.named(name).map(Secret::new).ok_or_else(|| CredentialError::Unset {
                file: file.clone(),
                registry: registry.to_string(),
                variable: name.clone(),
            })
        };
        let content = |path: &PathBuf| {
            let path = self.registries.resolve(path);
            match fs_err::read_to_string(&path) {
                Ok(text) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']))),
                Err(error) => {
                    Err(CredentialError::Read { file: path, registry: registry.to_string(), error })
                }
            }
        };
        let from = |place: String| format!("`{file}` ({place})");
        let username = source.username.clone().unwrap_or_default();
        let basic = |password, place| {
            Ok(Found {
                credential: Credential::Basic { username: username.clone(), password },
                source: from(place),
            })
        };
        // With a user name a token is sent as that user's password, as registries with access tokens want it.
        let token = |token, place| {
            let credential = if username.is_empty() {
                Credential::Bearer(token)
            } else {
                Credential::Basic { username: username.clone(), password: token }
            };
            Ok(Found { credential, source: from(place) })
        };
        if let Some(name) = &source.password_env {
            basic(variable(name)?, format!("passwordEnv {name}"))
        } else if let Some(path) = &source.password_file {
            basic(content(path)?, "passwordFile".to_owned())
        } else if let Some(plain) = &source.password {
            basic(plain.0.clone(), "password".to_owned())
        } else if let Some(name) = &source.token_env {
            token(variable(name)?, format!("tokenEnv {name}"))
        } else if let Some(path) = &source.token_file {
            token(content(path)?, "tokenFile".to_owned())
        } else {
            let name = source.helper.as_deref().unwrap_or_default();
            let failed = |error| CredentialError::Helper { registry: registry.to_string(), error };
            let helper = Helper::new(name, &self.env).map_err(failed)?;
            let kept = helper.get(&docker::key(registry)).await.map_err(failed)?;
            let kept = kept.ok_or_else(|| CredentialError::Nothing {
                registry: registry.to_string(),
                helper: helper.program().to_owned(),
            })?;
            Ok(Found { credential: kept.into(), source: from(format!("helper {name}")) })
        }
    }
}

/// `place` is where the secret came from, `blamed` what is named when the parts do not fit together.
fn pair(
    username: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
    place: &str,
    blamed: &'static str,
) -> Result<Option<Found>, CredentialError> {
    let credential = match (username, password, token) {
        (None, None, None) => return Ok(None),
        (_, Some(_), Some(_)) => return Err(CredentialError::Both(blamed)),
        (Some(_), None, None) => return Err(CredentialError::NoPassword(blamed)),
        (None, Some(_), None) => return Err(CredentialError::NoUsername(blamed)),
        (Some(username), Some(password), None) => Credential::Basic { username, password },
        // Registries with access tokens take them as the password of their user.
        (Some(username), None, Some(token)) => Credential::Basic { username, password: token },
        (None, None, Some(token)) => Credential::Bearer(token),
    };
    Ok(Some(Found { credential, source: place.to_owned() }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use idp_oci::secret::Secret;

    use super::{Credential, CredentialError, Credentials, Found, Given};
    use crate::config::env::Environment;
    use crate::config::known::Known;
    use crate::config::registries::Registries;

    fn credentials(given: Given, env: Environment, yaml: &str) -> Credentials {
        let registries = Registries::parse(yaml, Path::new("/h/registries.yaml"), 0o600).expect("parsed");
        Credentials::new(given, env, Arc::new(registries), Known::new())
    }

    async fn find(given: Given, env: Environment, yaml: &str) -> Result<Option<Found>, CredentialError> {
        credentials(given, env, yaml).find(&"r.example".parse().expect("a registry"), None).await
    }

    fn user(found: Option<Found>) -> String {
        found.map_or_else(
            || "anonymous".to_owned(),
            |found| format!("{} {}", found.credential.kind(), found.credential.username().unwrap_or("-")),
        )
    }

    const YAML: &str = "registries: {r.example: {credentials: {username: file, passwordEnv: SECRET}}}";

    #[tokio::test]
    async fn precedence() {
        let home = tempfile::tempdir().expect("a directory");
        fs_err::create_dir(home.path().join(".docker")).expect("made");
        // ZG9ja2VyOmh1bnRlcjIy = docker:hunter22
        fs_err::write(
            home.path().join(".docker/config.json"),
            r#"{"auths":{"r.example":{"auth":"ZG9ja2VyOmh1bnRlcjIy"}}}"#,
        )
        .expect("written");
        let home = home.path().to_str().expect("utf-8");
        let flags =
            Given { username: Some("flag".to_owned()), password: Some(Secret::new("hunter22")), token: None };
        let all = || {
            Environment::of([
                ("HOME", home),
                ("SECRET", "hunter22"),
                ("IDPBUILDER_REGISTRY_USERNAME", "env"),
                ("IDPBUILDER_REGISTRY_PASSWORD", "hunter22"),
            ])
        };
        let no_env = || Environment::of([("HOME", home), ("SECRET", "hunter22")]);
        assert_eq!(user(find(flags, all(), YAML).await.expect("found")), "basic flag");
        assert_eq!(user(find(Given::default(), all(), YAML).await.expect("found")), "basic env");
        assert_eq!(user(find(Given::default(), no_env(), YAML).await.expect("found")), "basic file");
        assert_eq!(user(find(Given::default(), no_env(), "").await.expect("found")), "basic docker");
        assert_eq!(user(find(Given::default(), Environment::of([]), "").await.expect("found")), "anonymous");
    }

    #[tokio::test]
    async fn an_environment_that_names_its_registry_is_about_that_one() {
        for (url, expect) in [
            ("r.example", "basic env"),
            ("https://r.example", "basic env"),
            ("https://other.example", "anonymous"),
            ("r.example:5000", "anonymous"),
        ] {
            let env = Environment::of([
                ("IDPBUILDER_REGISTRY_URL", url),
                ("IDPBUILDER_REGISTRY_USERNAME", "env"),
                ("IDPBUILDER_REGISTRY_PASSWORD", "hunter22"),
            ]);
            assert_eq!(user(find(Given::default(), env, "").await.expect("found")), expect, "{url}");
        }
    }

    #[tokio::test]
    async fn parts_must_fit() {
        let env = Environment::of([("IDPBUILDER_REGISTRY_TOKEN", "hunter22")]);
        assert_eq!(user(find(Given::default(), env.clone(), "").await.expect("found")), "bearer -");
        let with_user = Given { username: Some("ci".to_owned()), ..Given::default() };
        assert_eq!(user(find(with_user.clone(), env, "").await.expect("found")), "basic ci");
        let none = Environment::of([]);
        assert!(matches!(find(with_user, none.clone(), "").await, Err(CredentialError::NoPassword(_))));
        let password = Given { password: Some(Secret::new("hunter22")), ..Given::default() };
        assert!(matches!(find(password, none.clone(), "").await, Err(CredentialError::NoUsername(_))));
        assert!(matches!(find(Given::default(), none, YAML).await, Err(CredentialError::Unset { .. })));
    }

    #[tokio::test]
    async fn what_is_found_is_known() {
        let known = Known::new();
        let env = Environment::of([("SECRET", "hunter22")]);
        let registries = Registries::parse(YAML, Path::new("/h/r"), 0o600).expect("parsed");
        let credentials = Credentials::new(Given::default(), env, Arc::new(registries), known.clone());
        let found = credentials.find(&"r.example".parse().expect("a registry"), None).await.expect("found");
        assert!(matches!(found.expect("one").credential, Credential::Basic { .. }));
        assert_eq!(known.blank_text("hunter22"), "***");
    }
}
