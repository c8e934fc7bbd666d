//! Evidence that is good, and everything that may be wrong with it.

use bytes::Bytes;
use idp_oci::digest::Digest;
use idp_oci::manifest::{Descriptor, Manifest, Shape};
use serde_json::{Value, json};

use super::super::bundle::Bundle;
use super::super::key::{GeneratedKey, PrivateKey, generate};
use super::super::statement::Statement;
use super::super::{Timestamp, legacy as simple, provenance, sign};
use super::{Finding, Kind, NamedKey, Subject, Verdict, Verification, bundle, legacy};

const MANIFEST: &[u8] = b"the bytes of a manifest";

fn key() -> (PrivateKey, NamedKey) {
    let generated = generate(None).expect("generated");
    let GeneratedKey { private, public } = generated;
    let private = PrivateKey::parse(private.expose().as_bytes(), None).expect("a key");
    (private, NamedKey { name: "a.pub".to_owned(), key: public })
}

fn subject() -> Descriptor {
    Descriptor::of("application/vnd.oci.image.manifest.v1+json", MANIFEST)
}

/// The bundle in a referrer.
async fn content(referrer: &super::super::referrer::Referrer) -> Value {
    use futures_util::TryStreamExt as _;
    let chunks: Vec<Bytes> = referrer.blobs[1].read_from(0).try_collect().await.expect("read");
    serde_json::from_slice(&chunks.concat()).expect("JSON")
}

async fn signed(key: &PrivateKey) -> Value {
    content(&sign::sign(&subject(), key, Timestamp::EPOCH).expect("signed")).await
}

/// What is made of a bundle, by its bytes.
fn judged(document: &Value, keys: &[NamedKey]) -> Vec<Finding> {
    judge(document.to_string().as_bytes(), keys)
}

fn judge(bytes: &[u8], keys: &[NamedKey]) -> Vec<Finding> {
    let (digest, manifest) = (Digest::of(MANIFEST), Digest::of(b"a referrer"));
    match Bundle::parse(bytes) {
        Ok(parsed) => {
            bundle(&parsed, bytes, &manifest, Subject { digest: &digest, bytes: Some(MANIFEST) }, keys.into())
        }
        Err(reason) => vec![Finding::broken(&manifest, super::Form::Bundle, reason)],
    }
}

fn valid(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Valid(_))).count()
}

fn reason(findings: &[Finding]) -> String {
    match findings {
        [Finding { verdict: Verdict::Invalid { reason }, .. }] => reason.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_signature_of_ours() {
    let ((private, ours), (_, other)) = (key(), key());
    let document = signed(&private).await;
    let found = judged(&document, &[other.clone(), ours.clone()]);
    assert_eq!((valid(&found), found.len(), found[0].kind), (1, 1, Kind::Signature));
    let found = judged(&document, &[other]);
    let hint = ours.key.id().hint();
    assert_eq!(found[0].verdict, Verdict::UnknownKey { hint });
    assert_eq!(valid(&judged(&document, &[])), 0);
}

#[test]
fn a_referrer_as_cosign_writes_it() {
    let (private, _) = key();
    let referrer = sign::sign(&subject(), &private, Timestamp::EPOCH).expect("signed");
    let document: Value = serde_json::from_slice(referrer.manifest.bytes()).expect("JSON");
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let layer = &referrer.blobs[1].descriptor;
    let expect = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": bundle,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [{"mediaType": bundle, "digest": layer.digest, "size": layer.size}],
        "subject": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(MANIFEST),
            "size": MANIFEST.len(),
        },
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
            "org.opencontainers.image.created": "1970-01-01T00:00:00Z",
        },
    });
    assert_eq!(document, expect);
    assert_eq!(referrer.blobs.len(), 2);
}

