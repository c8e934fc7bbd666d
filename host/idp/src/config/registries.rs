//! `registries.yaml`: what a person has decided about registries. Text in, checked values out; the only I/O is reading the file.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use idp_oci::cache::Limits;
use idp_oci::name::{NameError, Registry};
use idp_oci::secret::Secret;
use idp_package::resolve::Rewrite;
use idp_package::trust::policy::VerificationPolicy;
use idp_package::validate::Level;
use serde::Deserialize;

use super::size::Size;

/// Nobody's configuration is larger; a wrong file is refused before it is parsed.
const LARGEST: u64 = 1024 * 1024;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registries {
    /// The registry of names without one.
    pub default: Option<Address>,
    /// Whether pushing is allowed at all.
    #[serde(default)]
    pub oci_push: OciPush,
    /// What is kept of what was pulled.
    #[serde(default)]
    pub cache: CacheConfig,
    /// Mirrors of packages and images: what is written keeps its name, and is asked for elsewhere.
    #[serde(default)]
    pub rewrites: Vec<Rewrite>,
    /// Which packages have to be signed, and by whom.
    #[serde(default)]
    pub verification: VerificationPolicy,
    /// Rules of `idp package validate` that weigh otherwise here, by id.
    #[serde(default)]
    pub package_rules: BTreeMap<String, Level>,
    /// What is known about each registry, by `host[:port]`.
    #[serde(default)]
    pub registries: BTreeMap<RegistryKey, RegistryConfig>,
    #[serde(skip)]
    file: Option<PathBuf>,
}

/// `ociPush`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OciPush {
    /// `false` switches `idp push` off.
    pub enabled: bool,
}

impl Default for OciPush {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CacheConfig {
    /// `false`: nothing is kept, and nothing that was kept is used.
    pub enabled: bool,
    /// Bytes in all; what was not used for longest goes.
    pub limit: Size,
    /// Larger blobs are not kept.
    pub blob_limit: Size,
}

impl Default for CacheConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self { enabled: true, limit: Size(limits.total), blob_limit: Size(limits.blob) }
    }
}

/// What is known about one registry.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryConfig {
    /// The provider's name, or the path of its component (with a `/` in it; relative to the file).
    pub provider: Option<String>,
    /// Settings that the provider's manifest declares.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// What a push may make there, as `--create` takes it.
    pub create: Option<CreateRule>,
    /// The visibility of what is made, as `--visibility` takes it.
    pub visibility: Option<Visibility>,
    /// Plain HTTP and certificates that do not verify are accepted.
    pub insecure: Option<bool>,
    /// PEM certificates that are trusted in addition to the system's, relative to the file.
    pub ca_file: Option<PathBuf>,
    /// PEM: who we are to this registry on TLS, relative to the file.
    pub cert_file: Option<PathBuf>,
    /// PEM: the private key of `certFile`, where it does not stand in that file.
    pub key_file: Option<PathBuf>,
    /// The credential of the registry itself.
    pub credentials: Option<CredentialSource>,
    /// Credentials of other slots that the provider declares, e.g. `management`.
    #[serde(default)]
    pub slots: BTreeMap<String, CredentialSource>,
    /// What a provider of a third party may do beyond the registry itself; each as `--grant` takes it.
    #[serde(default)]
    pub grants: Vec<String>,
}

/// What a push may make at a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CreateRule {
    /// Nothing: a repository that is not there is an error.
    Never,
    /// The repository, where the product wants it made.
    Repository,
    /// The project or organisation that it lies in, too.
    Parent,
}

/// Who may see what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Its owners, and whom they let in.
    Private,
    /// Everybody.
    Public,
}

impl Visibility {
    /// As the provider contract writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

/// Where a credential is kept. Exactly one of the secret's places is given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialSource {
    /// User name.
    pub username: Option<String>,
    /// The password in a file, without its last line break.
    pub password_file: Option<PathBuf>,
    /// The password in an environment variable.
    pub password_env: Option<String>,
    /// The password itself; only in a file that nobody else can read.
    pub password: Option<PlainSecret>,
    /// A token in a file.
    pub token_file: Option<PathBuf>,
    /// A token in an environment variable.
    pub token_env: Option<String>,
    /// A Docker credential helper: `pass` runs `docker-credential-pass`.
    pub helper: Option<String>,
}

impl CredentialSource {
    fn places(&self) -> usize {
        [
            self.password_file.is_some(),
            self.password_env.is_some(),
            self.password.is_some(),
            self.token_file.is_some(),
            self.token_env.is_some(),
            self.helper.is_some(),
        ]
        .iter()
        .filter(|given| **given)
        .count()
    }
}

/// A secret that stands in the file.
#[derive(Debug, Clone)]
pub struct PlainSecret(pub Secret);

impl<'de> Deserialize<'de> for PlainSecret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

/// A registry as `--registry` and `default` write it: `host[:port]`, or a URL of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    /// Which registry.
    pub registry: Registry,
    /// `http://` was written: plain HTTP is meant.
    pub plain_http: bool,
}

