//! Why an exchange failed: what lies under the layers that only say that they failed. Knows the errors of TLS, HTTP and sockets.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};
use url::Url;

/// The TLS error among the causes, in words that help.
pub(super) fn tls_cause(error: &(dyn Error + 'static)) -> Option<String> {
    let mut source = error.source();
    while let Some(cause) = source {
        // An `io::Error` passes over what it holds when it is asked for its source, and holds another one at times.
        let mut held: &(dyn Error + 'static) = cause;
        while let Some(inner) = held.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            held = inner;
        }
        let tls = held.downcast_ref::<rustls::Error>();
        match tls {
            Some(rustls::Error::InvalidMessage(_)) => {
                return Some(
                    "the other side speaks no TLS; if it is a plain-http registry, use --insecure".to_owned(),
                );
            }
            Some(rustls::Error::InvalidCertificate(why)) => {
                return Some(format!(
                    "the certificate is not accepted: {}; name its authority as `caFile` in registries.yaml, or skip the \
                     check with --insecure",
                    refused(why)
                ));
            }
            Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => {
                return Some("the registry wants a client certificate, and was shown none: name one as `certFile` in registries.yaml".to_owned());
            }
            Some(other) => return Some(other.to_string()),
            None => source = cause.source(),
        }
    }
    None
}

/// Plain http was spoken, and what came back is no HTTP: most likely a TLS alert.
pub(super) fn other_protocol(error: &(dyn Error + 'static), url: &Url) -> Option<String> {
    let hyper = held::<hyper::Error>(error)?;
    (url.scheme() == "http" && hyper.is_parse() && !hyper.is_parse_too_large())
        .then(|| "what answers speaks no plain http, and perhaps TLS: use https, or another port".to_owned())
}

/// The other side said, by the rules of HTTP/2, that it did not look at the request (RFC 9113, 8.7).
pub(super) fn is_unsent(error: &(dyn Error + 'static)) -> bool {
    held::<h2::Error>(error).is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        let leaving = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        error.is_remote() && (refused || leaving)
    })
}

/// The first error of a kind among the causes.
fn held<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(one) = cause {
        if let Some(found) = one.downcast_ref() {
            return Some(found);
        }
        cause = one.source();
    }
    None
}

fn refused(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "nobody known vouches for it".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; is this machine's clock right?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        // An authority's certificate as the server's own: what `openssl req -x509` makes.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "it vouches for itself".to_owned()
        }
        other => other.to_string(),
    }
}

/// What lies at the bottom of an error: layers above it say that they failed, this says why.
pub(super) fn why(error: &(dyn Error + 'static)) -> String {
    if held::<h2::Error>(error).is_some_and(|error| error.is_go_away() && error.is_remote()) {
        return "the other side ended it".to_owned();
    }
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            "no route to it".to_owned()
        }
        Some(io::ErrorKind::TimedOut) => "no answer to the connection".to_owned(),
        _ => cause.to_string(),
    }
}

/// An error and its causes, each said once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    /// A layer of a client's error.
    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Layer(#[source] io::Error);

    #[test]
    fn a_certificate_is_found_below_two_io_errors() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = Layer(io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls)));
        let cause = super::tls_cause(&error).expect("a TLS error");
        assert!(cause.contains("--insecure"), "{cause}");
        assert_eq!(super::tls_cause(&Layer(io::ErrorKind::ConnectionRefused.into())), None);
    }
}
