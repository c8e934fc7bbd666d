//! The three things of a certificate that people ask for: whose it is, who vouches for it, until when (RFC 5280, 4.1). Believes nothing:
//! whether a certificate is good is rustls's to say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

use crate::provider::printable;

/// Bytes of a name: it is shown on terminals.
const MOST_NAME: usize = 300;

/// What is shown of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// `CN=registry.example, O=Example`
    pub(super) subject: String,
    /// The same of who vouches for it.
    pub(super) issuer: String,
    /// The first moment at which it is no longer valid.
    pub(super) until: SystemTime,
}

impl Certificate {
    /// Reads DER; `None` when it is none.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let until = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        Some(Self {
            subject: name(certificate.subject()),
            issuer: name(certificate.issuer()),
            until: UNIX_EPOCH.checked_add(Duration::from_secs(until))?,
        })
    }
}

fn name(name: &X509Name<'_>) -> String {
    match printable(&name.to_string(), MOST_NAME) {
        text if text.is_empty() => "nobody by name".to_owned(),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::Certificate;

    fn certificate(subject: DistinguishedName) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.not_after = rcgen::date_time_ymd(2026, 11, 21);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn what_is_shown() {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, "r.example\u{7}");
        subject.push(DnType::OrganizationName, "Example");
        let read = Certificate::read(&certificate(subject)).expect("a certificate");
        assert_eq!(read.subject, read.issuer);
        assert!(read.subject.starts_with("CN=r.example") && read.subject.ends_with("O=Example"), "{read:?}");
        assert!(!read.subject.contains('\u{7}'), "{read:?}");
        assert_eq!(httpdate::fmt_http_date(read.until), "Sat, 21 Nov 2026 00:00:00 GMT");
        let nobody = Certificate::read(&certificate(DistinguishedName::new())).expect("a certificate");
        assert_eq!(nobody.subject, "nobody by name");
    }

    /// Whatever a server sends.
    #[test]
    fn no_certificate_at_all() {
        let der = certificate(DistinguishedName::new());
        for end in 0..der.len() {
            assert_eq!(Certificate::read(&der[..end]), None, "{end}");
        }
        for at in 0..der.len() {
            let mut broken = der.clone();
            broken[at] ^= 0xff;
            let _ = Certificate::read(&broken);
        }
    }
}
