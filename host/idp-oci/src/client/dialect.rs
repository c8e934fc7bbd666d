//! What differs between registry products, as questions that the client asks. Answered by a provider, or natively by
//! [`super::standard::Standard`]. Knows names and secrets; sends nothing itself.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::name::Repository;
use crate::secret::Secret;

/// One `WWW-Authenticate` challenge (RFC 9110, 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Lower-case: `basic`, `bearer`.
    pub scheme: String,
    /// Parameters with lower-case names, in order.
    pub params: Vec<(String, String)>,
    /// The text it was parsed from.
    pub raw: String,
}

impl Challenge {
    /// The value of a parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What access is asked for (distribution, "token scope").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// `repository` or `registry`.
    pub kind: String,
    /// The repository, or `catalog`.
    pub name: String,
    /// `pull`, `push`, `delete`, `*`; sorted.
    pub actions: Vec<String>,
}

impl Scope {
    /// Access to a repository.
    pub fn repository(name: &Repository, actions: &[&str]) -> Self {
        let mut actions: Vec<String> = actions.iter().map(|action| (*action).to_owned()).collect();
        actions.sort();
        Self { kind: "repository".to_owned(), name: name.as_str().to_owned(), actions }
    }

    /// The list of all repositories.
    pub fn catalog() -> Self {
        Self { kind: "registry".to_owned(), name: "catalog".to_owned(), actions: vec!["*".to_owned()] }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

/// Why authorization is asked for.
#[derive(Debug, Clone, Default)]
pub struct AuthRequest {
    /// The access that is needed; what was just refused comes first.
    pub scopes: Vec<Scope>,
    /// The challenges of the refused answer; empty when acting ahead of one.
    pub challenges: Vec<Challenge>,
    /// 1 on the first try, 2 when a fresh grant was refused.
    pub attempt: u32,
    /// `push`, `pull`, `login`, …; for wording only.
    pub operation: String,
}

/// What to put on requests.
#[derive(Debug, Clone)]
pub enum Authorization {
    /// Nothing.
    Anonymous,
    /// `Authorization: Bearer …`
    Bearer(Secret),
    /// `Authorization: Basic …`
    Basic {
        /// User name.
        username: String,
        /// Password or token.
        password: Secret,
    },
    /// These headers.
    Headers(Vec<(String, Secret)>),
}

/// For which further requests a grant is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// This one only.
    Never,
    /// The same scopes.
    Scope,
    /// The same repository, whatever the actions.
    Repository,
    /// Everything on this registry.
    Registry,
}

/// The answer to an [`AuthRequest`].
#[derive(Debug, Clone)]
pub struct Grant {
    /// What to put on requests.
    pub authorization: Authorization,
    /// What it covers, as far as that is known.
    pub scopes: Vec<Scope>,
    /// How long it is good for; unknown means 60 s for a token, for ever for Basic.
    pub expires_in: Option<Duration>,
    /// For which further requests it is good.
    pub reuse: Reuse,
}

/// An answer of the registry that is to be explained.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Request method.
    pub method: String,
    /// Request URL, without its query.
    pub url: String,
    /// Status code.
    pub status: u16,
    /// Response headers, lower-case names, in order.
    pub headers: Vec<(String, String)>,
    /// The first 64 KiB of the body, lossily decoded.
    pub body: String,
}

/// What a refusal means and what mends it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// A class of `wit/README.md`: `no-permission`, `missing-parent`, `quota`, …
    pub class: String,
    /// One line.
    pub title: String,
    /// Why.
    pub cause: String,
    /// Commands or links that mend it.
    pub fixes: Vec<String>,
    /// Whether trying again unchanged may help.
    pub retryable: Option<bool>,
}

/// How a blob is best uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UploadMode {
    /// As it turns out: small blobs are tried with one POST, and what the registry makes of it is learned.
    #[default]
    Learned,
    /// POST, then one PUT with the whole body: works everywhere.
    PostPut,
    /// The same, and never a PATCH whose length is not known.
    Monolithic,
    /// POST with `?digest=` and the body.
    SinglePost,
    /// POST, PATCH …, PUT.
    Chunked,
}

