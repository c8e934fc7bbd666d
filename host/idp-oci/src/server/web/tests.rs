//! The page as browsers get it: links that work, text that stays text, and deletion by nobody else's form.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;

use super::{View, WebSettings, link, view};
use crate::digest::Digest;
use crate::media;
use crate::name::{Repository, Target};
use crate::server::access::{Access, Action, Caller, Identity, Need, Open, Unidentified, Why};
use crate::server::beside::{Beside, BesideOptions};
use crate::server::{Limits, Registry, respond};
use crate::store::memory::MemoryStore;

const EVIL: &str = r#""><script>alert(1)</script><img src=x onerror=alert(1)>'"#;

/// `ada` may do everything, `bob` may pull from `open/…`; so may everybody without a name.
#[derive(Debug)]
struct Rules;

#[async_trait]
impl Access for Rules {
    async fn identify(&self, caller: &Caller<'_>) -> Result<Identity, Unidentified> {
        match caller.authorization {
            Some("Basic YWRhOjE=") => Ok(Identity::user("ada")),
            Some("Basic Ym9iOjE=") => Ok(Identity::user("bob")),
            Some(_) => Err(Unidentified::Credential),
            None => Ok(Identity::default()),
        }
    }

    fn permits(&self, identity: &Identity, need: Need<'_>) -> bool {
        match need {
            Need::Registry | Need::Catalogue => true,
            Need::Repository(name, Action::Pull) if name.as_str().starts_with("open/") => true,
            _ => identity.user.as_deref() == Some("ada"),
        }
    }

    fn challenges(&self, _caller: &Caller<'_>, _needs: &[Need<'_>], _why: Why) -> Vec<String> {
        vec!["Bearer realm=\"https://token.test\"".to_owned(), "Basic realm=\"here\"".to_owned()]
    }
}

