//! Referrers brought to a registry, and evidence fetched from one, piece by piece and within bounds: what refers to a manifest can be
//! written by whoever may push to its repository.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use idp_oci::blob::Blob;
use idp_oci::client::{Client, ClientError, Kind as ErrorKind, Listed, Presence, Verify};
use idp_oci::digest::Digest;
use idp_oci::manifest::{Descriptor, Manifest, Shape};
use idp_oci::name::{Repository, Target};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::TrustError;
use super::bundle::{Bundle, is_bundle};
use super::key::PrivateKey;
use super::legacy;
use super::policy::{Decision, Mode, VerificationPolicy};
use super::referrer::Referrer;
use super::verify::{self, Finding, Form, NamedKey, Subject, Trust, Verdict, Verification};

/// Entries of a list of referrers that are looked at.
const MOST_LISTED: usize = 1000;
/// Manifests of signatures that are fetched.
const MOST_MANIFESTS: usize = 100;
/// Layers of one of them.
const MOST_LAYERS: usize = 64;
/// A bundle; an SBOM can be in it.
const LARGEST: u64 = 16 * 1024 * 1024;
/// All that is fetched to judge one manifest.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// How often others may change the signatures under a tag while we do.
const MOST_ROUNDS: usize = 5;

/// What became of a referrer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pushed {
    /// Its manifest.
    pub digest: Digest,
    /// The tag of the index that lists it, or of the legacy signatures it stands among; none where the registry lists it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// It was there already.
    pub existed: bool,
}

/// The manifest that is to be signed. Its bytes were read: what a registry calls it in a header is nothing to put a name under.
///
/// # Errors
/// When the registry does not give it.
pub async fn subject(
    client: &Client,
    repository: &Repository,
    target: &Target,
) -> Result<Descriptor, TrustError> {
    Ok(client.manifest(repository, target, None).await?.descriptor().clone())
}

/// Pushes a referrer and sees to it that it is listed, also where the registry does not do that.
///
/// # Errors
/// When the registry refuses any of it.
pub async fn push_referrer(
    client: &Client,
    repository: &Repository,
    referrer: &Referrer,
    cancel: &CancellationToken,
) -> Result<Pushed, TrustError> {
    push_blobs(client, repository, &referrer.blobs, cancel).await?;
    let digest = referrer.manifest.digest().clone();
    client.put_manifest(repository, &Target::Digest(digest.clone()), &referrer.manifest).await?;
    let tag = match client.list_referrer(repository, &referrer.manifest).await? {
        Listed::UnderTag(tag) => Some(tag.to_string()),
        Listed::ByRegistry | Listed::NoSubject => None,
    };
    Ok(Pushed { digest, tag, existed: false })
}

async fn push_blobs(
    client: &Client,
    repository: &Repository,
    blobs: &[Blob],
    cancel: &CancellationToken,
) -> Result<(), TrustError> {
    for blob in blobs {
        client.push_blob(repository, blob, Presence::Unknown, &[], cancel).await?;
    }
    Ok(())
}

/// Signs as cosign 1 and 2 do, under the tag `sha256-<hex>.sig`, beside the signatures that are there.
///
/// # Errors
/// When the registry refuses any of it, or others keep changing the same tag.
pub async fn push_legacy(
    client: &Client,
    repository: &Repository,
    subject: &Digest,
    key: &PrivateKey,
    cancel: &CancellationToken,
) -> Result<Pushed, TrustError> {
    let Some(tag) = legacy::tag(subject) else {
        let problem = format!("{subject} is too long for a tag; sign without the legacy form");
        return Err(TrustError::document("a legacy signature", problem));
    };
    let target = Target::Tag(tag.clone());
    let ours = [NamedKey { name: String::new(), key: key.public().clone() }];
    let reference = format!("{}/{repository}", client.registry());
    let mut written = false;
    for _ in 0..MOST_ROUNDS {
        let mut evidence = Evidence::new(client, repository, subject, (&ours).into());
        let existing = evidence.legacy_tag(&target).await?;
        if let Some(existing) = &existing
            && evidence.findings.iter().any(|finding| matches!(finding.verdict, Verdict::Valid(_)))
        {
            let digest = existing.digest().clone();
            return Ok(Pushed { digest, tag: Some(tag.to_string()), existed: !written });
        }
        let signed = legacy::sign(&reference, subject, key, existing.as_ref())?;
        push_blobs(client, repository, &signed.blobs, cancel).await?;
        client.put_manifest(repository, &target, &signed.manifest).await?;
        // The tag has no turns: the next round sees whether somebody wrote over it.
        written = true;
    }
    Err(TrustError::Contended { tag: tag.to_string(), subject: subject.clone(), rounds: MOST_ROUNDS })
}

