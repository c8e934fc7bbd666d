//! Where `idp login` puts a credential and `idp logout` takes it away: a credential helper where there is one, else Docker's
//! `config.json`, readable by nobody else. Other tools find it there, and what they keep there stays as it is.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use idp_oci::name::Registry;
use serde_json::{Map, Value};

use super::credentials::Credential;
use super::docker::{self, DockerConfig, DockerError};
use super::env::Environment;
use super::helper::{Helper, HelperError, TOKEN_USER};

/// Helpers that are used when nothing is configured and one of them is installed and works.
const WELL_KNOWN: [&str; 4] = ["secretservice", "pass", "osxkeychain", "wincred"];

/// Where a credential was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A helper keeps it.
    Helper(String),
    /// It stands in a file, merely encoded.
    File(PathBuf),
}

/// Why a credential could not be put away or taken out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no home directory.
    #[error("there is no place for credentials: neither HOME nor DOCKER_CONFIG is set")]
    Nowhere,
    /// The file cannot be understood; it is left alone.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// The helper.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// The file cannot be written.
    #[error("cannot write `{}`", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
}

/// Keeps `credential` for `registry`.
pub async fn store(
    registry: &Registry,
    credential: &Credential,
    env: &Environment,
) -> Result<Place, StoreError> {
    let file = docker::docker_file(env).ok_or(StoreError::Nowhere)?;
    let config = DockerConfig::load(&file)?.unwrap_or_default();
    // The protocol of helpers has no word for a ready bearer token.
    let (username, secret) = match credential {
        Credential::Basic { username, password } => (username.as_str(), password),
        Credential::IdentityToken(token) => (TOKEN_USER, token),
        Credential::Bearer(_) => return plain(&file, registry, credential),
    };
    if let Some((name, server)) = config.helper(registry) {
        let helper = Helper::new(name, env)?;
        helper.store(&server, username, secret).await?;
        return Ok(Place::Helper(helper.program().to_owned()));
    }
    for name in WELL_KNOWN {
        let helper = Helper::new(name, env)?;
        if !helper.works().await {
            continue;
        }
        let key = docker::key(registry);
        helper.store(&key, username, secret).await?;
        edit(&file, |root| {
            object(root, "credHelpers").insert(key.clone(), Value::from(name));
            if let Some(auths) = root.get_mut("auths").and_then(Value::as_object_mut) {
                auths.remove(&key);
            }
        })?;
        return Ok(Place::Helper(helper.program().to_owned()));
    }
    plain(&file, registry, credential)
}

fn plain(file: &Path, registry: &Registry, credential: &Credential) -> Result<Place, StoreError> {
    let encode = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    let entry = match credential {
        Credential::Basic { username, password } => {
            serde_json::json!({ "auth": encode(format!("{username}:{}", password.expose())) })
        }
        Credential::IdentityToken(token) => {
            serde_json::json!({ "auth": encode(format!("{TOKEN_USER}:")), "identitytoken": token.expose() })
        }
        Credential::Bearer(token) => serde_json::json!({ "registrytoken": token.expose() }),
    };
    edit(file, |root| {
        object(root, "auths").insert(docker::key(registry), entry);
    })?;
    Ok(Place::File(file.to_owned()))
}

/// Forgets what is kept for `registry`, in helpers and in the file. The places it was taken from; none when nothing was kept.
pub async fn erase(registry: &Registry, env: &Environment) -> Result<Vec<Place>, StoreError> {
    let file = docker::docker_file(env).ok_or(StoreError::Nowhere)?;
    let Some(config) = DockerConfig::load(&file)? else { return Ok(Vec::new()) };
    let mut places = Vec::new();
    if let Some((name, server)) = config.helper(registry) {
        let helper = Helper::new(name, env)?;
        if helper.get(&server).await?.is_some() {
            helper.erase(&server).await?;
            places.push(Place::Helper(helper.program().to_owned()));
        }
    }
    if !matches!(config.plain(&file, registry, None), Ok(None)) {
        let keys = config.keys(registry);
        edit(&file, |root| {
            if let Some(auths) = root.get_mut("auths").and_then(Value::as_object_mut) {
                for key in &keys {
                    auths.remove(key);
                }
            }
        })?;
        places.push(Place::File(file));
    }
    Ok(places)
}

fn object<'a>(root: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = root.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made one just above")
}

