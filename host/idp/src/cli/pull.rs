//! `idp pull`.

use idp_oci::manifest::Platform;

use super::connect::Connect;
use super::push::platform;
use super::ui::size;
use super::{Session, Stop};
use crate::ops;
use crate::ops::pull::Request;

/// Pull an image or an artifact from a registry
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp pull registry.example/team/app:1.0                 into the Docker daemon\n  \
  idp pull registry.example/team/app:1.0 oci:./layout:1.0\n  idp pull team/app:1.0 oci-archive:app.tar -r localhost:5000\n  \
  idp pull registry.example/team/manifests:1.2.0 ./manifests   what was pushed from a directory\n\n\
  No image is named at DEST before everything of it is there and verified. Stdout holds one line, registry/repository@digest.\n\
  A pull to a layout that was cut off goes on where it stopped when it is run again. What was pulled before is taken from the \
  content cache (idp cache)."
)]
pub struct Args {
    /// What is pulled: registry/repository[:tag][@digest], or without the registry in the default one
    #[arg(value_name = "REF")]
    reference: String,
    /// oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-daemon:[NAME], or a directory for what was pushed from one; the Docker
    /// daemon unless given
    dest: Option<String>,
    /// Only this platform of a multi-platform image: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    platform: Option<Platform>,
    /// Wait until the disk has every blob of a layout: for machines that may lose power. Archives and directories always wait
    #[arg(long)]
    sync: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "pull")?;
    let doing = match &args.dest {
        Some(dest) => format!("pull `{}` to `{dest}`", args.reference),
        None => format!("pull `{}`", args.reference),
    };
    let request = Request {
        reference: args.reference,
        destination: args.dest,
        platform: args.platform,
        sync: args.sync,
    };
    let pulled = session.work(&doing, options, async |context| ops::pull::pull(context, request).await)?;
    let console = &session.console;
    let cached = match pulled.blobs_cached {
        0 => String::new(),
        count => format!(", {count} from the cache"),
    };
    console.say(&format!(
        "Pulled {} to {}: {} blobs, {} received ({}){cached}, through provider {}",
        pulled.reference,
        pulled.destination,
        pulled.blobs,
        pulled.blobs_received,
        size(pulled.bytes_received),
        pulled.provider,
    ));
    Ok(console.result(&format!("{}\n", pulled.pinned), &pulled)?)
}
