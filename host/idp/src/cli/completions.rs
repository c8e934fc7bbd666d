//! `idp completions`.

use clap_complete::Shell;

use super::{Session, Stop};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp completions bash > ~/.local/share/bash-completion/completions/idp\n  idp completions zsh > ~/.zfunc/_idp")]
pub struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<(), Stop> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::tree(), "idp", &mut script);
    Ok(session.console.stdout(&String::from_utf8_lossy(&script))?)
}
