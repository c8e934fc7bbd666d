//! The gate that every request comes through: is its head within limits, who sends it, may that one do this, how often.
//!
//! Between HTTP and [`Access`](crate::server::access::Access), which knows no HTTP. In: a request's head and what it needs.
//! Out: who asks, or the refusal with its challenge or its `Retry-After`.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Method, StatusCode};

use crate::name::Repository;
use crate::server::Registry;
use crate::server::access::{Caller, Identity, Need, Unidentified, Why};
use crate::server::error::Error;
use crate::server::htpasswd;
use crate::server::limits::{Limits, Rates};
use crate::server::sender::Origin;
use crate::server::throttle::{Sender, Throttle, whole_seconds};

/// How often each user, or each address that nobody logged in from, may ask.
#[derive(Debug)]
pub(crate) struct Throttles {
    reads: Throttle,
    writes: Throttle,
}

impl Throttles {
    pub(crate) fn new(rates: Rates) -> Self {
        Self { reads: Throttle::new(rates.reads), writes: Throttle::new(rates.writes) }
    }
}

/// Who sends a request, and from where.
#[derive(Debug)]
pub(crate) struct Requester {
    pub(crate) identity: Identity,
    pub(crate) origin: Origin,
}

impl Requester {
    /// Who is counted: the user, or the address of somebody who did not log in.
    pub(crate) fn sender(&self) -> Option<Sender> {
        sender(self.identity.user.as_deref(), &self.origin)
    }
}

fn sender(user: Option<&str>, origin: &Origin) -> Option<Sender> {
    user.map(|user| Sender::User(user.to_owned())).or_else(|| origin.address.map(Sender::at))
}

/// skopeo and podman answer a Basic challenge without a login by no name and no password: that is nobody, and no wrong password.
fn is_nobody(authorization: &str) -> bool {
    htpasswd::basic(authorization).is_some_and(|(user, password)| user.is_empty() && password.is_empty())
}

/// What the head of a request says of its sender.
pub(crate) fn caller<'a>(parts: &'a Parts, origin: &'a Origin) -> Caller<'a> {
    let authorization = parts.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let authorization = authorization.filter(|value| !is_nobody(value));
    Caller { authorization, address: origin.address, origin: &origin.registry }
}

impl Registry {
    /// Who sends the request, if that one may do the first of `needs`; the others are what a token for the whole request
    /// has to be for too.
    pub(crate) async fn admit(&self, parts: &Parts, needs: &[Need<'_>]) -> Result<Requester, Error> {
        let origin = self.origin(parts);
        let caller = caller(parts, &origin);
        let identified = self.access.identify(&caller).await;
        // Who shows something bad is counted as well.
        let user = identified.as_ref().ok().and_then(|identity| identity.user.as_deref());
        self.count(&parts.method, sender(user, &origin))?;
        let identity = match identified {
            Ok(identity) => identity,
            Err(Unidentified::TooMany(wait)) => {
                return Err(too_many(&Unidentified::TooMany(wait).to_string(), wait));
            }
            Err(error) => {
                let challenges = self.access.challenges(&caller, needs, Why::Refused);
                return Err(unauthorized(&error.to_string(), challenges));
            }
        };
        if needs.first().is_some_and(|need| !self.access.permits(&identity, *need)) {
            let (why, message) = match (&identity.scopes, &identity.user) {
                (Some(_), _) => {
                    (Why::Insufficient, "the token is not for this; get another for what the challenge says")
                }
                (None, None) => (Why::Anonymous, "this registry wants you to log in"),
                (None, Some(user)) => return Err(denied(user, needs)),
            };
            let challenges = self.access.challenges(&caller, needs, why);
            if challenges.is_empty() {
                return Err(denied("whoever did not log in", needs));
            }
            return Err(unauthorized(message, challenges));
        }
        Ok(Requester { identity, origin })
    }

    /// The user's name, if that one may do this: for what is beside the specification.
    pub(crate) async fn allow(&self, parts: &Parts, need: Need<'_>) -> Result<Option<String>, Error> {
        Ok(self.admit(parts, &[need]).await?.identity.user)
    }

    /// Whether it may do this too.
    pub(crate) fn may(&self, requester: &Requester, need: Need<'_>) -> bool {
        self.access.permits(&requester.identity, need)
    }

    /// Where the request comes from and where it was sent.
    pub(crate) fn origin(&self, parts: &Parts) -> Origin {
        Origin::of(parts, &self.proxies, self.is_tls())
    }

    /// Counts a request.
    pub(crate) fn count(&self, method: &Method, sender: Option<Sender>) -> Result<(), Error> {
        let reads = [Method::GET, Method::HEAD].contains(method);
        let throttle = if reads { &self.throttles.reads } else { &self.throttles.writes };
        sender.map_or(Ok(()), |sender| throttle.take(&sender)).map_err(|wait| {
            let what = if reads { "read" } else { "written" };
            too_many(&format!("more is {what} than this registry's rate limit lets"), wait)
        })
    }
}

/// The same throttles for all clones of a registry.
pub(crate) fn throttles(limits: &Limits) -> Arc<Throttles> {
    Arc::new(Throttles::new(limits.rates))
}

pub(crate) fn too_many(message: &str, wait: Duration) -> Error {
    let seconds = whole_seconds(wait).max(1);
    let message = format!("{message}; try again in {seconds} seconds");
    Error::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message)
        .with(RETRY_AFTER, HeaderValue::from(seconds))
}

pub(crate) fn unauthorized(message: &str, challenges: Vec<String>) -> Error {
    challenges
        .into_iter()
        .fold(Error::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message), |error, challenge| {
            error.with(WWW_AUTHENTICATE, challenge)
        })
}

fn denied(who: &str, needs: &[Need<'_>]) -> Error {
    let what = match needs.first() {
        Some(Need::Repository(repository, action)) => {
            format!("{} `{}`", crate::server::scope::name_of(*action), Repository::as_str(repository))
        }
        Some(Need::Catalogue) => "list the repositories of this registry".to_owned(),
        _ => "do this".to_owned(),
    };
    Error::new(
        StatusCode::FORBIDDEN,
        "DENIED",
        format!("{who} may not {what}; whoever runs this registry can grant it"),
    )
}

#[cfg(test)]
mod tests {
    use super::is_nobody;

    #[test]
    fn no_name_and_no_password_is_nobody() {
        for (value, expect) in [
            ("Basic Og==", true),
            ("basic Og==", true),
            ("Basic YTo=", false),
            ("Basic OmE=", false),
            ("Basic", false),
            ("", false),
            ("Bearer Og==", false),
        ] {
            assert_eq!(is_nobody(value), expect, "{value}");
        }
    }
}
