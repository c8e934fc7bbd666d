//! Our own client.

use std::sync::Arc;

use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::client::http::{Http, HttpOptions};
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::standard::{Credential, Standard};
use idp_oci::client::{Client, ClientError, ClientOptions, Outcome, Presence, Scheme, base_url};
use idp_oci::manifest::Manifest;
use idp_oci::name::{Repository, Target};
use idp_oci::secret::Secret;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::Registry;

const CONFIG: &str = "{}";

pub(crate) fn user(name: &str, password: &str) -> Credential {
    Credential::Basic { username: name.to_owned(), password: Secret::new(password) }
}

pub(crate) fn client(registry: &Registry, credential: Credential) -> Client {
    let name: idp_oci::name::Registry = registry.address.parse().expect("a registry");
    let http = Http::new(HttpOptions { proxy_from_env: false, ..HttpOptions::default() });
    let base = base_url(&name, Scheme::Http).expect("a URL");
    let dialect = Arc::new(Standard::new(base, credential, http.clone()));
    let options = ClientOptions {
        retry: RetryPolicy::immediate(2),
        operation: "test".to_owned(),
        ..ClientOptions::default()
    };
    Client::new(name, Scheme::Http, http, dialect, options).expect("a client")
}

fn name(text: &str) -> Repository {
    text.parse().expect("a repository")
}

pub(crate) fn tag() -> Target {
    Target::Tag("v1".parse().expect("a tag"))
}

fn manifest() -> Manifest {
    let digest = idp_oci::digest::Digest::of(CONFIG.as_bytes());
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},"layers":[]}}"#
    );
    Manifest::parse(Bytes::from(text), None).expect("a manifest")
}

/// Pushes an image of one blob; how the blob got there.
pub(crate) async fn push(client: &Client, repository: &str, from: &[&str]) -> Result<Outcome, ClientError> {
    let blob = Blob::from_bytes("application/vnd.oci.image.config.v1+json", Bytes::from(CONFIG));
    let from: Vec<Repository> = from.iter().map(|from| name(from)).collect();
    let (repository, cancel) = (name(repository), CancellationToken::new());
    let outcome = client.push_blob(&repository, &blob, Presence::Missing, &from, &cancel).await?;
    client.put_manifest(&repository, &tag(), &manifest()).await?;
    Ok(outcome)
}

fn settings(kind: &str) -> serde_json::Value {
    json!({"kind": kind, "rules": [
        {"repositories": ["public/**"], "subjects": ["anonymous"], "actions": ["pull"]},
        {"repositories": ["team/**"], "subjects": ["bob"], "actions": ["pull", "push"]},
        {"subjects": ["alice"], "actions": ["pull", "push", "delete", "catalogue"]},
    ]})
}

#[tokio::test]
async fn by_password_and_by_token() {
    for kind in ["htpasswd", "token"] {
        let home = tempfile::tempdir().expect("a directory");
        let registry = Registry::start(home.path(), settings(kind)).await;
        let alice = client(&registry, user("alice", "ecila"));
        alice.check().await.expect("let in");
        push(&alice, "team/app", &[]).await.expect("pushed");
        let mounted = push(&alice, "public/app", &["team/app"]).await.expect("pushed");
        assert_eq!(mounted, Outcome::Mounted, "{kind}");
        let listed = alice.catalog().await.expect("listed");
        assert_eq!(listed, [name("public/app"), name("team/app")], "{kind}");

        let bob = client(&registry, user("bob", "bob"));
        bob.check().await.expect("let in");
        push(&bob, "team/other", &["team/app"]).await.expect("pushed");
        let read = bob.manifest(&name("team/app"), &tag(), None).await.expect("read");
        assert_eq!(read.bytes(), manifest().bytes());
        for refused in [
            push(&bob, "public/app", &[]).await.map(drop),
            bob.delete_manifest(&name("team/app"), &tag()).await,
            bob.catalog().await.map(drop),
        ] {
            let error = refused.expect_err("refused").to_string();
            assert!(!error.contains("bob\""), "{error}");
        }
        alice.delete_manifest(&name("team/app"), &tag()).await.expect("deleted");

        let nobody = client(&registry, Credential::Anonymous);
        let read = nobody.manifest(&name("public/app"), &tag(), None).await.expect("read");
        assert_eq!(read.bytes(), manifest().bytes());
        nobody.manifest(&name("team/other"), &tag(), None).await.expect_err("not for everybody");
        push(&nobody, "public/app", &[]).await.expect_err("not for everybody");

        // A wrong password is tried once, and said to be wrong.
        let tried = |registry: &Registry| registry.count("GET /token 401") + registry.count("GET /v2/ 401");
        let before = tried(&registry);
        let eve = client(&registry, user("alice", "wrong-password"));
        let error = format!("{:?}", eve.check().await.expect_err("refused"));
        assert!(!error.contains("wrong-password"), "{error}");
        assert_eq!(tried(&registry) - before, 2, "{kind}: {:?}", registry.requests());
        assert_eq!(registry.count("GET /token") > 0, kind == "token");
        assert!(
            !registry.requests().iter().any(|request| request.contains(" 5")),
            "{:?}",
            registry.requests()
        );
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_for_many_requests() {
    let home = tempfile::tempdir().expect("a directory");
    let registry = Registry::start(home.path(), json!({"kind": "token"})).await;
    let alice = client(&registry, user("alice", "ecila"));
    push(&alice, "team/app", &[]).await.expect("pushed");
    let after_push = registry.count("GET /token 200");
    for _ in 0..5 {
        alice.manifest(&name("team/app"), &tag(), None).await.expect("read");
    }
    assert_eq!(after_push, 1, "{:?}", registry.requests());
    assert!(registry.count("GET /token 200") <= 2, "{:?}", registry.requests());
    assert!(registry.requests().iter().filter(|request| request.ends_with(" 401")).count() <= 2);
}

#[tokio::test]
async fn with_a_refresh_token_in_the_place_of_a_password() {
    let home = tempfile::tempdir().expect("a directory");
    let registry = Registry::start(home.path(), json!({"kind": "token"})).await;
    // Nothing here speaks TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let form = "grant_type=password&client_id=test&username=alice&password=ecila&access_type=offline";
    let request = http.post(format!("http://{}/token", registry.address)).body(form);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = request.send().await.expect("an answer").bytes().await.expect("a body");
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    let refresh = answer["refresh_token"].as_str().expect("a refresh token");
    let alice = client(&registry, Credential::IdentityToken(Secret::new(refresh)));
    push(&alice, "team/app", &[]).await.expect("pushed");
    assert_eq!(registry.count("POST /token 200"), 2, "{:?}", registry.requests());
    let access = answer["access_token"].as_str().expect("a token");
    let bearer = client(&registry, Credential::Bearer(Secret::new(access)));
    bearer.check().await.expect("let in");
    push(&bearer, "team/app", &[]).await.expect_err("a token for nothing");
}
