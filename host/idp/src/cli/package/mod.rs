//! `idp package …`: a file a group of commands.
//!
//! | file | commands |
//! |---|---|
//! | `make` | `new`, `build`, `version` |
//! | `transfer` | `push`, `pull`, `show` |
//! | `carry` | `export`, `import` |
//! | `check` | `validate`, `rules`, `diff` |
//! | `resolve` | `tags`, `lock`, `update`, `deps` |
//! | `trust` | `keygen`, `sign`, `verify`, `sbom`, `provenance` |

mod carry;
mod check;
mod make;
mod resolve;
mod transfer;
mod trust;

use clap::Subcommand;

use super::{Session, Stop};

/// Make packages of manifests, charts and Applications, and move them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package new my-app\n  idp package validate ./my-app\n  idp package push ./my-app registry.example/team/\n  \
  idp package show registry.example/team/my-app:0.1.0\n\n\
  What is pushed is one OCI artifact that Argo CD, Flux, Helm and oras take as it is."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(make::NewArgs),
    Build(make::BuildArgs),
    Version(make::VersionArgs),
    Push(transfer::PushArgs),
    Pull(transfer::PullArgs),
    Show(transfer::ShowArgs),
    Validate(check::ValidateArgs),
    Rules(check::RulesArgs),
    Diff(check::DiffArgs),
    Tags(resolve::TagsArgs),
    Lock(resolve::LockArgs),
    Update(resolve::UpdateArgs),
    Deps(resolve::DepsArgs),
    Export(carry::ExportArgs),
    Import(carry::ImportArgs),
    Keygen(trust::KeygenArgs),
    Sign(trust::SignArgs),
    Verify(trust::VerifyArgs),
    Sbom(trust::SbomArgs),
    Provenance(trust::ProvenanceArgs),
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    match args.command {
        Command::New(args) => make::new(args, session),
        Command::Build(args) => make::build(args, session),
        Command::Version(args) => make::version(&args, session),
        Command::Push(args) => transfer::push(args, session),
        Command::Pull(args) => transfer::pull(args, session),
        Command::Show(args) => transfer::show(args, session),
        Command::Validate(args) => check::validate(args, session),
        Command::Rules(args) => check::rules(&args, session),
        Command::Diff(args) => check::diff(args, session),
        Command::Tags(args) => resolve::tags(args, session),
        Command::Lock(args) => resolve::lock(args, session),
        Command::Update(args) => resolve::update(args, session),
        Command::Deps(args) => resolve::deps(args, session),
        Command::Export(args) => carry::export(args, session),
        Command::Import(args) => carry::import(args, session),
        Command::Keygen(args) => trust::keygen(&args, session),
        Command::Sign(args) => trust::sign(args, session),
        Command::Verify(args) => trust::verify(args, session),
        Command::Sbom(args) => trust::sbom(args, session),
        Command::Provenance(args) => trust::provenance(args, session),
    }
}
