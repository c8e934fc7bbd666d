//! What is around every page: head, landmarks, the way back; and the pages of refusals.

use http::StatusCode;
use maud::{DOCTYPE, Markup, html};

/// Who looks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who<'a> {
    /// Somebody with a name.
    User(&'a str),
    /// Somebody who could log in.
    Stranger,
    /// Somebody whom nobody asks for a name, or who cannot give it here.
    Anybody,
}

/// A whole page. `trail` leads back, each with its link; the last is where we are.
pub(super) fn page(title: &str, trail: &[(&str, String)], who: Who<'_>, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – idp registry" }
                link rel="stylesheet" href="/-page.css";
                script src="/-page.js" defer {}
            }
            body {
                a .skip href="#main" { "Skip to content" }
                header {
                    nav aria-label="You are here" {
                        ol {
                            @for (index, (name, href)) in trail.iter().enumerate() {
                                li {
                                    @if index + 1 == trail.len() {
                                        a href=(href) aria-current="page" { (name) }
                                    } @else {
                                        a href=(href) { (name) }
                                    }
                                }
                            }
                        }
                    }
                    @match who {
                        Who::User(user) => p .user { "logged in as " strong { (user) } },
                        Who::Stranger => p .user { a href="/-login" { "Log in" } },
                        Who::Anybody => {}
                    }
                }
                main #main tabindex="-1" { (main) }
                footer { p { "idp registry " (env!("CARGO_PKG_VERSION")) } }
            }
        }
    }
}

/// The beginning of every trail.
pub(super) fn home() -> (&'static str, String) {
    ("Repositories", "/".to_owned())
}

pub(super) fn refusal(status: StatusCode, message: &str, who: Who<'_>) -> Markup {
    let title = match status {
        StatusCode::UNAUTHORIZED => "Log in",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests",
        _ => "This did not work",
    };
    let main = html! {
        h1 { (title) }
        p { (message) }
        p { a href="/" { "To the repositories" } }
    };
    page(title, &[home()], who, &main)
}

/// A search with its label, which keeps where it is.
pub(super) fn search(action: &str, label: &str, value: &str) -> Markup {
    html! {
        form .search role="search" method="get" action=(action) {
            label for="q" { (label) }
            input #q type="search" name="q" value=(value) autocomplete="off" spellcheck="false" maxlength="128";
            button type="submit" { "Search" }
        }
    }
}

/// What is to be typed, with a name. The script adds a button to copy it.
pub(super) fn command(name: &str, text: &str) -> Markup {
    html! {
        div .command {
            span .name { (name) }
            pre tabindex="0" aria-label=(format!("Command for {name}")) { code { (text) } }
        }
    }
}
