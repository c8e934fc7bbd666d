//! What we push is found and judged; what strangers push is told.

use std::collections::BTreeMap;

use bytes::Bytes;
use idp_oci::client::Client;
use idp_oci::digest::Digest;
use idp_oci::name::Target;
use idp_package::trust::Timestamp;
use idp_package::trust::bundle;
use idp_package::trust::legacy;
use idp_package::trust::policy::{Decision, VerificationPolicy};
use idp_package::trust::provenance::{self, Build, Material};
use idp_package::trust::referrer::Referrer;
use idp_package::trust::registry::{check, push_legacy, push_referrer, signatures, subject};
use idp_package::trust::sbom::{self, FileFacts, Format, PackageFacts};
use idp_package::trust::sign::{attest, sign, state};
use idp_package::trust::verify::{Form, Kind, Trust, Verdict};
use idp_test_support::peers::{Distribution, Options, require};
use tokio_util::sync::CancellationToken;

use crate::{Registry, client, key, push, repository, valid};

fn facts(digest: &Digest) -> PackageFacts {
    PackageFacts {
        name: "app".to_owned(),
        version: "1.0.0".to_owned(),
        digest: digest.clone(),
        repository: None,
        description: None,
        licenses: None,
        supplier: None,
        files: vec![FileFacts {
            path: "a.yaml".to_owned(),
            size: 0,
            sha256: Digest::of(b"").hex().to_owned(),
            sha1: Some(sbom::spdx::sha1(b"")),
        }],
        images: Vec::new(),
        dependencies: Vec::new(),
        created: Timestamp::EPOCH,
        tool_version: "0.1.0".to_owned(),
    }
}

/// Two keys sign in both forms, and attest; a third has nothing to do with it. `source` is who lists referrers there.
async fn all_of_it(client: &Client, source: &str) {
    let none = CancellationToken::new();
    let repository = repository();
    let descriptor = push(client, "v1").await;
    let other = push(client, "v2").await;
    let tag = Target::Tag("v1".parse().expect("a tag"));
    assert_eq!(subject(client, &repository, &tag).await.expect("described"), descriptor);
    let ((one, one_public), (two, two_public), (_, stranger)) =
        (key("one.pub"), key("two.pub"), key("no.pub"));
    let keys = [one_public.clone(), two_public.clone()];

    let found = signatures(client, &repository, &descriptor.digest, &keys).await.expect("asked");
    assert_eq!((found.findings.len(), found.source.as_str()), (0, source));

    let digest = &descriptor.digest;
    let statement = provenance::statement(
        digest,
        &Build {
            builder_id: "https://ci.example/main".to_owned(),
            builder_version: BTreeMap::new(),
            parameters: BTreeMap::new(),
            materials: vec![Material::oci("x", "registry.example/x:1.0.0", &Digest::of(b"x"))],
            invocation: None,
            started: None,
            finished: None,
        },
    )
    .expect("a statement");
    let referrers = [
        sign(&descriptor, &one, Timestamp::EPOCH),
        sign(&descriptor, &two, Timestamp::EPOCH),
        attest(&descriptor, &statement, &one, Timestamp::EPOCH),
        state(&descriptor, &statement, Timestamp::EPOCH),
        sbom::attach(&descriptor, Format::Spdx, &facts(digest)),
        sbom::attach(&descriptor, Format::CycloneDx, &facts(digest)),
        sbom::attest(&descriptor, Format::Spdx, &facts(digest), &two),
    ];
    for referrer in referrers {
        let referrer = referrer.expect("made");
        let pushed = push_referrer(client, &repository, &referrer, &none).await.expect("pushed");
        assert_eq!(pushed.tag.is_some(), source == "fallback-tag", "{pushed:?}");
    }
    for (private, existed) in [(&one, false), (&two, false), (&one, true)] {
        let pushed = push_legacy(client, &repository, digest, private, &none).await.expect("pushed");
        assert_eq!(pushed.existed, existed);
    }
    let listed = client.referrers(&repository, digest).await.expect("listed");
    assert_eq!((listed.manifests.len(), listed.source), (7, source));

    let found = signatures(client, &repository, digest, &keys).await.expect("found");
    assert_eq!((found.findings.len(), valid(&found).len()), (6, 6), "{found:?}");
    assert_eq!(found.signers().len(), 2);
    let attested: Vec<_> = found.attested().into_iter().collect();
    assert_eq!(attested, [("https://slsa.dev/provenance/v1", 1), ("https://spdx.dev/Document", 1)]);
    let forms = |form| found.findings.iter().filter(|finding| finding.form == form).count();
    assert_eq!((forms(Form::Bundle), forms(Form::Legacy)), (4, 2));

    let found = signatures(client, &repository, digest, &[two_public]).await.expect("found");
    assert_eq!((valid(&found).len(), found.signers().len()), (3, 1));
    let found = signatures(client, &repository, digest, &[stranger]).await.expect("found");
    assert_eq!((found.findings.len(), valid(&found).len()), (6, 0));
    let found = signatures(client, &repository, &other.digest, &keys).await.expect("found");
    assert_eq!(found.findings.len(), 0);

    // A signature of one manifest, brought to another: the words are not about it.
    let moved = sign(&descriptor, &one, Timestamp::EPOCH).expect("signed");
    let bundle = moved.blobs[1].read_from(0);
    let chunks: Vec<Bytes> = futures_util::TryStreamExt::try_collect(bundle).await.expect("read");
    let moved =
        Referrer::new(&other, bundle::MEDIA_TYPE, chunks.concat().into(), BTreeMap::new(), Timestamp::EPOCH);
    push_referrer(client, &repository, &moved.expect("made"), &none).await.expect("pushed");
    let signed = client.manifest(&repository, &Target::Tag(legacy::tag(digest).expect("a tag")), None).await;
    let under = Target::Tag(legacy::tag(&other.digest).expect("a tag"));
    client.put_manifest(&repository, &under, &signed.expect("there")).await.expect("copied");
    let found = signatures(client, &repository, &other.digest, &keys).await.expect("found");
    assert_eq!((found.findings.len(), valid(&found).len()), (3, 0));
    for finding in &found.findings {
        let verdict = finding.verdict.to_string();
        assert!(verdict.contains("and not about this"), "{verdict}");
    }
}

