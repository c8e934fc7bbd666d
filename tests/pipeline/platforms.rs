//! One platform of several, and rehearsals.

use idp_test_support::images::TestImage;

use super::{digest, image, registries, sandbox};

#[tokio::test]
async fn one_of_three() {
    let Some(registry) = registries::distribution_3(false).await else { return };
    let sandbox = sandbox();
    let made = TestImage::index().expect("an image");
    let source = image::layout(&sandbox, &made, "in");
    let whole = made.contents[made.digest()].bytes().expect("in memory");
    let whole: serde_json::Value = serde_json::from_slice(&whole).expect("JSON");
    let arm64 = whole["manifests"][1]["digest"].as_str().expect("a digest");

    let reference = registry.reference("app:1");
    let rehearsed = sandbox.idp(["push", "--dry-run", &source, &reference]).exits(0);
    assert_eq!(digest(&rehearsed), made.digest());
    let asked = registry.requests().await.expect("an access log");
    assert!(asked.iter().all(|one| one.method == "GET"), "a rehearsal writes nothing: {asked:?}");

    let _ = sandbox.idp(["push", &source, &reference]).exits(0);
    let pulled = sandbox.idp(["pull", "--platform", "linux/arm64", &reference, "oci:arm:1"]).exits(0);
    assert_eq!(digest(&pulled), arm64);
    let found = image::blobs(&sandbox.path("work/arm"));
    // Its manifest, its config, its two layers.
    assert_eq!((image::roots(&sandbox.path("work/arm")), found.len()), (vec![arm64.to_owned()], 4));

    let one = registry.reference("one:1");
    let pushed = sandbox.idp(["push", "--platform", "linux/arm64", &source, &one]).exits(0);
    assert_eq!(digest(&pushed), arm64);

    let missing = sandbox.idp(["pull", "--platform", "linux/s390x", &reference, "oci:none:1"]);
    assert!([1, 2].contains(&missing.code) && missing.stderr.contains("s390x"), "{missing}");
    assert!(!sandbox.path("work/none").exists(), "{missing}");
}