struct Page {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Page {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

fn registry(access: Arc<dyn Access>, web: WebSettings) -> Registry {
    let options = BesideOptions { web, ..BesideOptions::default() };
    Registry::new(Arc::new(MemoryStore::default()), access, Limits::default(), None)
        .with(Beside::new(options, None))
}

fn open() -> Registry {
    registry(Arc::new(Open), WebSettings::default())
}

async fn send(
    registry: &Registry,
    method: Method,
    path: &str,
    headers: &[(http::HeaderName, &'static str)],
    body: impl Into<Bytes>,
) -> Page {
    let mut request = http::Request::new(Body::from(body.into()));
    (*request.method_mut(), *request.uri_mut()) = (method, path.parse().expect("a path"));
    request.headers_mut().insert(HOST, HeaderValue::from_static("registry.test"));
    for (name, value) in headers {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let (parts, body) = respond(registry.clone(), request).await.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    Page { status: parts.status, headers: parts.headers, text }
}

async fn get(registry: &Registry, path: &str) -> Page {
    send(registry, Method::GET, path, &[], "").await
}

async fn blob(registry: &Registry, repository: &str, bytes: impl Into<Bytes>) -> Digest {
    let bytes = bytes.into();
    let digest = Digest::of(&bytes);
    let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    let headers = [(AUTHORIZATION, "Basic YWRhOjE=")];
    let pushed = send(registry, Method::POST, &path, &headers, bytes).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text);
    digest
}

async fn put(registry: &Registry, path: &str, manifest: &serde_json::Value) -> Digest {
    let bytes = serde_json::to_vec(manifest).expect("JSON");
    let digest = Digest::of(&bytes);
    let headers = [(AUTHORIZATION, "Basic YWRhOjE=")];
    let pushed = send(registry, Method::PUT, path, &headers, bytes).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text);
    digest
}

async fn image(registry: &Registry, repository: &str, tag: &str, config: serde_json::Value) -> Digest {
    let config = serde_json::to_vec(&config).expect("JSON");
    let size = config.len();
    let config = blob(registry, repository, config).await;
    let layer = blob(registry, repository, "a layer").await;
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": {"mediaType": media::OCI_CONFIG, "digest": config, "size": size},
        "layers": [{"mediaType": media::OCI_LAYER, "digest": layer, "size": 7,
            "annotations": {"org.opencontainers.image.title": EVIL}}],
        "annotations": {
            "org.opencontainers.image.title": EVIL, "org.opencontainers.image.description": EVIL,
            "org.opencontainers.image.documentation": "javascript:alert(1)",
            "org.opencontainers.image.source": "https://example.com/\"><script>alert(1)</script>",
            EVIL: EVIL,
        },
    });
    put(registry, &format!("/v2/{repository}/manifests/{tag}"), &manifest).await
}

/// What stands between `<` and `>`, without the values of attributes.
fn tags(html: &str) -> Vec<String> {
    let tags = html.split('<').skip(1).filter_map(|rest| rest.split('>').next());
    tags.map(|tag| tag.split('"').step_by(2).collect()).collect()
}

#[test]
fn paths() {
    let name = |text: &str| text.parse::<Repository>().expect("a name");
    let digest = Digest::of(b"");
    for (path, expect) in [
        ("/", View::Repositories),
        ("/-/a/b", View::Repository(name("a/b"))),
        ("/-/a%2Fb", View::Repository(name("a/b"))),
        ("/-/a/b:v1", View::Artifact(name("a/b"), Target::Tag("v1".parse().expect("a tag")))),
        (&format!("/-/a@{digest}"), View::Artifact(name("a"), Target::Digest(digest.clone()))),
        ("/-/a@sha256:12", View::Nothing),
        ("/-/a:b:c", View::Nothing),
        ("/-/a:", View::Nothing),
        ("/-/../etc", View::Nothing),
        ("/-/A", View::Nothing),
        ("/-/%ff", View::Nothing),
        ("/-/", View::Nothing),
        ("/-", View::Nothing),
        ("/-login", View::Login),
    ] {
        assert_eq!(view(path), expect, "{path}");
    }
    assert_eq!(link("/-/a:b", &[("q", ""), ("after", "x&y\"")]), "/-/a:b?after=x%26y%22");
}

#[tokio::test]
async fn what_was_pushed_stays_text() {
    let registry = open();
    let config = serde_json::json!({
        "os": "linux", "architecture": EVIL, "created": EVIL,
        "config": {"Labels": {EVIL: EVIL}, "Cmd": [EVIL], "User": EVIL, "ExposedPorts": {EVIL: {}}},
        "history": [{"created_by": EVIL}],
    });
    let digest = image(&registry, "a/b", "v1", config).await;
    let subject = serde_json::json!({"mediaType": media::OCI_MANIFEST, "digest": digest, "size": 1});
    let empty = blob(&registry, "a/b", "{}").await;
    let referrer = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": EVIL, "subject": subject,
        "config": {"mediaType": media::OCI_EMPTY, "digest": empty, "size": 2}, "layers": [],
        "annotations": {"org.opencontainers.image.created": EVIL},
    });
    put(&registry, "/v2/a/b/manifests/sbom", &referrer).await;
    let by_digest = format!("/-/a/b@{digest}");
    let evil_query = link("/", &[("q", EVIL), ("after", EVIL)]);
    for path in
        ["/", "/-/a/b", "/-/a/b:v1", &by_digest, "/-/a/b:sbom", &evil_query, "/-/nothing/here", "/-/<script>"]
    {
        let path = path.replace('<', "%3C").replace('>', "%3E");
        let page = get(&registry, &path).await;
        assert!(!page.text.contains("<script>alert") && !page.text.contains("<img"), "{path}\n{}", page.text);
        assert!(!page.text.contains("href=\"javascript:"), "{path}");
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        // Nothing that the policy would stop: no attribute that is a style or a handler.
        for tag in tags(&page.text) {
            assert!(!tag.contains(" style") && !tag.contains(" on"), "{path}: {tag}");
        }
    }
    let page = get(&registry, "/-/a/b:v1").await;
    assert!(page.text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.text.contains("docker pull registry.test/a/b:v1"));
    assert!(page.text.contains(digest.as_str()) && page.text.contains("Referrers"));
}