/// Finds and judges everything that vouches for a manifest.
///
/// # Errors
/// When the registry does not say what refers to it, or breaks off; evidence that is broken is a finding.
pub async fn signatures<'a>(
    client: &'a Client,
    repository: &'a Repository,
    subject: &'a Digest,
    trust: impl Into<Trust<'a>>,
) -> Result<Verification, TrustError> {
    let listed = client.referrers(repository, subject).await?;
    let mut evidence = Evidence::new(client, repository, subject, trust.into());
    if listed.manifests.len() > MOST_LISTED {
        let more = listed.manifests.len() - MOST_LISTED;
        evidence.incomplete.push(format!("{more} more referrers are listed than are looked at"));
    }
    for entry in listed.manifests.iter().take(MOST_LISTED) {
        if let Ok(entry) = Entry::deserialize(entry)
            && entry.may_sign()
        {
            evidence.referrer(&entry).await?;
        }
    }
    if let Some(tag) = legacy::tag(subject) {
        evidence.legacy_tag(&Target::Tag(tag)).await?;
    }
    let Evidence { findings, incomplete, .. } = evidence;
    Ok(Verification { subject: subject.clone(), source: listed.source.to_owned(), findings, incomplete })
}

/// What a policy makes of a manifest, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checked {
    /// What follows.
    #[serde(flatten)]
    pub decision: Decision,
    /// What was found; nothing where nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Verification>,
}

/// Holds a manifest to a policy: the rule, its keys, the evidence and the decision in one. `name` is what the rules are matched with:
/// `registry/repository` as it is meant, also where a mirror is asked. `directory` is where the policy's file is.
///
/// # Errors
/// When a key cannot be read; when the registry does not answer, unless the rule only warns.
pub async fn check(
    client: &Client,
    repository: &Repository,
    subject: &Digest,
    name: &str,
    policy: &VerificationPolicy,
    directory: &Path,
) -> Result<Checked, TrustError> {
    policy.check()?;
    let Some(rule) = policy.rule_for(name).filter(|rule| rule.mode != Mode::Off) else {
        return Ok(Checked { decision: Decision::NotAsked, found: None });
    };
    let keys = rule.read_keys(directory)?;
    match signatures(client, repository, subject, &keys).await {
        Ok(found) => Ok(Checked { decision: rule.evaluate(&found), found: Some(found) }),
        Err(TrustError::Client(error))
            if rule.mode == Mode::Warn && error.kind() != ErrorKind::Interrupted =>
        {
            Ok(Checked { decision: Decision::Warned { reason: error.to_string() }, found: None })
        }
        Err(error) => Err(error),
    }
}

/// As much of a descriptor in a list of referrers as is looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    digest: Digest,
    #[serde(default)]
    artifact_type: Option<String>,
}

impl Entry {
    /// One without a type, as it may stand in an index that others wrote, is looked into.
    fn may_sign(&self) -> bool {
        match self.artifact_type.as_deref() {
            None | Some("") => true,
            Some(artifact_type) => is_bundle(artifact_type) || artifact_type == legacy::ARTIFACT_TYPE,
        }
    }
}

/// What was found so far.
struct Evidence<'a> {
    client: &'a Client,
    repository: &'a Repository,
    subject: &'a Digest,
    trust: Trust<'a>,
    findings: Vec<Finding>,
    incomplete: Vec<String>,
    manifests: usize,
    bytes: u64,
    /// The manifest itself, once a signature over it was found; `None` inside where it cannot be read.
    itself: Option<Option<Bytes>>,
}

/// What happened to a request for evidence: whoever wrote the evidence is to blame, or nobody is.
fn blame(error: ClientError) -> Result<String, TrustError> {
    match error.kind() {
        ErrorKind::NotFound => Ok("it is listed, and not there".to_owned()),
        ErrorKind::Other => Ok(super::clip(&error.cause())),
        ErrorKind::Auth | ErrorKind::Transient | ErrorKind::Interrupted => Err(error.into()),
    }
}

impl<'a> Evidence<'a> {
    fn new(client: &'a Client, repository: &'a Repository, subject: &'a Digest, trust: Trust<'a>) -> Self {
        let (findings, incomplete) = (Vec::new(), Vec::new());
        Self {
            client,
            repository,
            subject,
            trust,
            findings,
            incomplete,
            manifests: 0,
            bytes: 0,
            itself: None,
        }
    }

