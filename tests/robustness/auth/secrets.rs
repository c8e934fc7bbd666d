//! Case 32: credentials are never shown.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use idp_oci::client::http::{HttpOptions, Identity};
use idp_oci::client::proxy::ProxyRules;
use idp_oci::secret::Secret;
use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, on};
use tracing::field::{Field, Visit};
use tracing::span;

use crate::{blob, bytes, client_with, manifest, options, push, repository, tag, user};

/// Writes down everything that anybody says, libraries included.
#[derive(Debug, Default, Clone)]
struct Ears(Arc<Mutex<String>>);

struct Pen<'a>(&'a mut String);

impl Visit for Pen<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl tracing::Subscriber for Ears {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut Pen(&mut self.0.lock().expect("a text")));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Pen(&mut self.0.lock().expect("a text")));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = self.0.lock().expect("a text");
        let _ = write!(text, "\n{}:", event.metadata().target());
        event.record(&mut Pen(&mut text));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Neither a password, nor what is made of it, nor a token, nor a signature of an address is in any log, event, error or debug text.
#[tokio::test]
async fn case_32a_nothing_shows_a_credential() {
    let ears = Ears::default();
    let _listening = tracing::subscriber::set_default(ears.clone());
    let mut said = String::new();
    // `user:right`, as it is and as it is sent; the token that the service gives, and what makes an address a key.
    let secrets = ["right", "dXNlcjpyaWdodA", "s3cr3t-token", "s3cr3t-state", "s3cr3t-signature"];
    for auth in [Auth::Basic, Auth::Bearer] {
        let server = Server::start(Registry::with_auth(auth)).await;
        let storage = Server::script(vec![on("PUT", "/bucket", Fault::Reply(Reply::status(403)))]).await;
        let (client, recorder) = client_with(&server, user("right"), options());
        // The registry takes it for its last part.
        let token = "s3cr3t-token+repository:team/app:pull,push";
        server.rule(on("GET", "/token", super::grants(token)).always());
        push(&client, &blob("one")).await.expect("pushed");
        let session = "/v2/team/app/blobs/uploads/s1?_state=s3cr3t-state".to_owned();
        let signed = format!("http://{}/bucket?X-Amz-Signature=s3cr3t-signature", storage.address());
        for (length, location) in [(2000, session), (3000, signed)] {
            server.rule(on("POST", "/uploads/", Fault::Header("location", location)));
            server.rule(on("PUT", "/uploads/", Fault::Reply(Reply::status(500))));
            if let Err(error) = push(&client, &blob(bytes(length))).await {
                let _ = write!(said, "{error} {error:?}");
            }
        }
        assert!(!storage.requests().is_empty(), "{:#?}", server.log());
        // Whoever is refused may hand back what he was sent.
        let token = if auth == Auth::Bearer { token } else { "" };
        let all = format!("right dXNlcjpyaWdodA== {token}");
        let echo = Reply::error(400, "UNKNOWN", &serde_json::json!({ "sent": all }))
            .header("x-echo", "Basic dXNlcjpyaWdodA==")
            .header("warning", "299 - \"Basic dXNlcjpyaWdodA==\"");
        server.rule(on("PUT", "/manifests/", Fault::Reply(echo)));
        let error = client.put_manifest(&repository(), &tag(), &manifest()).await.expect_err("refused");
        let _ = write!(said, "{error} {error:?} {client:?} {:?}", recorder.events());
        assert!(server.requests().iter().any(|seen| seen.authorization().is_some()));
    }
    said.push_str(&ears.0.lock().expect("a text"));
    assert!(said.contains("PUT") && said.contains("X-Amz-Signature=…"), "somebody spoke: {said}");
    for secret in secrets {
        let at = said.find(secret).map(|at| said[at.saturating_sub(200)..at + secret.len()].to_owned());
        assert_eq!(at, None, "{secret}");
    }
}

/// What options hold of credentials is not in what is printed of them.
#[test]
fn case_32b_options_can_be_printed() {
    let options = HttpOptions {
        identity: Some(Identity { host: "r.example".to_owned(), pem: Secret::new("hunter2") }),
        proxy: Some(ProxyRules {
            https: "http://user:hunter2@proxy.example".to_owned(),
            ..ProxyRules::default()
        }),
        ..options()
    };
    let shown = format!("{options:?} {:?}", user("hunter2"));
    assert!(shown.contains("r.example") && !shown.contains("hunter2"), "{shown}");
}
