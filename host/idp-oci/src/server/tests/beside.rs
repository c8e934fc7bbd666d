//! Metrics, health, the access log: what is told of requests, and to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::body::Body;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::digest::Digest;
use crate::media;
use crate::server::access::{Access, Open};
use crate::server::beside::{Beside, BesideOptions};
use crate::server::tls::{Tls, TlsSettings};
use crate::server::{HealthSettings, Limits, MetricsSettings, Peer, Registry, respond};
use crate::store::Store;
use crate::store::fs::FsStore;
use crate::store::memory::MemoryStore;

fn registry(options: BesideOptions) -> Registry {
    of(Arc::new(MemoryStore::default()), Arc::new(Open), options)
}

fn of(store: Arc<dyn Store>, access: Arc<dyn Access>, options: BesideOptions) -> Registry {
    Registry::new(store, access, Limits::default(), None).with(Beside::new(options, None))
}

fn request(
    method: Method,
    path: &str,
    headers: &[(HeaderName, &'static str)],
    body: &str,
) -> http::Request<Body> {
    let mut request = http::Request::new(Body::from(body.to_owned()));
    (*request.method_mut(), *request.uri_mut()) = (method, path.parse().expect("a path"));
    request.headers_mut().insert(HOST, HeaderValue::from_static("registry.test"));
    for (name, value) in headers {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    request
}

async fn send(registry: &Registry, method: Method, path: &str, body: &str) -> (StatusCode, HeaderMap, Bytes) {
    let response = respond(registry.clone(), request(method, path, &[], body)).await;
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, body.collect().await.expect("a body").to_bytes())
}

async fn push_blob(registry: &Registry, bytes: &str) -> Digest {
    let digest = Digest::of(bytes.as_bytes());
    let path = format!("/v2/a/b/blobs/uploads/?digest={digest}");
    assert_eq!(send(registry, Method::POST, &path, bytes).await.0, StatusCode::CREATED);
    digest
}

/// Samples by name and labels, if the text keeps the rules of the format (version 0.0.4): a family is told once with its type,
/// its samples stand together, no sample comes twice, histograms are cumulative and end with `+Inf`.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    let mut family = String::new();
    let mut helped = BTreeSet::new();
    let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split_once(' ').expect("a text").0;
            assert!(helped.insert(name.to_owned()), "{name} is told twice");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            name.clone_into(&mut family);
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().expect("a number");
        let (name, labels) = series
            .split_once('{')
            .map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').expect("the end of labels")));
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        let endings: &[&str] =
            if families[&family] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(endings.iter().any(|ending| name == format!("{family}{ending}")), "{line} in {family}");
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (key, text) = label.split_once("=\"").expect("a label");
            let text = text.trim_end_matches('"');
            assert!(key.bytes().all(|byte| byte.is_ascii_lowercase()), "{line}");
            if key == "le" {
                let le = if text == "+Inf" { f64::INFINITY } else { text.parse().expect("a bound") };
                buckets
                    .entry(format!("{family} {}", labels.split("le=").next().expect("before")))
                    .or_default()
                    .push((le, value));
            }
        }
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
    }
    for (name, of) in buckets {
        assert!(of.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}: {of:?}");
        assert!(of.last().is_some_and(|(bound, _)| bound.is_infinite()), "{name}");
    }
    samples
}