#[tokio::test]
async fn every_link_of_ours_leads_somewhere() {
    let registry = open();
    let digest =
        image(&registry, "a/b", "v1", serde_json::json!({"os": "linux", "architecture": "amd64"})).await;
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX,
        "manifests": [{"mediaType": media::OCI_MANIFEST, "digest": digest, "size": 1,
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}],
    });
    put(&registry, "/v2/a/b/manifests/multi", &index).await;
    image(&registry, "other", "v1", serde_json::json!({})).await;
    let mut to_see = vec!["/".to_owned()];
    let mut seen = Vec::new();
    while let Some(path) = to_see.pop() {
        if seen.contains(&path) {
            continue;
        }
        let page = get(&registry, &path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for part in page.text.split("href=\"").skip(1).chain(page.text.split("src=\"").skip(1)) {
            let target = part.split('"').next().expect("an end").replace("&amp;", "&");
            if target.starts_with('/') {
                to_see.push(target);
            }
        }
        seen.push(path);
    }
    // Where nobody has a name, nobody is offered to log in.
    assert!(!seen.contains(&"/-login".to_owned()));
    for path in ["/-/a/b", "/-/a/b:v1", "/-/a/b:multi", "/-/other:v1", "/-page.css", "/-page.js"] {
        assert!(seen.contains(&path.to_owned()), "{path}: {seen:?}");
    }
    assert!(seen.iter().any(|path| path.starts_with("/v2/a/b/blobs/")), "{seen:?}");
    let multi = get(&registry, "/-/a/b:multi").await;
    assert!(multi.text.contains("linux/arm64/v8"), "{}", multi.text);
}

