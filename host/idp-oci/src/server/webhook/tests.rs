//! Webhooks against a scripted receiver, with exact counts.

use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use idp_test_support::faults::{Fault, Reply, Server, on};
use serde_json::Value;

use super::{WebhookError, WebhookEvent, WebhookSettings, WebhookTarget, WebhookTargets};
use crate::client::retry::RetryPolicy;
use crate::media;
use crate::server::access::Open;
use crate::server::beside::{Beside, BesideOptions};
use crate::server::{Limits, Registry, respond};
use crate::store::memory::MemoryStore;

fn target(server: &Server) -> WebhookTarget {
    WebhookTarget { url: format!("http://{}/api/webhook", server.address()), ..WebhookTarget::default() }
}

/// A registry that tells them, and tries again at once.
fn registry(targets: Vec<WebhookTarget>, attempts: usize) -> Registry {
    let mut webhooks = WebhookTargets::open(&WebhookSettings { targets }).expect("good settings");
    for (delivery, _) in &mut webhooks.0 {
        delivery.policy = RetryPolicy::immediate(attempts);
    }
    let options = BesideOptions { webhooks, ..BesideOptions::default() };
    Registry::new(Arc::new(MemoryStore::default()), Arc::new(Open), Limits::default(), None)
        .with(Beside::new(options, None))
}

async fn send(registry: &Registry, method: Method, path: &str, body: &str) -> StatusCode {
    let mut request = http::Request::new(axum::body::Body::from(body.to_owned()));
    (*request.method_mut(), *request.uri_mut()) = (method, path.parse().expect("a path"));
    let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("registry.test:5000"))]);
    *request.headers_mut() = headers;
    respond(registry.clone(), request).await.status()
}

async fn push(registry: &Registry, path: &str) {
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media::OCI_INDEX);
    assert_eq!(send(registry, Method::PUT, path, &index).await, StatusCode::CREATED);
}

/// Waits until nothing is on its way.
async fn delivered(registry: &Registry) {
    registry.beside.webhooks.finish(Duration::from_secs(60)).await;
    assert_eq!(registry.beside.metrics.notifications_pending().get(), 0);
}

fn told(server: &Server) -> Vec<Value> {
    server.requests().iter().map(|seen| serde_json::from_slice(&seen.body).expect("JSON")).collect()
}

fn text(registry: &Registry) -> String {
    registry.beside.metrics.text(0, None)
}

fn ok() -> Fault {
    Fault::Reply(Reply::status(200))
}

#[tokio::test]
async fn every_tag_is_told_with_the_authorization_and_pulls_only_to_who_wants_them() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("secret");
    std::fs::write(&file, "harbor-secret\n").expect("written");
    let receiver = Server::script(vec![on("POST", "/api/webhook", ok()).always()]).await;
    let curious = Server::script(vec![on("POST", "/api/webhook", ok()).always()]).await;
    let registry = registry(
        vec![
            WebhookTarget {
                authorization_file: Some(file),
                host: Some("inner.test".to_owned()),
                repositories: vec!["team/*".to_owned()],
                ..target(&receiver)
            },
            WebhookTarget { events: Some(vec![WebhookEvent::Pull]), ..target(&curious) },
        ],
        1,
    );
    push(&registry, "/v2/team/app/manifests/v1").await;
    push(&registry, "/v2/other/app/manifests/v1").await;
    assert_eq!(send(&registry, Method::GET, "/v2/team/app/manifests/v1", "").await, StatusCode::OK);
    assert_eq!(send(&registry, Method::HEAD, "/v2/team/app/manifests/v1", "").await, StatusCode::OK);
    assert_eq!(send(&registry, Method::GET, "/v2/team/app/manifests/v2", "").await, StatusCode::NOT_FOUND);
    assert_eq!(send(&registry, Method::DELETE, "/v2/team/app/manifests/v1", "").await, StatusCode::ACCEPTED);
    delivered(&registry).await;

    let events = told(&receiver);
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("text")).collect();
    assert_eq!(kinds, ["PUSH_ARTIFACT", "DELETE_ARTIFACT"]);
    for event in &events {
        assert_eq!(event["event_data"]["resources"][0]["resource_url"], "inner.test/team/app:v1");
        assert_eq!(event["event_data"]["repository"]["repo_full_name"], "team/app");
    }
    for seen in receiver.requests() {
        assert_eq!(seen.authorization(), Some("harbor-secret"));
        assert_eq!(seen.headers["content-type"], "application/json");
    }
    let events = told(&curious);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "PULL_ARTIFACT");
    assert_eq!(events[0]["event_data"]["resources"][0]["resource_url"], "registry.test:5000/team/app:v1");
    let pushed = &told(&receiver)[0]["event_data"]["resources"][0]["digest"];
    assert_eq!(&events[0]["event_data"]["resources"][0]["digest"], pushed);
    assert_eq!(curious.requests()[0].authorization(), None);
}

