//! The credential files of Docker and podman: `config.json` and `auth.json`, which share a format.
//!
//! A file names helpers (`credHelpers` of one registry, then `credsStore` of all) and keeps plain entries (`auths`). Keys are
//! `host[:port]`; podman adds paths (`host/team`, the longest that fits wins); old files hold URLs (`https://host/v1/`); Docker
//! Hub is `https://index.docker.io/v1/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use idp_oci::name::{Registry, Repository};
use idp_oci::secret::Secret;
use serde::Deserialize;

use super::credentials::{Credential, Found};
use super::env::{self, Environment};
use super::helper::{Helper, HelperError, Kept, TOKEN_USER};

/// Docker Hub's key, which is none of its host names.
pub const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Names under which Docker Hub is known.
const HUB_HOSTS: [&str; 4] =
    ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// Larger files are none of Docker's.
const LARGEST: u64 = 4 * 1024 * 1024;

/// One credential file.
#[derive(Debug, Default, Deserialize)]
pub struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    /// Helpers of single registries.
    #[serde(default, rename = "credHelpers")]
    pub cred_helpers: BTreeMap<String, String>,
    /// The helper of all others.
    #[serde(default, rename = "credsStore")]
    pub creds_store: Option<String>,
}

/// No `Debug` of its own values: they are secrets.
#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry(…)")
    }
}

/// Why a credential file gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// It is there and cannot be read.
    #[error("cannot read `{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// It is not JSON of the right shape.
    #[error("`{}` is not a Docker credential file (line {line}, column {column})", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// An `auth` value is not base64 of `user:password`.
    #[error("`{}`: the `auth` of `{key}` is not base64 of user:password", file.display())]
    Auth {
        /// The file.
        file: PathBuf,
        /// The entry.
        key: String,
    },
    /// A helper failed.
    #[error("`{}` names a credential helper for `{registry}`", file.display())]
    Helper {
        /// The file.
        file: PathBuf,
        /// The registry.
        registry: String,
        /// What the helper did.
        #[source]
        error: HelperError,
    },
}

/// Docker's own file: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
pub fn docker_file(env: &Environment) -> Option<PathBuf> {
    env.path(env::DOCKER_CONFIG)
        .or_else(|| env.path(env::HOME).map(|home| home.join(".docker")))
        .map(|directory| directory.join("config.json"))
}

