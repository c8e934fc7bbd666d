//! `idp registry doctor`.

use idp_oci::name::Repository;

use super::connect::Connect;
use super::error::{Exit, Report, of_kind};
use super::{Session, Stop};
use crate::ops;

/// Look at a registry and a repository: reach, account, rights, features, clock, certificates, tags
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry doctor registry.example\n  idp registry doctor registry.example/team/app\n  \
  idp registry doctor registry.example/team/app --write --output json\n\n\
  Nothing is changed. Without --write nothing is asked that could change anything; with it, uploads are opened and cancelled \
  in the repository that is named. Exit code: 0 when nothing failed, else that of the worst failure."
)]
pub struct Args {
    /// host[:port] or a URL, and a repository there; the default registry unless given
    #[arg(value_name = "HOST[/REPOSITORY]")]
    target: Option<String>,
    /// Find out what only a write tells: rights to push and delete, mount, single POST, chunk sizes
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    let mut options = session.options(&args.connect, "doctor")?;
    options.once = true;
    let mut repository = None;
    if let Some(target) = &args.target {
        if options.registry.is_some() {
            return Err(Report::new(Exit::Usage, "HOST and --registry name two registries; give one").into());
        }
        let (host, path) = split(target);
        options.registry = Some(host.to_owned());
        if !path.is_empty() {
            let parsed = path.parse::<Repository>().map_err(|error| {
                Report::new(Exit::Usage, format!("`{path}` is no repository: {error}"))
                    .hint("give the name without tag and digest")
            })?;
            repository = Some(parsed);
        }
    }
    if args.write && repository.is_none() {
        return Err(Report::new(Exit::Usage, "--write needs a repository that it may ask to write to")
            .hint("idp registry doctor --write HOST/REPOSITORY")
            .into());
    }
    let doing = match &options.registry {
        Some(registry) => format!("look at `{registry}`"),
        None => "look at the default registry".to_owned(),
    };
    let found = session.work(&doing, options, async |context| {
        ops::doctor::doctor(context, repository.as_ref(), args.write).await
    })?;
    session.console.result(&found.text(), &found)?;
    match found.worst() {
        Some(kind) => Err(Stop::Told(of_kind(kind))),
        None => Ok(()),
    }
}

/// Host, with its scheme where it has one, and repository.
fn split(target: &str) -> (&str, &str) {
    let start = target.find("://").map_or(0, |scheme| scheme + 3);
    match target[start..].find('/') {
        Some(slash) => (&target[..start + slash], target[start + slash..].trim_matches('/')),
        None => (target, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn hosts_and_repositories() {
        for (target, host, repository) in [
            ("r.example", "r.example", ""),
            ("r.example/", "r.example", ""),
            ("localhost:5000/a/b", "localhost:5000", "a/b"),
            ("http://r.example:80/a/b/", "http://r.example:80", "a/b"),
            ("[::1]:5000/a", "[::1]:5000", "a"),
        ] {
            assert_eq!(split(target), (host, repository), "{target}");
        }
    }
}
