//! Files that are given as providers and are none, or not ours to run.

use idp::provider::{Failure, Providers};

use crate::support::{Setup, config, guest};

#[test]
fn what_is_no_provider_is_refused_before_anything_runs() {
    let providers = Providers::new(config());
    for (name, failure, words) in [
        ("bad-empty.wasm", Failure::Unusable, "not a WebAssembly component"),
        ("bad-text.wasm", Failure::Unusable, "not a WebAssembly component"),
        ("bad-truncated.wasm", Failure::Unusable, "not a WebAssembly component"),
        ("bad-module.wasm", Failure::Unusable, "core module"),
        ("bad-no-manifest.wasm", Failure::Unusable, "idp:provider"),
        ("bad-contract.wasm", Failure::Incompatible, "needs idp ≥ 9.9"),
        ("bad-schema.wasm", Failure::Incompatible, "newer idp"),
        ("bad-misspelt.wasm", Failure::Unusable, "unknown field"),
        ("bad-name.wasm", Failure::Unusable, "name"),
        ("bad-toml.wasm", Failure::Unusable, "does not parse"),
        ("bad-utf8.wasm", Failure::Unusable, "UTF-8"),
        ("bad-manifest-large.wasm", Failure::Unusable, "65536"),
        ("bad-manifest-twice.wasm", Failure::Unusable, "2 `idp:provider` sections"),
    ] {
        let error = providers.show(&guest(name)).map(|info| format!("{info:?}")).expect_err(name);
        assert_eq!(error.failure, failure, "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    let elf = std::env::current_exe().expect("this file").display().to_string();
    let error = providers.show(&elf).expect_err("refused");
    assert!(error.to_string().contains("precompiled") || error.to_string().contains("bytes"), "{error}");
    assert!(providers.show("./does-not-exist.wasm").is_err());
    let error = providers.show("nobody").expect_err("refused");
    assert!(error.to_string().contains("generic"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_imports_and_must_not_is_named() {
    let error = Setup::new(guest("chaos-sockets.wasm"), "r.example").load().await.expect_err("refused");
    assert_eq!(error.code, "provider-incompatible");
    assert!(error.message.contains("wasi:sockets/"), "{error}");
    assert!(error.message.contains("providers use idp:registry-provider/http"), "{error}");
    let error =
        Setup::new(guest("bad-nothing-exported.wasm"), "r.example").load().await.expect_err("refused");
    assert!(error.message.contains("idp:registry-provider/provider"), "{error}");
}

#[test]
fn safe_mode_takes_no_files() {
    let config = idp::provider::ProvidersConfig {
        builtin_only: true,
        components: vec![guest("odd.wasm").into()],
        ..config()
    };
    let providers = Providers::new(config);
    assert!(providers.show(&guest("odd.wasm")).is_err());
    assert!(providers.list().iter().all(|info| info.source.to_string() == "built in"));
}
