//! Trust: packages signed and verified, and what is known of them put beside them. Everything is a referrer of the package's manifest.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use idp_oci::client::Event;
use idp_oci::digest::Digest;
use idp_oci::name::{Reference, Repository};
use idp_oci::secret::Secret;
use idp_package::describe::Description;
use idp_package::resolve::Lock;
use idp_package::trust::key::{self, PrivateKey, PublicKey, WrittenKey};
use idp_package::trust::keyless::KeylessTrust;
use idp_package::trust::policy::{Decision, Mode};
use idp_package::trust::provenance::{self, Build, Material};
use idp_package::trust::referrer::Referrer;
use idp_package::trust::registry::{self, Pushed};
use idp_package::trust::sbom::{self, DependencyFacts, FileFacts, Format, ImageFacts, PackageFacts};
use idp_package::trust::verify::{KeylessVerifier, NamedKey, Trust, Verification};
use idp_package::trust::{Timestamp, TrustError, sign as signing};
use serde::Serialize;
use serde_json::Value;

use super::super::session::Session;
use super::super::{Context, Error};
use super::Subject;
use super::subject::Remote;
use crate::config::env;

/// What was put beside a package.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attached {
    /// What it is: `signature`, `sbom`, `provenance`.
    pub what: &'static str,
    /// `registry/repository@digest` of the package.
    pub pinned: String,
    /// Where it is.
    #[serde(flatten)]
    pub pushed: Pushed,
    /// Whether somebody's name is under it.
    pub signed: bool,
}

fn failed(remote: &Remote, error: TrustError) -> Error {
    match error {
        TrustError::Client(error) => remote.session.failed(error),
        error => Error::Trust(Box::new(error)),
    }
}

fn trust(error: impl Into<TrustError>) -> Error {
    Error::Trust(Box::new(error.into()))
}

/// Seconds since 1970: what SOURCE_DATE_EPOCH says, else now.
fn now(context: &Context) -> Result<Timestamp, Error> {
    if let Some(epoch) = super::build::epoch(context)? {
        return Ok(epoch);
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix(i64::try_from(since.as_secs()).unwrap_or_default()).map_err(trust)
}

/// Makes a pair of keys: `PREFIX.key`, for its owner only, and `PREFIX.pub`.
///
/// # Errors
/// One of the files is there already, or cannot be written.
pub fn generate(prefix: &Path, password: Option<&Secret>) -> Result<WrittenKey, Error> {
    key::generate(password).and_then(|pair| pair.write(prefix)).map_err(trust)
}

/// The password of a key: cosign's own variable.
pub fn password(context: &Context) -> Option<Secret> {
    context.env.get(env::COSIGN_PASSWORD).filter(|text| !text.is_empty()).map(Secret::from)
}

fn private(context: &Context, path: &Path) -> Result<PrivateKey, Error> {
    PrivateKey::read(path, password(context).as_ref()).map_err(trust)
}

/// Signs a package, whatever it is.
///
/// # Errors
/// The key cannot be read, or the registry does not take the signature.
pub async fn sign(context: &Context, text: &str, key: &Path, legacy: bool) -> Result<Attached, Error> {
    let key = private(context, key)?;
    let remote = Remote::of(context, text).await?;
    let pushed = if legacy {
        let digest = remote.manifest.digest();
        let client = &remote.session.client;
        registry::push_legacy(client, &remote.repository, digest, &key, &context.cancel).await
    } else {
        let referrer = signing::sign(remote.manifest.descriptor(), &key, now(context)?).map_err(trust)?;
        push(context, &remote, &referrer).await
    };
    let pushed = pushed.map_err(|error| failed(&remote, error))?;
    Ok(Attached { what: "signature", pinned: remote.pinned(), pushed, signed: true })
}

async fn push(context: &Context, remote: &Remote, referrer: &Referrer) -> Result<Pushed, TrustError> {
    registry::push_referrer(&remote.session.client, &remote.repository, referrer, &context.cancel).await
}

/// What was found about a package, and what follows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verified {
    /// `registry/repository@digest`.
    pub pinned: String,
    /// What follows.
    #[serde(flatten)]
    pub decision: Decision,
    /// What was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Verification>,
}

/// Who is to have signed.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Files of public keys.
    pub keys: Vec<PathBuf>,
    /// How many of them.
    pub least: usize,
    /// Somebody with a certificate.
    pub keyless: Option<WantedKeyless>,
}

/// Somebody with a certificate, and no key that anybody keeps.
#[derive(Debug, Clone)]
pub struct WantedKeyless {
    /// A trusted root, as sigstore's TUF repository gives it out.
    pub root: PathBuf,
    /// The identity in the certificate.
    pub identity: String,
    /// Who vouched for it.
    pub issuer: String,
}

