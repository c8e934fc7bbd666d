//! The repositories, with search and pages.

use axum::response::Response;
use maud::html;

use super::{Visit, frame, link};
use crate::name::Repository;
use crate::server::error::Error;
use crate::server::gate::Requester;
use crate::store::Page;

const PER_PAGE: usize = 50;

/// How many names a search looks at, so that it ends.
const MOST_LOOKED_AT: usize = 100_000;

/// How many are asked for at once.
const STEP: usize = 1000;

pub(super) async fn show(visit: &Visit<'_>, requester: &Requester) -> Result<Response, Error> {
    let query = visit.query();
    let wanted = query.get("q").unwrap_or_default().trim().to_ascii_lowercase();
    let after = query.get("after").filter(|after| !after.is_empty());
    let found = find(visit, requester, &wanted, after).await?;
    let main = html! {
        h1 { "Repositories" }
        (frame::search("/", "Search repositories", &wanted))
        @if found.names.is_empty() {
            @if wanted.is_empty() && after.is_none() {
                p { "Nothing was pushed here yet. To begin:" }
                (frame::command("docker", &format!("docker tag IMAGE {0}/NAME:TAG && docker push {0}/NAME:TAG", visit.host)))
                (frame::command("idp", &format!("idp push IMAGE {}/NAME:TAG", visit.host)))
            } @else {
                p role="status" { "No repository is called like that." }
            }
        } @else {
            ul .repositories {
                @for name in &found.names {
                    li { a href=(link(&format!("/-/{name}"), &[])) { (name) } }
                }
            }
        }
        (pager(&found, after, &wanted))
    };
    Ok(super::html(frame::page(
        "Repositories",
        &[frame::home()],
        visit.who(requester.identity.user.as_deref()),
        &main,
    )))
}

fn pager(found: &Found, after: Option<&str>, wanted: &str) -> maud::Markup {
    html! {
        @if after.is_some() || found.more_after.is_some() {
            nav .pager aria-label="Pages" {
                @if after.is_some() { a href=(link("/", &[("q", wanted)])) { "First page" } }
                @if let Some(last) = &found.more_after {
                    a rel="next" href=(link("/", &[("q", wanted), ("after", last)])) { "Next page" }
                }
            }
        }
    }
}

struct Found {
    names: Vec<String>,
    /// Where the next page begins, if there may be one.
    more_after: Option<String>,
}

async fn find(
    visit: &Visit<'_>,
    requester: &Requester,
    wanted: &str,
    after: Option<&str>,
) -> Result<Found, Error> {
    let mut names = Vec::new();
    let mut page = Page { after: after.map(str::to_owned), limit: STEP };
    let mut looked_at = 0;
    loop {
        let listing = visit.registry.store.repositories(&page).await?;
        for name in &listing.entries {
            looked_at += 1;
            let last = names.last().cloned();
            if !name.contains(wanted) || !is_shown(visit, requester, name) {
                continue;
            }
            if names.len() == PER_PAGE {
                return Ok(Found { names, more_after: last });
            }
            names.push(name.clone());
        }
        let last = listing.entries.last().cloned().filter(|_| listing.more);
        let Some(last) = last else { return Ok(Found { names, more_after: None }) };
        if looked_at >= MOST_LOOKED_AT {
            return Ok(Found { names, more_after: Some(last) });
        }
        page.after = Some(last);
    }
}

fn is_shown(visit: &Visit<'_>, requester: &Requester, name: &str) -> bool {
    name.parse::<Repository>()
        .is_ok_and(|repository| visit.registry.access.shows(&requester.identity, &repository))
}