/// Every credential file, in the order in which they are asked: one that the environment names, Docker's, podman's two.
pub fn files(env: &Environment) -> Vec<PathBuf> {
    let podman = |directory: PathBuf| directory.join("containers/auth.json");
    let configuration =
        env.path(env::XDG_CONFIG_HOME).or_else(|| env.path(env::HOME).map(|home| home.join(".config")));
    [
        env.path(env::REGISTRY_AUTH_FILE),
        docker_file(env),
        env.path(env::XDG_RUNTIME_DIR).map(podman),
        configuration.map(podman),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl DockerConfig {
    /// Reads a file; `None` when there is none. Errors never quote its content.
    pub fn load(file: &Path) -> Result<Option<Self>, DockerError> {
        let read = |error| DockerError::Read { file: file.to_owned(), error };
        match fs_err::metadata(file) {
            Ok(metadata) if metadata.len() > LARGEST => {
                return Err(read(std::io::Error::other(format!("it is larger than {LARGEST} bytes"))));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read(error)),
        }
        let bytes = zeroize::Zeroizing::new(fs_err::read(file).map_err(read)?);
        if bytes.trim_ascii().is_empty() {
            return Ok(Some(Self::default()));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| DockerError::Invalid {
            file: file.to_owned(),
            line: error.line(),
            column: error.column(),
        })
    }

    /// The helper that is responsible for a registry, and the name it knows it by.
    pub fn helper(&self, registry: &Registry) -> Option<(&str, String)> {
        let names = names(registry);
        let own = self
            .cred_helpers
            .iter()
            .find(|(key, _)| names.iter().any(|name| name == normal(key)))
            .map(|(key, helper)| (helper.as_str(), key.clone()));
        own.or_else(|| {
            let helper = self.creds_store.as_deref().filter(|helper| !helper.is_empty())?;
            Some((helper, key(registry)))
        })
    }

    /// The key under which `auths` keeps something for a repository: the most specific one.
    fn entry(&self, registry: &Registry, repository: Option<&Repository>) -> Option<(&str, &Entry)> {
        let names = names(registry);
        let path = repository.map(Repository::as_str).unwrap_or_default();
        self.auths
            .iter()
            .filter(|(key, entry)| !entry.is_empty() && !is_session_key(key))
            .filter_map(|(key, entry)| {
                let plain = normal(key);
                let rest = names.iter().find_map(|name| plain.strip_prefix(name.as_str()))?;
                let fits = match rest.strip_prefix('/') {
                    None => rest.is_empty(),
                    Some(prefix) => {
                        path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
                    }
                };
                fits.then_some((rest.len(), key.as_str(), entry))
            })
            // Of two spellings of one key the plain one wins.
            .max_by_key(|(length, key, _)| (*length, !key.contains("://")))
            .map(|(_, key, entry)| (key, entry))
    }

    /// The keys of `auths` that are about the whole registry, however they are spelt.
    pub fn keys(&self, registry: &Registry) -> Vec<String> {
        let names = names(registry);
        let about = |key: &&String| !is_session_key(key) && names.iter().any(|name| name == normal(key));
        self.auths.keys().filter(about).cloned().collect()
    }

    /// The registries that the file or its helper of all registries keeps something for. A helper that fails keeps nothing.
    pub async fn registries(&self, env: &Environment) -> Result<Vec<Registry>, DockerError> {
        let mut keys: Vec<String> = self.auths.keys().filter(|key| !is_session_key(key)).cloned().collect();
        keys.extend(self.cred_helpers.keys().cloned());
        if let Some(name) = self.creds_store.as_deref().filter(|name| !name.is_empty())
            && let Ok(helper) = Helper::new(name, env)
        {
            keys.extend(helper.list().await.unwrap_or_default());
        }
        let host = |key: &String| {
            let host = normal(key).split('/').next().unwrap_or_default().to_owned();
            let hub = HUB_HOSTS.contains(&host.as_str());
            if hub { HUB_HOSTS[0].parse() } else { host.parse::<Registry>() }.ok()
        };
        Ok(keys.iter().filter_map(host).collect())
    }

    /// What `auths` says about a registry, without asking a helper.
    pub fn plain(
        &self,
        file: &Path,
        registry: &Registry,
        repository: Option<&Repository>,
    ) -> Result<Option<Found>, DockerError> {
        let Some((key, entry)) = self.entry(registry, repository) else { return Ok(None) };
        let credential = entry
            .credential()
            .ok_or_else(|| DockerError::Auth { file: file.to_owned(), key: key.to_owned() })?;
        Ok(Some(Found { credential, source: format!("`{}`, entry `{key}`", file.display()) }))
    }

    /// What the file and its helpers know about a registry.
    pub async fn find(
        &self,
        file: &Path,
        registry: &Registry,
        repository: Option<&Repository>,
        env: &Environment,
    ) -> Result<Option<Found>, DockerError> {
        if let Some((name, server)) = self.helper(registry) {
            let failed =
                |error| DockerError::Helper { file: file.to_owned(), registry: registry.to_string(), error };
            let helper = Helper::new(name, env).map_err(failed)?;
            if let Some(kept) = helper.get(&server).await.map_err(failed)? {
                let source =
                    format!("credential helper `{}` (named in `{}`)", helper.program(), file.display());
                return Ok(Some(Found { credential: kept.into(), source }));
            }
        }
        self.plain(file, registry, repository)
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        [&self.auth, &self.password, &self.identitytoken, &self.registrytoken]
            .iter()
            .all(|text| text.is_empty())
    }

    fn credential(&self) -> Option<Credential> {
        if !self.registrytoken.is_empty() {
            return Some(Credential::Bearer(Secret::new(&*self.registrytoken)));
        }
        let pair = if self.auth.is_empty() {
            (self.username.clone(), Secret::new(&*self.password))
        } else {
            decode(&self.auth)?
        };
        if !self.identitytoken.is_empty() {
            return Some(Credential::IdentityToken(Secret::new(&*self.identitytoken)));
        }
        Some(Kept { username: pair.0, secret: pair.1 }.into())
    }
}

impl From<Kept> for Credential {
    fn from(kept: Kept) -> Self {
        if kept.username == TOKEN_USER {
            Self::IdentityToken(kept.secret)
        } else {
            Self::Basic { username: kept.username, password: kept.secret }
        }
    }
}

/// base64 of `user:password`; Docker once padded with zero bytes.
fn decode(auth: &str) -> Option<(String, Secret)> {
    let bytes = zeroize::Zeroizing::new(base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok()?);
    let text = std::str::from_utf8(&bytes).ok()?.trim_end_matches('\0');
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), Secret::new(password)))
}

/// Where `docker login` keeps the sessions of its web login; no credentials of a registry.
fn is_session_key(key: &str) -> bool {
    key.ends_with("/access-token") || key.ends_with("/refresh-token")
}

/// `https://host/v1/` and `host` are the same key.
fn normal(key: &str) -> &str {
    let plain = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let plain = plain.strip_suffix('/').unwrap_or(plain);
    plain.strip_suffix("/v1").or_else(|| plain.strip_suffix("/v2")).unwrap_or(plain)
}

/// The key under which a new credential is kept.
pub fn key(registry: &Registry) -> String {
    if is_hub(registry) { HUB_KEY.to_owned() } else { registry.to_string() }
}

fn is_hub(registry: &Registry) -> bool {
    HUB_HOSTS.contains(&registry.as_str())
}

