//! `registry.yaml`: how the embedded registry is served. Text in, checked values out; the only I/O is reading the file. Without the file
//! everything has its default, and nothing needs to be written into it. What each part holds is said where it is used, in `idp_oci`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use idp_oci::server::auth::AuthSettings;
use idp_oci::server::limits::{LimitSettings, RateSettings};
use idp_oci::server::tls::TlsSettings;
use idp_oci::server::{HealthSettings, MetricsSettings, WebSettings, WebhookSettings};
use idp_oci::store::object::ObjectSettings;
use idp_oci::store::{CollectionSettings, QuotaSettings, RetentionSettings, StorageSettings, StoreSettings};
use serde::Deserialize;

use super::paths::Paths;
use super::registries::{RegistriesError, read_yaml};

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port. Unless given: the loopback address, and the port of last time or the first free one from 5000 on.
    pub listen: Option<SocketAddr>,
    /// The directory of the content, relative to the file; `~/.idpbuilder/registry` unless given.
    pub root: Option<PathBuf>,
    /// The content is in a bucket instead; the directory then holds what is this machine's: keys, certificates, users.
    pub bucket: Option<ObjectSettings>,
    /// How the directory is kept.
    pub storage: StorageSettings,
    /// When what nobody needs goes.
    pub collection: CollectionSettings,
    /// What is kept of tags and manifests.
    pub retention: Vec<RetentionSettings>,
    /// How much may be kept.
    pub quotas: Vec<QuotaSettings>,
    /// HTTPS.
    pub tls: TlsSettings,
    /// Who is let in, and who may do what.
    pub auth: AuthSettings,
    /// What a client may send.
    pub limits: LimitSettings,
    /// How often.
    pub rates: RateSettings,
    /// `/metrics`.
    pub metrics: MetricsSettings,
    /// `/readyz`.
    pub health: HealthSettings,
    /// The page.
    pub web: WebSettings,
    /// Who is told of what is pushed.
    pub webhooks: WebhookSettings,
    #[serde(skip)]
    file: Option<PathBuf>,
}

impl ServerConfig {
    /// The settings of this user, or those in `file`, which then has to be there.
    pub fn of(paths: &Paths, file: Option<&Path>) -> Result<Self, RegistriesError> {
        match file {
            Some(file) => Self::load(Some(file), true),
            None => Self::load(paths.registry_settings().as_deref(), false),
        }
    }

    /// Reads the file. One that is not there is an empty one, unless it was asked for.
    fn load(file: Option<&Path>, asked_for: bool) -> Result<Self, RegistriesError> {
        let Some(file) = file else { return Ok(Self::default()) };
        match read_yaml::<Self>(file)? {
            Some((config, _)) => {
                Ok(Self { file: Some(file.to_owned()), ..config }.with_paths_beside_the_file())
            }
            None if asked_for => Err(RegistriesError::Read {
                file: file.to_owned(),
                error: std::io::ErrorKind::NotFound.into(),
            }),
            None => Ok(Self::default()),
        }
    }

    /// Paths in the file are relative to it.
    fn with_paths_beside_the_file(mut self) -> Self {
        let Some(folder) = self.file.as_deref().and_then(Path::parent).map(Path::to_owned) else {
            return self;
        };
        let token = &mut self.auth.token;
        let tls = &mut self.tls;
        let paths = [
            &mut self.root,
            &mut self.auth.users,
            &mut token.trusted_keys,
            &mut token.keys,
            &mut tls.directory,
            &mut tls.certificate,
            &mut tls.key,
        ];
        let hooks = self.webhooks.targets.iter_mut();
        let hooks = hooks.flat_map(|target| [&mut target.authorization_file, &mut target.ca_file]);
        let bucket = self.bucket.iter_mut();
        let bucket = bucket.flat_map(|bucket| [&mut bucket.credentials_file, &mut bucket.ca_file]);
        for path in paths.into_iter().chain(hooks).chain(bucket).filter_map(Option::as_mut) {
            *path = folder.join(&*path);
        }
        self
    }

    /// What governs the directory of the content.
    pub fn store(&self) -> StoreSettings {
        StoreSettings {
            storage: self.storage.clone(),
            collection: self.collection.clone(),
            retention: self.retention.clone(),
            quotas: self.quotas.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ServerConfig;

    #[test]
    fn read_with_paths_beside_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("registry.yaml");
        assert!(ServerConfig::load(Some(&file), true).is_err());
        assert!(ServerConfig::load(Some(&file), false).expect("nothing").listen.is_none());
        std::fs::write(&file, "# nothing\n").expect("written");
        assert!(ServerConfig::load(Some(&file), true).expect("empty").root.is_none());
        std::fs::write(&file, "listen: 127.0.0.1:5001\nroot: data\nauth: {kind: htpasswd, users: /etc/users}\ntls: {enabled: true}\n").expect("written");
        let config = ServerConfig::load(Some(&file), true).expect("read");
        assert_eq!(config.listen, Some("127.0.0.1:5001".parse().expect("an address")));
        assert_eq!(config.root, Some(directory.path().join("data")));
        assert_eq!(config.auth.users, Some("/etc/users".into()));
        assert!(config.tls.enabled);
        std::fs::write(&file, "listen: 127.0.0.1:5001\nrot: data\n").expect("written");
        let error = ServerConfig::load(Some(&file), true).expect_err("a typing mistake").to_string();
        assert!(error.contains("registry.yaml:2:1") && error.contains("rot"), "{error}");
    }
}
