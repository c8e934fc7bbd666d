//! The test host keeps the rules it promises.

use super::{Exchange, Host};
use crate::bearer::Flow;
use crate::client::Client;
use crate::contract::{ErrorKind, Scope};
use crate::http::{Request, header, json};
use crate::invocation;
use crate::secret::{Encoding, Secret, secret, text};

const MANIFEST: &str = r#"
schema = 1
contract = "0.1"
name = "t"
version = "1.0.0"

[[egress]]
origin = "registry"
paths = ["/v2/", "/token"]

[[egress]]
origin = "https://api.example"
methods = ["POST"]

[[credential]]
slot = "registry"
audience = ["registry"]

[[token-endpoint]]
origin = "registry"
path = "/token"

[[public]]
path = "/token"
pointers = ["/expires_in", "*"]

[[setting]]
name = "known"
"#;

fn host() -> Host {
    Host::new("r").manifest(MANIFEST).basic("alice", "s3cret-word")
}

fn password() -> Secret {
    invocation::credential("registry").expect("set").secret("password").expect("basic").duplicate()
}

#[test]
fn an_unexpected_request_fails() {
    let failures =
        host().try_run(|| Request::get("https://r/v2/").send().is_err()).expect_err("not scripted");
    assert!(failures.contains("`GET https://r/v2/` was not expected"), "{failures}");
}

#[test]
fn an_unused_exchange_fails() {
    let failures = host().exchange(Exchange::get("https://r/v2/")).try_run(|| ()).expect_err("never sent");
    assert!(failures.contains("never sent"), "{failures}");
}

#[test]
fn a_request_that_differs_fails() {
    for exchange in [
        Exchange::get("https://r/v2/other"),
        Exchange::get("https://r/v2/").header("accept", "x"),
        Exchange::get("https://r/v2/").body("x"),
        Exchange::get("https://r/v2/").basic("alice", "wrong"),
    ] {
        let sent = || Request::get("https://r/v2/").basic("alice", &password()).send().is_ok();
        host().exchange(exchange).try_run(sent).expect_err("differs");
    }
    // Credentials where none are expected.
    let sent = || Request::get("https://r/v2/").basic("alice", &password()).send().is_ok();
    host().exchange(Exchange::get("https://r/v2/")).try_run(sent).expect_err("credentials");
}

#[test]
fn what_is_not_granted_does_not_leave() {
    let code = |request: fn() -> Request<'static>| {
        host().run(|| request().send()).map_err(|error| (error.kind, error.code)).expect_err("refused")
    };
    let denied = |code: &str| (ErrorKind::EgressDenied, code.to_owned());
    assert_eq!(code(|| Request::get("https://elsewhere/")), denied("origin"));
    assert_eq!(code(|| Request::get("https://r/api/")), denied("origin"));
    assert_eq!(code(|| Request::delete("https://r/v2/")), denied("origin"));
    assert_eq!(code(|| Request::get("https://api.example/")), denied("origin"));
    assert_eq!(code(|| Request::get("https://r/v2/").header("Host", "x")), denied("header"));
    assert_eq!(code(|| Request::get("https://r/v2/").header("proxy-authorization", "x")), denied("header"));
    assert_eq!(
        code(|| Request::get("https://r/v2/").header("Authorization", "Basic eA==")),
        denied("header")
    );
    assert_eq!(
        code(|| Request::post("https://api.example/").basic("alice", &password())),
        denied("audience")
    );
}

#[test]
fn what_is_made_of_a_secret_has_its_audience() {
    let error = host().run(|| {
        let made = Secret::assemble([text("x"), secret(&password())]).encode(Encoding::Hex).expect("known");
        let made = made.mac("hmac-sha256", [text("y")]).expect("known");
        Request::post("https://api.example/")
            .header_segments("x-key", [secret(&made)])
            .send()
            .expect_err("refused")
    });
    assert_eq!(error.code, "audience");
}

