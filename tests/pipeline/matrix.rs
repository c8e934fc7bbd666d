//! Every registry with every kind of image: what is pulled is what was pushed, and a second push sends nothing.

use idp_test_support::peers::Access;

use super::registries::{self, Registry};
use super::{digest, image, json, sandbox};

/// Whether a request carries or announces bytes of a blob.
fn sends_blob(one: &Access) -> bool {
    ["POST", "PUT", "PATCH"].contains(&one.method.as_str()) && one.target.contains("/blobs/")
}

async fn there_and_back(registry: Option<Registry>) {
    let Some(registry) = registry else { return };
    for (name, made) in image::kinds() {
        let sandbox = sandbox();
        registry.log_in(&sandbox);
        let source = image::layout(&sandbox, &made, "in");
        let reference = format!("{}:1", registry.reference(name));

        let pushed = sandbox.idp(["push", &source, &reference]);
        if registry.provider == "gitea" && name == "foreign-layer" {
            // It wants every layer's bytes, also of those that are elsewhere.
            assert!(pushed.exits(2).stderr.contains("names content that is not in this repository"));
            continue;
        }
        let pushed = pushed.exits(0);
        assert_eq!(digest(&pushed), made.digest(), "{name}: {pushed}");
        let through = format!("through provider {}", registry.provider);
        assert!(pushed.stderr.contains(&through), "{name}: {pushed}");

        let before = registry.requests().await;
        let again = sandbox.idp(["push", &source, &reference, "--output", "json"]).exits(0);
        let told = json(&again);
        assert_eq!((&told["blobs-sent"], &told["bytes-sent"]), (&0.into(), &0.into()), "{name}: {again}");
        if let (Some(before), Some(after)) = (before, registry.requests().await) {
            let new = &after[before.len()..];
            assert!(!new.is_empty(), "{name}: an access log that logs nothing");
            assert!(!new.iter().any(sends_blob), "{name}: a second push sends blobs: {new:#?}");
        }

        let pulled = sandbox.idp(["pull", &reference, "oci:out:1"]).exits(0);
        assert_eq!(digest(&pulled), made.digest(), "{name}: {pulled}");
        image::assert_holds(&sandbox.path("work/out"), &made);
    }
}

macro_rules! registries {
    ($($name:ident => $start:expr),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            there_and_back($start).await;
        }
    )*};
}

registries! {
    distribution_2_open => registries::distribution_2(false).await,
    distribution_2_htpasswd => registries::distribution_2(true).await,
    distribution_3_open => registries::distribution_3(false).await,
    distribution_3_htpasswd => registries::distribution_3(true).await,
    olareg_open => registries::olareg_open().await,
    olareg_basic => registries::olareg_basic().await,
    olareg_token => registries::olareg_token().await,
    crane => registries::crane().await,
    zot_open => registries::zot(false).await,
    zot_htpasswd => registries::zot(true).await,
    gitea => registries::gitea().await,
}

#[tokio::test]
async fn own_in_memory() {
    let home = sandbox();
    there_and_back(Some(registries::own(&home, true, false))).await;
}

#[tokio::test]
async fn own_on_disk_htpasswd() {
    let home = sandbox();
    there_and_back(Some(registries::own(&home, false, true))).await;
}