impl std::str::FromStr for Address {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        let (plain_http, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (true, rest)
        } else {
            let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("oci://")).unwrap_or(text);
            (false, rest)
        };
        let rest = rest.strip_suffix("/v2/").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest);
        let host = rest.strip_suffix('/').unwrap_or(rest);
        // What stands before an `@` may be a password: it goes into no error.
        if let Some((_, host)) = host.rsplit_once('@') {
            return Err(NameError::Registry(format!("…@{host}")));
        }
        Ok(Self { registry: host.parse()?, plain_http })
    }
}

impl TryFrom<String> for Address {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registry.fmt(f)
    }
}

/// A key of `registries`: `host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct RegistryKey(pub Registry);

impl TryFrom<String> for RegistryKey {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse().map(Self)
    }
}

/// Why `registries.yaml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// It is there and cannot be read.
    #[error("cannot read `{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{}:{line}:{column}: {problem}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Counted from 1; 0 when unknown.
        line: u64,
        /// Counted from 1; 0 when unknown.
        column: u64,
        /// What is wrong.
        problem: String,
    },
    /// A registry's entry contradicts itself.
    #[error("`{}`, registry `{registry}`: {problem}", file.display())]
    Entry {
        /// The file.
        file: PathBuf,
        /// The entry.
        registry: String,
        /// What is wrong.
        problem: String,
    },
    /// A password in a file that others can read.
    #[error("`{}` holds a password and can be read by others (mode {mode:03o})", file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl Registries {
    /// Reads the file; one that is not there is an empty one.
    pub fn load(file: Option<&Path>) -> Result<Self, RegistriesError> {
        let Some(file) = file else { return Ok(Self::default()) };
        match text_of(file)? {
            Some((text, mode)) => Self::parse(&text, file, mode),
            None => Ok(Self::default()),
        }
    }

    /// Parses the text of `file`, whose permission bits are `mode`.
    pub fn parse(text: &str, file: &Path, mode: u32) -> Result<Self, RegistriesError> {
        if is_blank(text) {
            return Ok(Self { file: Some(file.to_owned()), ..Self::default() });
        }
        let mut parsed: Self = serde_saphyr::from_str(text).map_err(|error| invalid(&error, text, file))?;
        parsed.file = Some(file.to_owned());
        let mut holds_password = false;
        for (RegistryKey(registry), config) in &parsed.registries {
            let entry = |problem: String| RegistriesError::Entry {
                file: file.to_owned(),
                registry: registry.to_string(),
                problem,
            };
            let named = config.credentials.iter().map(|source| ("credentials", source));
            for (name, source) in
                named.chain(config.slots.iter().map(|(name, source)| (name.as_str(), source)))
            {
                if source.places() != 1 {
                    return Err(entry(format!(
                        "`{name}` needs exactly one of passwordFile, passwordEnv, password, tokenFile, tokenEnv, helper"
                    )));
                }
                let password = source.password.is_some()
                    || source.password_env.is_some()
                    || source.password_file.is_some();
                if password && source.username.is_none() {
                    return Err(entry(format!("`{name}` has a password and no username")));
                }
                holds_password |= source.password.is_some();
            }
        }
        if holds_password && mode & 0o077 != 0 {
            return Err(RegistriesError::Exposed { file: file.to_owned(), mode });
        }
        Ok(parsed)
    }

    /// What the file says about a registry.
    pub fn get(&self, registry: &Registry) -> Option<&RegistryConfig> {
        self.registries.get(&RegistryKey(registry.clone()))
    }

    /// The file it was read from.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// A path of the file, which is relative to the file's directory.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        match self.file.as_deref().and_then(Path::parent) {
            Some(parent) => parent.join(path),
            None => path.to_owned(),
        }
    }
}

/// The parser's sentence with its place, and without the values of the line it stands on: one of them may be a password.
/// A file of ours with its permission bits; `None` where it is not there.
fn text_of(file: &Path) -> Result<Option<(String, u32)>, RegistriesError> {
    let read = |error| RegistriesError::Read { file: file.to_owned(), error };
    let metadata = match fs_err::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read(error)),
    };
    if metadata.len() > LARGEST {
        return Err(read(std::io::Error::other(format!("it is larger than {LARGEST} bytes"))));
    }
    let text = fs_err::read_to_string(file).map_err(read)?;
    Ok(Some((text, metadata.permissions().mode() & 0o777)))
}

/// Comments only.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

/// A YAML file of ours, with its permission bits; `None` where it is not there.
pub(super) fn read_yaml<T: Default + serde::de::DeserializeOwned>(
    file: &Path,
) -> Result<Option<(T, u32)>, RegistriesError> {
    let Some((text, mode)) = text_of(file)? else { return Ok(None) };
    if is_blank(&text) {
        return Ok(Some((T::default(), mode)));
    }
    let parsed = serde_saphyr::from_str(&text).map_err(|error| invalid(&error, &text, file))?;
    Ok(Some((parsed, mode)))
}

