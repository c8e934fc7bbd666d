//! Users, tokens, rules and rates over real sockets.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{Server, codes, header, image};
use crate::digest::Digest;
use crate::secret::Secret;
use crate::server::auth::{self, AuthError, AuthSettings};
use crate::server::limits::{Limits, RateSettings, Rates};
use crate::server::users;
use crate::store::memory::MemoryStore;

/// Somebody else's token service: its key, and a token that it made (until 2100) for alice to push to team/app.
const ISSUER_PEM: &str = include_str!("issuer.pem");
const ISSUER_JWKS: &str = include_str!("issuer.jwks.json");
const ISSUER_TOKEN: &str = include_str!("issuer.jwt");

/// A registry with alice, bob and carol (password: the name backwards), and these settings.
async fn start(home: &Path, settings: Value, limits: Limits) -> Server {
    let hash = |password: &str| bcrypt::hash(password, 4).expect("hashed");
    let text = format!("alice:{}\nbob:{}\ncarol:{}\n", hash("ecila"), hash("bob"), hash("lorac"));
    std::fs::write(home.join("users"), text).expect("written");
    Server::with(Arc::new(MemoryStore::default()), access(home, settings).expect("access"), limits).await
}

fn access(home: &Path, settings: Value) -> Result<Arc<dyn crate::server::access::Access>, AuthError> {
    let settings: AuthSettings = serde_json::from_value(settings).expect("settings");
    auth::access(&settings, home, Rates::default().failed_logins)
}

