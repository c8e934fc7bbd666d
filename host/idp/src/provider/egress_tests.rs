use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use idp_oci::secret::Secret;
use zeroize::Zeroizing;

use super::{ANSWER_MAX, Gate, Outgoing, Policy, RECEIVED_MAX, Refused};
use crate::provider::answer::{Answered, Capture, Source};
use crate::provider::grants::{Allowance, Grants};
use crate::provider::manifest::Manifest;
use crate::provider::pattern::{Origin, Symbols};
use crate::provider::scrub::Scrubber;
use crate::provider::secrets::{Audience, Held, Part, Rendered, as_is};
use crate::provider::transport::{Exchange, RawAnswer, Transport, TransportError};

const MANIFEST: &str = r#"
schema = 1
contract = "0.1"
name = "x"
version = "1"
[[egress]]
origin = "registry"
methods = ["GET", "POST"]
[[egress]]
origin = "realm"
methods = ["GET", "POST"]
[[egress]]
origin = "https://api.example"
methods = ["GET", "POST"]
[[egress]]
origin = "http://api.example"
[[egress]]
origin = "https://inner.example"
[[egress]]
origin = "setting:endpoint"
[[setting]]
name = "endpoint"
[[token-endpoint]]
origin = "realm"
[[public]]
path = "/token"
pointers = ["/expires_in"]
[[public]]
path = "/v2/auth"
pointers = ["/access_token", "/expires_in"]
[[public]]
path = "/"
pointers = ["*"]
headers = ["x-scopes"]
"#;

type Scripted = (u16, Vec<(String, String)>, String);

/// A request that went out: method, URL, names of its headers, bytes of its body.
type Sent = (String, String, Vec<String>, usize);

/// Answers by URL; names resolve by table, everything else to a public address.
#[derive(Debug, Default)]
struct Script {
    answers: HashMap<String, Scripted>,
    names: HashMap<String, Vec<IpAddr>>,
    sent: Mutex<Vec<Sent>>,
}

#[async_trait]
impl Transport for Script {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.names.get(host).cloned().unwrap_or_else(|| vec![[8, 8, 8, 8].into()]))
    }

    async fn exchange(&self, exchange: Exchange) -> Result<RawAnswer, TransportError> {
        let names = exchange.headers.iter().map(|(name, _)| name.clone()).collect();
        let url = exchange.url.to_string();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push((exchange.method, url.clone(), names, exchange.body.len()));
        let (status, headers, body) =
            self.answers.get(&url).cloned().unwrap_or((404, Vec::new(), String::new()));
        let headers = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        Ok(RawAnswer { status, headers, body: Zeroizing::new(body.into_bytes()) })
    }
}

impl Script {
    fn answer(mut self, url: &str, status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.answers.insert(url.to_owned(), (status, headers, body.to_owned()));
        self
    }

    fn name(mut self, host: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        self.names.insert(host.to_owned(), addresses);
        self
    }

    fn urls(&self) -> Vec<String> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter().map(|(method, url, ..)| format!("{method} {url}")).collect()
    }
}

fn gate(script: &Arc<Script>, requests: u32) -> Gate {
    let manifest = Manifest::parse(MANIFEST).expect("a manifest");
    let written = ("setting:endpoint".to_owned(), "http://endpoint.example:5000".to_owned());
    let grants = Grants::new(&manifest, &Allowance::BuiltIn, &[written].into());
    let policy = Policy::new(&manifest, grants, &Default::default());
    let symbols = Symbols {
        registry: Origin::registry("https", "r.example").expect("an origin"),
        realms: vec![(Origin::registry("https", "auth.example").expect("an origin"), "/token".to_owned())],
    };
    let transport: Arc<dyn Transport> = Arc::clone(script) as Arc<dyn Transport>;
    Gate::new(Arc::new(policy), symbols, transport, requests)
}

fn get(url: &str) -> Outgoing {
    Outgoing {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Rendered::default(),
        captures: Vec::new(),
        max_redirects: 5,
        timeout: None,
    }
}

