//! `idp package keygen`, `sign`, `verify`, `sbom` and `provenance`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use idp_oci::secret::Secret;
use idp_package::trust::policy::Decision;
use idp_package::trust::sbom::Format as Bom;
use idp_package::trust::verify::{Finding, Kind, Verdict};

use super::super::connect::Connect;
use super::super::error::{Exit, Report};
use super::super::{Session, Stop};
use crate::config::env;
use crate::ops;
use crate::ops::package::trust::{Attached, Made, ProvenanceRequest, SbomRequest, Wanted, WantedKeyless};

/// Make a pair of keys to sign packages with
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp package keygen\n  COSIGN_PASSWORD=… idp package keygen ./team\n\n\
  Writes PREFIX.key, for its owner alone, and PREFIX.pub; cosign reads both. The private key is encrypted with COSIGN_PASSWORD, or what \
  is typed; it is not where neither is given.")]
pub(super) struct KeygenArgs {
    /// Where to
    #[arg(default_value = "cosign")]
    prefix: PathBuf,
}

pub(super) fn keygen(args: &KeygenArgs, session: &Session) -> Result<(), Stop> {
    let doing = format!("make keys at `{}`", args.prefix.display());
    let written = ops::package::trust::generate(&args.prefix, password(session)?.as_ref())
        .map_err(|error| Stop::Failed(Report::of(&doing, &error)))?;
    session.console.say(&format!(
        "Wrote {} (keep it) and {} (give it to everybody)",
        written.private_key.display(),
        written.public_key.display()
    ));
    Ok(session.console.result(&format!("{}\n", written.public_key.display()), &written)?)
}

/// From the environment, or typed twice.
fn password(session: &Session) -> Result<Option<Secret>, Stop> {
    if let Some(text) = session.env.get(env::COSIGN_PASSWORD) {
        return Ok(Some(text).filter(|text| !text.is_empty()).map(Secret::from));
    }
    if !std::io::stdin().is_terminal() || session.env.get(env::CI).is_some() {
        return Ok(None);
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .map_err(|error| Report::new(Exit::Failed, format!("cannot ask for a password: {error}")))
    };
    let typed = ask("Password of the private key (empty for none): ")?;
    if typed != ask("Once more: ")? {
        return Err(Report::new(Exit::Usage, "the two are not the same").into());
    }
    Ok(Some(typed).filter(|text| !text.is_empty()).map(Secret::from))
}

