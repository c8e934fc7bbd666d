//! Between the generated types of contract 0.1 and the types of the client; and the screen that every result of a guest goes through: counted,
//! and searched for secrets. Converts and nothing else.

use std::time::Duration;

use idp_oci::client::dialect::{DialectError, ErrorKind, Explanation, Reuse, Scope};

use super::scrub::{Scrubber, printable};
use super::v0_1::exports::idp::registry_provider::{
    artifacts, auth, explanations, identity, naming, provider, repositories,
};
use super::v0_1::idp::registry_provider::types;

/// Bytes of strings and lists in what an exported function returns.
pub(crate) const RESULT_MAX: usize = 4 * 1024 * 1024;
/// Bytes of an error's message.
const MESSAGE_MAX: usize = 4096;

/// Counts and blanks.
pub(crate) struct Screen<'a> {
    pub(crate) scrub: &'a Scrubber,
    pub(crate) bytes: usize,
}

/// A result of a guest.
pub(crate) trait Screened {
    /// Counts its bytes and blanks secrets in its texts.
    fn screen(&mut self, screen: &mut Screen<'_>);
}

impl Screened for String {
    fn screen(&mut self, screen: &mut Screen<'_>) {
        screen.bytes += self.len() + size_of::<Self>();
        screen.scrub.text(self);
    }
}

impl<T: Screened> Screened for Option<T> {
    fn screen(&mut self, screen: &mut Screen<'_>) {
        if let Some(value) = self {
            value.screen(screen);
        }
    }
}

impl<T: Screened> Screened for Vec<T> {
    fn screen(&mut self, screen: &mut Screen<'_>) {
        screen.bytes += size_of::<Self>();
        for value in self {
            value.screen(screen);
        }
    }
}

impl Screened for (String, String) {
    fn screen(&mut self, screen: &mut Screen<'_>) {
        self.0.screen(screen);
        self.1.screen(screen);
    }
}

macro_rules! screened {
    ($($type:path { $($field:ident),* })*) => {$(
        impl Screened for $type {
            fn screen(&mut self, screen: &mut Screen<'_>) {
                $(self.$field.screen(screen);)*
            }
        }
    )*};
}

screened! {
    types::Error { code, message, extra }
    types::Scope { kind, name, actions }
    provider::Description { id, version, display_name, features, extra }
    identity::Identification { product, version, settings, extra }
    naming::WireName { host, repository, display, credential_keys, warnings, extra }
    auth::Grant { authorization, scopes, extra }
    repositories::Repository { name, extra }
    repositories::Page { items, next, extra }
    artifacts::Tag { name, digest, extra }
    artifacts::Page { items, next, extra }
    artifacts::Removal { removed, also_removed, extra }
    explanations::Explanation { class, title, cause, fixes, extra }
}

impl Screened for auth::Authorization {
    fn screen(&mut self, screen: &mut Screen<'_>) {
        match self {
            Self::Anonymous | Self::Bearer(_) => {}
            Self::Basic((username, _)) => screen.bytes += username.len(),
            Self::Headers(headers) => {
                screen.bytes += headers.iter().map(|(name, _)| name.len() + 32).sum::<usize>();
            }
        }
    }
}

/// A scope for a guest.
pub(crate) fn scope_out(scope: &Scope) -> types::Scope {
    types::Scope { kind: scope.kind.clone(), name: scope.name.clone(), actions: scope.actions.clone() }
}

/// A scope of a guest.
pub(crate) fn scope_in(scope: types::Scope) -> Scope {
    Scope { kind: scope.kind, name: scope.name, actions: scope.actions }
}

/// How far a grant goes.
pub(crate) fn reuse_in(reuse: auth::Reuse) -> Reuse {
    match reuse {
        auth::Reuse::Never => Reuse::Never,
        auth::Reuse::Scope => Reuse::Scope,
        auth::Reuse::Repository => Reuse::Repository,
        auth::Reuse::Registry => Reuse::Registry,
    }
}

/// An error of a guest, with the provider's name.
pub(crate) fn error_in(error: types::Error, provider: &str) -> DialectError {
    let kind = match error.kind {
        types::ErrorKind::Unauthenticated => ErrorKind::Unauthenticated,
        types::ErrorKind::Denied => ErrorKind::Denied,
        types::ErrorKind::NotFound => ErrorKind::NotFound,
        types::ErrorKind::Conflict => ErrorKind::Conflict,
        types::ErrorKind::Invalid => ErrorKind::Invalid,
        types::ErrorKind::RateLimited => ErrorKind::RateLimited,
        types::ErrorKind::Unsupported => ErrorKind::Unsupported,
        types::ErrorKind::Unavailable => ErrorKind::Unavailable,
        types::ErrorKind::EgressDenied => ErrorKind::EgressDenied,
        types::ErrorKind::Other => ErrorKind::Other,
    };
    DialectError {
        kind,
        code: printable(&error.code, 128),
        message: format!("provider {provider}: {}", printable(&error.message, MESSAGE_MAX)),
        http_status: error.http_status,
        retry_after: error.retry_after_s.map(|seconds| Duration::from_secs(u64::from(seconds))),
        extra: error
            .extra
            .iter()
            .take(32)
            .map(|(key, value)| (printable(key, 128), printable(value, MESSAGE_MAX)))
            .collect(),
    }
}

/// An explanation, fit for a terminal.
pub(crate) fn explanation_in(explanation: explanations::Explanation) -> Explanation {
    Explanation {
        class: printable(&explanation.class, 64),
        title: printable(&explanation.title, 500),
        cause: printable(&explanation.cause, MESSAGE_MAX),
        fixes: explanation.fixes.iter().take(10).map(|fix| printable(fix, 1000)).collect(),
        retryable: explanation.retryable,
    }
}