fn password(audience: &[&str]) -> Held {
    let audience = audience.iter().map(|text| text.parse().expect("an origin")).collect();
    Held::credential(&Secret::new("hunter2-hunter2"), Audience::only(audience))
}

fn with_secret(mut out: Outgoing, held: &Held) -> Outgoing {
    let value = Rendered::join(&[Part::Text("Bearer ".to_owned()), Part::Secret(held.clone())], as_is);
    out.headers.push(("authorization".to_owned(), value.expect("rendered")));
    out
}

async fn send(script: &Arc<Script>, out: Outgoing) -> Result<Answered, Refused> {
    gate(script, 64).send(out, &Scrubber::default()).await
}

fn code(result: Result<Answered, Refused>) -> &'static str {
    match result {
        Ok(_) => "sent",
        Err(Refused::Denied { code, .. }) => code,
        Err(Refused::Limit(_)) => "limit",
        Err(Refused::Invalid(_)) => "invalid",
        Err(Refused::Transport { .. }) => "transport",
    }
}

#[tokio::test]
async fn addresses_are_checked_behind_names() {
    for (name, addresses, expect) in [
        ("api.example", vec!["8.8.4.4"], "sent"),
        ("api.example", vec!["127.0.0.1"], "address"),
        ("api.example", vec!["8.8.4.4", "10.0.0.1"], "address"),
        ("api.example", vec!["169.254.169.254"], "address"),
        ("api.example", vec!["::ffff:127.0.0.1"], "address"),
        ("api.example", vec!["0.0.0.0"], "address"),
        ("api.example", vec!["100.64.0.1"], "address"),
        ("api.example", vec!["fe80::1"], "address"),
        ("auth.example", vec!["192.168.0.1"], "address"),
    ] {
        let script = Arc::new(Script::default().name(name, &addresses));
        let path = if name == "auth.example" { "/token" } else { "/x" };
        assert_eq!(
            code(send(&script, get(&format!("https://{name}{path}"))).await),
            expect,
            "{name} {addresses:?}"
        );
        assert_eq!(script.urls().len(), usize::from(expect == "sent"));
    }
    // The registry itself may be anywhere, and what is beside it too; a public realm of a private registry is not beside it.
    let home = || Script::default().name("r.example", &["10.0.0.1"]);
    assert_eq!(code(send(&Arc::new(home()), get("https://r.example/v2/")).await), "sent");
    let beside = Arc::new(home().name("api.example", &["10.9.9.9"]));
    assert_eq!(code(send(&beside, get("https://api.example/")).await), "sent");
    assert_eq!(code(send(&Arc::new(home()), get("https://auth.example/token")).await), "address");
}

#[tokio::test]
async fn what_the_user_wrote_may_lie_beside_no_registry() {
    for (address, expect) in [
        ("8.8.4.4", "sent"),
        ("127.0.0.1", "sent"),
        ("10.0.0.1", "sent"),
        ("169.254.169.254", "address"),
        ("169.254.1.1", "address"),
        ("0.0.0.0", "address"),
    ] {
        let script = Arc::new(Script::default().name("endpoint.example", &[address]));
        let url = "http://endpoint.example:5000/";
        assert_eq!(code(send(&script, get(url)).await), expect, "{address}");
    }
    // That very origin, and no other of the host.
    let script = Arc::new(Script::default());
    assert_eq!(code(send(&script, get("http://endpoint.example:5001/")).await), "origin");
}

