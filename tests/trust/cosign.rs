//! cosign as second opinion: it takes what we write, we take what it writes, and both refuse the same things. It runs while the
//! registry of the same process answers it, so these tests have threads.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use idp_oci::client::Client;
use idp_oci::digest::Digest;
use idp_oci::manifest::Descriptor;
use idp_package::trust::Timestamp;
use idp_package::trust::key::{PrivateKey, PublicKey, generate};
use idp_package::trust::provenance::{self, Build};
use idp_package::trust::registry::{push_legacy, push_referrer, signatures};
use idp_package::trust::sbom::{self, Format, PackageFacts};
use idp_package::trust::sign::{attest, sign};
use idp_package::trust::verify::{Form, NamedKey, Verdict};
use idp_test_support::peers::{Distribution, Options, require, tool};
use tokio_util::sync::CancellationToken;

use crate::{Registry, client, push, repository, secret, valid};

const PASSWORD: &str = "a password";

/// cosign, in a directory with nothing of ours.
struct Cosign {
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Cosign {
    fn find() -> Option<Self> {
        let program = require(tool("cosign"), "cosign")?;
        let cosign = Self { program, home: tempfile::tempdir().expect("a directory") };
        // No log, no timestamps, no certificates: nothing that is not here.
        let config = r#"{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json","rekorTlogConfig":{},"tsaConfig":{}}"#;
        std::fs::write(cosign.path("signing.json"), config).expect("written");
        let trusted = r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;
        std::fs::write(cosign.path("trusted.json"), trusted).expect("written");
        Some(cosign)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.home.path())
            .env("COSIGN_PASSWORD", PASSWORD)
            .current_dir(self.home.path())
            .output()
            .expect("it runs")
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn bad(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} is let through");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Its judgement of a bundle, or (`legacy`) of what is under the tag `.sig`.
    fn verify(&self, reference: &str, key: &str, legacy: bool) -> Output {
        let new = format!("--new-bundle-format={}", !legacy);
        let mut arguments =
            vec!["verify", "--key", key, "--insecure-ignore-tlog=true", "--allow-http-registry"];
        arguments.push(&new);
        if !legacy {
            arguments.extend(["--trusted-root", "trusted.json"]);
        }
        arguments.push(reference);
        self.run(&arguments)
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A pair that we make and cosign reads; a stranger's is beside it.
fn pairs(cosign: &Cosign) -> (PrivateKey, NamedKey) {
    let password = secret(PASSWORD);
    generate(Some(&password)).expect("generated").write(&cosign.path("ours")).expect("written");
    generate(None).expect("generated").write(&cosign.path("stranger")).expect("written");
    let private = PrivateKey::read(&cosign.path("ours.key"), Some(&password)).expect("read");
    let public = PublicKey::read(&cosign.path("ours.pub")).expect("read");
    (private, NamedKey { name: "ours.pub".to_owned(), key: public })
}

fn reference(address: &str, descriptor: &Descriptor) -> String {
    format!("{address}/{}@{}", repository(), descriptor.digest)
}

async fn cosign_takes_ours(cosign: &Cosign, address: &str) {
    let (client, none, repository) = (client(address), CancellationToken::new(), repository());
    let descriptor = push(&client, "v1").await;
    let unsigned = push(&client, "v2").await;
    let (private, _) = pairs(cosign);
    let reference = reference(address, &descriptor);

    for legacy in [false, true] {
        if legacy {
            push_legacy(&client, &repository, &descriptor.digest, &private, &none).await.expect("pushed");
        } else {
            let made = sign(&descriptor, &private, Timestamp::EPOCH).expect("signed");
            push_referrer(&client, &repository, &made, &none).await.expect("pushed");
        }
        let output = cosign.verify(&reference, "ours.pub", legacy);
        assert!(output.status.success(), "legacy {legacy}: {}", told(&output));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(descriptor.digest.as_str()), "{said}");
        let output = cosign.verify(&reference, "stranger.pub", legacy);
        assert!(!output.status.success(), "legacy {legacy}: taken with another key");
        let output = cosign.verify(&self::reference(address, &unsigned), "ours.pub", legacy);
        assert!(!output.status.success(), "legacy {legacy}: taken without a signature");
    }
    attestations(cosign, &client, &descriptor, &private, &reference).await;
}

async fn attestations(
    cosign: &Cosign,
    client: &Client,
    descriptor: &Descriptor,
    private: &PrivateKey,
    reference: &str,
) {
    let (none, repository) = (CancellationToken::new(), repository());
    let build = Build {
        builder_id: "https://ci.example/main".to_owned(),
        builder_version: [("idp".to_owned(), "0.1.0".to_owned())].into(),
        parameters: [("version".to_owned(), "1.0.0".into())].into(),
        materials: Vec::new(),
        invocation: Some("run-1".to_owned()),
        started: Some(Timestamp::EPOCH),
        finished: Some(Timestamp::EPOCH),
    };
    let statement = provenance::statement(&descriptor.digest, &build).expect("a statement");
    let facts = facts(&descriptor.digest);
    for (kind, referrer) in [
        ("slsaprovenance1", attest(descriptor, &statement, private, Timestamp::EPOCH)),
        ("spdxjson", sbom::attest(descriptor, Format::Spdx, &facts, private)),
        ("cyclonedx", sbom::attest(descriptor, Format::CycloneDx, &facts, private)),
    ] {
        push_referrer(client, &repository, &referrer.expect("made"), &none).await.expect("pushed");
        let with = |key| {
            let arguments =
                ["verify-attestation", "--type", kind, "--key", key, "--insecure-ignore-tlog=true"];
            let rest = ["--allow-http-registry", "--trusted-root", "trusted.json", reference];
            [&arguments[..], &rest[..]].concat()
        };
        let said = cosign.good(&with("ours.pub"));
        assert!(said.contains("application/vnd.in-toto+json"), "{kind}: {said}");
        cosign.bad(&with("stranger.pub"));
    }
}

fn facts(digest: &Digest) -> PackageFacts {
    PackageFacts {
        name: "app".to_owned(),
        version: "1.0.0".to_owned(),
        digest: digest.clone(),
        repository: None,
        description: None,
        licenses: Some("Apache-2.0".to_owned()),
        supplier: None,
        files: Vec::new(),
        images: Vec::new(),
        dependencies: Vec::new(),
        created: Timestamp::EPOCH,
        tool_version: "0.1.0".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_ours_where_the_registry_lists_referrers() {
    let Some(cosign) = Cosign::find() else { return };
    let registry = Registry::start().await;
    cosign_takes_ours(&cosign, &registry.address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_ours_where_it_does_not() {
    let Some(cosign) = Cosign::find() else { return };
    let Some(registry) = require(Distribution::v3(Options::default()).await, "distribution") else { return };
    cosign_takes_ours(&cosign, registry.address()).await;
}

async fn we_take_its(cosign: &Cosign, address: &str) {
    let (client, repository) = (client(address), repository());
    let descriptor = push(&client, "v1").await;
    let reference = reference(address, &descriptor);
    // Its own pair under a password, which we read too.
    cosign.good(&["generate-key-pair", "--output-key-prefix", "its"]);
    let password = secret(PASSWORD);
    let private = PrivateKey::read(&cosign.path("its.key"), Some(&password)).expect("read");
    let public = PublicKey::read(&cosign.path("its.pub")).expect("read");
    assert_eq!(private.public(), &public);
    PrivateKey::read(&cosign.path("its.key"), Some(&secret("another"))).expect_err("another password");
    let its = [NamedKey { name: "its.pub".to_owned(), key: public }];
    let (_, stranger) = pairs(cosign);

    let common = ["sign", "--yes", "--key", "its.key", "--allow-http-registry"];
    let bundle = ["--signing-config", "signing.json", "--trusted-root", "trusted.json", &reference];
    cosign.good(&[&common[..], &bundle[..]].concat());
    let found = signatures(&client, &repository, &descriptor.digest, &its).await.expect("found");
    assert_eq!((found.findings.len(), valid(&found).len(), found.signers().len()), (1, 1, 1), "{found:?}");
    assert_eq!(found.findings[0].form, Form::Bundle);

    let legacy =
        ["--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false", &reference];
    cosign.good(&[&common[..], &legacy[..]].concat());
    let found = signatures(&client, &repository, &descriptor.digest, &its).await.expect("found");
    assert_eq!((found.findings.len(), valid(&found).len(), found.signers().len()), (2, 2, 1), "{found:?}");
    assert_eq!(found.findings[1].form, Form::Legacy);

    let found = signatures(&client, &repository, &descriptor.digest, &[stranger]).await.expect("found");
    assert_eq!((found.findings.len(), valid(&found).len()), (2, 0));
    for finding in &found.findings {
        assert!(matches!(finding.verdict, Verdict::UnknownKey { .. }), "{finding:?}");
    }

    // Ours goes beside its own under the same tag, and neither loses the other.
    let ours = PrivateKey::read(&cosign.path("ours.key"), Some(&password)).expect("read");
    let none = CancellationToken::new();
    push_legacy(&client, &repository, &descriptor.digest, &ours, &none).await.expect("pushed");
    for key in ["its.pub", "ours.pub"] {
        let output = cosign.verify(&reference, key, true);
        assert!(output.status.success(), "{key}: {}", told(&output));
    }

    // Attestations of its own.
    std::fs::write(cosign.path("predicate.json"), r#"{"any":"thing"}"#).expect("written");
    let common =
        ["attest", "--yes", "--key", "its.key", "--allow-http-registry", "--predicate", "predicate.json"];
    let kind = ["--type", "https://predicates.example/any/v1"];
    cosign.good(&[&common[..], &kind[..], &bundle[..]].concat());
    let found = signatures(&client, &repository, &descriptor.digest, &its).await.expect("found");
    let attested: Vec<_> = found.attested().into_iter().collect();
    assert_eq!(attested, [("https://predicates.example/any/v1", 1)]);
    assert_eq!(found.signers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn we_take_its_where_the_registry_lists_referrers() {
    let Some(cosign) = Cosign::find() else { return };
    let registry = Registry::start().await;
    we_take_its(&cosign, &registry.address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_take_its_where_it_does_not() {
    let Some(cosign) = Cosign::find() else { return };
    let Some(registry) = require(Distribution::v3(Options::default()).await, "distribution") else { return };
    we_take_its(&cosign, registry.address()).await;
}

/// A key of OpenSSL's, put under a password by cosign.
#[tokio::test(flavor = "multi_thread")]
async fn imported_keys() {
    let Some(cosign) = Cosign::find() else { return };
    for (name, pem) in [("p256", P256), ("p384", P384)] {
        std::fs::write(cosign.path(name), pem).expect("written");
        let plain = PrivateKey::read(&cosign.path(name), None).expect("read");
        cosign.good(&[
            "import-key-pair",
            "--yes",
            "--key",
            name,
            "--output-key-prefix",
            &format!("{name}-its"),
        ]);
        let boxed = cosign.path(&format!("{name}-its.key"));
        let imported = PrivateKey::read(Path::new(&boxed), Some(&secret(PASSWORD))).expect("read");
        assert_eq!(imported.public(), plain.public(), "{name}");
    }
}

const P256: &str = include_str!("../../host/idp-package/src/trust/key/testdata/p256.pem");
const P384: &str = include_str!("../../host/idp-package/src/trust/key/testdata/p384.pem");
