//! The way to a registry: whether it answers, over what kind of connection, and by which clock.

use std::time::{Duration, SystemTime};

use idp_oci::client::http::{Http, HttpError, Whole};
use idp_oci::client::peer::{self, Peer};
use idp_oci::client::{ClientError, Kind, Scheme, base_url, ping};
use idp_oci::name::Registry;

use super::certificate::Certificate;
use super::{Check, Diagnosis, Origin, line};

/// Signatures and tokens tolerate more, some of them not much more.
const SKEW_MAX: u64 = 60;
/// Of the certificate that ends first.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 86_400);

/// Whether there is a registry to ask further.
pub(super) async fn look(
    found: &mut Diagnosis,
    http: &Http,
    registry: &Registry,
    scheme: Scheme,
    insecure: bool,
) -> bool {
    let answer = ping(http, registry, scheme).await;
    found.add(reached(registry, scheme, &answer));
    if scheme == Scheme::Http {
        found.add(plain(registry));
    } else if !answer.as_ref().is_err_and(|error| error.unreachable().is_some()) {
        let refused = match &answer {
            Err(ClientError::Network { error: HttpError::Tls(why) | HttpError::Setup(why), .. }) => {
                Some(why.as_str())
            }
            _ => None,
        };
        if let Ok(url) = base_url(registry, scheme) {
            let peer = peer::look(http.options(), &url).await;
            found.add(tls(peer, refused, insecure, SystemTime::now()));
        }
    }
    match answer {
        Ok(answer) => {
            let date = answer.headers.get("date").and_then(|date| date.to_str().ok());
            found.add(clock(date, SystemTime::now()));
            found.checks[0].kind.is_none()
        }
        Err(_) => false,
    }
}

fn reached(registry: &Registry, scheme: Scheme, answer: &Result<Whole, ClientError>) -> Check {
    const NAME: &str = "reached";
    let url = format!("{}://{registry}/v2/", scheme.as_str());
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let check = Check::fail(NAME, error.kind(), line(error));
            return match error {
                ClientError::Network { error: HttpError::Connect { .. }, .. } => check.next(
                    "check name and port, whether the server runs, and what is between: HTTPS_PROXY, NO_PROXY, a firewall",
                ),
                _ => check,
            };
        }
    };
    let said = format!("{url} answers {}", answer.status);
    let content = answer.headers.get("content-type").and_then(|value| value.to_str().ok());
    let html = content.is_some_and(|content| content.starts_with("text/html"));
    match answer.status.as_u16() {
        200 | 401 if !html => Check::ok(NAME, said),
        200 => Check::fail(NAME, Kind::Other, format!("{said}, a web page"))
            .next("this is no registry's address: a login page of the network, or the address of a website"),
        404 => Check::fail(NAME, Kind::NotFound, format!("{said}: there is no registry here"))
            .next("check the name; some products serve their registry on a host or port of its own"),
        429 => Check::warn(NAME, said, "the registry limits how often it is asked; try again later"),
        status if status >= 500 => Check::fail(NAME, Kind::Transient, said)
            .next("the registry, or what is in front of it, does not work; its log knows more"),
        _ => Check::warn(
            NAME,
            said,
            "a registry answers 200 or 401 here; something in front of it may interfere",
        ),
    }
}

fn plain(registry: &Registry) -> Check {
    if registry.is_loopback() {
        return Check::ok("tls", "none: plain http, on this machine");
    }
    Check::warn(
        "tls",
        "none: plain http, so that everybody on the way can read and change what is sent, passwords as well",
        "serve the registry over https",
    )
}

/// What the certificates of a connection say.
fn tls(peer: Result<Peer, HttpError>, refused: Option<&str>, insecure: bool, now: SystemTime) -> Check {
    const NAME: &str = "tls";
    let peer = match peer {
        Ok(peer) => peer,
        Err(error) if refused.is_some() => return Check::fail(NAME, Kind::Other, error.to_string()),
        Err(error) => return Check::unknown(NAME, format!("the certificates could not be seen: {error}")),
    };
    let mut said = peer.version.to_owned();
    let mut ends: Option<SystemTime> = None;
    for (index, der) in peer.chain.iter().enumerate() {
        let Some(Certificate { subject, issuer, until }) = Certificate::read(der) else {
            said.push_str("\na certificate that cannot be read");
            continue;
        };
        ends = Some(ends.map_or(until, |earliest| earliest.min(until)));
        let word = if index == 0 { "certificate of" } else { "by way of" };
        said.push_str(&format!(
            "\n{word} {subject}, issued by {issuer}, valid until {}",
            httpdate::fmt_http_date(until)
        ));
    }
    if let Some(why) = refused {
        return Check::fail(NAME, Kind::Other, format!("{why}\n{said}"));
    }
    match ends {
        Some(ends) if ends < now => {
            Check::warn(NAME, format!("{said}\nit has expired"), "renew the certificate")
        }
        Some(ends) if ends < now + EXPIRES_SOON => {
            Check::warn(NAME, format!("{said}\nthat is within two weeks"), "renew the certificate")
        }
        _ if insecure => Check::warn(
            NAME,
            format!("{said}\nnobody checks that (--insecure)"),
            "name its authority as `caFile` in registries.yaml instead",
        ),
        _ => Check::ok(NAME, said),
    }
}

/// By the `Date` of an answer, which has whole seconds.
fn clock(date: Option<&str>, now: SystemTime) -> Check {
    const NAME: &str = "clock";
    let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        return Check::unknown(NAME, "the registry does not say what time it is");
    };
    let (skew, word) = match now.duration_since(theirs) {
        Ok(ahead) => (ahead.as_secs(), "ahead of"),
        Err(behind) => (behind.duration().as_secs(), "behind"),
    };
    if skew <= SKEW_MAX {
        return Check::ok(NAME, "this machine and the registry agree on the time").value(skew.to_string());
    }
    Check::warn(
        NAME,
        format!("this machine is {skew} s {word} the registry"),
        "set the clocks (NTP): tokens and signatures of a wrong time are refused, and certificates look expired",
    )
    .value(skew.to_string())
    .origin(Origin::Probed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::Status;

    #[test]
    fn clocks() {
        let now = httpdate::parse_http_date("Sat, 21 Nov 2026 09:00:00 GMT").expect("a date");
        for (date, status, value) in [
            (Some("Sat, 21 Nov 2026 09:00:30 GMT"), Status::Ok, Some("30")),
            (Some("Sat, 21 Nov 2026 08:58:59 GMT"), Status::Warn, Some("61")),
            (Some("Sat, 21 Nov 2026 09:10:00 GMT"), Status::Warn, Some("600")),
            (Some("yesterday"), Status::Unknown, None),
            (None, Status::Unknown, None),
        ] {
            let check = clock(date, now);
            assert_eq!((check.status, check.value.as_deref()), (status, value), "{date:?}");
        }
    }

    #[test]
    fn certificates_that_end() {
        let now = SystemTime::now();
        let nobody = Peer { version: "TLS 1.3", chain: vec![vec![1, 2, 3]] };
        assert_eq!(tls(Ok(nobody.clone()), None, false, now).status, Status::Ok);
        assert_eq!(tls(Ok(nobody.clone()), None, true, now).status, Status::Warn);
        assert_eq!(tls(Ok(nobody), Some("it has expired"), false, now).kind, Some(Kind::Other));
        assert_eq!(tls(Err(HttpError::Tls("no".to_owned())), None, false, now).status, Status::Unknown);
    }
}