/// Whether blobs can be mounted from another repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mount {
    /// With `from`.
    #[default]
    Yes,
    /// Also without `from`.
    Anonymous,
    /// Never.
    No,
}

/// How bytes are best moved on this registry; keys and defaults in `wit/README.md`, "hints".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hints {
    /// How blobs go up.
    pub upload_mode: UploadMode,
    /// Bytes: least, most and preferred size of a chunk.
    pub chunk_min: Option<u64>,
    /// See `chunk_min`.
    pub chunk_max: Option<u64>,
    /// See `chunk_min`.
    pub chunk_default: Option<u64>,
    /// The `Range` of an answer to PATCH can be believed.
    pub trust_range: bool,
    /// The closing PUT of a chunked upload carries no body.
    pub final_put_empty: bool,
    /// Cross-repository mount.
    pub mount: Mount,
    /// Uploads at once.
    pub parallel_uploads: usize,
    /// Downloads at once.
    pub parallel_downloads: usize,
    /// Whether the referrers API is there.
    pub referrers: Option<bool>,
    /// Whether a manifest is refused whose blobs are not there.
    pub validates_manifests: Option<bool>,
    /// Bytes of the largest manifest.
    pub manifest_max: u64,
    /// Entries a page.
    pub page_size: u32,
    /// Tags are stored in lower case.
    pub lower_case_tags: bool,
    /// An index may hold an index.
    pub nested_index: bool,
    /// Lifetime of a token that does not say.
    pub token_lifetime: Duration,
    /// Everything as it came, for `registry doctor` and later readers.
    pub all: BTreeMap<String, String>,
}

impl Default for Hints {
    fn default() -> Self {
        Self::from_pairs(std::iter::empty())
    }
}

impl Hints {
    /// Reads the pairs of a provider. Unknown keys are kept and ignored; a value that does not parse counts as not given.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let all: BTreeMap<String, String> = pairs.into_iter().collect();
        let get = |key: &str| all.get(key).map(String::as_str);
        let number = |key: &str| get(key).and_then(|value| value.parse::<u64>().ok());
        let flag = |key: &str, default: bool| get(key).map_or(default, |value| value == "true");
        let count = |key: &str, default: usize| {
            number(key)
                .and_then(|value| usize::try_from(value).ok())
                .map_or(default, |value| value.clamp(1, 64))
        };
        Self {
            upload_mode: match get("upload-mode") {
                Some("single-post") => UploadMode::SinglePost,
                Some("chunked") => UploadMode::Chunked,
                Some("post-put") => UploadMode::PostPut,
                Some("monolithic") => UploadMode::Monolithic,
                _ => UploadMode::Learned,
            },
            chunk_min: number("chunk-min"),
            chunk_max: number("chunk-max"),
            chunk_default: number("chunk-default"),
            trust_range: flag("trust-range", true),
            final_put_empty: flag("final-put-empty", false),
            mount: match get("mount") {
                Some("anonymous") => Mount::Anonymous,
                Some("no") => Mount::No,
                _ => Mount::Yes,
            },
            parallel_uploads: count("parallel-uploads", 4),
            parallel_downloads: count("parallel-downloads", 4),
            referrers: known(get("referrers")),
            validates_manifests: known(get("validates-manifest")),
            manifest_max: number("manifest-max").unwrap_or(4 * 1024 * 1024),
            page_size: number("page-size")
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(100)
                .clamp(1, 10_000),
            lower_case_tags: get("tag-case") == Some("lower"),
            nested_index: flag("nested-index", true),
            token_lifetime: Duration::from_secs(
                number("token-lifetime-s").unwrap_or(60).clamp(1, 30 * 86_400),
            ),
            all,
        }
    }
}

