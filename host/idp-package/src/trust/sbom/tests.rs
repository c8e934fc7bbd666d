//! Documents about one package. Both snapshots were validated: against the schemas of SPDX 2.3 and CycloneDX 1.6, and by `spdx-tools`
//! and `cyclonedx-python-lib`. Whoever changes them validates them again.

use idp_oci::digest::Digest;
use serde_json::Value;

use super::{DependencyFacts, FileFacts, Format, ImageFacts, PackageFacts, Reference, Timestamp, purl, spdx};

fn facts() -> PackageFacts {
    let file = |path: &str, content: &[u8]| FileFacts {
        path: path.to_owned(),
        size: content.len() as u64,
        sha256: Digest::of(content).hex().to_owned(),
        sha1: Some(spdx::sha1(content)),
    };
    PackageFacts {
        name: "argo-workflows".to_owned(),
        version: "1.4.0".to_owned(),
        digest: Digest::of(b"manifest"),
        repository: Some("registry.example:5000/platform/argo-workflows".to_owned()),
        description: Some("Workflows".to_owned()),
        licenses: Some("Apache-2.0 OR MIT".to_owned()),
        supplier: Some("A platform team".to_owned()),
        files: vec![file("manifests/a b.yaml", b"a: 1\n"), file("manifests/b.yaml", b"b: 1\n")],
        images: vec![
            ImageFacts { reference: "nginx:1.27".to_owned(), digest: None },
            ImageFacts {
                reference: "registry.example:5000/x/controller:v1@sha256:00".to_owned(),
                digest: Some(Digest::of(b"image")),
            },
        ],
        dependencies: vec![DependencyFacts {
            name: "cert-manager".to_owned(),
            version: "1.14.2".to_owned(),
            repository: Some("registry.example/x/cert-manager".to_owned()),
            digest: Digest::of(b"dependency"),
        }],
        created: Timestamp::from_unix(1_700_000_000).expect("a time"),
        tool_version: "0.1.0".to_owned(),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

#[test]
fn spdx_document() {
    insta::assert_snapshot!(pretty(&Format::Spdx.document(&facts())));
}

#[test]
fn cyclonedx_document() {
    insta::assert_snapshot!(pretty(&Format::CycloneDx.document(&facts())));
}

/// A package of dependencies alone, and one about which little is known.
#[test]
fn little_is_known() {
    let mut facts = facts();
    facts.files.clear();
    facts.images.clear();
    facts.dependencies.clear();
    (facts.repository, facts.supplier, facts.description) = (None, None, None);
    facts.licenses = Some("what we like".to_owned());
    let spdx = Format::Spdx.document(&facts);
    assert_eq!(spdx["packages"][0]["licenseDeclared"], "NOASSERTION");
    assert_eq!(spdx["packages"][0]["filesAnalyzed"], false);
    assert!(spdx.get("files").is_none());
    let cyclonedx = Format::CycloneDx.document(&facts);
    assert_eq!(cyclonedx["metadata"]["component"]["licenses"][0]["license"]["name"], "what we like");
    assert_eq!(cyclonedx["components"], serde_json::json!([]));
}

/// Where a file's SHA-1 digest is not known, there is no code of all of them.
#[test]
fn without_sha1() {
    let mut facts = facts();
    facts.files[1].sha1 = None;
    let document = Format::Spdx.document(&facts);
    assert!(document["packages"][0].get("packageVerificationCode").is_none());
    assert_eq!(document["files"][1]["checksums"].as_array().map(Vec::len), Some(1));
}

/// Of `printf 'a: 1\n' | sha1sum` and the other, sorted, joined, and `sha1sum`.
#[test]
fn verification_code() {
    let document = Format::Spdx.document(&facts());
    assert_eq!(
        document["packages"][0]["packageVerificationCode"]["packageVerificationCodeValue"],
        "945e3df0719d634bdd275cb6f6ef22e48f068d96"
    );
}

#[test]
fn references_and_package_urls() {
    for (text, name, tag, repository) in [
        ("nginx", "nginx", None, "docker.io/library/nginx"),
        ("bitnami/redis:7", "redis", Some("7"), "docker.io/bitnami/redis"),
        ("localhost/a", "a", None, "localhost/a"),
        ("localhost:5000/a/b", "b", None, "localhost:5000/a/b"),
        ("r.example/a/b:c@sha256:00", "b", Some("c"), "r.example/a/b"),
        ("oci://r.example/a@sha256:00", "a", None, "r.example/a"),
    ] {
        let reference = Reference::of(text);
        assert_eq!((reference.name, reference.tag, reference.repository.as_str()), (name, tag, repository));
    }
    let digest = Digest::of(b"");
    let made = purl("Redis", Some(&digest), Some("localhost:5000/a"), Some("7"));
    let hex = digest.hex();
    assert_eq!(made, format!("pkg:oci/redis@sha256%3A{hex}?repository_url=localhost%3A5000/a&tag=7"));
    assert_eq!(purl("a b", None, None, None), "pkg:oci/a%20b");
}