#[tokio::test]
async fn redirects_are_checked_on_every_hop() {
    let to = |target: &str, status| {
        Arc::new(
            Script::default()
                .answer("https://r.example/go", status, &[("location", target)], "")
                .name("inner.example", &["10.0.0.1"]),
        )
    };
    for (target, expect) in [
        ("/v2/", "sent"),
        ("https://api.example/x", "sent"),
        ("https://evil.example/x", "origin"),
        ("https://inner.example/x", "address"),
        ("http://api.example/x", "redirect"),
        ("http://169.254.169.254/", "redirect"),
        ("ftp://r.example/", "redirect"),
        ("https://u:p@r.example/", "redirect"),
    ] {
        let script = to(target, 302);
        assert_eq!(code(send(&script, get("https://r.example/go")).await), expect, "{target}");
        assert_eq!(script.urls().len(), 1 + usize::from(expect == "sent"), "{target}: {:?}", script.urls());
    }
    // As many as asked for; then the redirect is the answer.
    let script = to("https://r.example/go", 302);
    let out = Outgoing { max_redirects: 3, ..get("https://r.example/go") };
    assert_eq!(send(&script, out).await.expect("an answer").status(), 302);
    assert_eq!(script.urls().len(), 4);
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_origin() {
    let script = Arc::new(
        Script::default()
            .answer("https://r.example/go", 307, &[("location", "https://api.example/x")], "")
            .answer("https://r.example/here", 307, &[("location", "/there")], ""),
    );
    let held = password(&["registry", "https://api.example"]);
    send(&script, with_secret(get("https://r.example/go"), &held)).await.expect("an answer");
    send(&script, with_secret(get("https://r.example/here"), &held)).await.expect("an answer");
    let mut body = Outgoing { method: "POST".to_owned(), ..get("https://r.example/go") };
    body.body = Rendered::join(&[Part::Secret(held)], as_is).expect("rendered");
    assert_eq!(code(send(&script, body).await), "redirect", "a secret in a body is not posted elsewhere");
    let sent = script.sent.lock().unwrap_or_else(PoisonError::into_inner);
    let carried = |at: usize| sent[at].2.iter().any(|name| name == "authorization");
    assert_eq!([carried(0), carried(1), carried(2), carried(3)], [true, false, true, true]);
    assert_eq!(sent.len(), 5);
}

#[tokio::test]
async fn a_secret_goes_to_its_audience_only() {
    let held = password(&["registry"]);
    for (url, expect) in [
        ("https://r.example/x", "sent"),
        ("https://api.example/x", "audience"),
        ("https://auth.example/token", "audience"),
    ] {
        assert_eq!(code(send(&Arc::default(), with_secret(get(url), &held)).await), expect, "{url}");
    }
}

#[tokio::test]
async fn what_is_sealed_is_read_by_public_pointers_only() {
    let body = r#"{"token":"short-lived-1","expires_in":300,"other":"x"}"#;
    let headers = [
        ("x-private", "p"),
        ("x-scopes", "read"),
        ("content-type", "application/json"),
        ("set-cookie", "a=b"),
        ("location", "https://x/y?z=1"),
    ];
    let script = Arc::new(
        Script::default()
            .answer("https://auth.example/token", 200, &headers, body)
            .answer("https://r.example/open", 200, &headers, body)
            .answer("https://r.example/v2/list", 200, &headers, body),
    );
    let capture =
        |pointer: &str| Capture { name: "t".to_owned(), source: Source::Pointer(pointer.to_owned()) };
    let out = Outgoing { captures: vec![capture("/token")], ..get("https://auth.example/token") };
    let scrub = &Scrubber::default();
    let answer = gate(&script, 64).send(out, scrub).await.expect("an answer");
    assert!(answer.sealed() && answer.body().is_none());
    assert_eq!(answer.json_scalar("/expires_in", scrub).as_deref(), Some("300"));
    assert_eq!(answer.json_scalar("/other", scrub), None);
    assert_eq!(answer.json_scalar("/token", scrub), None);
    assert_eq!(answer.captured("t").expect("captured").expose(), b"short-lived-1");
    assert!(answer.headers("x-private").is_empty() && answer.headers("set-cookie").is_empty());
    assert!(answer.headers("x-scopes").is_empty(), "a token endpoint");
    assert_eq!(answer.headers("location"), ["https://x/y"]);
    // Not sealed: everything but what was cut out.
    let out = Outgoing { captures: vec![capture("/token")], ..get("https://r.example/open") };
    let answer = send(&script, out).await.expect("an answer");
    let text = String::from_utf8(answer.body().expect("open")).expect("text");
    assert!(!answer.sealed() && !text.contains("short-lived-1") && text.contains("other"), "{text}");
    assert!(answer.headers("set-cookie").is_empty());
    // Sealed by the credential, opened by the manifest.
    let out = with_secret(get("https://r.example/v2/list"), &password(&["registry"]));
    let answer = send(&script, out).await.expect("an answer");
    assert!(answer.sealed() && answer.body().is_some());
    assert_eq!(answer.headers("x-scopes"), ["read"]);
    assert!(answer.headers("x-private").is_empty());
    // A captured value knows where it may go.
    let out = Outgoing { captures: vec![capture("/token")], ..get("https://auth.example/token") };
    let token = send(&script, out).await.expect("an answer").captured("t").expect("captured");
    assert_eq!(code(send(&script, with_secret(get("https://api.example/"), &token)).await), "audience");
    assert_eq!(code(send(&script, with_secret(get("https://r.example/"), &token)).await), "sent");
}

#[tokio::test]
async fn where_a_sealed_answer_came_from_has_no_query() {
    let hop = [("location", "https://r.example/cb?code=grant-1")];
    let script = Arc::new(Script::default().answer("https://r.example/a?page=2", 302, &hop, ""));
    for max_redirects in [0, 1] {
        let out = Outgoing { max_redirects, ..get("https://r.example/a?page=2") };
        let answer = send(&script, with_secret(out, &password(&["registry"]))).await.expect("an answer");
        assert!(answer.sealed() && !answer.url().contains("grant-1"), "{}", answer.url());
        let out = Outgoing { max_redirects, ..get("https://r.example/a?page=2") };
        assert_eq!(send(&script, out).await.expect("an answer").url().contains("code="), max_redirects > 0);
    }
}

#[tokio::test]
async fn no_manifest_opens_a_token() {
    let body = r#"{"access_token":"raw-token-1","token":"raw-token-1","expires_in":300}"#;
    let challenge = [("www-authenticate", "Bearer realm=\"https://r.example/v2/auth\"")];
    let script = Arc::new(Script::default().answer("https://r.example/v2/", 401, &challenge, "").answer(
        "https://r.example/v2/auth",
        200,
        &[],
        body,
    ));
    let scrub = &Scrubber::default();
    let mut gate = gate(&script, 64);
    gate.send(get("https://r.example/v2/"), scrub).await.expect("an answer");
    // The realm is on the registry itself; the manifest has it under "*", and lists the token as public.
    let answer = gate.send(get("https://r.example/v2/auth"), scrub).await.expect("an answer");
    assert!(answer.sealed() && answer.body().is_none());
    assert_eq!(answer.json_scalar("/access_token", scrub), None);
    assert_eq!(answer.json_scalar("/token", scrub), None);
    assert_eq!(answer.json_scalar("/expires_in", scrub).as_deref(), Some("300"));
}

#[tokio::test]
async fn a_captured_echo_goes_no_further_than_the_secret() {
    let script = Arc::new(Script::default().answer(
        "https://api.example/echo",
        200,
        &[],
        r#"{"you":"Bearer hunter2-hunter2"}"#,
    ));
    let capture = Capture { name: "t".to_owned(), source: Source::Pointer("/you".to_owned()) };
    let out = Outgoing { captures: vec![capture], ..get("https://api.example/echo") };
    let answer =
        send(&script, with_secret(out, &password(&["https://api.example"]))).await.expect("an answer");
    let echo = answer.captured("t").expect("captured");
    assert!(echo.long_lived(), "what is sent with it is sealed");
    assert_eq!(code(send(&script, with_secret(get("https://r.example/"), &echo)).await), "audience");
    assert_eq!(code(send(&script, with_secret(get("https://api.example/"), &echo)).await), "sent");
}

#[tokio::test]
async fn echoes_are_blanked() {
    let echo = "Bearer hunter2-hunter2";
    let script =
        Arc::new(Script::default().answer("https://r.example/echo", 200, &[("docker-echo", echo)], echo));
    let answer = send(&script, with_secret(get("https://r.example/echo"), &password(&["registry"]))).await;
    let answer = answer.expect("an answer");
    let body = String::from_utf8(answer.body().expect("public")).expect("text");
    assert_eq!((answer.headers("docker-echo"), body.as_str()), (vec!["Bearer ***".to_owned()], "Bearer ***"));
}

#[tokio::test]
async fn answers_are_limited_together() {
    let large = "x".repeat(ANSWER_MAX);
    let script = Arc::new(Script::default().answer("https://r.example/large", 200, &[], &large));
    let (mut gate, scrub) = (gate(&script, 64), Scrubber::default());
    for _ in 0..RECEIVED_MAX / ANSWER_MAX {
        assert_eq!(code(gate.send(get("https://r.example/large"), &scrub).await), "sent");
    }
    assert_eq!(code(gate.send(get("https://r.example/large"), &scrub).await), "limit");
}

#[tokio::test]
async fn requests_are_counted_and_headers_checked() {
    let script = Arc::new(Script::default());
    let mut gate = gate(&script, 1);
    let scrub = &Scrubber::default();
    assert_eq!(code(gate.send(get("https://r.example/"), scrub).await), "sent");
    assert_eq!(code(gate.send(get("https://r.example/"), scrub).await), "requests");
    for name in [
        "Host",
        "cookie",
        "Content-Length",
        "proxy-authorization",
        "TE",
        "x-http-method-override",
        "X-Original-URL",
        "x-rewrite-url",
        "x-forwarded-host",
        "authorization",
    ] {
        let mut out = get("https://r.example/");
        let value = Rendered::join(&[Part::Text("x".to_owned())], as_is).expect("rendered");
        out.headers.push((name.to_owned(), value));
        assert_eq!(code(send(&script, out).await), "header", "{name}");
    }
    for (name, value) in [("x-a", "1\r\nx-b: 2"), ("x a", "1"), ("", "1")] {
        let mut out = get("https://r.example/");
        let value = Rendered::join(&[Part::Text(value.to_owned())], as_is).expect("rendered");
        out.headers.push((name.to_owned(), value));
        assert_eq!(code(send(&script, out).await), "invalid", "{name}");
    }
    assert_eq!(
        code(send(&script, Outgoing { method: "CONNECT".to_owned(), ..get("https://r.example/") }).await),
        "invalid"
    );
    assert_eq!(code(send(&script, get("https://u:p@r.example/")).await), "invalid");
    let script =
        Arc::new(Script::default().answer("https://r.example/", 200, &[("content-encoding", "gzip")], ""));
    assert_eq!(code(send(&script, get("https://r.example/")).await), "invalid", "what cannot be searched");
}

#[tokio::test]
async fn a_realm_is_learned_from_the_registry_only() {
    let challenge = [("www-authenticate", "Bearer realm=\"https://new.example/token\"")];
    let script = Arc::new(Script::default().answer("https://r.example/v2/", 401, &challenge, "").answer(
        "https://api.example/",
        401,
        &challenge,
        "",
    ));
    let scrub = &Scrubber::default();
    let mut gate = gate(&script, 64);
    gate.send(get("https://api.example/"), scrub).await.expect("an answer");
    assert_eq!(code(gate.send(get("https://new.example/token"), scrub).await), "origin");
    gate.send(get("https://r.example/v2/"), scrub).await.expect("an answer");
    let answer = gate.send(get("https://new.example/token"), scrub).await.expect("an answer");
    assert!(answer.sealed());
    assert_eq!(code(gate.send(get("https://new.example/other"), scrub).await), "origin");
}
