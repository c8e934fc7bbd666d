//! Modes that go for secrets and the network. Each asks for something that the contract forbids and reports what came of it.

use crate::Outcome;
use crate::idp::registry_provider::http::{Body, Capture, Header, Request, Response, send};
use crate::idp::registry_provider::secrets::{Secret, Segment, assemble, decode, encode};
use crate::idp::registry_provider::types::Error;
use crate::idp::registry_provider::{invocation, log};

/// Runs a mode of this module; `None` for another's.
pub(crate) fn run(mode: &str) -> Option<Outcome> {
    Some(match mode {
        "request-ungranted" => outcome(send(&get("https://evil.example/")), "a request to evil.example"),
        "request-method" => {
            let request = Request { method: "DELETE".to_owned(), ..get(&target("/v2/a/manifests/b")) };
            outcome(send(&request), "a DELETE that was not granted")
        }
        "request-path" => outcome(send(&get(&registry("/api/v1/admin"))), "a path that was not granted"),
        "request-traversal" => outcome(send(&get(&registry("/v2/../api/v1/admin"))), "a path behind `..`"),
        "request-traversal-encoded" => {
            outcome(send(&get(&registry("/v2/%2e%2e/api/"))), "a path behind `%2e%2e`")
        }
        "request-userinfo" => {
            let url = format!("http://{}@evil.example/v2/", invocation::registry());
            outcome(send(&get(&url)), "a request to what follows the `@`")
        }
        "request-scheme" => outcome(send(&get("file:///etc/passwd")), "a file"),
        "request-private" => outcome(send(&get(&target("/chaos/ok"))), "an answer from a private address"),
        "request-metadata" => outcome(
            send(&get("http://169.254.169.254/latest/meta-data/")),
            "an answer from the metadata service",
        ),
        "request-localhost" => outcome(send(&get("http://localhost:9/")), "an answer from localhost"),
        // The server answers with a redirect to where nothing was granted.
        "redirect" => {
            let request = Request { max_redirects: 10, ..get(&target("/chaos/redirect")) };
            outcome(send(&request), "an answer from behind a redirect")
        }
        "redirect-secret" => with_password(|password| {
            let request = Request { max_redirects: 10, ..authorized(&target("/chaos/redirect"), password) };
            outcome(send(&request), "a redirect with a secret")
        }),
        "secret-elsewhere" => with_password(|password| {
            outcome(send(&authorized(&target("/chaos/steal"), password)), "a secret at another origin")
        }),
        "secret-assembled-elsewhere" => with_password(|password| {
            let made = assemble(&[Segment::Text("x".to_owned()), Segment::Secret(password)]);
            match encode(&made, "hex") {
                Ok(hex) => outcome(
                    send(&authorized(&target("/chaos/steal"), &hex)),
                    "a derived secret at another origin",
                ),
                Err(error) => refused(error),
            }
        }),
        "authorization-plain" => {
            let value = vec![Segment::Text("Basic YWRtaW46YWRtaW4=".to_owned())];
            header("Authorization", value, "Authorization without a secret")
        }
        "header-host" => header("Host", vec![Segment::Text("evil.example".to_owned())], "Host"),
        "header-cookie" => header("cookie", vec![Segment::Text("a=b".to_owned())], "Cookie"),
        "header-length" => header("Content-Length", vec![Segment::Text("5".to_owned())], "Content-Length"),
        "header-proxy" => {
            header("Proxy-Authorization", vec![Segment::Text("Basic eA==".to_owned())], "Proxy-Authorization")
        }
        "header-encoding" => {
            header("Transfer-Encoding", vec![Segment::Text("chunked".to_owned())], "Transfer-Encoding")
        }
        "header-newline" => {
            header("x-a", vec![Segment::Text("1\r\nx-injected: 2".to_owned())], "a line break in a header")
        }
        "sealed-body" => with_password(sealed_body),
        "token-body" => token_body(),
        "echo" => with_password(echo),
        "json-oracle" => with_password(json_oracle),
        "decode-oracle" => with_password(decode_oracle),
        "log-secret" => log_secret(),
        "keep" => with_password(keep),
        "capture-cookie" => capture_cookie(),
        "remembered" => remembered(),
        "slot-undeclared" => match invocation::credential("management") {
            Some(_) => Outcome::Escaped("a slot that was not declared".to_owned()),
            None => Outcome::Refused("no such slot".to_owned()),
        },
        "setting-undeclared" => match invocation::setting("undeclared") {
            Some(value) => Outcome::Escaped(format!("a setting that was not declared: {value}")),
            None => Outcome::Refused("no such setting".to_owned()),
        },
        "environment" => environment(),
        #[cfg(feature = "sockets")]
        "socket" => match std::net::TcpStream::connect("127.0.0.1:9") {
            Ok(_) => Outcome::Escaped("a socket".to_owned()),
            Err(error) => Outcome::Refused(error.to_string()),
        },
        _ => return None,
    })
}

