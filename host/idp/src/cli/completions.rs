//! `idp completions`.

use clap_complete::Shell;

use super::{Session, Stop};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp completions bash > ~/.local/share/bash-completion/completions/idp\n  idp completions zsh > ~/.zfunc/_idp"
)]
pub struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<(), Stop> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut offered(&super::tree()), "idp", &mut script);
    Ok(session.console.stdout(&String::from_utf8_lossy(&script))?)
}

/// The commands that people type: hidden ones are not offered.
fn offered(tree: &clap::Command) -> clap::Command {
    clap::Command::new("idp")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(tree.get_arguments())
        .subcommands(tree.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}