#[tokio::test]
async fn where_the_registry_lists_referrers() {
    let registry = Registry::start().await;
    all_of_it(&client(&registry.address), "referrers-api").await;
}

#[tokio::test]
async fn where_it_does_not() {
    let started = Distribution::v3(Options::default()).await;
    let Some(registry) = require(started, "distribution") else { return };
    all_of_it(&client(registry.address()), "fallback-tag").await;
}

/// Whoever may push can attach anything: none of it stops us, all of it is told, and none of it counts.
#[tokio::test]
async fn what_strangers_attach() {
    let registry = Registry::start().await;
    let (client, none, repository) = (client(&registry.address), CancellationToken::new(), repository());
    let descriptor = push(&client, "v1").await;
    let (one, public) = key("one.pub");
    let attach = async |media_type: &str, content: Bytes| {
        let made = Referrer::new(&descriptor, media_type, content, BTreeMap::new(), Timestamp::EPOCH);
        push_referrer(&client, &repository, &made.expect("made"), &none).await.expect("pushed");
    };
    attach(bundle::MEDIA_TYPE, Bytes::from("{")).await;
    attach(bundle::MEDIA_TYPE, Bytes::from("[".repeat(100_000))).await;
    attach("application/vnd.dev.sigstore.bundle+json;version=0.1", Bytes::from("{}")).await;
    attach("application/x", Bytes::from("{}")).await;
    attach(bundle::MEDIA_TYPE, vec![b' '; 16 * 1024 * 1024 + 1].into()).await;
    let made = sign(&descriptor, &one, Timestamp::EPOCH).expect("signed");
    push_referrer(&client, &repository, &made, &none).await.expect("pushed");
    let found = signatures(&client, &repository, &descriptor.digest, &[public]).await.expect("found");
    assert_eq!((found.findings.len(), valid(&found).len()), (5, 1), "{found:?}");
    let mut reasons: Vec<String> = found
        .findings
        .iter()
        .filter_map(|finding| match &finding.verdict {
            Verdict::Invalid { reason } => Some(reason.clone()),
            _ => None,
        })
        .collect();
    reasons.sort();
    assert_eq!(reasons.len(), 4);
    assert!(reasons[0].contains("at most 16777216 are read"), "{reasons:?}");
    assert!(reasons[1..].iter().all(|reason| reason.contains("no sigstore bundle")), "{reasons:?}");
    let kinds = found.findings.iter().filter(|finding| finding.kind == Kind::Unknown).count();
    assert_eq!(kinds, 4);
}

/// However many there are, no more than a hundred are fetched, and that is told.
#[tokio::test]
async fn a_flood() {
    let registry = Registry::start().await;
    let (client, none, repository) = (client(&registry.address), CancellationToken::new(), repository());
    let descriptor = push(&client, "v1").await;
    for number in 0..105 {
        let content = Bytes::from(number.to_string());
        let made = Referrer::new(&descriptor, bundle::MEDIA_TYPE, content, BTreeMap::new(), Timestamp::EPOCH);
        push_referrer(&client, &repository, &made.expect("made"), &none).await.expect("pushed");
    }
    let found = signatures(&client, &repository, &descriptor.digest, Trust { keys: &[], keyless: None })
        .await
        .expect("found");
    assert_eq!((found.findings.len(), found.incomplete.len()), (100, 1));
    assert!(found.incomplete[0].contains("only 100"), "{:?}", found.incomplete);
}