/// A URL on the registry.
pub(crate) fn registry(path: &str) -> String {
    format!("{}://{}{path}", invocation::scheme(), invocation::registry())
}

/// The setting `target`, or a path on the registry.
pub(crate) fn target(path: &str) -> String {
    invocation::setting("target").unwrap_or_else(|| registry(path))
}

pub(crate) fn get(url: &str) -> Request<'static> {
    Request {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Body::Empty,
        captures: Vec::new(),
        max_redirects: 0,
        timeout_ms: None,
        extra: Vec::new(),
    }
}

fn refused(error: Error) -> Outcome {
    Outcome::Refused(format!("{:?} {}: {}", error.kind, error.code, error.message))
}

/// An answer is what must not have come.
pub(crate) fn outcome(answer: Result<Response, Error>, what: &str) -> Outcome {
    match answer {
        Ok(answer) => Outcome::Escaped(format!("{what}: {} from {}", answer.status(), answer.url())),
        Err(error) => refused(error),
    }
}

fn with_password(act: impl FnOnce(&Secret) -> Outcome) -> Outcome {
    let Some(set) = invocation::credential("registry") else {
        return Outcome::Escaped("the test gave no credential to steal".to_owned());
    };
    match set.secret.first() {
        Some((_, secret)) => act(secret),
        None => Outcome::Escaped("the test gave a credential without a secret".to_owned()),
    }
}

fn authorized<'a>(url: &str, secret: &'a Secret) -> Request<'a> {
    let value = vec![Segment::Text("Bearer ".to_owned()), Segment::Secret(secret)];
    Request { headers: vec![Header { name: "authorization".to_owned(), value }], ..get(url) }
}

fn header(name: &str, value: Vec<Segment<'_>>, what: &str) -> Outcome {
    let request =
        Request { headers: vec![Header { name: name.to_owned(), value }], ..get(&target("/chaos/ok")) };
    outcome(send(&request), what)
}

fn sealed_body(password: &Secret) -> Outcome {
    match send(&authorized(&target("/chaos/ok"), password)) {
        Ok(answer) => {
            match (answer.body(), answer.json_scalar("/ok"), answer.headers("x-private").is_empty()) {
                (Err(error), None, true) => refused(error),
                (body, scalar, _) => Outcome::Escaped(format!("of a sealed answer: {body:?} {scalar:?}")),
            }
        }
        Err(error) => refused(error),
    }
}

fn token_body() -> Outcome {
    match send(&get(&registry("/chaos/token"))) {
        Ok(answer) => match (answer.body(), answer.json_scalar("/token")) {
            (Err(error), None) => refused(error),
            (body, scalar) => Outcome::Escaped(format!("of a token endpoint: {body:?} {scalar:?}")),
        },
        Err(error) => refused(error),
    }
}

