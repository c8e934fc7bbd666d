//! A manifest: what it is, how to pull it, its parts, what refers to it, and the way to be rid of it.

use std::collections::BTreeMap;

use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};
use serde_json::Value;

use super::describe::{self, Described, Kind};
use super::{Visit, format, frame, link, readme};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::name::{Repository, Tag, Target};
use crate::server::error::Error;
use crate::server::gate::Requester;

/// More referrers, layers or children than anybody reads.
const MOST_ROWS: usize = 500;

/// How much of a value is shown.
const MOST_TEXT: usize = 2000;

pub(super) async fn show(
    visit: &Visit<'_>,
    repository: &Repository,
    target: &Target,
    requester: &Requester,
) -> Result<Response, Error> {
    let Some(described) = describe::manifest(visit.registry, repository, target).await? else {
        let message = format!("{repository} has no manifest {target}.");
        return Err(Error::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message));
    };
    let referrers = referrers(visit, repository, &described.digest).await?;
    let readme = readme::read(visit.registry, repository, &described).await;
    let name = named(repository, target);
    let here = link(&format!("/-/{name}"), &[]);
    let short = match target {
        Target::Tag(tag) => tag.to_string(),
        Target::Digest(digest) => digest.short().to_owned(),
    };
    let main = html! {
        h1 { (repository) " " span .target { (short) } }
        @if let Some(title) = title(&described) { p .title { (title) } }
        @if let Some(description) = description(&described) { p { (format::shortened(&description, MOST_TEXT)) } }
        (facts(repository, &described))
        (commands(visit, repository, target, &described))
        @if !described.children.is_empty() { (children(repository, &described)) }
        @if !described.layers.is_empty() { (layers(repository, &described)) }
        (referrer_list(repository, &referrers))
        @if let Some(readme) = &readme {
            section aria-labelledby="readme" {
                h2 #readme { "README" }
                pre .readme tabindex="0" { (readme) }
            }
        }
        (running(&described))
        (pairs("Annotations", &described.annotations))
        @if let Some(labels) = described.config.as_ref().and_then(|config| config.config.as_ref()?.labels.as_ref()) {
            (pairs("Labels", labels))
        }
        @if visit.offers_delete(requester, repository) { (deletion(&here, target)) }
    };
    let trail = [
        frame::home(),
        (repository.as_str(), link(&format!("/-/{repository}"), &[])),
        (short.as_str(), here.clone()),
    ];
    Ok(super::html(frame::page(&name, &trail, visit.who(requester.identity.user.as_deref()), &main)))
}

fn named(repository: &Repository, target: &Target) -> String {
    match target {
        Target::Tag(tag) => format!("{repository}:{tag}"),
        Target::Digest(digest) => format!("{repository}@{digest}"),
    }
}

fn digest_link(repository: &Repository, digest: &Digest) -> Markup {
    html! {
        a href=(link(&format!("/-/{repository}@{digest}"), &[])) title=(digest) { code { (digest.short()) } }
    }
}

/// An annotation, or what packages and charts say in their configuration.
fn title(described: &Described) -> Option<String> {
    let package = described.config.as_ref().and_then(|config| config.package.as_ref());
    let own = package.and_then(|package| text(package.pointer("/metadata/displayName")));
    own.or_else(|| described.says("title").map(str::to_owned)).map(|title| format::shortened(&title, 200))
}

fn description(described: &Described) -> Option<String> {
    let config = described.config.as_ref();
    let package = config.and_then(|config| text(config.package.as_ref()?.pointer("/metadata/description")));
    let chart = || {
        config.filter(|_| described.kind == Kind::Chart).and_then(|config| text(config.description.as_ref()))
    };
    package.or_else(chart).or_else(|| described.says("description").map(str::to_owned))
}

fn text(value: Option<&Value>) -> Option<String> {
    value?.as_str().map(str::to_owned).filter(|text| !text.trim().is_empty())
}

