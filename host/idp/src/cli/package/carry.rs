//! `idp package export` and `import`.

use idp_oci::manifest::Platform;

use super::super::connect::Connect;
use super::super::push::platform;
use super::super::ui::size;
use super::super::{Session, Stop};
use crate::ops;
use crate::ops::package::carry::export::Request as ExportRequest;
use crate::ops::package::carry::import::Request as ImportRequest;
use crate::ops::package::idpbuilder::Exported;

/// Put a package and everything it needs into one file, for a place without a network
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp package export registry.example/team/platform:1.0.0\n  \
  idp package export registry.example/team/platform:1.0.0 platform.tar --platform linux/amd64\n  \
  idp package export ./my-app ./my-app-idpbuilder --format idpbuilder\n\n\
  Inside are the package, its dependencies as its lock has them, the images that all of these name, and what refers to any of them: \
  signatures, SBOMs. It is an OCI layout, which other tools read as well. `idp package import` brings it to a registry.")]
pub(super) struct ExportArgs {
    /// registry/repository:version; for idpbuilder a directory as well
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// FILE.tar or oci:DIR, or a new directory for idpbuilder; NAME-VERSION-export.tar or NAME-idpbuilder unless given
    dest: Option<String>,
    /// For whom
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// Only the target of this variant (idpbuilder); every target unless given
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    /// Leave the images where they are
    #[arg(long)]
    no_images: bool,
    /// Leave signatures, SBOMs and the like where they are
    #[arg(long)]
    no_referrers: bool,
    /// Only this platform of images: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    platform: Option<Platform>,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Everything in one OCI layout or archive
    #[default]
    Oci,
    /// A directory that `idpbuilder create -p` takes
    Idpbuilder,
}

pub(super) fn export(args: ExportArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package export")?;
    let doing = format!("export `{}`", args.package);
    if args.format == Format::Idpbuilder {
        let directory = args.dest.map(std::path::PathBuf::from);
        let exported = session.work(&doing, options, async |context| {
            ops::package::idpbuilder::export(context, &args.package, directory, args.variant).await
        })?;
        return print_directory(&exported, session);
    }
    let request = ExportRequest {
        package: args.package,
        destination: args.dest,
        no_images: args.no_images,
        no_referrers: args.no_referrers,
        platform: args.platform,
    };
    let exported = session.work(&doing, options, async |context| {
        ops::package::carry::export::export(context, &request).await
    })?;
    session.console.say(&format!(
        "Exported {} packages, {} images and {} referrers to {}: {} received",
        exported.packages,
        exported.images,
        exported.referrers,
        exported.destination,
        size(exported.bytes_received),
    ));
    Ok(session.console.result(&format!("{}\n", exported.destination), &exported)?)
}

fn print_directory(exported: &Exported, session: &Session) -> Result<(), Stop> {
    let console = &session.console;
    for lost in &exported.unconverted {
        console.warn(&format!("not converted: {}: {}: {}", lost.package, lost.what, lost.why));
    }
    exported.notes.iter().for_each(|note| console.warn(note));
    let packages: Vec<String> =
        exported.packages.iter().map(|directory| format!("-p {}", directory.display())).collect();
    console.say(&format!(
        "Wrote {} Applications to {}; `idpbuilder create {}` takes them",
        exported.applications.len(),
        exported.directory.display(),
        packages.join(" "),
    ));
    let lines: String =
        exported.packages.iter().map(|directory| format!("{}\n", directory.display())).collect();
    Ok(console.result(&lines, exported)?)
}

/// Bring what was exported to a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp package import platform.tar registry.local:5000/mirror\n  \
  idp package import platform.tar registry.local:5000/mirror --rewrite\n\n\
  Everything keeps its digest and its signatures; stdout holds `rewrites` for registries.yaml, by which the old names lead to the new \
  places. With --rewrite packages are built again with the new names in them: their digests are then others, and they have to be signed \
  anew.")]
pub(super) struct ImportArgs {
    /// FILE.tar, oci-archive:FILE or oci:DIR
    source: String,
    /// A registry, or a registry and the beginning of repositories
    dest: String,
    /// Build packages again, naming images and dependencies where they are now
    #[arg(long)]
    rewrite: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn import(args: ImportArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package import")?;
    let doing = format!("import `{}` to `{}`", args.source, args.dest);
    let request = ImportRequest { source: args.source, destination: args.dest, rewrite: args.rewrite };
    let imported = session.work(&doing, options, async |context| {
        ops::package::carry::import::import(context, &request).await
    })?;
    let console = &session.console;
    imported.left.iter().for_each(|what| console.warn(&format!("not rewritten: {what}")));
    console.say(&format!(
        "Imported {} as {}: {} artifacts, {} sent",
        args_shown(&request.source),
        imported.root,
        imported.entries.len(),
        size(imported.bytes_sent),
    ));
    let mut text = "rewrites:\n".to_owned();
    for rewrite in &imported.rewrites {
        text.push_str(&format!("- {{from: {}, to: {}}}\n", rewrite.from, rewrite.to));
    }
    Ok(console.result(&text, &imported)?)
}

fn args_shown(source: &str) -> &str {
    source.split_once(':').map_or(source, |(_, path)| path)
}
