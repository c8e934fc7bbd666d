//! `idp package …`: a file a group of commands.
//!
//! | file | commands |
//! |---|---|
//! | `make` | `new`, `build`, `version` |
//! | `transfer` | `push`, `pull`, `show` |

mod make;
mod transfer;

use clap::Subcommand;

use super::{Session, Stop};

/// Make packages of manifests, kustomizations, charts and Applications, and move them through registries
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package new my-app\n  idp package validate ./my-app\n  idp package push ./my-app registry.example/team/\n  \
  idp package show registry.example/team/my-app:0.1.0\n\n\
  What is pushed is one OCI artifact that Argo CD, Flux, Helm and oras take as it is."
)]
pub struct Args {
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
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    match args.command {
        Command::New(args) => make::new(args, session),
        Command::Build(args) => make::build(args, session),
        Command::Version(args) => make::version(&args, session),
        Command::Push(args) => transfer::push(args, session),
        Command::Pull(args) => transfer::pull(args, session),
        Command::Show(args) => transfer::show(args, session),
    }
}