/// `yes`, `no`, and everything else is not known.
fn known(value: Option<&str>) -> Option<bool> {
    match value {
        Some("yes") => Some(true),
        Some("no") => Some(false),
        _ => None,
    }
}

/// What kind of failure it was; decides retry and exit code (`wit/README.md`, "Errors").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No credential, or a wrong one.
    Unauthenticated,
    /// Not allowed.
    Denied,
    /// Not there.
    NotFound,
    /// In the way of something else.
    Conflict,
    /// Wrong, and will stay wrong.
    Invalid,
    /// Too many requests.
    RateLimited,
    /// Not something this provider does.
    Unsupported,
    /// The registry failed, or could not be reached.
    Unavailable,
    /// The host refused to let a provider's request out.
    EgressDenied,
    /// The provider trapped or ran into a limit.
    ProviderFailed,
    /// Anything else.
    Other,
}

/// A dialect could not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct DialectError {
    /// What kind.
    pub kind: ErrorKind,
    /// Stable identifier, may be empty.
    pub code: String,
    /// For people, with the provider's name; redacted.
    pub message: String,
    /// Status of the answer behind it.
    pub http_status: Option<u16>,
    /// How long to wait.
    pub retry_after: Option<Duration>,
    /// What more there is to know, by the keys of `wit/README.md`.
    pub extra: BTreeMap<String, String>,
}

impl DialectError {
    /// An error without details.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: String::new(),
            message: message.into(),
            http_status: None,
            retry_after: None,
            extra: BTreeMap::new(),
        }
    }
}

/// Whether a repository is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnsureState {
    /// Made just now, or would be.
    Created,
    /// Was there.
    Exists,
    /// Comes into being with the first push.
    Implicit,
}

/// The outcome of `repositories.ensure`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// Whether it is there.
    pub state: EnsureState,
    /// What was made where something was.
    pub created: Option<Created>,
    /// What else there is to know about it.
    pub note: Option<String>,
}

impl Ensured {
    /// An outcome without details.
    pub fn new(state: EnsureState) -> Self {
        Self { state, created: None, note: None }
    }
}

/// Something that was made at a registry so that a push can succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Created {
    /// `repository`, `project`, `organisation`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `private`, `public`, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<String>,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)?;
        match &self.visibility {
            Some(visibility) => write!(f, " ({visibility})"),
            None => Ok(()),
        }
    }
}

/// What a registry product does in its own way. Every method has the behaviour of the specification as its default.
#[async_trait]
pub trait Dialect: Send + Sync + fmt::Debug {
    /// Name and version for messages: `gitea 0.1.0`.
    fn name(&self) -> String;

    /// How to be let in.
    async fn authorize(&self, request: &AuthRequest) -> Result<Grant, DialectError>;

    /// How bytes are best moved to and from a repository. Asked once a repository.
    async fn hints(&self, _repository: Option<&Repository>) -> Hints {
        Hints::default()
    }

    /// What a final refusal means; `None` when the registry's own text says it all.
    async fn explain(&self, _answer: &Answer, _operation: &str) -> Option<Explanation> {
        None
    }

    /// Makes a repository ready for a push, where the product wants that. `after` is the class of the failure that led
    /// here, or `None` before the push; `Ok(None)` when there is nothing to do.
    async fn ensure(
        &self,
        _repository: &Repository,
        _after: Option<&str>,
    ) -> Result<Option<Ensured>, DialectError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::{Hints, Mount, UploadMode};

    #[test]
    fn hints_have_defaults_and_ignore_nonsense() {
        let hints = Hints::from_pairs(
            [("mount", "no"), ("parallel-uploads", "0"), ("manifest-max", "x"), ("new", "y")]
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        assert_eq!(
            (hints.mount, hints.parallel_uploads, hints.manifest_max),
            (Mount::No, 1, 4 * 1024 * 1024)
        );
        assert_eq!(hints.upload_mode, UploadMode::Learned);
        assert_eq!(hints.all["new"], "y");
    }
}
