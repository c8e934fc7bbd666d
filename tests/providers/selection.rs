//! Selection, as `provider why` and `registry detect` print it.

use idp::provider::{Evidence, Providers, ProvidersConfig, SelectRequest};
use idp_oci::client::dialect::Answer;

use crate::support::{Server, guest, json};

fn providers(home: &std::path::Path) -> Providers {
    Providers::new(ProvidersConfig {
        keep_compiled: Some(false),
        executable: Some(env!("CARGO_BIN_EXE_idp").into()),
        components: vec![guest("odd.wasm").into()],
        ..ProvidersConfig::below(home)
    })
}

fn request(registry: &str) -> SelectRequest {
    SelectRequest::new(registry.parse().expect("a registry"), "http")
}

#[tokio::test(flavor = "multi_thread")]
async fn flag_configuration_and_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let providers = providers(home.path());
    let never = || async { panic!("it is decided without asking") };
    let mut wanted = request("r.example");
    wanted.configured = Some("generic".to_owned());
    let selection = providers.select(&wanted, never()).await.expect("selected");
    assert_eq!(selection.evidence, [Evidence::Configured("generic".to_owned())]);
    wanted.flag = Some(guest("odd.wasm"));
    let selection = providers.select(&wanted, never()).await.expect("selected");
    assert_eq!(selection.evidence, [Evidence::Flag(guest("odd.wasm"))]);
    wanted.flag = Some("nobody".to_owned());
    assert!(providers.select(&wanted, never()).await.is_err());
    let selection = providers.select(&request("r.example"), async { None }).await.expect("selected");
    assert_eq!(selection.provider.manifest.name, "generic");
    assert_eq!(selection.evidence, [Evidence::NoAnswer, Evidence::Generic]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detection_is_kept() {
    let home = tempfile::tempdir().expect("a directory");
    let providers = providers(home.path());
    let answer = Answer {
        method: "GET".to_owned(),
        url: "http://r.example/v2/".to_owned(),
        status: 200,
        headers: Vec::new(),
        body: String::new(),
    };
    let first =
        providers.select(&request("r.example"), async { Some(answer.clone()) }).await.expect("selected");
    assert_eq!(first.evidence, [Evidence::Generic]);
    let again = providers.select(&request("r.example"), async { panic!("known") }).await.expect("selected");
    assert!(matches!(again.evidence.as_slice(), [Evidence::Detected { .. }]), "{:?}", again.evidence);
    let fresh = SelectRequest { fresh: true, ..request("r.example") };
    let third = providers.select(&fresh, async { Some(answer) }).await.expect("selected");
    assert_eq!(third.evidence, [Evidence::Generic]);
}

/// A registry that is down, starting or behind a proxy's error page is asked again by the next command.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_registrys_answer_is_not_kept() {
    let home = tempfile::tempdir().expect("a directory");
    let providers = providers(home.path());
    for status in [None, Some(302), Some(403), Some(404), Some(429), Some(502)] {
        let answer = status.map(|status| Answer {
            method: "GET".to_owned(),
            url: "http://r.example/v2/".to_owned(),
            status,
            headers: Vec::new(),
            body: String::new(),
        });
        let selection = providers.select(&request("r.example"), async { answer }).await.expect("selected");
        assert_eq!(selection.provider.manifest.name, "generic");
        assert_eq!(providers.detections().get("http://r.example"), None, "{status:?}");
    }
}

/// The answer to `GET /v2/` looks like Gitea; the component asks once, and is sure.
#[tokio::test(flavor = "multi_thread")]
async fn a_gitea_is_recognised_with_one_request() {
    let server = Server::start(|seen| match seen.uri.path() {
        "/api/v1/version" => json(200, r#"{"version":"1.22.3"}"#),
        _ => json(404, "{}"),
    })
    .await;
    let home = tempfile::tempdir().expect("a directory");
    let providers = providers(home.path());
    let realm = server.url("/v2/token");
    let challenge = format!("Bearer realm=\"{realm}\",service=\"container_registry\",scope=\"*\"");
    let answer = Answer {
        method: "GET".to_owned(),
        url: server.url("/v2/"),
        status: 401,
        headers: vec![("www-authenticate".to_owned(), challenge)],
        body: String::new(),
    };
    let selection =
        providers.select(&request(&server.address), async { Some(answer) }).await.expect("selected");
    assert_eq!(selection.provider.manifest.name, "gitea", "{:?}", selection.evidence);
    assert!(
        selection.evidence.iter().any(|found| matches!(found, Evidence::Identified { certainty: 50.., .. })),
        "{:?}",
        selection.evidence
    );
    assert_eq!(server.seen().len(), 1, "{:?}", server.seen());
    assert!(server.seen()[0].header("authorization").is_none());
}
