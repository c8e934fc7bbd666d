//! What the tests of providers share: a scriptable registry on loopback, built components, and providers loaded from them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Response, Uri};
use idp::provider::{
    CallContext, CredentialSet, ProviderDialect, Providers, ProvidersConfig, SelectRequest, UserGrant,
};
use idp_oci::client::dialect::{AuthRequest, Challenge, DialectError};
use idp_oci::secret::Secret;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A server on loopback that answers as a function says, and keeps what it saw.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// Status, headers, body.
pub(crate) type Reply = (u16, Vec<(String, String)>, String);

pub(crate) fn json(status: u16, body: &str) -> Reply {
    (status, vec![("content-type".to_owned(), "application/json".to_owned())], body.to_owned())
}

pub(crate) fn redirect(status: u16, to: &str) -> Reply {
    (status, vec![("location".to_owned(), to.to_owned())], String::new())
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&seen), Arc::new(answer));
        let app = axum::Router::new().fallback(move |request: Request| {
            let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
            async move {
                let (parts, _) = request.into_parts();
                let seen = Seen { method: parts.method, uri: parts.uri, headers: parts.headers };
                let never = seen.uri.path() == "/chaos/slow";
                let (status, headers, body) = answer(&seen);
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
                if never {
                    std::future::pending::<()>().await;
                }
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(body)).expect("an answer")
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A component that `cargo xtask guests` built.
pub(crate) fn guest(name: &str) -> String {
    let path = root().join("target/guests-out").join(name);
    assert!(path.is_file(), "{} is missing: run `cargo xtask guests`", path.display());
    path.display().to_string()
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// One directory for the compiled code of this run: a component is compiled once.
static HOME: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a directory"));

pub(crate) fn config() -> ProvidersConfig {
    ProvidersConfig {
        keep_compiled: Some(true),
        executable: Some(env!("CARGO_BIN_EXE_idp").into()),
        ..ProvidersConfig::below(HOME.path())
    }
}

/// How a provider is loaded for a test.
pub(crate) struct Setup {
    pub(crate) provider: String,
    pub(crate) registry: String,
    pub(crate) grants: Vec<String>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) secret: Option<(String, String)>,
    pub(crate) deadline: Duration,
}

impl Setup {
    pub(crate) fn new(provider: impl Into<String>, registry: &str) -> Self {
        Self {
            provider: provider.into(),
            registry: registry.to_owned(),
            grants: Vec::new(),
            settings: Vec::new(),
            secret: Some(("robot".to_owned(), SECRET.to_owned())),
            deadline: Duration::from_secs(20),
        }
    }

    pub(crate) async fn load(&self) -> Result<ProviderDialect, DialectError> {
        let providers = Providers::new(ProvidersConfig { deadline: self.deadline, ..config() });
        let mut request = SelectRequest::new(self.registry.parse().expect("a registry"), "http");
        request.flag = Some(self.provider.clone());
        request.grants =
            self.grants.iter().map(|grant| grant.parse::<UserGrant>().expect("a grant")).collect();
        let selection = providers.select(&request, async { None }).await?;
        let mut context = CallContext::new(request.registry.clone(), "http", "push");
        context.settings = self.settings.iter().cloned().collect();
        if let Some((username, password)) = &self.secret {
            let set = CredentialSet {
                kind: "basic".to_owned(),
                public: vec![("username".to_owned(), username.clone())],
                secrets: vec![("password".to_owned(), Secret::new(password.clone()))],
                audience: Vec::new(),
            };
            context.credentials = HashMap::from([("registry".to_owned(), set)]);
        }
        providers.load(&selection, context).await
    }
}

/// Long-lived; must appear nowhere but on the wire.
pub(crate) const SECRET: &str = "correct-horse-battery-staple-42";

pub(crate) fn bearer(realm: &str) -> AuthRequest {
    let params = [("realm", realm), ("service", "test"), ("scope", "repository:team/app:pull,push")];
    AuthRequest {
        scopes: vec![idp_oci::client::dialect::Scope::repository(
            &"team/app".parse().expect("a repository"),
            &["pull", "push"],
        )],
        challenges: vec![Challenge {
            scheme: "bearer".to_owned(),
            params: params.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
            raw: format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:team/app:pull,push\""),
        }],
        attempt: 1,
        operation: "push".to_owned(),
    }
}