fn names(registry: &Registry) -> Vec<String> {
    if is_hub(registry) {
        HUB_HOSTS.iter().map(|host| (*host).to_owned()).collect()
    } else {
        vec![registry.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{DockerConfig, DockerError, files};
    use crate::config::credentials::Credential;
    use crate::config::env::Environment;

    fn config(text: &str) -> DockerConfig {
        serde_json::from_str(text).expect("JSON")
    }

    /// `user:password`, `<identity>token`, `<bearer>token`, or `-`.
    fn check(text: &str, reference: &str, expect: &str) {
        let reference = idp_oci::name::Reference::parse(reference, None).expect("a reference");
        let found = config(text)
            .plain(Path::new("f"), &reference.registry, Some(&reference.repository))
            .expect("an answer");
        let shown = match found.map(|found| found.credential) {
            None => "-".to_owned(),
            Some(Credential::Basic { username, password }) => format!("{username}:{}", password.expose()),
            Some(Credential::IdentityToken(token)) => format!("<identity>{}", token.expose()),
            Some(Credential::Bearer(token)) => format!("<bearer>{}", token.expose()),
        };
        assert_eq!(shown, expect, "{text} {reference}");
    }

    #[test]
    fn entries() {
        // YTpi = a:b, Yzpk = c:d, ZTpm = e:f
        let a_b = r#"{"auths":{"r.example":{"auth":"YTpi"}}}"#;
        check(a_b, "r.example/x", "a:b");
        check(a_b, "r.example:5000/x", "-");
        check(a_b, "other.example/x", "-");
        check(r#"{"auths":{"https://r.example/v1/":{"auth":"YTpi"}}}"#, "r.example/x", "a:b");
        check(
            r#"{"auths":{"https://r.example/v1/":{"auth":"YTpi"},"r.example":{"auth":"Yzpk"}}}"#,
            "r.example/x",
            "c:d",
        );
        let paths = r#"{"auths":{"r.example":{"auth":"YTpi"},"r.example/team":{"auth":"Yzpk"},"r.example/team/app":{"auth":"ZTpm"}}}"#;
        check(paths, "r.example/x", "a:b");
        check(paths, "r.example/team/x", "c:d");
        check(paths, "r.example/team/app", "e:f");
        check(paths, "r.example/teams/app", "a:b");
        check(r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"}}}"#, "docker.io/library/x", "a:b");
        check(
            r#"{"auths":{"https://index.docker.io/v1/access-token":{"auth":"YTpi"}}}"#,
            "docker.io/x/y",
            "-",
        );
        check(r#"{"auths":{"r.example":{"auth":"YTpi","identitytoken":"t"}}}"#, "r.example/x", "<identity>t");
        check(r#"{"auths":{"r.example":{"registrytoken":"t"}}}"#, "r.example/x", "<bearer>t");
        check(r#"{"auths":{"r.example":{"username":"a","password":"b:c"}}}"#, "r.example/x", "a:b:c");
        // PHRva2VuPjp0 = <token>:t ; YTpiAAA= = a:b with zero bytes
        check(r#"{"auths":{"r.example":{"auth":"PHRva2VuPjp0"}}}"#, "r.example/x", "<identity>t");
        check(r#"{"auths":{"r.example":{"auth":"YTpiAAA="}}}"#, "r.example/x", "a:b");
        check(r#"{"auths":{"r.example":{}},"HttpHeaders":{"a":"b"}}"#, "r.example/x", "-");
    }

    #[test]
    fn errors_do_not_quote() {
        let registry = "r.example".parse().expect("a registry");
        let error = config(r#"{"auths":{"r.example":{"auth":"hunter22"}}}"#)
            .plain(Path::new("f"), &registry, None)
            .expect_err("not a pair");
        assert!(matches!(&error, DockerError::Auth { key, .. } if key == "r.example"));
        assert!(!format!("{error} {error:?}").contains("hunter22"));
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs_err::write(file.path(), "{\"auths\":{\"a\":{\"auth\":[\"hunter22\"]}}}").expect("written");
        let error = DockerConfig::load(file.path()).expect_err("wrong shape");
        assert!(!format!("{error} {error:?}").contains("hunter22"));
    }

    #[test]
    fn helpers_of_one_registry_come_first() {
        let config = config(r#"{"credHelpers":{"r.example":"one"},"credsStore":"all"}"#);
        let helper = |name: &str| config.helper(&name.parse().expect("a registry"));
        assert_eq!(helper("r.example"), Some(("one", "r.example".to_owned())));
        assert_eq!(helper("docker.io"), Some(("all", super::HUB_KEY.to_owned())));
    }

    #[test]
    fn order_of_files() {
        let env =
            Environment::of([("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r"), ("REGISTRY_AUTH_FILE", "/a.json")]);
        let names: Vec<String> = files(&env).iter().map(|file| file.display().to_string()).collect();
        assert_eq!(
            names,
            [
                "/a.json",
                "/h/.docker/config.json",
                "/r/containers/auth.json",
                "/h/.config/containers/auth.json"
            ]
        );
    }
}