async fn metrics(registry: &Registry) -> BTreeMap<String, f64> {
    let (status, headers, body) = send(registry, Method::GET, "/metrics", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    parse(std::str::from_utf8(&body).expect("text"))
}

#[tokio::test]
async fn requests_and_bytes_are_counted_as_they_were() {
    let registry = registry(BesideOptions::default());
    let (config, layer) = (push_blob(&registry, "{}").await, push_blob(&registry, "a layer").await);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"{}","digest":"{layer}","size":7}}]}}"#,
        media::OCI_MANIFEST,
        media::OCI_CONFIG,
        media::OCI_LAYER,
    );
    assert_eq!(send(&registry, Method::PUT, "/v2/a/b/manifests/v1", &manifest).await.0, StatusCode::CREATED);
    send(&registry, Method::GET, &format!("/v2/a/b/blobs/{layer}"), "").await;
    send(&registry, Method::HEAD, &format!("/v2/a/b/blobs/{layer}"), "").await;
    send(&registry, Method::GET, "/v2/a/b/manifests/none", "").await;
    let mount = format!("/v2/other/blobs/uploads/?mount={layer}&from=a/b");
    assert_eq!(send(&registry, Method::POST, &mount, "").await.0, StatusCode::CREATED);
    let session = send(&registry, Method::POST, "/v2/a/b/blobs/uploads/", "").await;
    assert_eq!(session.0, StatusCode::ACCEPTED);
    // Somebody goes away in the middle of an answer.
    let cut = respond(registry.clone(), request(Method::GET, "/v2/a/b/manifests/v1", &[], "")).await;
    drop(cut);
    let found = metrics(&registry).await;
    for (series, expect) in [
        (r#"registry_http_requests_total{handler="blob_upload",method="post",code="201"}"#, 3.0),
        (r#"registry_http_requests_total{handler="blob_upload",method="post",code="202"}"#, 1.0),
        (r#"registry_http_requests_total{handler="manifest",method="put",code="201"}"#, 1.0),
        (r#"registry_http_requests_total{handler="manifest",method="get",code="404"}"#, 1.0),
        (r#"registry_http_requests_total{handler="manifest",method="get",code="200"}"#, 1.0),
        (r#"registry_http_requests_total{handler="blob",method="get",code="200"}"#, 1.0),
        (r#"registry_http_requests_total{handler="blob",method="head",code="200"}"#, 1.0),
        (r#"registry_http_response_size_bytes_sum{handler="blob"}"#, 7.0),
        (r#"registry_http_response_size_bytes_count{handler="blob"}"#, 2.0),
        (r#"registry_http_request_size_bytes_sum{handler="blob_upload"}"#, 9.0),
        (r#"registry_storage_action_seconds_count{action="PutManifest"}"#, 1.0),
        (r#"registry_storage_action_seconds_count{action="CommitBlob"}"#, 2.0),
        ("registry_storage_blob_upload_total", 2.0),
        ("registry_storage_blob_upload_bytes_total", 9.0),
        ("registry_storage_blob_mount_total", 1.0),
        ("registry_storage_upload_sessions", 1.0),
        // This one.
        ("registry_http_in_flight_requests", 1.0),
    ] {
        assert_eq!(found.get(series), Some(&expect), "{series}\n{found:#?}");
    }
    assert!(found["process_resident_memory_bytes"] > 1024.0 * 1024.0);
}

#[tokio::test]
async fn strangers_do_not_decide_how_many_series_there_are() {
    let registry = registry(BesideOptions::default());
    metrics(&registry).await;
    for number in 0..200 {
        let method = Method::from_bytes(format!("M{number}").as_bytes()).expect("a method");
        send(&registry, method, &format!("/v2/r{number}/manifests/t{number}"), "").await;
        send(&registry, Method::GET, &format!("/v2/r{number}/manifests/t{number}"), "").await;
        send(&registry, Method::GET, &format!("/nothing/{number}"), "").await;
    }
    let series = metrics(&registry).await.into_keys();
    let requests = series.filter(|name| name.starts_with("registry_http_requests_total")).count();
    assert!(requests < 8, "{requests}");
}

#[tokio::test]
async fn metrics_may_be_for_users_or_for_nobody() {
    let settings = |disabled, login| BesideOptions {
        metrics: MetricsSettings { disabled, login },
        ..BesideOptions::default()
    };
    let none = registry(settings(true, false));
    assert_eq!(send(&none, Method::GET, "/metrics", "").await.0, StatusCode::NOT_FOUND);
    let home = tempfile::tempdir().expect("a directory");
    let users = home.path().join("users");
    std::fs::write(&users, format!("ada:{}\n", bcrypt::hash("lovelace", 4).expect("hashed")))
        .expect("written");
    let access = Arc::new(crate::server::htpasswd::Htpasswd::read(&users).expect("users"));
    let guarded = of(Arc::new(MemoryStore::default()), access, settings(false, true));
    let ask = |authorization: &'static str| {
        let headers = if authorization.is_empty() { vec![] } else { vec![(AUTHORIZATION, authorization)] };
        respond(guarded.clone(), request(Method::GET, "/metrics", &headers, ""))
    };
    assert_eq!(ask("").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask("Basic YWRhOnh4").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask("Basic YWRhOmxvdmVsYWNl").await.status(), StatusCode::OK);
    // Where nobody has a name, nobody is logged in.
    let open = registry(settings(false, true));
    let (status, headers, _) = send(&open, Method::GET, "/metrics", "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(headers["www-authenticate"].to_str().expect("text").starts_with("Basic "));
    // Health asks nobody.
    for path in ["/healthz", "/readyz"] {
        assert_eq!(send(&guarded, Method::GET, path, "").await.0, StatusCode::OK, "{path}");
        assert_eq!(send(&guarded, Method::PUT, path, "").await.0, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}

#[tokio::test]
async fn a_registry_that_cannot_take_a_push_is_not_ready_and_says_why() {
    let home = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn Store> = Arc::new(FsStore::open(home.path()).await.expect("a store"));
    let health = |free_bytes| HealthSettings { free_bytes, cache_seconds: Some(0) };
    let options = |free_bytes| BesideOptions {
        health: health(free_bytes),
        directory: Some(home.path().to_owned()),
        ..BesideOptions::default()
    };
    let ready = async |registry: &Registry| {
        let (status, _, body) = send(registry, Method::GET, "/readyz", "").await;
        (status, serde_json::from_slice::<Value>(&body).expect("JSON"))
    };
    let good = of(Arc::clone(&store), Arc::new(Open), options(Some(1)));
    let (status, report) = ready(&good).await;
    assert_eq!((status, &report["status"]), (StatusCode::OK, &Value::from("ready")), "{report}");
    assert_eq!(report["checks"]["disk"]["ok"], true);

    let full = of(Arc::clone(&store), Arc::new(Open), options(Some(u64::MAX)));
    let (status, report) = ready(&full).await;
    assert_eq!(
        (status, &report["checks"]["disk"]["ok"]),
        (StatusCode::SERVICE_UNAVAILABLE, &Value::from(false))
    );
    assert_eq!(report["checks"]["storage"]["ok"], true);

    let limits = Limits {
        uploads: crate::store::upload::UploadLimits { sessions: 1, ..Limits::default().uploads },
        ..Limits::default()
    };
    let busy = Registry::new(Arc::clone(&store), Arc::new(Open), limits, None)
        .with(Beside::new(options(None), None));
    assert_eq!(send(&busy, Method::POST, "/v2/a/blobs/uploads/", "").await.0, StatusCode::ACCEPTED);
    let (status, report) = ready(&busy).await;
    assert_eq!(
        (status, &report["checks"]["uploads"]["ok"]),
        (StatusCode::SERVICE_UNAVAILABLE, &Value::from(false))
    );

    std::fs::remove_dir_all(home.path().join("tmp")).expect("removed");
    let (status, report) = ready(&good).await;
    assert_eq!(
        (status, &report["checks"]["storage"]["ok"]),
        (StatusCode::SERVICE_UNAVAILABLE, &Value::from(false))
    );
    assert!(!report.to_string().contains(home.path().to_str().expect("text")), "{report}");
    // Alive it is all the same.
    assert_eq!(send(&good, Method::GET, "/healthz", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_outcome_is_kept_and_a_certificate_is_looked_at() {
    let home = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn Store> = Arc::new(FsStore::open(home.path()).await.expect("a store"));
    let settings = TlsSettings { certificate_days: Some(1), ..TlsSettings::default() };
    let long_ago = SystemTime::now() - std::time::Duration::from_secs(100 * 24 * 60 * 60);
    let tls = Tls::open(&settings, &home.path().join("tls"), long_ago).expect("a certificate");
    let expired = Registry::new(Arc::clone(&store), Arc::new(Open), Limits::default(), None)
        .with(Beside::new(BesideOptions::default(), Some(Arc::new(tls))));
    let (status, _, body) = send(&expired, Method::GET, "/readyz", "").await;
    let report: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(report["checks"]["certificate"]["message"], "its time is over");
    let ends = metrics(&expired).await["registry_tls_certificate_expiry_timestamp_seconds"];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!(ends < now && ends > now - 100.0 * 24.0 * 60.0 * 60.0);

    let kept = of(store, Arc::new(Open), BesideOptions::default());
    assert_eq!(send(&kept, Method::GET, "/readyz", "").await.0, StatusCode::OK);
    std::fs::remove_dir_all(home.path().join("tmp")).expect("removed");
    assert_eq!(send(&kept, Method::GET, "/readyz", "").await.0, StatusCode::OK);
}

/// Keeps what is told to the access log.
#[derive(Debug, Default)]
struct Lines(Mutex<Vec<BTreeMap<String, String>>>);

struct Fields(BTreeMap<String, String>);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

#[derive(Debug, Clone)]
struct Log(Arc<Lines>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "idp::registry"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(fields.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_line_says_who_and_what_and_never_a_query() {
    let lines = Arc::new(Lines::default());
    let _guard = tracing::subscriber::set_default(Log(Arc::clone(&lines)));
    let registry = registry(BesideOptions::default());
    let path = "/v2/a/tags/list?token=hunter2&n=1";
    let id = HeaderName::from_static("x-request-id");
    let mut asked =
        request(Method::GET, path, &[(id.clone(), "from-the-proxy"), (USER_AGENT, "docker/29 (x)")], "");
    asked.extensions_mut().insert(Peer("192.0.2.7:4711".parse().expect("an address")));
    let response = respond(registry.clone(), asked).await;
    assert_eq!(response.headers()[&id], "from-the-proxy");
    let forged = request(Method::GET, "/v2/", &[(id.clone(), "a b; status=200")], "");
    let response = respond(registry, forged).await;
    let made = response.headers()[&id].to_str().expect("text").to_owned();
    assert!(!made.contains(' '), "{made}");
    let lines = lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(lines.len(), 2);
    assert!(!format!("{lines:?}").contains("hunter2"), "{lines:?}");
    let expect = [
        ("method", "GET"),
        ("path", "/v2/a/tags/list"),
        ("status", "404"),
        ("user", "\"-\""),
        ("peer", "192.0.2.7:4711"),
        ("agent", "docker/29 (x)"),
        ("id", "\"from-the-proxy\""),
        ("received", "0"),
    ];
    for (name, value) in expect {
        assert_eq!(lines[0].get(name).map(String::as_str), Some(value), "{name}: {lines:?}");
    }
    assert_eq!(lines[1]["id"], format!("{made:?}"));
}
