//! Which bucket, and how to be let in. Settings and variables in, a [`Bucket`] out; asks nothing of the service yet.
//!
//! Credentials are never settings: they come from the environment (which the caller reads) or from a file that only its
//! owner can read, both under the names that the vendors' own tools have. Where there are none, the crate asks the
//! machine: instance and workload identities of the three clouds.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, RetryConfig};
use serde::Deserialize;
use url::Url;

use super::bucket::Bucket;
use crate::secret::Secret;

/// The settings of a registry over an object store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ObjectSettings {
    /// `s3://bucket[/prefix]`, `gs://bucket[/prefix]` or `az://container[/prefix]`. Needed.
    pub url: String,
    /// Where the service is, if it is not the vendor's own: `https://minio.example:9000`. Default: the vendor's.
    pub endpoint: Option<String>,
    /// Region of the bucket (S3). Default: `AWS_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// Storage account (Azure). Default: `AZURE_STORAGE_ACCOUNT_NAME`.
    pub account: Option<String>,
    /// Whether the bucket stands in the host name, `https://bucket.host/key` (S3). Default: false.
    pub virtual_host: bool,
    /// Lines `NAME=value` with the names of the environment (`AWS_ACCESS_KEY_ID`, `GOOGLE_SERVICE_ACCOUNT`,
    /// `AZURE_STORAGE_ACCOUNT_KEY`, …); nobody but its owner may read it. It goes before the environment.
    pub credentials_file: Option<PathBuf>,
    /// PEM file of certificates to trust besides the system's. Default: none.
    pub ca_file: Option<PathBuf>,
    /// Whether who pulls a blob is sent to the service, by an address that is signed for a time. Default: false.
    pub redirect: bool,
    /// How long such an address is good, in seconds. Default: 600.
    pub redirect_seconds: u64,
    /// Size of the parts in which large blobs go up, in bytes, at least 5 MiB; a blob has at most 10 000 parts, and an
    /// upload holds `partBytes` × (`parallelParts` + 1) in memory. Default: 8 MiB.
    pub part_bytes: u64,
    /// How many parts of a blob are on their way at once. Default: 3.
    pub parallel_parts: usize,
    /// How long the service may be silent in answering a request, in seconds. Default: 60.
    pub request_seconds: u64,
    /// How long a request is tried again, in seconds. Default: 60.
    pub retry_seconds: u64,
    /// How old an upload may get before what is left of it is swept, in seconds. Default: 7 days.
    pub upload_seconds: u64,
    /// How long content that nothing refers to is kept, in seconds, at least an hour. Default: 1 day.
    pub grace_seconds: u64,
}

impl Default for ObjectSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            endpoint: None,
            region: None,
            account: None,
            virtual_host: false,
            credentials_file: None,
            ca_file: None,
            redirect: false,
            redirect_seconds: 600,
            part_bytes: 8 * 1024 * 1024,
            parallel_parts: 3,
            request_seconds: 60,
            retry_seconds: 60,
            upload_seconds: 7 * 24 * 60 * 60,
            grace_seconds: 24 * 60 * 60,
        }
    }
}

/// Why settings name no bucket that we could ask.
#[derive(Debug, thiserror::Error)]
pub enum ObjectSettingsError {
    /// No URL, or none of an object store.
    #[error(
        "`{0}` is not an object store: write s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )]
    Url(String),
    /// A number that cannot be.
    #[error("`{field}` is {value}; {rule}")]
    Range {
        /// Its name in the settings.
        field: &'static str,
        /// What was given.
        value: u64,
        /// What it may be.
        rule: &'static str,
    },
    /// The file of credentials or certificates.
    #[error("cannot use `{path}`: {why}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The crate's own check.
    #[error("the settings of the object store do not fit together: {0}")]
    Setup(String),
}

/// The smallest part that S3 takes.
const LEAST_PART: u64 = 5 * 1024 * 1024;

/// A push writes content first and refers to it last; in between nothing but its age protects it.
const LEAST_GRACE: u64 = 60 * 60;