fn invalid(error: &serde_saphyr::Error, text: &str, file: &Path) -> RegistriesError {
    let (line, column) = error.location().map_or((0, 0), |location| (location.line(), location.column()));
    let mut problem = error.without_snippet().to_string();
    // The place stands in front already.
    for suffix in [format!(" at line {line}, column {column}"), format!("line {line} column {column}: ")] {
        problem = problem.replace(&suffix, "");
    }
    let row =
        usize::try_from(line).ok().and_then(|line| line.checked_sub(1)).and_then(|row| text.lines().nth(row));
    if let Some(value) = row.and_then(|row| row.split_once(':')).map(|(_, value)| value.trim())
        && !problem.starts_with("unknown field")
    {
        for value in [value, value.trim_matches(['"', '\''])] {
            if !value.is_empty() {
                problem = problem.replace(value, "…");
            }
        }
    }
    let problem = problem.lines().next().unwrap_or_default().to_owned();
    RegistriesError::Invalid { file: file.to_owned(), line, column, problem }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Address, CreateRule, Registries, RegistriesError, Visibility};

    fn parse(text: &str, mode: u32) -> Result<Registries, String> {
        Registries::parse(text, Path::new("/h/registries.yaml"), mode).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_a_file_can_say() {
        let text = "
default: https://registry.example:5000
ociPush: {enabled: false}
cache: {limit: 10GiB, blobLimit: 1000000}
registries:
  registry.example:5000:
    provider: ./mine.wasm
    insecure: true
    create: parent
    visibility: public
    caFile: ca.pem
    certFile: me.pem
    keyFile: me.key
    settings: {realm: here}
    grants: [egress=https://auth.example]
    credentials: {username: ci, passwordEnv: CI_PASSWORD}
    slots:
      management: {tokenFile: token}
";
        let parsed = parse(text, 0o644).expect("parsed");
        assert_eq!(parsed.default.as_ref().expect("a default").registry.as_str(), "registry.example:5000");
        assert!(!parsed.oci_push.enabled);
        let cache = parsed.cache;
        assert_eq!((cache.enabled, cache.limit.0, cache.blob_limit.0), (true, 10 << 30, 1_000_000));
        let config = parsed.get(&"registry.example:5000".parse().expect("a registry")).expect("an entry");
        assert_eq!(config.provider.as_deref(), Some("./mine.wasm"));
        assert_eq!((config.create, config.visibility), (Some(CreateRule::Parent), Some(Visibility::Public)));
        assert_eq!(parsed.resolve(Path::new("ca.pem")), Path::new("/h/ca.pem"));
        assert!(config.slots.contains_key("management"));
        assert!(parse("", 0o644).expect("empty").oci_push.enabled);
        assert!(parse("# nothing\n", 0o644).is_ok());
    }

    #[test]
    fn mistakes_are_placed() {
        for (text, place, word) in [
            ("defualt: a.example\n", "/h/registries.yaml:1:1", "defualt"),
            ("registries:\n  a.example:\n    insecure: perhaps\n", ":3:", "insecure"),
            ("registries:\n  'https://a.example': {}\n", ":2:", "without a scheme"),
            (
                "registries:\n  a.example:\n    credentials: {username: x, helper: y, tokenEnv: z}\n",
                "a.example",
                "exactly one",
            ),
            ("registries:\n  a.example:\n    credentials: {passwordEnv: z}\n", "a.example", "no username"),
            ("registries: [\n", ":", "registries.yaml"),
            ("cache: {limit: much}\n", "/h/registries.yaml:1:", "is not a size"),
        ] {
            let error = parse(text, 0o600).expect_err(text);
            assert!(error.contains(place) && (error.contains(word) || word == "insecure"), "{error}");
        }
    }

    #[test]
    fn a_plain_password_needs_a_private_file() {
        let text = "registries: {a.example: {credentials: {username: ci, password: hunter22}}}";
        assert!(parse(text, 0o600).is_ok());
        let error = Registries::parse(text, Path::new("/h/r"), 0o640).expect_err("exposed");
        assert!(matches!(error, RegistriesError::Exposed { mode: 0o640, .. }));
        assert!(!format!("{error} {error:?}").contains("hunter22"));
    }

    #[test]
    fn no_password_in_a_complaint() {
        for text in [
            "registries:\n  a.example:\n    credentials: hunter22\n",
            "registries:\n  a.example:\n    insecure: hunter22\n",
            "registries:\n  a.example:\n    credentials:\n      password: [hunter22]\n",
            "default: https://ci:hunter22@a.example\n",
        ] {
            let error = parse(text, 0o600).expect_err(text);
            assert!(!error.contains("hunter22"), "{error}");
        }
    }

    #[test]
    fn addresses() {
        for (text, registry, plain_http) in [
            ("a.example", "a.example", false),
            ("https://A.example:8443/", "a.example:8443", false),
            ("http://localhost:5000/v2/", "localhost:5000", true),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!((address.registry.as_str(), address.plain_http), (registry, plain_http));
        }
        for bad in ["", "a.example/team", "ftp://a.example", "https://u:hunter22@a.example"] {
            let error = bad.parse::<Address>().expect_err(bad).to_string();
            assert!(!error.contains("hunter22"), "{error}");
        }
    }
}