/// Verifies a package: by keys or an identity, or by the policy of `registries.yaml` where neither is given.
///
/// # Errors
/// A key cannot be read, or the registry does not say what refers to the package.
pub async fn verify(context: &Context, text: &str, wanted: &Wanted) -> Result<Verified, Error> {
    let remote = Remote::of(context, text).await?;
    if wanted.keys.is_empty() && wanted.keyless.is_none() {
        return by_policy(context, &remote).await;
    }
    let named = wanted
        .keys
        .iter()
        .map(|path| Ok(NamedKey { name: path.display().to_string(), key: PublicKey::read(path)? }))
        .collect::<Result<Vec<_>, key::KeyError>>()
        .map_err(trust)?;
    let keyless = match &wanted.keyless {
        Some(wanted) => {
            Some(KeylessTrust::read(&wanted.root, &wanted.identity, &wanted.issuer).map_err(trust)?)
        }
        None => None,
    };
    let believed =
        Trust { keys: &named, keyless: keyless.as_ref().map(|keyless| keyless as &dyn KeylessVerifier) };
    let (client, digest) = (&remote.session.client, remote.manifest.digest());
    let found = registry::signatures(client, &remote.repository, digest, believed).await;
    let found = found.map_err(|error| failed(&remote, error))?;
    let (signers, least) = (found.signers().len(), wanted.least.max(1));
    let decision = if signers >= least {
        Decision::Verified { signatures: signers }
    } else {
        Decision::Refused {
            reason: format!("{signers} of those who were named signed it, and {least} were asked for"),
        }
    };
    Ok(Verified { pinned: remote.pinned(), decision, found: Some(found) })
}

/// Holds a package to the policy.
async fn by_policy(context: &Context, remote: &Remote) -> Result<Verified, Error> {
    let digest = remote.manifest.digest();
    held(context, &remote.session, &remote.repository, &remote.reference, digest).await
}

/// Ends what the policy does not allow; says what is used nevertheless.
///
/// # Errors
/// It is not signed as the policy wants it, or that cannot be found out.
pub(in crate::ops) async fn allow(
    context: &Context,
    session: &Session,
    repository: &Repository,
    reference: &Reference,
    digest: &Digest,
) -> Result<(), Error> {
    let verified = held(context, session, repository, reference, digest).await?;
    let pinned = &verified.pinned;
    match &verified.decision {
        Decision::Refused { reason } => Err(Error::Refused(format!(
            "{pinned} is not to be used (`verification` in registries.yaml): {reason}"
        ))),
        Decision::Warned { reason } => {
            context.progress.event(Event::Warning { text: format!("{pinned}: {reason}") });
            Ok(())
        }
        Decision::Verified { .. } | Decision::NotAsked => Ok(()),
    }
}

/// What the policy makes of a manifest. Nobody is asked where no rule wants to know.
async fn held(
    context: &Context,
    session: &Session,
    repository: &Repository,
    reference: &Reference,
    digest: &Digest,
) -> Result<Verified, Error> {
    let name = format!("{}/{}", reference.registry, reference.repository);
    let directory = context.registries.file().and_then(Path::parent).unwrap_or(Path::new("."));
    let policy = &context.registries.verification;
    let checked = registry::check(&session.client, repository, digest, &name, policy, directory).await;
    let checked = checked.map_err(|error| match error {
        TrustError::Client(error) => session.failed(error),
        error => trust(error),
    })?;
    Ok(Verified { pinned: reference.pinned(digest), decision: checked.decision, found: checked.found })
}

/// Whether any rule speaks of a repository.
pub(in crate::ops) fn is_held(context: &Context, reference: &Reference) -> bool {
    let name = format!("{}/{}", reference.registry, reference.repository);
    context.registries.verification.rule_for(&name).is_some_and(|rule| rule.mode != Mode::Off)
}

/// An SBOM of a package; attached to it, and signed, where that is asked for.
#[derive(Debug, Clone)]
pub struct SbomRequest {
    /// The package.
    pub package: String,
    /// The format.
    pub format: Format,
    /// Put it beside the package.
    pub attach: bool,
    /// With this name under it.
    pub key: Option<PathBuf>,
}

/// What was made.
#[derive(Debug)]
pub enum Made {
    /// A document.
    Document(Value),
    /// One that lies beside the package now.
    Attached(Attached),
}

/// Makes an SBOM.
///
/// # Errors
/// The package is none of ours, or the registry does not take it.
pub async fn sbom(context: &Context, request: &SbomRequest) -> Result<Made, Error> {
    let subject = Subject::of(context, &request.package).await?;
    if !request.attach {
        let description = subject.describe().await?;
        return Ok(Made::Document(request.format.document(&facts(&description, None)?)));
    }
    let key = request.key.as_deref().map(|path| private(context, path)).transpose()?;
    let remote = remote_of(subject, &request.package)?;
    let package = facts(&remote.describe().await?, Some(&remote))?;
    let descriptor = remote.manifest.descriptor();
    let referrer = match &key {
        Some(key) => sbom::attest(descriptor, request.format, &package, key),
        None => sbom::attach(descriptor, request.format, &package),
    };
    let pushed =
        push(context, &remote, &referrer.map_err(trust)?).await.map_err(|error| failed(&remote, error))?;
    Ok(Made::Attached(Attached { what: "sbom", pinned: remote.pinned(), pushed, signed: key.is_some() }))
}

