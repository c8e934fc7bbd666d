//! Building the contract's [`Error`]: a constructor a kind, and setters for what is known besides.

use crate::contract::{Error, ErrorKind};

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {
        /// One constructor a kind; the message is for people: what happened, to what, and what to do next.
        impl Error {
            $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self { Self::new(ErrorKind::$kind, message) })*
        }
    };
}

constructors! {
    /// No credential, or one that the registry does not accept.
    unauthenticated => Unauthenticated;
    /// The identity is accepted and may not do this.
    denied => Denied;
    /// There is no such thing.
    not_found => NotFound;
    /// It is in the way of something that exists.
    conflict => Conflict;
    /// The request or a setting is wrong and will stay wrong.
    invalid => Invalid;
    /// Too many requests; see [`retry_after_s`](Self::retry_after_s).
    rate_limited => RateLimited;
    /// Not something this provider does: the host does the generic thing.
    unsupported => Unsupported;
    /// The registry did not answer, or failed; worth trying again.
    unavailable => Unavailable;
    /// Anything else.
    other => Other;
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: String::new(),
            message: message.into(),
            http_status: None,
            retry_after_s: None,
            sent: false,
            extra: Vec::new(),
        }
    }

    /// A stable identifier, for tests and scripts.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = code.into();
        self
    }

    /// The status of the registry's answer; the request has reached the server then.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.http_status = Some(status);
        self.sent = true;
        self
    }

    /// When to try again, in seconds.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// One more pair of `extra`.
    #[must_use]
    pub fn extra(mut self, key: &str, value: impl Into<String>) -> Self {
        self.extra.push((key.to_owned(), value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setters_add_up() {
        let error = Error::denied("no").code("DENIED").status(403).extra("name", "team");
        assert_eq!(error.kind, ErrorKind::Denied);
        assert_eq!((error.code.as_str(), error.http_status, error.sent), ("DENIED", Some(403), true));
        assert_eq!(error.extra, [("name".to_owned(), "team".to_owned())]);
    }
}