/// One key under somebody else's words, and words about something else under the right key.
#[tokio::test]
async fn what_is_wrong_with_a_bundle() {
    use base64::Engine as _;
    let (private, ours) = key();
    let keys = [ours];
    let document = signed(&private).await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut document = document.clone();
        change(&mut document);
        judged(&document, &keys)
    };
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    type Change<'a> = (&'a dyn Fn(&mut Value), &'a str);
    let changes: [Change<'_>; 9] = [
        (&|d| d["mediaType"] = json!("application/x"), "version of bundles"),
        (&|d| d["dsseEnvelope"]["payloadType"] = json!("text/plain"), "not a statement"),
        (&|d| d["dsseEnvelope"]["signatures"] = json!([]), "holds 0 signatures"),
        (&|d| d["dsseEnvelope"]["signatures"] = json!(vec![json!({"sig": ""}); 17]), "holds 17 signatures"),
        (&|d| d["dsseEnvelope"]["payload"] = json!("%"), "payload is not base64"),
        (&|d| d["dsseEnvelope"]["signatures"][0]["sig"] = json!("%"), "signature is not base64"),
        (&|d| d["dsseEnvelope"] = Value::Null, "holds no signature"),
        (&|d| d["messageSignature"] = json!({"signature": ""}), "two kinds of content"),
        (&|d| *d = json!([]), "no sigstore bundle"),
    ];
    for (change, expect) in changes {
        let reason = reason(&changed(change));
        assert!(reason.contains(expect), "{reason}");
    }
    let payload = serde_json::to_string(&Statement::signature(&Digest::of(b"another"))).expect("JSON");
    let found = changed(&|d| d["dsseEnvelope"]["payload"] = json!(base64(&payload)));
    assert!(matches!(found[0].verdict, Verdict::UnknownKey { .. }), "{found:?}");

    let another = Descriptor::of("application/vnd.oci.image.manifest.v1+json", b"another");
    let about = sign::sign(&another, &private, Timestamp::EPOCH).expect("signed");
    assert!(reason(&judged(&content(&about).await, &keys)).contains("not about this"));

    // Something else than a statement, signed as one.
    let envelope =
        super::super::dsse::Envelope::sign("application/vnd.in-toto+json", b"{}", &private).expect("signed");
    let found = changed(&|d| d["dsseEnvelope"] = serde_json::to_value(&envelope).expect("JSON"));
    assert!(reason(&found).contains("no statement"));
}

/// Whatever byte of a bundle is another: what is valid is what was signed.
#[tokio::test]
async fn every_byte_matters() {
    let (private, ours) = key();
    let keys = [ours];
    let document = signed(&private).await;
    let bytes = document.to_string().into_bytes();
    let payload = document["dsseEnvelope"]["payload"].as_str().and_then(super::decode).expect("a payload");
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let found = judge(&changed, &keys);
        if valid(&found) == 0 {
            refused += 1;
            continue;
        }
        let changed: Value = serde_json::from_slice(&changed).expect("JSON");
        let still = changed["dsseEnvelope"]["payload"].as_str().and_then(super::decode);
        assert_eq!(still.as_deref(), Some(&payload[..]), "byte {at}");
    }
    // Hints and the names of fields that are not looked at may change.
    assert!(refused > bytes.len() / 2, "{refused} of {}", bytes.len());
}

#[tokio::test]
async fn messages() {
    use base64::Engine as _;
    let (private, ours) = key();
    let (_, other) = key();
    let sig = |message: &[u8]| {
        base64::engine::general_purpose::STANDARD.encode(private.sign(message).expect("signed"))
    };
    let document = |message: &[u8]| {
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": ""}, "signature": sig(message)},
        })
    };
    let found = judged(&document(MANIFEST), std::slice::from_ref(&ours));
    assert_eq!((valid(&found), found[0].kind), (1, Kind::Signature));
    assert_eq!(valid(&judged(&document(MANIFEST), &[other])), 0);
    assert_eq!(valid(&judged(&document(b"something else"), &[ours])), 0);
}

#[tokio::test]
async fn attestations_are_no_signatures() {
    let (private, ours) = key();
    let digest = Digest::of(MANIFEST);
    let statement = Statement::new(&digest, provenance::PREDICATE_TYPE, json!({}));
    let referrer = sign::attest(&subject(), &statement, &private, Timestamp::EPOCH).expect("signed");
    let findings = judged(&content(&referrer).await, &[ours]);
    assert_eq!((valid(&findings), findings[0].kind), (1, Kind::Attestation));
    let found = Verification {
        subject: digest,
        source: "referrers-api".to_owned(),
        findings,
        incomplete: Vec::new(),
    };
    assert_eq!(found.signers().len(), 0);
    assert_eq!(found.attested().into_iter().collect::<Vec<_>>(), [(provenance::PREDICATE_TYPE, 1)]);
}