fn remote_of(subject: Subject, text: &str) -> Result<Box<Remote>, Error> {
    match subject {
        Subject::Remote(remote) => Ok(remote),
        _ => Err(Error::Usage(format!("`{text}` is not in a registry; push it, and name it there"))),
    }
}

/// How a package came about.
#[derive(Debug, Clone)]
pub struct ProvenanceRequest {
    /// The package.
    pub package: String,
    /// Who built it: a URI.
    pub builder: String,
    /// Which run of it.
    pub invocation: Option<String>,
    /// Put it beside the package.
    pub attach: bool,
    /// With this name under it.
    pub key: Option<PathBuf>,
}

/// Makes a provenance statement (SLSA v1).
///
/// # Errors
/// The package is none of ours, or the registry does not take it.
pub async fn provenance(context: &Context, request: &ProvenanceRequest) -> Result<Made, Error> {
    let subject = Subject::of(context, &request.package).await?;
    let remote = remote_of(subject, &request.package)?;
    let description = remote.describe().await?;
    let parameters = [
        ("name", description.name.clone()),
        ("version", description.version.clone()),
        ("type", description.r#type.clone()),
        ("source", description.source.clone()),
        ("revision", description.revision.clone()),
    ];
    let parameters =
        parameters.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::from(value?))));
    let mut materials: Vec<Material> = locked(&description)?
        .map(|lock| {
            lock.packages
                .iter()
                .map(|package| {
                    let place = package.repository.to_string();
                    Material::oci(&package.name, place.trim_start_matches("oci://"), &package.digest)
                })
                .collect()
        })
        .unwrap_or_default();
    if let (Some(source), Some(revision)) = (&description.source, &description.revision) {
        let commit = revision.trim_end_matches("-dirty").to_owned();
        let digest = [("gitCommit".to_owned(), commit)].into();
        materials.push(Material { name: None, uri: format!("git+{source}"), digest });
    }
    let build = Build {
        builder_id: request.builder.clone(),
        builder_version: [("idp".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        parameters: parameters.collect(),
        materials,
        invocation: request.invocation.clone(),
        started: None,
        finished: None,
    };
    let statement = provenance::statement(remote.manifest.digest(), &build).map_err(trust)?;
    if !request.attach {
        let document = serde_json::to_value(&statement)
            .map_err(|error| Error::Io { what: "the statement".to_owned(), error: error.into() })?;
        return Ok(Made::Document(document));
    }
    let key = request.key.as_deref().map(|path| private(context, path)).transpose()?;
    let (descriptor, created) = (remote.manifest.descriptor(), now(context)?);
    let referrer = match &key {
        Some(key) => signing::attest(descriptor, &statement, key, created),
        None => signing::state(descriptor, &statement, created),
    };
    let pushed =
        push(context, &remote, &referrer.map_err(trust)?).await.map_err(|error| failed(&remote, error))?;
    Ok(Made::Attached(Attached {
        what: "provenance",
        pinned: remote.pinned(),
        pushed,
        signed: key.is_some(),
    }))
}

fn locked(description: &Description) -> Result<Option<Lock>, Error> {
    let Some(lock) = description.config.as_ref().and_then(|config| config.lock.clone()) else {
        return Ok(None);
    };
    serde_json::from_value(lock)
        .map(Some)
        .map_err(|error| Error::Unfit(format!("the lock in the package: {error}")))
}

/// What an SBOM tells of a package of ours.
fn facts(description: &Description, remote: Option<&Remote>) -> Result<PackageFacts, Error> {
    let Some(config) = &description.config else {
        return Err(Error::Unfit(
            "it does not list its files, so there is nothing to make an SBOM of; it was not built by idp"
                .to_owned(),
        ));
    };
    let metadata = &config.package.metadata;
    let hex = |digest: &Digest| digest.hex().to_owned();
    let dependencies = locked(description)?.map(|lock| lock.packages).unwrap_or_default();
    Ok(PackageFacts {
        name: metadata.name.clone(),
        version: metadata.version.clone(),
        digest: description.digest.clone(),
        repository: remote
            .map(|remote| format!("{}/{}", remote.reference.registry, remote.reference.repository)),
        description: metadata.description.clone(),
        licenses: metadata.licenses.clone(),
        supplier: metadata.maintainers.first().map(|person| person.name.clone()),
        files: config
            .files
            .iter()
            .map(|file| FileFacts {
                path: file.path.clone(),
                size: file.size,
                sha256: hex(&file.digest),
                sha1: None,
            })
            .collect(),
        images: config
            .images
            .iter()
            .map(|image| ImageFacts { reference: image.reference.clone(), digest: image.digest.clone() })
            .collect(),
        dependencies: dependencies
            .into_iter()
            .map(|package| DependencyFacts {
                name: package.name,
                version: package.version.to_string(),
                repository: Some(package.repository.to_string().trim_start_matches("oci://").to_owned()),
                digest: package.digest,
            })
            .collect(),
        created: description.created.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
