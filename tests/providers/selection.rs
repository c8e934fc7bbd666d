//! Selection, as `provider why` and `registry detect` print it.

use idp::provider::{Evidence, Providers, ProvidersConfig, SelectRequest};
use idp_oci::client::dialect::Answer;

use crate::support::guest;

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