fn basic(user: &str) -> String {
    let password: String = user.chars().rev().collect();
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

impl Server {
    async fn ask(&self, authorization: &str, method: Method, path: &str) -> Response {
        let mut request = self.request(method, path);
        if !authorization.is_empty() {
            request = request.header("authorization", authorization);
        }
        request.send().await.expect("an answer")
    }

    /// A token, as a header.
    async fn token(&self, authorization: &str, query: &str) -> String {
        let response = self.ask(authorization, Method::GET, &format!("/token?{query}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{query}");
        assert_eq!(header(&response, "cache-control"), "no-store");
        let answer = body(response).await;
        assert_eq!(answer["token"], answer["access_token"]);
        format!("Bearer {}", answer["token"].as_str().expect("a token"))
    }

    async fn push_image(&self, authorization: &str, repository: &str) {
        for bytes in ["{}", "abc"] {
            let digest = Digest::of(bytes.as_bytes());
            let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
            let request =
                self.request(Method::POST, &path).header("authorization", authorization).body(bytes);
            assert_eq!(request.send().await.expect("an answer").status(), StatusCode::CREATED);
        }
        let manifest = image(&Digest::of(b"{}"), &Digest::of(b"abc"));
        let request = self.request(Method::PUT, &format!("/v2/{repository}/manifests/v1"));
        let request = request.header("authorization", authorization).body(manifest);
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::CREATED);
    }
}

async fn body(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON")
}

fn rules() -> Value {
    json!([
        {"repositories": ["public/**"], "subjects": ["anonymous"], "actions": ["pull"]},
        {"repositories": ["team/**"], "subjects": ["group:team"], "actions": ["pull", "push"]},
        {"repositories": ["home/{user}/**"], "subjects": ["authenticated"], "actions": ["pull", "push", "delete"]},
        {"subjects": ["alice"], "actions": ["pull", "push", "delete", "catalogue"]},
        {"subjects": ["bob"], "actions": ["catalogue"]},
    ])
}

#[tokio::test]
async fn rules_hold_for_users_with_a_password() {
    let home = tempfile::tempdir().expect("a directory");
    let settings = json!({"kind": "htpasswd", "groups": {"team": ["bob"]}, "rules": rules()});
    let server = start(home.path(), settings, Limits::default()).await;
    for repository in ["public/app", "team/app", "home/bob/app"] {
        server.push_image(&basic("alice"), repository).await;
    }
    let (alice, bob, carol) = (basic("alice"), basic("bob"), basic("carol"));
    let wrong = format!("Basic {}", STANDARD.encode("alice:wrong"));
    let tags = |repository: &str| format!("/v2/{repository}/tags/list");
    let uploads = |repository: &str| format!("/v2/{repository}/blobs/uploads/");
    for (who, method, path, expect) in [
        ("", Method::GET, "/v2/".to_owned(), 401),
        (&wrong, Method::GET, "/v2/".to_owned(), 401),
        (&alice, Method::GET, "/v2/".to_owned(), 200),
        ("", Method::GET, tags("public/app"), 200),
        (&wrong, Method::GET, tags("public/app"), 401),
        (&carol, Method::GET, tags("public/app"), 200),
        ("", Method::GET, tags("team/app"), 401),
        (&carol, Method::GET, tags("team/app"), 403),
        (&bob, Method::GET, tags("team/app"), 200),
        (&bob, Method::POST, uploads("team/app"), 202),
        (&bob, Method::POST, uploads("public/app"), 403),
        (&bob, Method::DELETE, "/v2/team/app/manifests/v1".to_owned(), 403),
        (&bob, Method::DELETE, "/v2/home/bob/app/manifests/v1".to_owned(), 202),
        (&carol, Method::GET, tags("home/bob/app"), 403),
        (&carol, Method::GET, "/v2/_catalog".to_owned(), 403),
        ("", Method::GET, "/v2/_catalog".to_owned(), 401),
        (&carol, Method::GET, "/token".to_owned(), 404),
    ] {
        let response = server.ask(who, method.clone(), &path).await;
        assert_eq!(response.status(), expect, "{who} {method} {path}");
        if expect == 401 {
            assert_eq!(
                header(&response, "www-authenticate"),
                "Basic realm=\"idp registry\", charset=\"UTF-8\""
            );
        }
        if expect == 403 {
            let errors = body(response).await;
            assert_eq!(errors["errors"][0]["code"], "DENIED");
        }
    }
    let refused = body(server.ask(&carol, Method::GET, &tags("team/app")).await).await;
    let message = refused["errors"][0]["message"].as_str().expect("a message");
    assert!(message.starts_with("carol may not pull `team/app`"), "{message}");
}

#[tokio::test]
async fn a_user_who_comes_or_goes_needs_no_restart() {
    let home = tempfile::tempdir().expect("a directory");
    let server = start(home.path(), json!({"kind": "token"}), Limits::default()).await;
    let carol = server.token(&basic("carol"), "service=idp-registry").await;
    assert_eq!(server.ask(&carol, Method::GET, "/v2/").await.status(), StatusCode::OK);
    let path = home.path().join("users");
    users::remove(&path, "carol").expect("removed");
    users::set(&path, "dave", &Secret::new("evad")).expect("added");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let gone = server.ask(&carol, Method::GET, "/v2/").await;
    assert_eq!(gone.status(), StatusCode::UNAUTHORIZED);
    assert!(header(&gone, "www-authenticate").ends_with("error=\"invalid_token\""));
    server.token(&basic("dave"), "service=idp-registry").await;
}

#[tokio::test]
async fn tokens_are_for_what_was_asked_and_may_be_had() {
    let home = tempfile::tempdir().expect("a directory");
    let settings = json!({"kind": "token", "groups": {"team": ["bob"]}, "rules": rules()});
    let server = start(home.path(), settings, Limits::default()).await;
    let challenge = async |who: &str, method: Method, path: &str| {
        let response = server.ask(who, method, path).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        let value = header(&response, "www-authenticate");
        let start = format!("Bearer realm=\"{}/token\",service=\"idp-registry\"", server.base);
        assert_eq!(codes(response).await, ["UNAUTHORIZED"]);
        value.strip_prefix(&start).unwrap_or_else(|| panic!("{value}")).to_owned()
    };
    assert_eq!(challenge("", Method::GET, "/v2/").await, "");
    assert_eq!(challenge("", Method::GET, "/v2/_catalog").await, ",scope=\"registry:catalog:*\"");
    assert_eq!(challenge("", Method::GET, "/v2/a/tags/list").await, ",scope=\"repository:a:pull\"");
    let digest = Digest::of(b"abc");
    let mount = format!("/v2/team/x/blobs/uploads/?mount={digest}&from=public/app");
    assert_eq!(
        challenge("", Method::POST, &mount).await,
        ",scope=\"repository:team/x:pull,push repository:public/app:pull\""
    );
    assert_eq!(challenge("", Method::DELETE, "/v2/a/manifests/x").await, ",scope=\"repository:a:delete\"");
    assert_eq!(challenge("Bearer x", Method::GET, "/v2/").await, ",error=\"invalid_token\"");

    // What is granted is the least of what is asked, what the rules say and what there is.
    let granted = async |who: &str, query: &str| {
        let response = server.ask(who, Method::GET, &format!("/token?service=idp-registry&{query}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{query}");
        let answer = body(response).await;
        assert_eq!(answer["expires_in"], 300);
        assert!(answer.get("refresh_token").is_none());
        answer["scope"].as_str().expect("a scope").to_owned()
    };
    for (who, query, expect) in [
        ("", "scope=repository:public/app:pull,push", "repository:public/app:pull"),
        ("", "scope=repository:team/app:pull", ""),
        ("", "scope=registry:catalog:*", ""),
        ("bob", "scope=repository:team/app:*", "repository:team/app:pull,push"),
        ("bob", "scope=repository:home/bob/x:delete,pull", "repository:home/bob/x:pull,delete"),
        ("bob", "scope=registry:catalog:*", "registry:catalog:*"),
        (
            "bob",
            "scope=repository:team/app:push&scope=repository:public/app:pull,push",
            "repository:team/app:push repository:public/app:pull",
        ),
        (
            "bob",
            "scope=repository:team/app:push%20repository:team/app:pull%20junk%20repository:A:pull",
            "repository:team/app:push,pull",
        ),
        (
            "alice",
            "scope=repository:any/thing:pull,push,delete,other",
            "repository:any/thing:pull,push,delete",
        ),
        ("alice", "scope=other:any/thing:pull", ""),
        ("alice", "", ""),
    ] {
        let who = if who.is_empty() { String::new() } else { basic(who) };
        assert_eq!(granted(&who, query).await, expect, "{who} {query}");
    }

    // A token is for no more than it says, whoever has it.
    server
        .push_image(&server.token(&basic("alice"), "scope=repository:team/app:pull,push").await, "team/app")
        .await;
    let pull = server.token(&basic("bob"), "scope=repository:team/app:pull").await;
    assert_eq!(server.ask(&pull, Method::GET, "/v2/team/app/tags/list").await.status(), StatusCode::OK);
    assert_eq!(
        challenge(&pull, Method::POST, "/v2/team/app/blobs/uploads/").await,
        ",scope=\"repository:team/app:pull,push\",error=\"insufficient_scope\""
    );
    let anonymous = server.token("", "scope=repository:public/app:pull").await;
    assert_eq!(server.ask(&anonymous, Method::GET, "/v2/").await.status(), StatusCode::OK);
    assert_eq!(
        server.ask(&anonymous, Method::GET, "/v2/public/app/tags/list").await.status(),
        StatusCode::NOT_FOUND
    );
    // User and password do as well.
    assert_eq!(
        server.ask(&basic("bob"), Method::GET, "/v2/team/app/tags/list").await.status(),
        StatusCode::OK
    );
    // Whoever may list sees what they may pull.
    for (who, expect) in [("alice", json!(["team/app"])), ("bob", json!(["team/app"]))] {
        let token = server.token(&basic(who), "scope=registry:catalog:*").await;
        let list = body(server.ask(&token, Method::GET, "/v2/_catalog").await).await;
        assert_eq!(list["repositories"], expect, "{who}");
    }
}

#[tokio::test]
async fn tokens_by_form_and_by_refresh_token() {
    let home = tempfile::tempdir().expect("a directory");
    let server = start(home.path(), json!({"kind": "token"}), Limits::default()).await;
    let post = async |form: &str| {
        let request = server.request(Method::POST, "/token").body(form.to_owned());
        request.header("content-type", "application/x-www-form-urlencoded").send().await.expect("an answer")
    };
    let scope = "scope=repository%3Aa%3Apull+repository%3Ab%3Apull%2Cpush";
    let password =
        format!("grant_type=password&client_id=x&username=alice&password=ecila&service=idp-registry&{scope}");
    let answer = body(post(&password).await).await;
    assert_eq!(answer["scope"], "repository:a:pull repository:b:pull,push");
    assert!(answer.get("refresh_token").is_none());
    let answer = body(post(&format!("{password}&access_type=offline")).await).await;
    let refresh = answer["refresh_token"].as_str().expect("a refresh token").to_owned();
    let again =
        format!("grant_type=refresh_token&client_id=x&service=idp-registry&{scope}&refresh_token={refresh}");
    let answer = body(post(&again).await).await;
    let token = format!("Bearer {}", answer["access_token"].as_str().expect("a token"));
    assert_eq!(server.ask(&token, Method::POST, "/v2/b/blobs/uploads/").await.status(), StatusCode::ACCEPTED);
    // As a password beside its user's place, which some clients send.
    let beside = format!("Basic {}", STANDARD.encode(format!("<token>:{refresh}")));
    server.token(&beside, "scope=repository:b:pull").await;
    // One kind is not the other.
    assert_eq!(
        server.ask(&format!("Bearer {refresh}"), Method::GET, "/v2/").await.status(),
        StatusCode::UNAUTHORIZED
    );
    let offline = body(server.ask(&basic("bob"), Method::GET, "/token?offline_token=true").await).await;
    assert!(offline["refresh_token"].is_string());

    for (form, status, code) in [
        ("", 400, "UNSUPPORTED"),
        ("grant_type=authorization_code&code=x", 400, "UNSUPPORTED"),
        ("grant_type=password&username=alice", 400, "UNSUPPORTED"),
        ("grant_type=refresh_token", 400, "UNSUPPORTED"),
        ("grant_type=password&username=alice&password=x", 401, "UNAUTHORIZED"),
        ("grant_type=refresh_token&refresh_token=x", 401, "UNAUTHORIZED"),
        ("grant_type=password&username=alice&password=ecila&service=other", 400, "UNSUPPORTED"),
    ] {
        let response = post(form).await;
        assert_eq!(response.status(), status, "{form}");
        assert_eq!(codes(response).await, [code], "{form}");
    }
    for (who, method, path, status) in [
        (basic("eve"), Method::GET, "/token", 401),
        ("Bearer x".to_owned(), Method::GET, "/token", 401),
        (String::new(), Method::GET, "/token?scope=repository:a:pull", 401),
        (basic("alice"), Method::PUT, "/token", 405),
        (basic("alice"), Method::HEAD, "/token", 405),
        (basic("alice"), Method::POST, "/token", 415),
    ] {
        assert_eq!(server.ask(&who, method.clone(), path).await.status(), status, "{who} {method}");
    }
    // The user's other password ends what the first one gave.
    users::set(&home.path().join("users"), "alice", &Secret::new("other")).expect("changed");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(post(&again).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_tokens_of_another_service() {
    let home = tempfile::tempdir().expect("a directory");
    let keys = home.path().join("keys");
    let settings = json!({"kind": "token", "token": {
        "realm": "https://auth.example/token", "service": "registry.example", "issuer": "auth.example", "trustedKeys": keys,
    }});
    let token = format!("Bearer {}", ISSUER_TOKEN.trim());
    for text in [ISSUER_PEM, ISSUER_JWKS] {
        std::fs::write(&keys, text).expect("written");
        let server = start(home.path(), settings.clone(), Limits::default()).await;
        let response = server.ask("", Method::GET, "/v2/team/app/tags/list").await;
        assert_eq!(
            header(&response, "www-authenticate"),
            "Bearer realm=\"https://auth.example/token\",service=\"registry.example\",scope=\"repository:team/app:pull\""
        );
        server.push_image(&token, "team/app").await;
        for (who, method, path, expect) in [
            (token.as_str(), Method::GET, "/v2/", 200),
            (&token, Method::GET, "/v2/team/app/tags/list", 200),
            (&token, Method::DELETE, "/v2/team/app/manifests/v1", 401),
            (&token, Method::GET, "/v2/team/other/tags/list", 401),
            (&token, Method::GET, "/v2/_catalog", 401),
            (&format!("{token}x"), Method::GET, "/v2/", 401),
            (&basic("alice"), Method::GET, "/v2/", 401),
            ("", Method::GET, "/token", 401),
        ] {
            assert_eq!(server.ask(who, method.clone(), path).await.status(), expect, "{who} {method} {path}");
        }
    }
    // For another registry, by another issuer, signed with another key.
    for change in [
        json!({"service": "other.example"}),
        json!({"issuer": "other.example"}),
        json!({"trustedKeys": home.path().join("other")}),
    ] {
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        std::fs::write(home.path().join("other"), other.public_key_pem()).expect("written");
        let mut settings = settings.clone();
        for (name, value) in change.as_object().expect("settings") {
            settings["token"][name] = value.clone();
        }
        let server = start(home.path(), settings, Limits::default()).await;
        let response = server.ask(&token, Method::GET, "/v2/team/app/tags/list").await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{change}");
        assert!(header(&response, "www-authenticate").ends_with("error=\"invalid_token\""));
    }
}

#[test]
fn settings_that_cannot_be() {
    let home = tempfile::tempdir().expect("a directory");
    let refused = |settings: Value| match access(home.path(), settings.clone()) {
        Ok(_) => panic!("{settings} is taken"),
        Err(error) => error.to_string(),
    };
    let error = refused(json!({"kind": "htpasswd"}));
    assert!(error.contains("idp registry user add"), "{error}");
    std::fs::write(home.path().join("users"), "").expect("written");
    std::fs::write(home.path().join("keys"), ISSUER_PEM).expect("written");
    let keys = home.path().join("keys");
    let other = json!({"realm": "https://a/token", "service": "s", "issuer": "i", "trustedKeys": keys});
    for (settings, expect) in [
        (json!({"kind": "token", "token": {"service": "a\"b"}}), "token.service"),
        (json!({"kind": "token", "token": {"realm": "a\nb"}}), "token.realm"),
        (json!({"kind": "token", "token": {"trustedKeys": keys}}), "token.realm"),
        (json!({"kind": "token", "anonymousPull": true, "token": other}), "anonymousPull"),
        (json!({"kind": "token", "rules": rules(), "groups": {"team": []}, "token": other}), "rules"),
        (json!({"kind": "htpasswd", "rules": rules()}), "group `team`"),
        (json!({"kind": "token", "token": {"keys": keys}}), "take the file away"),
    ] {
        let error = refused(settings);
        assert!(error.contains(expect), "{error}");
    }
    for unknown in [json!({"kind": "ldap"}), json!({"knd": "none"}), json!({"token": {"lifetime": 5}})] {
        assert!(serde_json::from_value::<AuthSettings>(unknown).is_err());
    }
}

#[tokio::test]
async fn everybody_may_read_where_that_is_said() {
    let home = tempfile::tempdir().expect("a directory");
    for kind in ["htpasswd", "token"] {
        let settings = json!({"kind": kind, "anonymousPull": true});
        let server = start(home.path(), settings, Limits::default()).await;
        server.push_image(&basic("alice"), "a").await;
        for (method, path, expect) in [
            // So that a login is asked for, and checked.
            (Method::GET, "/v2/", 401),
            (Method::GET, "/v2/a/manifests/v1", 200),
            (Method::GET, "/v2/_catalog", 200),
            (Method::POST, "/v2/a/blobs/uploads/", 401),
            (Method::DELETE, "/v2/a/manifests/v1", 401),
        ] {
            assert_eq!(server.ask("", method.clone(), path).await.status(), expect, "{kind} {method} {path}");
        }
    }
    // Rules without users: what they give to everybody, and no login that would help.
    let settings = json!({"rules": [{"subjects": ["anonymous"], "actions": ["pull"]}]});
    let server = start(home.path(), settings, Limits::default()).await;
    assert_eq!(server.ask("", Method::GET, "/v2/").await.status(), StatusCode::OK);
    assert_eq!(server.ask("", Method::POST, "/v2/a/blobs/uploads/").await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_catalogue_has_pages_of_what_may_be_pulled() {
    let home = tempfile::tempdir().expect("a directory");
    let settings = json!({"kind": "htpasswd", "rules": [
        {"subjects": ["alice"], "actions": ["pull", "push", "catalogue"]},
        {"repositories": ["mine/*"], "subjects": ["bob"], "actions": ["pull", "catalogue"]},
        {"subjects": ["carol"], "actions": ["catalogue"]},
    ]});
    let limits = Limits { page_entries: 3, ..Limits::default() };
    let server = start(home.path(), settings, limits).await;
    for index in 0..12 {
        let side = if index % 3 == 0 { "mine" } else { "theirs" };
        server.push_image(&basic("alice"), &format!("{side}/app{index:02}")).await;
    }
    let pages = async |who: &str, first: &str| {
        let (mut next, mut pages) = (Some(first.to_owned()), Vec::new());
        while let Some(path) = next {
            let response = server.ask(&basic(who), Method::GET, &path).await;
            assert_eq!(response.status(), StatusCode::OK);
            let link = response.headers().get("link").map(|link| link.to_str().expect("text").to_owned());
            next = link.map(|link| link[1..].split_once('>').expect("a link").0.to_owned());
            let list = body(response).await["repositories"].clone();
            pages.push(list.as_array().expect("a list").len());
        }
        pages
    };
    assert_eq!(pages("alice", "/v2/_catalog?n=99999999999999999999999").await, [3, 3, 3, 3]);
    assert_eq!(pages("bob", "/v2/_catalog").await, [3, 1]);
    assert_eq!(pages("bob", "/v2/_catalog?n=2").await, [2, 2], "nothing follows, though others have more");
    assert_eq!(pages("bob", "/v2/_catalog?n=1&last=mine%2Fapp03").await, [1, 1]);
    assert_eq!(pages("bob", "/v2/_catalog?last=mine%2Fapp09").await, [0]);
    assert_eq!(pages("carol", "/v2/_catalog").await, [0]);
}

#[tokio::test]
async fn rates_are_for_each_user_and_say_when() {
    let home = tempfile::tempdir().expect("a directory");
    let rates = RateSettings {
        reads_per_minute: 6,
        read_burst: 3,
        writes_per_minute: 1,
        failed_logins_per_minute: Some(2),
        failed_login_burst: Some(2),
        ..RateSettings::default()
    };
    let limits = Limits { rates: rates.rates(), ..Limits::default() };
    let server = start(home.path(), json!({"kind": "htpasswd", "anonymousPull": true}), limits).await;
    let (alice, bob) = (basic("alice"), basic("bob"));
    let limited = async |who: &str, method: Method, path: &str, most: u64| {
        let response = server.ask(who, method, path).await;
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let wait: u64 = header(&response, "retry-after").parse().expect("seconds");
        assert!((1..=most).contains(&wait), "{wait}");
        assert_eq!(codes(response).await, ["TOOMANYREQUESTS"]);
    };
    for _ in 0..3 {
        assert_eq!(server.ask(&alice, Method::GET, "/v2/").await.status(), StatusCode::OK);
    }
    limited(&alice, Method::GET, "/v2/", 10).await;
    // Another user at the same address, somebody who did not log in, and other kinds of requests.
    assert_eq!(server.ask(&bob, Method::GET, "/v2/").await.status(), StatusCode::OK);
    assert_eq!(server.ask("", Method::GET, "/v2/_catalog").await.status(), StatusCode::OK);
    assert_eq!(server.ask(&alice, Method::POST, "/v2/a/blobs/uploads/").await.status(), StatusCode::ACCEPTED);
    limited(&alice, Method::POST, "/v2/a/blobs/uploads/", 60).await;
    // The failures of an address, of which a good login that is known counts as none.
    let failed = Limits::default();
    let home = tempfile::tempdir().expect("a directory");
    let server = start(home.path(), json!({"kind": "token"}), failed).await;
    let wrong = |index: u32| format!("Basic {}", STANDARD.encode(format!("alice:{index}")));
    assert_eq!(server.ask(&alice, Method::GET, "/v2/").await.status(), StatusCode::OK);
    for index in 0..10 {
        assert_eq!(server.ask(&wrong(index), Method::GET, "/token").await.status(), StatusCode::UNAUTHORIZED);
    }
    for path in ["/token", "/v2/"] {
        let response = server.ask(&wrong(10), Method::GET, path).await;
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert!(header(&response, "retry-after").parse::<u64>().is_ok_and(|wait| (1..=6).contains(&wait)));
    }
    assert_eq!(server.ask(&alice, Method::GET, "/v2/").await.status(), StatusCode::OK);
    assert_eq!(server.ask(&bob, Method::GET, "/v2/").await.status(), StatusCode::TOO_MANY_REQUESTS);
}