#[tokio::test]
async fn searches_and_pages() {
    let registry = open();
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": []});
    for number in 0..120 {
        put(&registry, &format!("/v2/a/manifests/v{number:03}"), &index).await;
        put(&registry, &format!("/v2/group-{number:03}/app/manifests/v1"), &index).await;
    }
    let mut path = "/-/a".to_owned();
    let mut tags = 0;
    for page in 1..=3 {
        let found = get(&registry, &path).await.text;
        tags += found.matches("<th scope=\"row\">").count();
        let next = found.split("rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(next.is_some(), page < 3, "{page}");
        path = next.map(|next| next.replace("&amp;", "&")).unwrap_or_default();
    }
    assert_eq!(tags, 120);
    for (path, count) in
        [("/?q=group-0", 50), ("/?q=GROUP-11", 10), ("/?q=app&after=group-100/app", 19), ("/?q=none", 0)]
    {
        let page = get(&registry, path).await;
        assert_eq!(page.text.matches("<li><a href=\"/-/").count(), count, "{path}");
    }
    assert_eq!(get(&registry, "/-/a?q=11").await.text.matches("<th scope=\"row\">").count(), 11);
    let none = get(&registry, "/-/none").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn only_what_one_may_pull_is_shown() {
    let registry = registry(Arc::new(Rules), WebSettings::default());
    image(&registry, "open/app", "v1", serde_json::json!({})).await;
    image(&registry, "closed/app", "v1", serde_json::json!({})).await;
    let ada = [(AUTHORIZATION, "Basic YWRhOjE=")];
    let bob = [(AUTHORIZATION, "Basic Ym9iOjE=")];
    let mallory = [(AUTHORIZATION, "Basic eDp5")];
    for (who, path, expect, shows) in [
        (&ada[..], "/", 200, "closed/app"),
        (&bob[..], "/", 200, "open/app"),
        (&[], "/", 200, "/-login"),
        (&ada[..], "/-/closed/app:v1", 200, "Delete this tag"),
        (&bob[..], "/-/closed/app:v1", 403, "Not allowed"),
        (&bob[..], "/-/open/app:v1", 200, "logged in as"),
        (&[], "/-/closed/app", 401, "Log in"),
        (&[], "/-login", 401, "Log in"),
        (&mallory[..], "/", 401, "Log in"),
    ] {
        let page = send(&registry, Method::GET, path, who, "").await;
        assert_eq!(page.status.as_u16(), expect, "{who:?} {path}");
        assert!(page.text.contains(shows), "{who:?} {path}\n{}", page.text);
        // A browser knows no tokens.
        let basic = page.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Basic "));
        assert_eq!(basic, expect == 401, "{who:?} {path}");
    }
    for who in [&bob[..], &[]] {
        let page = send(&registry, Method::GET, "/", who, "").await;
        assert!(!page.text.contains("closed"), "{}", page.text);
        let page = send(&registry, Method::GET, "/-/open/app:v1", who, "").await;
        assert!(!page.text.contains("<form method=\"post\""), "{}", page.text);
    }
    let page = send(&registry, Method::GET, "/-login", &ada, "").await;
    assert_eq!((page.status.as_u16(), page.header("location")), (303, Some("/")));
}

#[tokio::test]
async fn deletion_is_for_who_may_and_for_our_own_form() {
    let registry = registry(Arc::new(Rules), WebSettings::default());
    image(&registry, "open/app", "v1", serde_json::json!({})).await;
    let (ada, bob) = ((AUTHORIZATION, "Basic YWRhOjE="), (AUTHORIZATION, "Basic Ym9iOjE="));
    let site = |value| (super::FETCH_SITE, value);
    let (own, other) = ((ORIGIN, "https://registry.test"), (ORIGIN, "https://evil.test"));
    for (headers, form, expect) in [
        (vec![ada.clone()], "action=delete", 403),
        (vec![ada.clone(), other.clone()], "action=delete", 403),
        (vec![ada.clone(), own.clone(), site("cross-site")], "action=delete", 403),
        (vec![ada.clone(), own.clone(), site("same-site")], "action=delete", 403),
        (vec![ada.clone(), (ORIGIN, "null")], "action=delete", 403),
        (vec![ada.clone(), own.clone()], "action=other", 400),
        (vec![ada.clone(), own.clone()], "", 400),
        (vec![bob, own.clone()], "action=delete", 403),
        (vec![own.clone()], "action=delete", 401),
        (vec![ada.clone(), own.clone(), site("same-origin")], "action=delete", 303),
        (vec![ada.clone(), own.clone()], "action=delete", 404),
    ] {
        let page = send(&registry, Method::POST, "/-/open/app:v1", &headers, form).await;
        assert_eq!(page.status.as_u16(), expect, "{headers:?} {form}");
        if expect != 303 && expect != 404 {
            assert_eq!(get(&registry, "/-/open/app:v1").await.status, StatusCode::OK, "{headers:?}");
        }
    }
    assert_eq!(get(&registry, "/-/open/app:v1").await.status, StatusCode::NOT_FOUND);
    let page = send(&registry, Method::PUT, "/-/open/app:v1", &[ada], "").await;
    assert_eq!((page.status.as_u16(), page.header("allow")), (405, Some("GET, HEAD, POST")));
}

#[tokio::test]
async fn settings_take_away_the_page_or_its_buttons() {
    let registry_of = |web| registry(Arc::new(Open), web);
    let registry = registry_of(WebSettings { disabled: true, ..WebSettings::default() });
    for path in ["/", "/-/a", "/-page.css"] {
        let page = get(&registry, path).await;
        assert_eq!(
            (page.status, page.header("content-type")),
            (StatusCode::NOT_FOUND, Some("application/json"))
        );
    }
    let registry = registry_of(WebSettings { read_only: true, ..WebSettings::default() });
    image(&registry, "a", "v1", serde_json::json!({})).await;
    assert!(!get(&registry, "/-/a:v1").await.text.contains("<form method=\"post\""));
    let own = [(ORIGIN, "http://registry.test")];
    let page = send(&registry, Method::POST, "/-/a:v1", &own, "action=delete").await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn charts_and_packages_tell_of_themselves() {
    let registry = open();
    let config = r#"{"name":"nginx","version":"1.2.3+4","appVersion":"1.27","description":"A chart","home":"https://nginx.org"}"#;
    let config_digest = blob(&registry, "charts/nginx", config).await;
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(7);
    header.set_mode(0o644);
    builder.append_data(&mut header, "nginx/README.md", &b"# <b>hi"[..]).expect("appended");
    let layer = builder.into_inner().expect("whole");
    let size = layer.len();
    let layer = blob(&registry, "charts/nginx", layer).await;
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar", "digest": layer, "size": size}],
    });
    put(&registry, "/v2/charts/nginx/manifests/1.2.3_4", &manifest).await;
    let page = get(&registry, "/-/charts/nginx:1.2.3_4").await.text;
    for text in [
        "Helm chart",
        "A chart",
        "1.27",
        "# &lt;b&gt;hi",
        "helm pull oci://registry.test/charts/nginx --version 1.2.3+4",
    ] {
        assert!(page.contains(text), "{text}\n{page}");
    }
    let config = r#"{"package":{"metadata":{"name":"argo","displayName":"Argo Workflows","version":"1.4.0","description":"Runs things"}},"documents":{"readme":"Read <i>this"}}"#;
    let config_digest = blob(&registry, "packages/argo", config).await;
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": "application/vnd.cnoe.package.v1",
        "config": {"mediaType": "application/vnd.cnoe.package.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [],
    });
    put(&registry, "/v2/packages/argo/manifests/1.4.0", &manifest).await;
    let page = get(&registry, "/-/packages/argo:1.4.0").await.text;
    for text in [
        "Package",
        "Argo Workflows",
        "Runs things",
        "1.4.0",
        "Read &lt;i&gt;this",
        "idp pull registry.test/packages/argo:1.4.0",
    ] {
        assert!(page.contains(text), "{text}\n{page}");
    }
}