impl ObjectSettings {
    /// The bucket. Of `variables`, which are the environment, only those of the vendor are looked at.
    pub(super) fn bucket(
        &self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Bucket, ObjectSettingsError> {
        self.check()?;
        let refuse = || ObjectSettingsError::Url(without_user(&self.url));
        let url = Url::parse(&self.url).map_err(|_| refuse())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(refuse)?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.port().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        // What stands before every key must not need an encoding of its own.
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        let prefix = url.path().trim_matches('/');
        if !plain || !prefix.bytes().all(good) || prefix.contains("//") || prefix.contains("..") {
            return Err(refuse());
        }
        let name = self.url.trim_end_matches('/');
        let mut given: BTreeMap<String, Secret> = variables
            .into_iter()
            .filter(|(name, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|start| name.starts_with(start)))
            .map(|(name, value)| (name, Secret::new(value)))
            .collect();
        given.extend(self.credentials()?);
        let connector = self.connector()?;
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 10,
            retry_timeout: Duration::from_secs(self.retry_seconds),
        };
        let http = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        // Values of options never get into the messages of the crate's builders, names do.
        let setup = |error: object_store::Error| ObjectSettingsError::Setup(error.to_string());
        match url.scheme() {
            "s3" => {
                let mut builder = AmazonS3Builder::new();
                for (key, value) in options::<AmazonS3ConfigKey>(&given, "AWS_") {
                    builder = builder.with_config(key, value.expose());
                }
                builder = builder
                    .with_bucket_name(host)
                    .with_virtual_hosted_style_request(self.virtual_host)
                    .with_allow_http(http)
                    .with_retry(retry)
                    .with_http_connector(connector);
                if let Some(region) = &self.region {
                    builder = builder.with_region(region);
                }
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                let store = Arc::new(builder.build().map_err(setup)?);
                Ok(Bucket::new(name, prefix, Arc::clone(&store), Some(store)))
            }
            "gs" => {
                let mut builder = GoogleCloudStorageBuilder::new();
                for (key, value) in options::<GoogleConfigKey>(&given, "GOOGLE_") {
                    builder = builder.with_config(key, value.expose());
                }
                builder = builder.with_bucket_name(host).with_retry(retry).with_http_connector(connector);
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_base_url(endpoint);
                }
                let store = Arc::new(builder.build().map_err(setup)?);
                Ok(Bucket::new(name, prefix, Arc::clone(&store), Some(store)))
            }
            "az" => {
                let mut builder = MicrosoftAzureBuilder::new();
                for (key, value) in options::<AzureConfigKey>(&given, "AZURE_") {
                    builder = builder.with_config(key, value.expose());
                }
                builder = builder
                    .with_container_name(host)
                    .with_allow_http(http)
                    .with_retry(retry)
                    .with_http_connector(connector);
                if let Some(account) = &self.account {
                    builder = builder.with_account(account);
                }
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                let store = Arc::new(builder.build().map_err(setup)?);
                Ok(Bucket::new(name, prefix, Arc::clone(&store), Some(store)))
            }
            _ => Err(refuse()),
        }
    }

    fn check(&self) -> Result<(), ObjectSettingsError> {
        let at_least = |field, value, least: u64, rule| {
            if value < least { Err(ObjectSettingsError::Range { field, value, rule }) } else { Ok(()) }
        };
        at_least("partBytes", self.part_bytes, LEAST_PART, "object stores take no part below 5242880 bytes")?;
        at_least("parallelParts", self.parallel_parts as u64, 1, "at least one part must be on its way")?;
        at_least("requestSeconds", self.request_seconds, 1, "give the service some time")?;
        at_least("redirectSeconds", self.redirect_seconds, 1, "an address must be good for some time")?;
        at_least(
            "uploadSeconds",
            self.upload_seconds,
            LEAST_GRACE,
            "at least 3600 keep uploads under way safe",
        )?;
        at_least(
            "graceSeconds",
            self.grace_seconds,
            LEAST_GRACE,
            "at least 3600 keep pushes under way safe",
        )?;
        if self.part_bytes > 1024 * 1024 * 1024 {
            let (field, value, rule) =
                ("partBytes", self.part_bytes, "parts are held in memory; at most 1 GiB");
            return Err(ObjectSettingsError::Range { field, value, rule });
        }
        Ok(())
    }

    fn credentials(&self) -> Result<Vec<(String, Secret)>, ObjectSettingsError> {
        let Some(path) = &self.credentials_file else { return Ok(Vec::new()) };
        let refuse = |why: String| ObjectSettingsError::File { path: path.clone(), why };
        let metadata = fs_err::metadata(path).map_err(|error| refuse(error.to_string()))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(refuse("others than its owner can read it; `chmod 600` it".to_owned()));
        }
        let text = fs_err::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let text = zeroize::Zeroizing::new(text);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pair = |(number, line): (usize, &str)| match line.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), Secret::new(value.trim()))),
            None => Err(refuse(format!("entry {} is not NAME=value", number + 1))),
        };
        lines.enumerate().map(pair).collect()
    }

    fn connector(&self) -> Result<Connector, ObjectSettingsError> {
        // Fails when there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            // Of each read, and not of the whole: a blob may take as long as its reader does.
            .read_timeout(Duration::from_secs(self.request_seconds))
            .tcp_nodelay(true)
            .http1_only();
        if let Some(path) = &self.ca_file {
            let refuse = |why: String| ObjectSettingsError::File { path: path.clone(), why };
            let pem = fs_err::read(path).map_err(|error| refuse(error.to_string()))?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem);
            let roots = roots.map_err(|error| refuse(error.to_string()))?;
            if roots.is_empty() {
                return Err(refuse("there is no certificate in it".to_owned()));
            }
            builder = builder.tls_certs_merge(roots);
        }
        builder.build().map(Connector).map_err(|error| ObjectSettingsError::Setup(error.to_string()))
    }
}