/// A list that names what refers to something else.
#[tokio::test]
async fn a_list_that_lies() {
    let started = Distribution::v3(Options::default()).await;
    let Some(registry) = require(started, "distribution") else { return };
    let (client, none, repository) = (client(registry.address()), CancellationToken::new(), repository());
    let (descriptor, other) = (push(&client, "v1").await, push(&client, "v2").await);
    let (one, public) = key("one.pub");
    let made = sign(&other, &one, Timestamp::EPOCH).expect("signed");
    let pushed = push_referrer(&client, &repository, &made, &none).await.expect("pushed");
    let entry = |digest: &Digest| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1,"artifactType":"{}"}}"#,
            bundle::MEDIA_TYPE
        )
    };
    // distribution checks that what an index names is there; that it refers to something else it does not see.
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
        entry(&pushed.digest)
    );
    let index = idp_oci::manifest::Manifest::parse(Bytes::from(text), None).expect("an index");
    let tag = Target::Tag(descriptor.digest.referrers_tag().parse().expect("a tag"));
    client.put_manifest(&repository, &tag, &index).await.expect("pushed");
    let found = signatures(&client, &repository, &descriptor.digest, &[public]).await.expect("found");
    assert_eq!((found.findings.len(), valid(&found).len()), (1, 0));
    let verdict = found.findings[0].verdict.to_string();
    assert!(verdict.contains("refers to something else"), "{verdict}");
}

/// A policy's rule, its keys from files, the evidence and the decision.
#[tokio::test]
async fn a_policy() {
    let registry = Registry::start().await;
    let (client, none, repository) = (client(&registry.address), CancellationToken::new(), repository());
    let descriptor = push(&client, "v1").await;
    let ((one, one_public), (two, two_public)) = (key("one.pub"), key("two.pub"));
    let directory = tempfile::tempdir().expect("a directory");
    for named in [&one_public, &two_public] {
        std::fs::write(directory.path().join(&named.name), named.key.to_pem()).expect("written");
    }
    let policy = |mode: &str| -> VerificationPolicy {
        let text = format!(
            r#"{{"rules":[{{"matchRepository":"registry.example/team/*","mode":"{mode}","keys":["one.pub","two.pub"],"minSignatures":2}}]}}"#
        );
        serde_json::from_str(&text).expect("a policy")
    };
    let decide = async |client: &Client, name: &str, mode: &str| {
        let policy = policy(mode);
        check(client, &repository, &descriptor.digest, name, &policy, directory.path()).await
    };
    let name = "registry.example/team/app";
    let made = sign(&descriptor, &one, Timestamp::EPOCH).expect("signed");
    push_referrer(&client, &repository, &made, &none).await.expect("pushed");
    let checked = decide(&client, name, "require").await.expect("checked");
    let Decision::Refused { reason } = &checked.decision else { panic!("{checked:?}") };
    assert!(reason.contains("signed by 1 of the 2 keys") && reason.contains("2 are needed"), "{reason}");
    assert_eq!(checked.found.map(|found| found.findings.len()), Some(1));
    let warned = decide(&client, name, "warn").await.expect("checked");
    assert!(matches!(warned.decision, Decision::Warned { .. }));
    push_legacy(&client, &repository, &descriptor.digest, &two, &none).await.expect("pushed");
    let verified = decide(&client, name, "require").await.expect("checked");
    assert_eq!(verified.decision, Decision::Verified { signatures: 2 });
    let elsewhere = decide(&client, "registry.example/shop/app", "require").await.expect("checked");
    assert_eq!((elsewhere.decision, elsewhere.found), (Decision::NotAsked, None));

    // A registry that does not answer is no signature; only a warning goes on without it.
    let nobody = crate::client("127.0.0.1:1");
    decide(&nobody, name, "require").await.expect_err("nobody answers");
    let warned = decide(&nobody, name, "warn").await.expect("a warning");
    assert!(matches!(warned.decision, Decision::Warned { .. }));
    assert_eq!(decide(&nobody, name, "off").await.expect("not asked").decision, Decision::NotAsked);
    std::fs::remove_file(directory.path().join("two.pub")).expect("removed");
    decide(&client, name, "warn").await.expect_err("a key is not there");
}