#[test]
fn answers_to_credentials_are_sealed() {
    let exchange = Exchange::get("https://r/v2/x")
        .basic("alice", "s3cret-word")
        .reply(200, r#"{"a":"b"}"#)
        .reply_header("x-odd", "1")
        .reply_header("docker-x", "2")
        .reply_header("location", "/y?state=z");
    host().exchange(exchange).run(|| {
        let answer = Request::get("https://r/v2/x").basic("alice", &password()).send().expect("granted");
        assert!(answer.sealed() && answer.body().is_err());
        assert_eq!(answer.json_scalar("/a"), None);
        assert_eq!(answer.header("x-odd"), None);
        assert_eq!(answer.header("docker-x").as_deref(), Some("2"));
        assert_eq!(answer.header("location").as_deref(), Some("/y"));
    });
}

#[test]
fn a_token_endpoint_stays_sealed_whatever_the_manifest_opens() {
    let exchange = Exchange::get("https://r/token").reply(200, r#"{"token":"T","expires_in":300}"#);
    host().exchange(exchange).run(|| {
        let answer = Request::get("https://r/token").capture("t", json("/token")).send().expect("granted");
        assert!(answer.sealed() && answer.body().is_err());
        assert_eq!(answer.json_scalar("/token"), None);
        assert_eq!(answer.json_scalar("/expires_in").as_deref(), Some("300"));
        assert!(answer.captured("t").is_some() && answer.captured("u").is_none());
    });
}

#[test]
fn captures_and_reflections_are_blanked() {
    let exchange = Exchange::get("https://r/v2/").reply(200, r#"{"key":"word-word","again":"word-word"}"#);
    let exchange = exchange.reply_header("x-key", "header-key");
    host().exchange(exchange).run(|| {
        let request = Request::get("https://r/v2/").capture("a", json("/key")).capture("b", header("X-Key"));
        let answer = request.send().expect("granted");
        assert_eq!(answer.text(), r#"{"key":"***","again":"***"}"#);
        assert_eq!(answer.header("x-key").as_deref(), Some("***"));
    });
}

#[test]
fn json_fields_come_out_of_whole_documents_only() {
    let host = host().credential("registry", "service-account", &[], &[("document", r#"{"key":"k"}"#)]);
    host.run(|| {
        let credential = invocation::credential("registry").expect("set");
        let document = credential.secret("document").expect("set");
        assert!(document.json_field("/key").is_some());
        assert!(Secret::assemble([secret(document)]).json_field("/key").is_none());
    });
}

#[test]
fn only_what_is_declared_is_there() {
    host().setting("known", "1").setting("unknown", "2").credential("other", "basic", &[], &[]).run(|| {
        assert_eq!(invocation::setting("known").as_deref(), Some("1"));
        assert_eq!(invocation::setting("unknown"), None);
        assert!(invocation::credential("other").is_none());
    });
}

#[test]
fn remembered_secrets_end() {
    host().run(|| {
        invocation::remember("a", &password(), 60);
        invocation::remember("b", &password(), 0);
        assert!(invocation::remembered("a").is_some());
        assert!(invocation::remembered("b").is_none());
    });
}

/// A token of before may say less than what its account may do by now.
#[test]
fn a_remembered_token_that_is_refused_is_replaced() {
    let url = "https://r/v2/a/tags/list";
    let scopes = [Scope::parse("repository:a:pull").expect("a scope")];
    let ask = || Client::new(Flow::new()).send(&scopes, || Request::get(url));
    let old = || {
        let refusal = Exchange::get(url).bearer("of-before").reply(403, "");
        host().remembered("token:repository:a:pull", "of-before").exchange(refusal)
    };
    let challenge = r#"Bearer realm="https://r/token",service="r""#;
    let answer = old()
        .exchange(Exchange::get(url).reply(401, "").reply_header("www-authenticate", challenge))
        .exchange(
            Exchange::get("https://r/token?service=r&scope=repository%3Aa%3Apull&client_id=idp")
                .basic("alice", "s3cret-word")
                .reply(200, r#"{"token":"new","expires_in":60}"#),
        )
        .exchange(Exchange::get(url).bearer("new").reply(200, ""))
        .run(ask);
    assert_eq!(answer.expect("an answer").status(), 200);
    // Nobody asks who we are: it is the account that may not.
    let answer = old().exchange(Exchange::get(url).reply(404, "")).run(ask);
    assert_eq!(answer.expect("an answer").status(), 403);
}

#[test]
fn encodings_round_trip() {
    host().run(|| {
        for encoding in
            [Encoding::Base64, Encoding::Base64NoPad, Encoding::Base64Url, Encoding::Base64UrlNoPad]
        {
            let there = password().encode(encoding).expect("known").decode(encoding).expect("valid");
            assert_eq!(there.0.0.bytes, b"s3cret-word", "{encoding:?}");
        }
        assert_eq!(password().decode(Encoding::Base64).expect_err("no base64").kind, ErrorKind::Invalid);
    });
}

#[test]
fn what_has_no_secret_in_it_narrows_nothing() {
    let refused = |value: fn() -> Secret| {
        let exchange = Exchange::new("POST", "https://api.example/").header("x-sum", "x").reply(200, "");
        let sent =
            || Request::post("https://api.example/").header_segments("x-sum", [secret(&value())]).send();
        // A request that is refused leaves its exchange over, which is not what is looked at here.
        let mut code = String::new();
        let _ = host().exchange(exchange).try_run(|| {
            code = sent().map_or_else(|error| error.code, |_| String::new());
        });
        code == "audience"
    };
    let public =
        || Secret::digest("sha256", [text("body")]).expect("known").encode(Encoding::Hex).expect("known");
    assert!(!refused(public));
    let signed = || {
        let sum = Secret::digest("sha256", [text("body")]).expect("known");
        password().mac("hmac-sha256", [secret(&sum)]).expect("known").encode(Encoding::Hex).expect("known")
    };
    assert!(refused(signed), "made of a password, it stays with the registry");
    let exchange = |sum: &str| Exchange::new("POST", "https://r/token").header("x-sum", sum);
    let sent = host().exchange(exchange("x")).try_run(|| {
        Request::post("https://r/token").header_segments("x-sum", [secret(&signed())]).send().map(|_| ())
    });
    assert!(!format!("{sent:?}").contains("audience"), "{sent:?}");
}