    async fn referrer(&mut self, entry: &Entry) -> Result<(), TrustError> {
        let legacy = entry.artifact_type.as_deref() == Some(legacy::ARTIFACT_TYPE);
        let form = if legacy { Form::Legacy } else { Form::Bundle };
        self.manifests += 1;
        if self.manifests > MOST_MANIFESTS {
            if self.manifests == MOST_MANIFESTS + 1 {
                self.incomplete.push(format!("only {MOST_MANIFESTS} signatures are looked at"));
            }
            return Ok(());
        }
        let target = Target::Digest(entry.digest.clone());
        let manifest = match self.client.manifest(self.repository, &target, None).await {
            Ok(manifest) => manifest,
            Err(error) => {
                let reason = blame(error)?;
                self.findings.push(Finding::broken(&entry.digest, form, reason));
                return Ok(());
            }
        };
        if manifest.subject().map(|subject| &subject.digest) != Some(self.subject) {
            let reason = "it is listed, and refers to something else".to_owned();
            self.findings.push(Finding::broken(&entry.digest, form, reason));
            return Ok(());
        }
        self.layers(&manifest).await
    }

    /// The signatures under the tag of legacy ones; what is there, if anything is.
    async fn legacy_tag(&mut self, target: &Target) -> Result<Option<Manifest>, TrustError> {
        match self.client.manifest(self.repository, target, None).await {
            Ok(manifest) => {
                self.layers(&manifest).await?;
                Ok(Some(manifest))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn layers(&mut self, manifest: &Manifest) -> Result<(), TrustError> {
        let Shape::Image { layers, .. } = manifest.shape() else { return Ok(()) };
        let signs =
            |layer: &&Descriptor| is_bundle(&layer.media_type) || layer.media_type == legacy::MEDIA_TYPE;
        let found: Vec<&Descriptor> = layers.iter().filter(signs).collect();
        if found.len() > MOST_LAYERS {
            let digest = manifest.digest();
            self.incomplete
                .push(format!("{digest} has {} signatures; {MOST_LAYERS} are looked at", found.len()));
        }
        for layer in found.into_iter().take(MOST_LAYERS) {
            let form = if is_bundle(&layer.media_type) { Form::Bundle } else { Form::Legacy };
            match self.fetch(layer).await? {
                Ok(bytes) if form == Form::Bundle => self.bundle(&bytes, manifest.digest()).await?,
                Ok(bytes) => {
                    let annotation = |name: &str| layer.annotations.get(name).map(String::as_str);
                    let signature = annotation(legacy::SIGNATURE).unwrap_or_default();
                    let certificate = annotation(legacy::CERTIFICATE);
                    let (digest, subject, keys) = (manifest.digest(), self.subject, self.trust.keys);
                    let finding = verify::legacy(&bytes, signature, certificate, digest, subject, keys);
                    self.findings.push(finding);
                }
                Err(reason) => self.findings.push(Finding::broken(manifest.digest(), form, reason)),
            }
        }
        Ok(())
    }

    async fn bundle(&mut self, raw: &[u8], manifest: &Digest) -> Result<(), TrustError> {
        let parsed = match Bundle::parse(raw) {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.findings.push(Finding::broken(manifest, Form::Bundle, reason));
                return Ok(());
            }
        };
        if parsed.message_signature.is_some() && self.itself.is_none() {
            let target = Target::Digest(self.subject.clone());
            self.itself = Some(match self.client.manifest(self.repository, &target, None).await {
                Ok(manifest) => Some(manifest.bytes().clone()),
                Err(error) => {
                    blame(error)?;
                    None
                }
            });
        }
        let bytes = self.itself.as_ref().and_then(Option::as_deref);
        let subject = Subject { digest: self.subject, bytes };
        self.findings.extend(verify::bundle(&parsed, raw, manifest, subject, self.trust));
        Ok(())
    }

    /// A layer, or why it is not judged.
    async fn fetch(&mut self, layer: &Descriptor) -> Result<Result<Bytes, String>, TrustError> {
        if layer.size > LARGEST {
            return Ok(Err(format!("it has {} bytes; at most {LARGEST} are read", layer.size)));
        }
        self.bytes += layer.size;
        if self.bytes > MOST_BYTES {
            return Ok(Err(format!("all signatures together have more than {MOST_BYTES} bytes")));
        }
        let read = async {
            let chunks = self.client.fetch_blob(self.repository, layer, Verify::Here).await?;
            let append = async |mut all: BytesMut, chunk: Bytes| {
                all.extend_from_slice(&chunk);
                Ok(all)
            };
            chunks.try_fold(BytesMut::new(), append).await.map_err(|error| {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ClientError>()).cloned();
                inner.unwrap_or_else(|| ClientError::Content {
                    what: format!("signature {}", layer.digest),
                    problem: error.to_string(),
                })
            })
        };
        match read.await {
            Ok(bytes) => Ok(Ok(bytes.freeze())),
            Err(error) => Ok(Err(blame(error)?)),
        }
    }
}
