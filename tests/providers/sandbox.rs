//! A component that tries everything that the contract forbids. Each time: that one question ends, with an error that names the
//! provider; the host answers the next one.

use std::time::Duration;

use idp::provider::ProviderDialect;
use idp_oci::client::dialect::{Answer, Dialect as _, DialectError, ErrorKind, Grant};

use crate::support::{Reply, SECRET, Seen, Server, Setup, bearer, guest, json, redirect};

fn answers(elsewhere: String) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    move |seen| match seen.uri.path() {
        "/chaos/redirect" => redirect(307, &format!("http://{elsewhere}/chaos/stolen")),
        "/chaos/token" => json(200, r#"{"token":"chaos-token-value"}"#),
        "/chaos/cookie" => (200, vec![("set-cookie".to_owned(), "a=b".to_owned())], String::new()),
        "/chaos/echo" => {
            let echo = seen.header("authorization").unwrap_or_default().to_owned();
            let names = ["www-authenticate", "location", "link", "docker-echo", "x-ratelimit-echo"];
            let headers = names.map(|name| (name.to_owned(), echo.clone())).to_vec();
            (200, headers, echo)
        }
        _ => json(200, r#"{"ok":"yes"}"#),
    }
}

struct Chaos {
    registry: Server,
    elsewhere: Server,
}

impl Chaos {
    async fn start() -> Self {
        let elsewhere = Server::start(|_| json(200, "{}")).await;
        let registry = Server::start(answers(elsewhere.address.clone())).await;
        Self { registry, elsewhere }
    }

    async fn provider(&self, mode: &str, target: Option<&str>) -> ProviderDialect {
        let mut setup = Setup::new(guest("chaos.wasm"), &self.registry.address);
        setup.settings.push(("chaos".to_owned(), mode.to_owned()));
        if let Some(target) = target {
            setup.settings.push(("target".to_owned(), target.to_owned()));
        }
        if mode == "slow" {
            setup.deadline = Duration::from_millis(300);
        }
        setup.load().await.expect("loaded")
    }

    async fn authorize(&self, mode: &str, target: Option<&str>) -> Result<Grant, DialectError> {
        let provider = self.provider(mode, target).await;
        let first = provider.authorize(&bearer(&self.registry.url("/token"))).await;
        // The host lives on: the same provider answers something else, in a fresh store.
        assert!(provider.describe().await.is_ok(), "{mode}");
        first
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resources() {
    let chaos = Chaos::start().await;
    for (mode, code, words) in [
        ("trap", "provider-crashed", "unreachable"),
        ("panic", "provider-crashed", "chaos was asked to panic"),
        ("exit", "provider-crashed", "called exit"),
        ("loop", "provider-limit", "fuel"),
        ("memory", "provider-limit", "memory"),
        ("memory-gentle", "provider-limit", "memory"),
        ("recursion", "provider-crashed", ""),
        ("log-flood", "provider-limit", "log lines"),
        ("handles", "provider-limit", "handles"),
        ("secrets-large", "provider-limit", "out of secrets"),
        ("secrets-many", "provider-limit", "out of secrets"),
        ("argument-big", "provider-limit", "answer size"),
        ("body-big", "provider-limit", "answer size"),
        ("answer-big", "provider-limit", "answer size"),
        ("answer-many", "provider-limit", ""),
        ("slow", "provider-limit", "out of time"),
        ("text-broken", "provider-crashed", "utf-8"),
    ] {
        let error = chaos.authorize(mode, None).await.map(|grant| format!("{grant:?}")).expect_err(mode);
        assert_eq!(error.code, code, "{mode}: {error}");
        assert_eq!(error.kind, ErrorKind::ProviderFailed, "{mode}: {error}");
        assert!(error.message.starts_with("provider chaos 0.0.1: "), "{mode}: {error}");
        assert!(error.message.contains("auth.authorize"), "{mode}: {error}");
        assert!(error.message.contains(words), "{mode}: {error}");
        assert!(!error.message.chars().any(char::is_control), "{mode}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_escape_is_refused() {
    let chaos = Chaos::start().await;
    let elsewhere = chaos.elsewhere.url("/chaos/steal");
    for (mode, words) in [
        ("responses", "requests"),
        ("requests", "requests"),
        ("random-big", "4096"),
        ("request-ungranted", "origin"),
        ("request-method", "origin"),
        ("request-path", "origin"),
        ("request-traversal", "origin"),
        ("request-traversal-encoded", "origin"),
        ("request-userinfo", "credentials"),
        ("request-scheme", "origin"),
        ("request-metadata", "origin"),
        ("request-localhost", "origin"),
        ("redirect", "origin"),
        ("redirect-secret", "origin"),
        ("secret-elsewhere", "origin"),
        ("secret-assembled-elsewhere", "origin"),
        ("authorization-plain", "secret segment"),
        ("header-host", "host"),
        ("header-cookie", "cookie"),
        ("header-length", "content-length"),
        ("header-proxy", "proxy-authorization"),
        ("header-encoding", "transfer-encoding"),
        ("header-newline", "cannot be sent"),
        ("sealed-body", "sealed"),
        ("token-body", "sealed"),
        ("echo", "***"),
        ("json-oracle", "no field"),
        ("decode-oracle", "form"),
        ("log-secret", "***"),
        ("capture-cookie", "no Set-Cookie"),
        ("remembered", "nothing is remembered"),
        ("slot-undeclared", ""),
        ("setting-undeclared", ""),
        ("environment", "nothing there"),
        ("text-control", "during push"),
    ] {
        let target = mode.starts_with("secret-").then_some(elsewhere.as_str());
        let error = chaos.authorize(mode, target).await.map(|grant| format!("{grant:?}")).expect_err(mode);
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Other, "refused"), "{mode}: {error}");
        assert!(error.message.contains(words), "{mode}: {error}");
        assert!(!error.message.contains(SECRET), "{mode}: {error}");
        assert!(!error.message.contains("chaos-token-value"), "{mode}: {error}");
        assert!(!error.message.chars().any(char::is_control), "{mode}: {error}");
    }
    assert!(chaos.elsewhere.seen().is_empty(), "{:?}", chaos.elsewhere.seen());
    let count = chaos.registry.seen().iter().filter(|seen| seen.uri.path() == "/chaos/ok").count();
    assert!(count <= 64 + 64 + 8, "the count of requests is limited: {count}");
}

/// Granted by the manifest and by the user, and still not let out: the names point at where the registry is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_does_not_open_the_metadata_service() {
    let chaos = Chaos::start().await;
    let mut setup = Setup::new(guest("chaos.wasm"), &chaos.registry.address);
    setup.settings.push(("chaos".to_owned(), "request-metadata".to_owned()));
    setup.grants.push("egress=http://169.254.169.254".to_owned());
    let provider = setup.load().await.expect("loaded");
    let error = provider.authorize(&bearer(&chaos.registry.url("/token"))).await.expect_err("refused");
    assert!(error.message.contains("address") && error.message.contains("metadata service"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_holds_where_egress_is_granted() {
    let chaos = Chaos::start().await;
    for mode in ["secret-elsewhere", "secret-assembled-elsewhere"] {
        let mut setup = Setup::new(guest("chaos.wasm"), &chaos.registry.address);
        setup.settings.push(("chaos".to_owned(), mode.to_owned()));
        setup.settings.push(("target".to_owned(), "http://localhost:9/".to_owned()));
        setup.grants.push("egress=http://localhost:9".to_owned());
        let provider = setup.load().await.expect("loaded");
        let error = provider.authorize(&bearer(&chaos.registry.url("/token"))).await.expect_err("refused");
        assert!(error.message.contains("audience"), "{mode}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_that_would_forge_a_request() {
    let chaos = Chaos::start().await;
    for mode in ["grant-host", "grant-cookie", "grant-newline", "grant-name", "grant-username"] {
        let error = chaos.authorize(mode, None).await.map(|grant| format!("{grant:?}")).expect_err(mode);
        assert_eq!(error.code, "provider-denied", "{mode}: {error}");
        assert!(error.message.starts_with("provider chaos 0.0.1: "), "{mode}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_questions_are_as_guarded() {
    let chaos = Chaos::start().await;
    let repository = "team/app".parse().expect("a repository");
    for mode in ["elsewhere", "traversal", "trap"] {
        let provider = chaos.provider(&format!("naming:{mode}"), None).await;
        let error = provider.normalize("team/app", None).await.expect_err(mode);
        assert_eq!(error.kind, ErrorKind::ProviderFailed, "{mode}: {error}");
    }
    for mode in ["cursor", "loop"] {
        let provider = chaos.provider(&format!("artifacts:{mode}"), None).await;
        let error = provider.tags(&repository, &[], usize::MAX).await.expect_err(mode);
        assert_eq!(error.kind, ErrorKind::ProviderFailed, "{mode}: {error}");
    }
    let provider = chaos.provider("artifacts:endless", None).await;
    assert_eq!(provider.tags(&repository, &[], 50).await.expect("tags").len(), 50);
    let provider = chaos.provider("artifacts:control", None).await;
    let tags = provider.tags(&repository, &[], 50).await.expect("tags");
    assert!(tags.iter().all(|tag| !tag.name.chars().any(char::is_control)), "{tags:?}");
    // Where generic behaviour is safe it goes on.
    for mode in ["trap", "loop", "memory", "odd"] {
        let provider = chaos.provider(&format!("transport:{mode}"), None).await;
        let hints = provider.hints(Some(&repository)).await;
        assert!((1..=64).contains(&hints.parallel_uploads), "{mode}");
        let provider = chaos.provider(&format!("explanations:{mode}"), None).await;
        let answer = Answer {
            method: "GET".to_owned(),
            url: chaos.registry.url("/v2/"),
            status: 403,
            headers: Vec::new(),
            body: String::new(),
        };
        assert_eq!(provider.explain(&answer, "push").await.is_some(), mode == "odd", "{mode}");
    }
}

/// No effectful import works for a provider that was granted nothing, and it ends in an answer, not in a loop.
#[tokio::test(flavor = "multi_thread")]
async fn deny_all() {
    let chaos = Chaos::start().await;
    let mut setup = Setup::new(guest("chaos.wasm"), &chaos.registry.address);
    // The registry of the call is another one, so that nothing that the manifest asks for is there.
    setup.registry = "registry.invalid".to_owned();
    for mode in ["sealed-body", "token-body", "echo", "capture-cookie", "log-secret", "requests", "responses"]
    {
        let target = chaos.registry.url("/chaos/ok");
        setup.settings = vec![("chaos".to_owned(), mode.to_owned()), ("target".to_owned(), target)];
        let provider = setup.load().await.expect("loaded");
        let error = provider.authorize(&bearer("http://registry.invalid/token")).await.expect_err(mode);
        assert_eq!(error.code, "refused", "{mode}: {error}");
    }
    assert!(chaos.registry.seen().is_empty(), "{:?}", chaos.registry.seen());
}
