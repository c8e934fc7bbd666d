//! Compiled code: kept, checked, made anew.

use std::path::PathBuf;

use idp::provider::{CallContext, Providers, ProvidersConfig, SelectRequest};

use crate::support::guest;

async fn load(home: &std::path::Path, executable: &str) -> Result<(), String> {
    let config = ProvidersConfig {
        keep_compiled: Some(true),
        executable: Some(executable.into()),
        ..ProvidersConfig::below(home)
    };
    let providers = Providers::new(config);
    let registry: idp_oci::name::Registry = "r.example".parse().expect("a registry");
    let mut request = SelectRequest::new(registry.clone(), "https");
    request.flag = Some(guest("odd.wasm"));
    let selection = providers.select(&request, async { None }).await.map_err(|error| error.to_string())?;
    let context = CallContext::new(registry, "https", "push");
    let provider = providers.load(&selection, context).await.map_err(|error| error.to_string())?;
    provider.describe().await.map(|_| ()).map_err(|error| error.to_string())
}

fn entry(home: &std::path::Path) -> PathBuf {
    let mut entries = std::fs::read_dir(home.join("cache")).expect("the cache");
    entries.next().expect("an entry").expect("an entry").path()
}

/// `/bin/false` compiles nothing, so what loads with it came out of the cache.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_noticed_and_the_code_is_made_anew() {
    let home = tempfile::tempdir().expect("a directory");
    let idp = env!("CARGO_BIN_EXE_idp");
    assert!(load(home.path(), "/bin/false").await.is_err(), "nothing is compiled yet");
    load(home.path(), idp).await.expect("compiled");
    load(home.path(), "/bin/false").await.expect("out of the cache");
    let path = entry(home.path());
    let good = std::fs::read(&path).expect("an entry");
    for at in [0, 40, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, bad).expect("written");
        let error = load(home.path(), "/bin/false").await.expect_err("a miss");
        assert!(error.contains("compile"), "{error}");
    }
    load(home.path(), idp).await.expect("compiled again");
    assert_eq!(std::fs::read(&path).expect("an entry").len(), good.len());
    load(home.path(), "/bin/false").await.expect("out of the cache again");
    std::fs::remove_file(home.path().join("providers/compiled.key")).expect("removed");
    assert!(load(home.path(), "/bin/false").await.is_err(), "without the key nothing is believed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_that_is_killed_is_a_clear_error() {
    let home = tempfile::tempdir().expect("a directory");
    let script = home.path().join("killed");
    std::fs::write(&script, "#!/bin/sh\nkill -9 $$\n").expect("written");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).expect("permissions");
    let error = load(home.path(), &script.display().to_string()).await.expect_err("killed");
    assert!(error.contains("was stopped"), "{error}");
}