/// Our own client: `ring`, the project's roots, and no limit on how long a body may take.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// The variables that the crate knows, by its keys.
fn options<'a, K: std::str::FromStr + fmt::Debug>(
    given: &'a BTreeMap<String, Secret>,
    start: &'a str,
) -> impl Iterator<Item = (K, &'a Secret)> {
    let ours = given.iter().filter(move |(name, _)| name.starts_with(start));
    ours.filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)))
}

/// A URL that may be wrong in any way, without what may be a password.
fn without_user(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(start), Some(end)) if start < end => format!("{}://…{}", &text[..start], &text[end..]),
        _ => text.split(['?', '#']).next().unwrap_or_default().chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{ObjectSettings, ObjectSettingsError};

    fn settings(url: &str) -> ObjectSettings {
        ObjectSettings { url: url.to_owned(), ..ObjectSettings::default() }
    }

    #[test]
    fn settings_are_read_and_unknown_ones_refused() {
        let read: ObjectSettings =
            serde_json::from_str(r#"{"url":"s3://b/p","partBytes":5242880,"redirect":true}"#)
                .expect("settings");
        assert_eq!((read.part_bytes, read.redirect, read.grace_seconds), (5_242_880, true, 86_400));
        assert!(serde_json::from_str::<ObjectSettings>(r#"{"bucket":"b"}"#).is_err());
    }

    #[test]
    fn what_is_no_bucket_is_refused_without_its_password() {
        for bad in [
            "",
            "s3://",
            "bucket",
            "file:///x",
            "s3://u:secret@b/p",
            "s3://b/p?x=secret",
            "s3://b/a//b",
            "s3://b/%41",
        ] {
            let error = settings(bad).bucket([]).expect_err(bad);
            assert!(matches!(error, ObjectSettingsError::Url(_)), "{bad}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let small = ObjectSettings { part_bytes: 1, ..settings("s3://b") };
        assert!(matches!(small.bucket([]), Err(ObjectSettingsError::Range { field: "partBytes", .. })));
        let hasty = ObjectSettings { grace_seconds: 1, ..settings("s3://b") };
        assert!(matches!(hasty.bucket([]), Err(ObjectSettingsError::Range { field: "graceSeconds", .. })));
    }

    #[test]
    fn credentials_come_from_variables_or_a_private_file_and_are_not_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("credentials");
        fs_err::write(&path, "# ours\nAWS_ACCESS_KEY_ID=key\nAWS_SECRET_ACCESS_KEY = hush=hush\n")
            .expect("written");
        let with_file = ObjectSettings { credentials_file: Some(path.clone()), ..settings("s3://b/p") };
        let mode = |mode| fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        mode(0o644);
        assert!(with_file.bucket([]).expect_err("readable by all").to_string().contains("chmod 600"));
        mode(0o600);
        let read = with_file.credentials().expect("credentials");
        assert_eq!(read[1].0, "AWS_SECRET_ACCESS_KEY");
        assert_eq!(read[1].1.expose(), "hush=hush");
        let bucket = with_file.bucket([("AWS_REGION".to_owned(), "eu-west-1".to_owned())]).expect("a bucket");
        assert_eq!(format!("{bucket:?}"), "Bucket(\"s3://b/p\")");
        for url in ["gs://b", "az://c/p"] {
            let variables = [("AZURE_STORAGE_ACCOUNT_NAME", "a"), ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")];
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            settings(url).bucket(variables).expect(url);
        }
    }
}