fn facts(repository: &Repository, described: &Described) -> Markup {
    let config = described.config.as_ref();
    let version = || {
        text(config?.version.as_ref())
            .or_else(|| text(config?.package.as_ref()?.pointer("/metadata/version")))
    };
    let version = version().or_else(|| described.says("version").map(str::to_owned));
    let app_version = config.and_then(|config| text(config.app_version.as_ref()));
    let home = config.and_then(|config| text(config.home.as_ref()));
    let links = ["documentation", "url", "source"];
    html! {
        dl .facts {
            dt { "Kind" } dd { (described.kind.name()) }
            dt { "Digest" } dd { code .digest { (described.digest) } }
            @if let Some(size) = described.total() { dt { "Size" } dd { (format::size(size)) } }
            @if let Some(created) = described.created() { dt { "Created" } dd { (created) } }
            @if let Some(version) = version { dt { "Version" } dd { (format::shortened(&version, 200)) } }
            @if let Some(version) = app_version { dt { "App version" } dd { (format::shortened(&version, 200)) } }
            @let platforms = described.platforms();
            @if !platforms.is_empty() { dt { "Platforms" } dd { (platforms.join(", ")) } }
            @if let Some(subject) = &described.subject {
                dt { "Refers to" } dd { (digest_link(repository, subject)) }
            }
            @if let Some(artifact_type) = &described.artifact_type {
                dt { "Artifact type" } dd { code { (format::shortened(artifact_type, 200)) } }
            }
            dt { "Manifest" } dd { (format::size(described.size)) }
            dt { "Media type" } dd { code { (format::shortened(&described.media_type, 200)) } }
            @if let Some(home) = home { dt { "Home" } dd { (address(&home)) } }
            @for name in links {
                @if let Some(value) = described.says(name) {
                    dt { (capitalised(name)) } dd { (address(value)) }
                }
            }
            @if let Some(licenses) = described.says("licenses") {
                dt { "Licenses" } dd { (format::shortened(licenses, 200)) }
            }
        }
    }
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A link where it is one.
fn address(text: &str) -> Markup {
    let shown = format::shortened(text, 200);
    html! {
        @if let Some(url) = format::http_url(text) {
            a href=(url) rel="noopener noreferrer nofollow" { (shown) }
        } @else { (shown) }
    }
}

fn commands(visit: &Visit<'_>, repository: &Repository, target: &Target, described: &Described) -> Markup {
    let full = format!("{}/{}", visit.host, named(repository, target));
    let idp = ("idp", format!("idp pull {full}"));
    let oras = ("oras", format!("oras pull {full}"));
    let commands = match described.kind {
        Kind::Image | Kind::Index => vec![("docker", format!("docker pull {full}")), idp],
        Kind::Chart => {
            let chart = format!("oci://{}/{repository}", visit.host);
            let helm = match target {
                // Helm writes the `+` of a version as `_`, which tags may have.
                Target::Tag(tag) => format!("helm pull {chart} --version {}", tag.as_str().replace('_', "+")),
                Target::Digest(digest) => format!("helm pull {chart}@{digest}"),
            };
            vec![("helm", helm), idp]
        }
        Kind::Package => vec![idp, oras],
        _ => vec![oras, idp],
    };
    html! {
        section aria-labelledby="pull" {
            h2 #pull { "Pull" }
            @for (name, text) in commands { (frame::command(name, &text)) }
        }
    }
}

fn children(repository: &Repository, described: &Described) -> Markup {
    html! {
        section aria-labelledby="platforms" {
            h2 #platforms { "Platforms" }
            div .scroll role="region" aria-label="Platforms" tabindex="0" {
                table {
                    caption { "What this index names" }
                    thead {
                        tr { th scope="col" { "Platform" } th scope="col" .number { "Size" } th scope="col" { "Digest" } }
                    }
                    tbody {
                        @for child in described.children.iter().take(MOST_ROWS) {
                            tr {
                                th scope="row" {
                                    @if let Some(platform) = child.platform() { (platform) }
                                    @else if child.is_attestation() { "attestation" }
                                    @else { "–" }
                                }
                                td .number { @if let Some(total) = child.total { (format::size(total)) } @else { "–" } }
                                td { (digest_link(repository, &child.descriptor.digest)) }
                            }
                        }
                    }
                }
            }
            (and_more(described.children.len()))
        }
    }
}

fn layers(repository: &Repository, described: &Described) -> Markup {
    let steps: Vec<&str> = described
        .config
        .iter()
        .flat_map(|config| config.history.iter().flatten())
        .filter(|step| !step.empty_layer)
        .map(|step| step.created_by.as_deref().unwrap_or_default())
        .collect();
    // A history that does not fit says nothing of the layers.
    let fits = steps.len() == described.layers.len();
    let made_by = |index: usize, layer: &Descriptor| {
        let title = layer.annotations.get("org.opencontainers.image.title").cloned();
        title.or_else(|| steps.get(index).filter(|_| fits).map(|step| (*step).to_owned())).unwrap_or_default()
    };
    html! {
        section aria-labelledby="layers" {
            h2 #layers { "Layers" }
            div .scroll role="region" aria-label="Layers" tabindex="0" {
                table {
                    caption { "Layers, from the first" }
                    thead {
                        tr {
                            th scope="col" { "Digest" }
                            th scope="col" .number { "Size" }
                            th scope="col" { "Content" }
                            th scope="col" .wide { "Media type" }
                        }
                    }
                    tbody {
                        @for (index, layer) in described.layers.iter().enumerate().take(MOST_ROWS) {
                            tr {
                                td {
                                    a href=(link(&format!("/v2/{repository}/blobs/{}", layer.digest), &[])) title=(layer.digest) {
                                        code { (layer.digest.short()) }
                                    }
                                }
                                td .number { (format::size(layer.size)) }
                                td .made { (format::shortened(&made_by(index, layer), 300)) }
                                td .wide { code { (format::shortened(&layer.media_type, 100)) } }
                            }
                        }
                    }
                }
            }
            (and_more(described.layers.len()))
        }
    }
}

fn and_more(count: usize) -> Markup {
    html! {
        @if count > MOST_ROWS { p { "And " (count - MOST_ROWS) " more." } }
    }
}

/// What refers to a manifest.
struct Referring {
    kind: Kind,
    artifact_type: String,
    size: u64,
    digest: Digest,
    created: Option<String>,
}

/// By its `subject`, and by the names of tags that were used before there was one.
async fn referrers(
    visit: &Visit<'_>,
    repository: &Repository,
    digest: &Digest,
) -> Result<Vec<Referring>, Error> {
    let store = &visit.registry.store;
    let mut found: Vec<Referring> = store
        .referrers(repository, digest)
        .await?
        .into_iter()
        .map(|referrer| {
            let artifact_type = referrer.artifact_type.unwrap_or_else(|| referrer.media_type.clone());
            let created = referrer.annotations.get("org.opencontainers.image.created");
            // A bundle of sigstore's holds either, and says which.
            let predicate = referrer.annotations.get("dev.sigstore.bundle.predicateType");
            let kind = match predicate {
                Some(predicate) if !predicate.contains("cosign/sign") => Kind::Attestation,
                _ => Kind::of_type(&artifact_type),
            };
            Referring {
                kind,
                created: created.and_then(|created| format::time(created)),
                size: referrer.size,
                digest: referrer.digest,
                artifact_type,
            }
        })
        .collect();
    for (ending, kind) in [("sig", Kind::Signature), ("att", Kind::Attestation), ("sbom", Kind::Sbom)] {
        let Ok(tag) = format!("{}.{ending}", digest.referrers_tag()).parse::<Tag>() else { continue };
        if let Some(stored) = store.manifest(repository, &Target::Tag(tag.clone())).await? {
            found.push(Referring {
                kind,
                artifact_type: format!("tag {tag}"),
                size: stored.bytes.len() as u64,
                digest: stored.digest,
                created: None,
            });
        }
    }
    Ok(found)
}

fn referrer_list(repository: &Repository, referrers: &[Referring]) -> Markup {
    html! {
        @if !referrers.is_empty() {
            section aria-labelledby="referrers" {
                h2 #referrers { "Referrers" }
                div .scroll role="region" aria-label="Referrers" tabindex="0" {
                    table {
                        caption { "Signatures, SBOMs and what else refers to this" }
                        thead {
                            tr {
                                th scope="col" { "Kind" }
                                th scope="col" { "Type" }
                                th scope="col" { "Created" }
                                th scope="col" .number { "Size" }
                                th scope="col" { "Digest" }
                            }
                        }
                        tbody {
                            @for referring in referrers.iter().take(MOST_ROWS) {
                                tr {
                                    th scope="row" { (referring.kind.name()) }
                                    td { code { (format::shortened(&referring.artifact_type, 120)) } }
                                    td { @if let Some(created) = &referring.created { (created) } }
                                    td .number { (format::size(referring.size)) }
                                    td { (digest_link(repository, &referring.digest)) }
                                }
                            }
                        }
                    }
                }
                (and_more(referrers.len()))
            }
        }
    }
}

fn running(described: &Described) -> Markup {
    let Some(running) = described.config.as_ref().and_then(|config| config.config.as_ref()) else {
        return html! {};
    };
    let list = |words: &Option<Vec<String>>| {
        let words = words.as_ref().filter(|words| !words.is_empty())?;
        serde_json::to_string(words).ok().map(|text| format::shortened(&text, MOST_TEXT))
    };
    let ports = running.exposed_ports.iter().flatten().map(|(port, _)| port.as_str()).collect::<Vec<_>>();
    let plain = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let rows: Vec<(&str, String)> = [
        ("Entrypoint", list(&running.entrypoint)),
        ("Command", list(&running.cmd)),
        ("User", plain(&running.user)),
        ("Directory", plain(&running.working_dir)),
        ("Ports", Some(ports.join(", ")).filter(|ports| !ports.is_empty())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, format::shortened(&value?, MOST_TEXT))))
    .collect();
    html! {
        @if !rows.is_empty() {
            section aria-labelledby="running" {
                h2 #running { "How it runs" }
                dl .facts {
                    @for (name, value) in rows { dt { (name) } dd { code { (value) } } }
                }
            }
        }
    }
}

fn pairs(name: &str, pairs: &BTreeMap<String, String>) -> Markup {
    let id = name.to_ascii_lowercase();
    html! {
        @if !pairs.is_empty() {
            section aria-labelledby=(id) {
                h2 id=(id) { (name) }
                dl .pairs {
                    @for (key, value) in pairs.iter().take(MOST_ROWS) {
                        dt { code { (format::shortened(key, 200)) } }
                        dd { (address(&format::shortened(value, MOST_TEXT))) }
                    }
                }
                (and_more(pairs.len()))
            }
        }
    }
}

fn deletion(here: &str, target: &Target) -> Markup {
    html! {
        details .delete {
            summary { "Delete…" }
            @match target {
                Target::Tag(tag) => p { "The tag " strong { (tag) } " goes; the manifest that it names stays, under its digest." }
                Target::Digest(_) => p { "The manifest goes, with every tag that names it. What only it used is taken away later." }
            }
            form method="post" action=(here) {
                input type="hidden" name="action" value="delete";
                button type="submit" .danger {
                    @match target {
                        Target::Tag(_) => "Delete this tag",
                        Target::Digest(_) => "Delete this manifest",
                    }
                }
            }
        }
    }
}