/// A bundle with a certificate, made as Fulcio makes them.
#[tokio::test]
async fn keyless_ones_are_told_apart() {
    let (private, ours) = key();
    let certificate = include_str!("testdata/keyless.pem");
    let raw: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
    let mut document = signed(&private).await;
    document["verificationMaterial"] = json!({"certificate": {"rawBytes": raw}, "tlogEntries": []});
    let found = judged(&document, std::slice::from_ref(&ours));
    assert_eq!(
        found[0].verdict.to_string(),
        "keyless signature, not verified: it claims to be by ci@registry.example through https://issuer.example"
    );
    document["verificationMaterial"] = json!({"x509CertificateChain": {"certificates": [{"rawBytes": raw}]}});
    assert_eq!(judged(&document, std::slice::from_ref(&ours)), found);
    document["verificationMaterial"] = json!({"certificate": {"rawBytes": "AAAA"}});
    assert!(judged(&document, std::slice::from_ref(&ours))[0].verdict.to_string().contains("by nobody"));
    let finding = legacy(b"{}", "AAAA", Some(certificate), &Digest::of(b""), &Digest::of(MANIFEST), &[ours]);
    assert_eq!(finding.verdict, found[0].verdict);
}

/// Two keys sign in turn; each finds its own.
#[tokio::test]
async fn legacy_signatures() {
    use base64::Engine as _;
    use futures_util::TryStreamExt as _;
    let ((one, ours), (two, theirs)) = (key(), key());
    let digest = Digest::of(MANIFEST);
    let mut signed = simple::sign("registry.example/team/app", &digest, &one, None).expect("signed");
    let payload: Vec<Bytes> = signed.blobs[1].read_from(0).try_collect().await.expect("read");
    let payload = payload.concat();
    let expect = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"registry.example/team/app"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    );
    assert_eq!(String::from_utf8_lossy(&payload), expect);
    signed =
        simple::sign("registry.example/team/app", &digest, &two, Some(&signed.manifest)).expect("signed");
    let annotations = |manifest: &Manifest| match manifest.shape() {
        Shape::Image { layers, .. } => {
            layers.iter().map(|layer| layer.annotations[simple::SIGNATURE].clone()).collect::<Vec<_>>()
        }
        Shape::Index { .. } => panic!("an index"),
    };
    let signatures = annotations(&signed.manifest);
    assert_eq!(signatures.len(), 2);
    let judged = |signature: &str, keys: &[NamedKey], subject: &Digest| {
        legacy(&payload, signature, None, &digest, subject, keys).verdict
    };
    for (signature, key) in signatures.iter().zip([&ours, &theirs]) {
        let verdict = judged(signature, std::slice::from_ref(key), &digest);
        assert!(matches!(verdict, Verdict::Valid(_)), "{verdict}");
        let verdict = judged(signature, std::slice::from_ref(key), &Digest::of(b"another"));
        assert!(verdict.to_string().contains("not about this"), "{verdict}");
    }
    assert!(matches!(
        judged(&signatures[1], std::slice::from_ref(&ours), &digest),
        Verdict::UnknownKey { .. }
    ));
    assert!(judged("%", std::slice::from_ref(&ours), &digest).to_string().contains("not base64"));
    // The right key under other words.
    let other = payload.iter().map(|byte| byte.to_ascii_uppercase()).collect::<Vec<_>>();
    let signature = base64::engine::general_purpose::STANDARD.encode(one.sign(&other).expect("signed"));
    let finding = legacy(&other, &signature, None, &digest, &digest, &[ours]);
    assert!(finding.verdict.to_string().contains("no simple signing document"), "{}", finding.verdict);
    // Something that is no signature is not written over.
    let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let index = Manifest::parse(Bytes::from(index), None).expect("an index");
    simple::sign("r/a", &digest, &one, Some(&index)).expect_err("an index");
}