/// The server puts what it was sent into headers that stay readable. Everything that came back is reported, so that the
/// test can look for the secret in it.
fn echo(password: &Secret) -> Outcome {
    match send(&authorized(&target("/chaos/echo"), password)) {
        Ok(answer) => {
            let names = [
                "www-authenticate",
                "location",
                "link",
                "docker-echo",
                "x-ratelimit-echo",
                "content-type",
                "date",
            ];
            let seen: Vec<_> = names.iter().map(|name| answer.headers(name)).collect();
            Outcome::Refused(format!("{seen:?} {:?} {}", answer.body().unwrap_or_default(), answer.url()))
        }
        Err(error) => refused(error),
    }
}

/// Is the password "s3cret"? A document made of it would tell.
fn json_oracle(password: &Secret) -> Outcome {
    let parts =
        [Segment::Text("{\"".to_owned()), Segment::Secret(password), Segment::Text("\":\"yes\"}".to_owned())];
    let document = assemble(&parts);
    let guesses = ["/s3cret", "/password", "/hunter2", "/"];
    match guesses.iter().find(|guess| document.json_field(guess).is_some()) {
        Some(guess) => Outcome::Escaped(format!("the secret is {guess}")),
        None => Outcome::Refused("no field of an assembled secret".to_owned()),
    }
}

/// Whether decoding works says something about the bytes; it must not say more than "malformed".
fn decode_oracle(password: &Secret) -> Outcome {
    match decode(password, "hex") {
        Ok(_) => Outcome::Refused("decoded, and still a handle".to_owned()),
        Err(error) => refused(error),
    }
}

/// A captured value that the guest knows by other means, in a log line.
fn log_secret() -> Outcome {
    let capture =
        Capture { name: "t".to_owned(), source: "json-pointer".to_owned(), selector: "/token".to_owned() };
    match send(&Request { captures: vec![capture], ..get(&registry("/chaos/token")) }) {
        Ok(_) => {
            log::emit(log::Level::Warn, "the token is chaos-token-value", &Vec::new());
            Outcome::Refused("said: chaos-token-value".to_owned())
        }
        Err(error) => refused(error),
    }
}

/// A registry in league with it says the password backwards. The guest turns it round, and has it while it asks for something else.
fn keep(password: &Secret) -> Outcome {
    let answer = match send(&authorized(&registry("/chaos/backwards"), password)) {
        Ok(answer) => answer,
        Err(error) => return refused(error),
    };
    let Some(backwards) = answer.json_scalar("/backwards") else {
        return Outcome::Refused("it was not told".to_owned());
    };
    let known: String = backwards.chars().rev().collect();
    let asked = send(&get(&registry("/chaos/kept-marker"))).is_ok();
    std::hint::black_box(&known);
    Outcome::Escaped(format!("kept {} characters, and asked: {asked}", known.len()))
}

fn capture_cookie() -> Outcome {
    match send(&get(&target("/chaos/cookie"))) {
        Ok(answer) if answer.headers("set-cookie").is_empty() => {
            Outcome::Refused("no Set-Cookie to read".to_owned())
        }
        Ok(answer) => Outcome::Escaped(format!("{:?}", answer.headers("set-cookie"))),
        Err(error) => refused(error),
    }
}

/// Keys that other providers use.
fn remembered() -> Outcome {
    let keys =
        ["token", "token:", "token:registry:catalog:*", "generic/token", "../generic/token", "gitea:token"];
    match keys.iter().find(|key| invocation::remembered(key).is_some()) {
        Some(key) => Outcome::Escaped(format!("what another provider remembered as `{key}`")),
        None => Outcome::Refused("nothing is remembered".to_owned()),
    }
}

/// What an inert WASI must not have.
fn environment() -> Outcome {
    let variables: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    let arguments: Vec<_> = std::env::args().collect();
    let files = std::fs::read_dir("/").map(|entries| entries.count()).unwrap_or(0);
    let passwd = std::fs::read("/etc/passwd").is_ok();
    if variables.is_empty() && arguments.is_empty() && files == 0 && !passwd {
        Outcome::Refused("nothing there".to_owned())
    } else {
        Outcome::Escaped(format!(
            "variables {variables:?}, arguments {arguments:?}, {files} files, passwd {passwd}"
        ))
    }
}
