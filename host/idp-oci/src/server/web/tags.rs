//! A repository: its tags and what each of them is.

use axum::response::Response;
use futures_util::StreamExt as _;
use maud::{Markup, html};

use super::describe::{self, Described};
use super::{Visit, format, frame, link};
use crate::name::{Repository, Tag, Target};
use crate::server::error::Error;
use crate::server::tag::unknown_repository;
use crate::store::Page;

const PER_PAGE: usize = 50;
const STEP: usize = 1000;

/// How many are read at once.
const AT_ONCE: usize = 8;

pub(super) async fn show(
    visit: &Visit<'_>,
    repository: &Repository,
    user: Option<&str>,
) -> Result<Response, Error> {
    let query = visit.query();
    let wanted = query.get("q").unwrap_or_default().trim().to_owned();
    let after = query.get("after").filter(|after| !after.is_empty());
    let (tags, more_after) = find(visit, repository, &wanted, after).await?;
    let rows: Vec<(Tag, Option<Described>)> = futures_util::stream::iter(tags)
        .map(|tag| async move {
            let target = Target::Tag(tag.clone());
            // One that went away meanwhile, or is broken, does not take the others with it.
            let described = describe::manifest(visit.registry, repository, &target).await;
            (tag, described.ok().flatten())
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let here = format!("/-/{repository}");
    let main = html! {
        h1 { (repository) }
        (frame::search(&link(&here, &[]), "Search tags", &wanted))
        @if rows.is_empty() {
            p role="status" { @if wanted.is_empty() { "This repository has no tags." } @else { "No tag is called like that." } }
        } @else {
            (table(repository, &rows))
        }
        @if after.is_some() || more_after.is_some() {
            nav .pager aria-label="Pages" {
                @if after.is_some() { a href=(link(&here, &[("q", &wanted)])) { "First page" } }
                @if let Some(last) = &more_after {
                    a rel="next" href=(link(&here, &[("q", &wanted), ("after", last)])) { "Next page" }
                }
            }
        }
    };
    let trail = [frame::home(), (repository.as_str(), link(&here, &[]))];
    Ok(super::html(frame::page(repository.as_str(), &trail, visit.who(user), &main)))
}

fn table(repository: &Repository, rows: &[(Tag, Option<Described>)]) -> Markup {
    html! {
        div .scroll role="region" aria-label="Tags" tabindex="0" {
            table {
                caption { "Tags of " (repository) }
                thead {
                    tr {
                        th scope="col" { "Tag" }
                        th scope="col" .wide { "Kind" }
                        th scope="col" { "Platforms" }
                        th scope="col" .number { "Size" }
                        th scope="col" { "Created" }
                        th scope="col" .wide { "Digest" }
                    }
                }
                tbody {
                    @for (tag, described) in rows {
                        tr {
                            th scope="row" { a href=(link(&format!("/-/{repository}:{tag}"), &[])) { (tag) } }
                            @if let Some(described) = described {
                                td .wide { (described.kind.name()) }
                                td { (described.platforms().join(", ")) }
                                td .number { @if let Some(size) = described.total() { (format::size(size)) } }
                                td .time { @if let Some(created) = described.created() { (created) } }
                                td .wide { code title=(described.digest) { (described.digest.short()) } }
                            } @else {
                                td colspan="5" { "cannot be read" }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The tags of the page, and where the next one begins.
async fn find(
    visit: &Visit<'_>,
    repository: &Repository,
    wanted: &str,
    after: Option<&str>,
) -> Result<(Vec<Tag>, Option<String>), Error> {
    let wanted = wanted.to_ascii_lowercase();
    let mut found: Vec<Tag> = Vec::new();
    let mut page = Page { after: after.map(str::to_owned), limit: STEP };
    loop {
        let Some(listing) = visit.registry.store.tags(repository, &page).await? else {
            return Err(unknown_repository(repository));
        };
        let matching = listing.entries.iter().filter(|name| name.to_ascii_lowercase().contains(&wanted));
        for tag in matching.filter_map(|name| name.parse().ok()) {
            if found.len() == PER_PAGE {
                let last = found.last().map(ToString::to_string);
                return Ok((found, last));
            }
            found.push(tag);
        }
        match listing.entries.last() {
            Some(last) if listing.more => page.after = Some(last.clone()),
            _ => return Ok((found, None)),
        }
    }
}