/// Changes a JSON file: fields that are not ours stay, a reader sees the old file or the new one, and nobody else can read it.
fn edit(file: &Path, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), StoreError> {
    // A link is followed: people keep these files elsewhere.
    let file = &fs_err::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let write = |error| StoreError::Write { file: file.clone(), error };
    let bytes = match fs_err::read(file) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => zeroize::Zeroizing::new(b"{}".to_vec()),
        Err(error) => return Err(write(error)),
    };
    let bytes: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
    let mut root: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| {
        DockerError::Invalid { file: file.clone(), line: error.line(), column: error.column() }
    })?;
    change(&mut root);
    let mut text = zeroize::Zeroizing::new(serde_json::to_vec_pretty(&root).expect("JSON values serialise"));
    text.push(b'\n');
    let directory = file.parent().unwrap_or(Path::new("."));
    if !directory.exists() {
        fs_err::create_dir_all(directory).map_err(write)?;
        fs_err::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).map_err(write)?;
    }
    // Made with 0600 from the start.
    let mut temporary =
        tempfile::Builder::new().prefix(".config.json.").tempfile_in(directory).map_err(write)?;
    temporary.write_all(&text).and_then(|()| temporary.as_file().sync_all()).map_err(write)?;
    temporary.persist(file).map_err(|error| write(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use idp_oci::name::Registry;
    use idp_oci::secret::Secret;

    use super::{Place, erase, store};
    use crate::config::credentials::Credential;
    use crate::config::docker::DockerConfig;
    use crate::config::env::Environment;

    fn registry() -> Registry {
        "r.example".parse().expect("a registry")
    }

    fn basic() -> Credential {
        Credential::Basic { username: "ci".to_owned(), password: Secret::new("hunter22") }
    }

    #[tokio::test]
    async fn a_plain_file_keeps_what_it_had() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join(".docker/config.json");
        fs_err::create_dir(home.path().join(".docker")).expect("made");
        fs_err::write(&file, r#"{"HttpHeaders":{"a":"b"},"auths":{"o.example":{"auth":"YTpi"}}}"#)
            .expect("written");
        let env = Environment::of([("HOME", home.path().to_str().expect("utf-8"))]);
        let place = store(&registry(), &basic(), &env).await.expect("stored");
        assert_eq!(place, Place::File(file.clone()));
        assert_eq!(fs_err::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        let text = fs_err::read_to_string(&file).expect("read");
        assert!(
            text.contains("HttpHeaders") && text.contains("o.example") && !text.contains("hunter22"),
            "{text}"
        );
        let config = DockerConfig::load(&file).expect("read").expect("there");
        let found = config.plain(&file, &registry(), None).expect("an answer").expect("one");
        assert_eq!(found.credential, basic());
        assert_eq!(erase(&registry(), &env).await.expect("erased"), [Place::File(file.clone())]);
        assert_eq!(erase(&registry(), &env).await.expect("nothing left"), []);
        assert!(fs_err::read_to_string(&file).expect("read").contains("o.example"));
    }

    #[tokio::test]
    async fn forgetting_finds_every_spelling() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("config.json");
        let env = Environment::of([("DOCKER_CONFIG", home.path().to_str().expect("utf-8"))]);
        for key in
            ["r.example", "https://r.example", "http://r.example/", "https://r.example/v1/", "r.example/v2/"]
        {
            let text =
                serde_json::json!({"auths": {key: {"auth": "YTpi"}, "r.example/team": {"auth": "Yzpk"}}});
            fs_err::write(&file, text.to_string()).expect("written");
            assert_eq!(erase(&registry(), &env).await.expect(key), [Place::File(file.clone())], "{key}");
            let config = DockerConfig::load(&file).expect("read").expect("there");
            assert_eq!(config.plain(&file, &registry(), None).expect("an answer"), None, "{key}");
            assert!(fs_err::read_to_string(&file).expect("read").contains("r.example/team"), "{key}");
        }
    }

    #[tokio::test]
    async fn a_helper_that_works_is_preferred() {
        let home = tempfile::tempdir().expect("a directory");
        let bin = home.path().join("bin");
        fs_err::create_dir(&bin).expect("made");
        let program = bin.join("docker-credential-pass");
        let kept = home.path().join("kept");
        fs_err::write(
            &program,
            format!(
                "#!/bin/sh\ncase $1 in store) /bin/cat >{0};; get) /bin/cat {0} 2>/dev/null || {{ echo 'credentials not found'; exit 1; }};; erase) /bin/rm -f {0};; esac\n",
                kept.display()
            ),
        )
        .expect("written");
        fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let home_text = home.path().to_str().expect("utf-8");
        let env = Environment::of([("HOME", home_text), ("PATH", bin.to_str().expect("utf-8"))]);
        let place = store(&registry(), &basic(), &env).await.expect("stored");
        assert_eq!(place, Place::Helper("docker-credential-pass".to_owned()));
        let file = home.path().join(".docker/config.json");
        assert!(fs_err::read_to_string(&file).expect("read").contains(r#""r.example": "pass""#));
        let config = DockerConfig::load(&file).expect("read").expect("there");
        let found = config.find(&file, &registry(), None, &env).await.expect("an answer").expect("one");
        assert_eq!(found.credential, basic());
        assert_eq!(erase(&registry(), &env).await.expect("erased").len(), 1);
        assert!(config.find(&file, &registry(), None, &env).await.expect("an answer").is_none());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_understood_is_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("config.json");
        fs_err::write(&file, "{oops").expect("written");
        let env = Environment::of([("DOCKER_CONFIG", home.path().to_str().expect("utf-8"))]);
        store(&registry(), &basic(), &env).await.expect_err("refused");
        assert_eq!(fs_err::read_to_string(&file).expect("read"), "{oops");
    }
}
