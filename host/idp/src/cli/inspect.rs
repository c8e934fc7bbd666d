//! `idp inspect`.

use std::fmt::Write as _;

use super::connect::Connect;
use super::ui::size;
use super::{Session, Stop};
use crate::ops;
use crate::ops::inspect::{Inspected, Part, Request};
use crate::provider::printable;

/// Bytes of one value.
const MOST_TEXT: usize = 2000;

/// Show what a reference names: manifest, platforms, layers, labels, referrers
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp inspect registry.example/team/app:1.0\n  idp inspect registry.example/team/app:1.0 --referrers --output json\n  \
                  idp inspect registry.example/team/app:1.0 --raw | sha256sum"
)]
pub struct Args {
    /// REPOSITORY:TAG or REPOSITORY@DIGEST
    #[arg(value_name = "REF")]
    reference: String,
    /// Ask also what refers to it: signatures, SBOMs, attestations
    #[arg(long)]
    referrers: bool,
    /// Print the manifest's exact bytes and nothing else
    #[arg(long, conflicts_with = "referrers")]
    raw: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "inspect")?;
    let doing = format!("inspect `{}`", args.reference);
    if args.raw {
        let bytes = session
            .work(&doing, options, async |context| ops::inspect::raw(context, &args.reference).await)?;
        return Ok(session.console.bytes(&bytes)?);
    }
    let request = Request { reference: args.reference, referrers: args.referrers };
    let found =
        session.work(&doing, options, async |context| ops::inspect::inspect(context, request).await)?;
    Ok(session.console.result(&text(&found), &found)?)
}

fn text(found: &Inspected) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Annotations, labels and types are whatever somebody wrote.
        let _ = writeln!(text, "{name:<11} {}", printable(value, MOST_TEXT));
    };
    line("reference", &found.pinned);
    line("media type", &found.media_type);
    if let Some(kind) = &found.artifact_type {
        line("artifact", kind);
    }
    if let Some(subject) = &found.subject {
        line("subject", &subject.to_string());
    }
    if let Some(configuration) = &found.configuration {
        let platform: Vec<&str> = [&configuration.os, &configuration.architecture, &configuration.variant]
            .into_iter()
            .filter_map(|part| part.as_deref())
            .collect();
        if !platform.is_empty() {
            line("platform", &platform.join("/"));
        }
        if let Some(created) = &configuration.created {
            line("created", created);
        }
    }
    if let Some(bytes) = found.content_size {
        line("size", &size(bytes));
    }
    for (name, value) in &found.annotations {
        line("annotation", &format!("{name}={value}"));
    }
    for (name, value) in found.configuration.iter().flat_map(|configuration| &configuration.labels) {
        line("label", &format!("{name}={value}"));
    }
    for child in &found.manifests {
        line("manifest", &part(child, child.platform.as_deref().unwrap_or(&child.media_type)));
    }
    for blob in found.config.iter() {
        line("config", &part(blob, &blob.media_type));
    }
    for blob in &found.layers {
        line("layer", &part(blob, &blob.media_type));
    }
    if let Some(referrers) = &found.referrers {
        for descriptor in referrers {
            let get = |key: &str| descriptor[key].as_str().unwrap_or("-");
            let kind = descriptor["artifactType"].as_str().unwrap_or_else(|| get("mediaType"));
            line("referrer", &format!("{}  {kind}", get("digest")));
        }
        if referrers.is_empty() {
            line("referrers", "none");
        }
    }
    if let Some(limit) = &found.rate_limit {
        line("rate limit", &limit.to_string());
    }
    text
}

fn part(part: &Part, what: &str) -> String {
    format!("{}  {:>9}  {what}", part.digest, size(part.size))
}