#[tokio::test]
async fn several_tags_of_one_request_are_several_events() {
    let receiver = Server::script(vec![on("POST", "/", ok()).always()]).await;
    let registry = registry(vec![target(&receiver)], 1);
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media::OCI_INDEX);
    let digest = crate::digest::Digest::of(index.as_bytes());
    push(&registry, &format!("/v2/a/manifests/{digest}?tag=v1&tag=v2")).await;
    push(&registry, &format!("/v2/a/manifests/{digest}")).await;
    delivered(&registry).await;
    let tags: Vec<_> =
        told(&receiver).iter().map(|event| event["event_data"]["resources"][0]["tag"].clone()).collect();
    assert_eq!(tags, [Value::from("v1"), Value::from("v2"), Value::Null]);
}

#[tokio::test]
async fn what_fails_is_told_again_in_order_and_given_up_at_last() {
    let status = |status| Fault::Reply(Reply::status(status));
    let receiver = Server::script(vec![
        on("POST", "/", status(503)).times(2),
        on("POST", "/", Fault::Drop),
        on("POST", "/", ok()),
        on("POST", "/", status(400)),
        on("POST", "/", status(500)).times(4),
        on("POST", "/", ok()),
    ])
    .await;
    let registry = registry(vec![target(&receiver)], 4);
    for tag in ["one", "two", "three", "four"] {
        push(&registry, &format!("/v2/a/manifests/{tag}")).await;
    }
    delivered(&registry).await;
    receiver.verify();
    let events = told(&receiver);
    let tags: Vec<_> = events
        .iter()
        .map(|event| event["event_data"]["resources"][0]["tag"].as_str().expect("a tag").to_owned())
        .collect();
    assert_eq!(tags, ["one", "one", "one", "one", "two", "three", "three", "three", "three", "four"]);
    let text = text(&registry);
    for line in [
        r#"registry_notifications_events_total{type="Events",endpoint="webhook-1"} 4"#,
        r#"registry_notifications_events_total{type="Successes",endpoint="webhook-1"} 2"#,
        r#"registry_notifications_events_total{type="Failures",endpoint="webhook-1"} 2"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_target_that_never_answers_delays_nobody_and_its_queue_is_bounded() {
    // Takes connections, by the system's backlog, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("an address"));
    let receiver = Server::script(vec![on("POST", "/", ok()).always()]).await;
    let slow =
        WebhookTarget { url, queue: Some(2), name: Some("slow".to_owned()), ..WebhookTarget::default() };
    let registry = registry(vec![slow, target(&receiver)], 1);
    for number in 0..10 {
        push(&registry, &format!("/v2/a/manifests/v{number}")).await;
    }
    registry.beside.webhooks.finish(Duration::from_millis(500)).await;
    assert_eq!(told(&receiver).len(), 10);
    let text = text(&registry);
    // One at work at most, two that wait.
    let dropped = text.lines().find_map(|line| {
        line.strip_prefix(r#"registry_notifications_events_total{type="Dropped",endpoint="slow"} "#)
    });
    assert!(matches!(dropped, Some("7" | "8")), "{text}");
}

#[test]
fn settings_that_cannot_be_are_told_and_secrets_are_not() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("secret");
    std::fs::write(&file, "two\nlines").expect("written");
    let open = |target: WebhookTarget| WebhookTargets::open(&WebhookSettings { targets: vec![target] });
    let good = WebhookTarget { url: "https://argo.test/api/webhook".to_owned(), ..WebhookTarget::default() };
    for url in ["", "argo.test", "ftp://argo.test/", "unix:/x"] {
        let error = open(WebhookTarget { url: url.to_owned(), ..WebhookTarget::default() }).expect_err(url);
        assert!(matches!(error, WebhookError::Url { .. }), "{error}");
    }
    let lines = open(WebhookTarget { authorization_file: Some(file.clone()), ..good.clone() });
    let error = lines.expect_err("two lines");
    assert!(matches!(error, WebhookError::Authorization { .. }) && !error.to_string().contains("two\n"));
    let host = open(WebhookTarget { host: Some("https://registry".to_owned()), ..good.clone() });
    assert!(matches!(host, Err(WebhookError::Host { .. })));
    let missing = open(WebhookTarget { ca_file: Some(home.path().join("none")), ..good.clone() });
    assert!(matches!(missing, Err(WebhookError::File { .. })));
    std::fs::write(&file, "hunter2").expect("written");
    let opened = open(WebhookTarget { authorization_file: Some(file), ..good }).expect("good");
    assert!(!format!("{opened:?}").contains("hunter2"));
}