/// Sign a package, or any artifact or image
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package sign registry.example/team/my-app:1.0.0 --key cosign.key\n  \
  idp package sign registry.example/team/my-app:1.0.0 --key cosign.key --legacy     for cosign 1 and 2, Kyverno\n\n\
  What is signed is the digest. `cosign verify --key cosign.pub --insecure-ignore-tlog` accepts it. The password of an encrypted key is \
  COSIGN_PASSWORD."
)]
pub(super) struct SignArgs {
    /// registry/repository:version or @digest
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// The private key, as `keygen`, cosign or openssl writes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The older form, under a tag
    #[arg(long)]
    legacy: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn sign(args: SignArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package sign")?;
    let doing = format!("sign `{}`", args.package);
    let attached = session.work(&doing, options, async |context| {
        ops::package::trust::sign(context, &args.package, &args.key, args.legacy).await
    })?;
    print(&attached, session)
}

fn print(attached: &Attached, session: &Session) -> Result<(), Stop> {
    let place =
        attached.pushed.tag.as_deref().map(|tag| format!(", under the tag {tag}")).unwrap_or_default();
    let verb = if attached.pushed.existed { "Found" } else { "Put" };
    let signed = if attached.signed && attached.what != "signature" { "signed " } else { "" };
    session.console.say(&format!("{verb} a {signed}{} beside {}{place}", attached.what, attached.pinned));
    Ok(session.console.result(&format!("{}\n", attached.pushed.digest), attached)?)
}

/// Verify who signed a package
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package verify registry.example/team/my-app:1.0.0 --key cosign.pub\n  \
  idp package verify registry.example/team/my-app:1.0.0 --key one.pub --key two.pub --min-signatures 2\n  \
  idp package verify registry.example/team/my-app:1.0.0 --trusted-root trusted_root.json \\\n      --certificate-identity IDENTITY --certificate-oidc-issuer URL\n  \
  idp package verify registry.example/team/my-app:1.0.0     by `verification` in registries.yaml\n\n\
  Signatures of cosign count like ours. Exit code 3 means that it is not signed as was asked for. Stdout holds the digest that was \
  verified: deploy that, not the tag."
)]
pub(super) struct VerifyArgs {
    /// registry/repository:version or @digest
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// A public key; may be given several times
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// How many of the keys have to have signed
    #[arg(long, default_value_t = 1, value_name = "N")]
    min_signatures: usize,
    /// A trusted root of sigstore, to verify who signed without a key. Nothing is asked of a network
    #[arg(long, value_name = "FILE", requires_all = ["certificate_identity", "certificate_oidc_issuer"])]
    trusted_root: Option<PathBuf>,
    /// Whose certificate: exactly this identity
    #[arg(long, value_name = "IDENTITY", requires = "trusted_root")]
    certificate_identity: Option<String>,
    /// Who vouched for the identity: exactly this issuer
    #[arg(long, value_name = "URL", requires = "trusted_root")]
    certificate_oidc_issuer: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn verify(args: VerifyArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package verify")?;
    let doing = format!("verify `{}`", args.package);
    let keyless = match (args.trusted_root, args.certificate_identity, args.certificate_oidc_issuer) {
        (Some(root), Some(identity), Some(issuer)) => Some(WantedKeyless { root, identity, issuer }),
        _ => None,
    };
    let wanted = Wanted { keys: args.keys, least: args.min_signatures, keyless };
    let verified = session.work(&doing, options, async |context| {
        ops::package::trust::verify(context, &args.package, &wanted).await
    })?;
    let console = &session.console;
    if let Some(found) = &verified.found {
        found.findings.iter().for_each(|finding| console.say(&line(finding)));
        found.incomplete.iter().for_each(|what| console.warn(what));
    }
    match &verified.decision {
        Decision::Verified { signatures } => {
            console.say(&format!(
                "Verified {}: {signatures} of those who were named signed it",
                verified.pinned
            ));
            Ok(console.result(&format!("{}\n", verified.pinned), &verified)?)
        }
        Decision::NotAsked => {
            let sentence = format!("Failed to {doing}: nothing says who should have signed it");
            Err(Report::new(Exit::Usage, sentence)
                .hint("give --key FILE, or write `verification` in registries.yaml")
                .into())
        }
        Decision::Warned { reason } | Decision::Refused { reason } => {
            if console.output() == super::super::ui::Output::Json {
                console.result("", &verified)?;
            }
            Err(Report::new(Exit::Auth, format!("Failed to {doing}: {reason}")).into())
        }
    }
}

/// Say what is in a package: files, images, dependencies
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package sbom ./my-app\n  idp package sbom registry.example/team/my-app:1.0.0 --format cyclonedx\n  \
  idp package sbom registry.example/team/my-app:1.0.0 --attach --key cosign.key"
)]
pub(super) struct SbomArgs {
    /// A directory, a built package, or one in a registry
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// The document's format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: SbomFormat,
    /// Put it beside the package in its registry
    #[arg(long)]
    attach: bool,
    /// With the name of this private key under it
    #[arg(long, value_name = "FILE", requires = "attach")]
    key: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum SbomFormat {
    /// SPDX 2.3
    #[default]
    Spdx,
    /// CycloneDX 1.6
    Cyclonedx,
}

pub(super) fn sbom(args: SbomArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package sbom")?;
    let doing = format!("make an SBOM of `{}`", args.package);
    let format = match args.format {
        SbomFormat::Spdx => Bom::Spdx,
        SbomFormat::Cyclonedx => Bom::CycloneDx,
    };
    let request = SbomRequest { package: args.package, format, attach: args.attach, key: args.key };
    let made =
        session.work(&doing, options, async |context| ops::package::trust::sbom(context, &request).await)?;
    print_made(&made, session)
}

fn print_made(made: &Made, session: &Session) -> Result<(), Stop> {
    match made {
        Made::Attached(attached) => print(attached, session),
        Made::Document(document) => {
            let mut text = serde_json::to_string_pretty(document).map_err(std::io::Error::other)?;
            text.push('\n');
            Ok(session.console.stdout(&text)?)
        }
    }
}

/// Say how a package came about (SLSA provenance v1)
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package provenance registry.example/team/my-app:1.0.0 --builder https://ci.example/runner --attach --key cosign.key"
)]
pub(super) struct ProvenanceArgs {
    /// registry/repository:version or @digest
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// Who built it: a URI
    #[arg(long, value_name = "URI")]
    builder: String,
    /// Which run of it: a URI
    #[arg(long, value_name = "URI")]
    invocation: Option<String>,
    /// Put it beside the package in its registry
    #[arg(long)]
    attach: bool,
    /// With the name of this private key under it
    #[arg(long, value_name = "FILE", requires = "attach")]
    key: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn provenance(args: ProvenanceArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package provenance")?;
    let doing = format!("say how `{}` came about", args.package);
    let request = ProvenanceRequest {
        package: args.package,
        builder: args.builder,
        invocation: args.invocation,
        attach: args.attach,
        key: args.key,
    };
    let made = session
        .work(&doing, options, async |context| ops::package::trust::provenance(context, &request).await)?;
    print_made(&made, session)
}

/// A signature, and what it amounts to.
fn line(finding: &Finding) -> String {
    let what = match finding.kind {
        Kind::Signature => "signature".to_owned(),
        Kind::Attestation => format!("attestation {}", finding.predicate_type.as_deref().unwrap_or_default()),
        Kind::Unknown => "something".to_owned(),
    };
    let verdict = match &finding.verdict {
        valid @ Verdict::Valid(_) => valid.to_string(),
        Verdict::UnknownKey { .. } => "not by one of the keys".to_owned(),
        Verdict::Keyless { claimed } => format!(
            "keyless, not verified; it claims to be by {}",
            claimed.identity.as_deref().unwrap_or("somebody")
        ),
        Verdict::Invalid { reason } => format!("invalid: {reason}"),
    };
    format!("  {what} {}: {verdict}", finding.manifest.short())
}
