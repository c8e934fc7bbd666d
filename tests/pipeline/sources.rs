//! Sources and destinations on disk.

use idp_test_support::images::TestImage;

use super::{digest, image, registries, sandbox};

#[test]
fn an_archive_of_a_layout_there_and_back() {
    let sandbox = sandbox();
    let registry = registries::own(&sandbox, true, false);
    let made = TestImage::index().expect("an image");
    made.write_oci_archive(&sandbox.path("work/in.tar"), Some("1")).expect("written");
    let reference = registry.reference("app:1");
    assert_eq!(digest(&sandbox.idp(["push", "oci-archive:in.tar:1", &reference]).exits(0)), made.digest());
    let _ = sandbox.idp(["pull", &reference, "oci-archive:out.tar:1"]).exits(0);
    let copy = registry.reference("copy:1");
    assert_eq!(digest(&sandbox.idp(["push", "oci-archive:out.tar:1", &copy]).exits(0)), made.digest());
    let _ = sandbox.idp(["pull", &copy, "oci:out:1"]).exits(0);
    image::assert_holds(&sandbox.path("work/out"), &made);
}

/// Both forms of `docker save` have the same file systems in them, and so has what is pulled to an archive and pushed again.
#[test]
fn what_docker_saves() {
    let sandbox = sandbox();
    let registry = registries::own(&sandbox, true, false);
    let made = TestImage::same_layer_twice().expect("an image");
    made.write_docker_classic(&sandbox.path("work/classic.tar"), &["app:1"]).expect("written");
    made.write_docker_25(&sandbox.path("work/new.tar"), &["app:1"]).expect("written");
    let mut diff_ids = Vec::new();
    for (name, source) in [("classic", "docker-archive:classic.tar"), ("new", "docker-archive:new.tar:app:1")]
    {
        let reference = registry.reference(&format!("{name}:1"));
        let pushed = sandbox.idp(["push", source, &reference]).exits(0);
        let _ = sandbox.idp(["pull", &reference, &format!("oci-archive:{name}-out.tar:1")]).exits(0);
        let again = registry.reference(&format!("{name}-again:1"));
        let _ = sandbox.idp(["push", &format!("oci-archive:{name}-out.tar:1"), &again]).exits(0);
        for (reference, dir) in [(reference, name.to_owned()), (again, format!("{name}-again"))] {
            let _ = sandbox.idp(["pull", &reference, &format!("oci:{dir}:1")]).exits(0);
            let blobs = image::blobs(&sandbox.path(&format!("work/{dir}")));
            let document =
                |digest: &str| -> serde_json::Value { serde_json::from_slice(&blobs[digest]).expect("JSON") };
            let root = &image::roots(&sandbox.path(&format!("work/{dir}")))[0];
            let config = document(root)["config"]["digest"].as_str().expect("a digest").to_owned();
            diff_ids.push(document(&config)["rootfs"]["diff_ids"].clone());
        }
        assert!(digest(&pushed).starts_with("sha256:"));
    }
    assert_eq!(diff_ids.len(), 4);
    assert_eq!(diff_ids[0].as_array().map(Vec::len), Some(3));
    assert!(diff_ids.iter().all(|ids| *ids == diff_ids[0]), "{diff_ids:#?}");
}
