//! The three things of a certificate that people ask for: whose it is, who vouches for it, until when (RFC 5280, 4.1). Reads that much of DER and
//! believes nothing; whether a certificate is good is rustls's to say. (A crate that reads all of X.509 costs the build as much as the
//! client does.)

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version, which may be missing.
const VERSION: u8 = 0xa0;

/// Parts of a name, by the bytes of their object identifiers (RFC 5280, 4.1.2.4).
const SHOWN: [(&[u8], &str); 3] = [(&[85, 4, 3], "CN"), (&[85, 4, 11], "OU"), (&[85, 4, 10], "O")];

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
        let mut certificate = Reader(Reader(der).value(SEQUENCE)?);
        let mut body = Reader(certificate.value(SEQUENCE)?);
        if body.0.first() == Some(&VERSION) {
            let _ = body.any()?;
        }
        // Serial number, algorithm.
        let _ = (body.any()?, body.any()?);
        let issuer = name(body.value(SEQUENCE)?)?;
        let mut validity = Reader(body.value(SEQUENCE)?);
        let _ = validity.any()?;
        let (tag, text) = validity.any()?;
        let until = time(tag, std::str::from_utf8(text).ok()?)?;
        let subject = name(body.value(SEQUENCE)?)?;
        Some(Self { subject, issuer, until })
    }
}

/// Elements one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element: tag and content.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, rest) = rest.split_first()?;
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            // No certificate needs more than three bytes for a length, nor one of no length.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which has this tag.
    fn value(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.any().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }
}

fn name(der: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut sets = Reader(der);
    while !sets.0.is_empty() {
        let mut set = Reader(sets.value(SET)?);
        while !set.0.is_empty() {
            let mut pair = Reader(set.value(SEQUENCE)?);
            let kind = pair.value(OID)?;
            let (_, text) = pair.any()?;
            if let Some((_, short)) = SHOWN.iter().find(|(known, _)| *known == kind) {
                let text = String::from_utf8_lossy(text);
                // It is shown on terminals.
                let text: String =
                    text.chars().filter(|character| !character.is_control()).take(100).collect();
                parts.push(format!("{short}={text}"));
            }
        }
    }
    if parts.is_empty() {
        return Some("nobody by name".to_owned());
    }
    Some(parts.join(", "))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280, 4.1.2.5).
fn time(tag: u8, text: &str) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z')?;
    let digits = match (tag, digits.len()) {
        (UTC_TIME, 12) => format!("{}{digits}", if digits < "50" { "20" } else { "19" }),
        (GENERALIZED_TIME, 14) => digits.to_owned(),
        _ => return None,
    };
    let part = |range: Range<usize>| digits.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second) = (part(8..10)?, part(10..12)?, part(12..14)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // The year starts in March, so that the leap day is its last one.
    let shifted = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468;
    Some(UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut der = vec![tag];
        match u8::try_from(content.len()) {
            Ok(short) if short < 0x80 => der.push(short),
            _ => {
                der.push(0x82);
                der.extend(u16::try_from(content.len()).expect("short").to_be_bytes());
            }
        }
        der.extend(content);
        der
    }

    fn named(common_name: &str) -> Vec<u8> {
        let pair = [element(OID, &[85, 4, 3]), element(0x0c, common_name.as_bytes())].concat();
        element(SEQUENCE, &element(SET, &element(SEQUENCE, &pair)))
    }

    fn certificate(subject: &str, until: &[u8]) -> Vec<u8> {
        let times = [element(UTC_TIME, b"260101000000Z"), until.to_vec()].concat();
        let body = [
            element(VERSION, &element(2, &[2])),
            element(2, &[1]),
            element(SEQUENCE, &[]),
            named("An Authority"),
            element(SEQUENCE, &times),
            named(subject),
            element(SEQUENCE, &[0; 200]),
        ];
        element(SEQUENCE, &[element(SEQUENCE, &body.concat()), element(SEQUENCE, &[])].concat())
    }

    #[test]
    fn what_is_shown() {
        let der = certificate("r.example\u{7}", &element(UTC_TIME, b"261121090000Z"));
        let read = Certificate::read(&der).expect("a certificate");
        assert_eq!((read.subject.as_str(), read.issuer.as_str()), ("CN=r.example", "CN=An Authority"));
        assert_eq!(httpdate::fmt_http_date(read.until), "Sat, 21 Nov 2026 09:00:00 GMT");
    }

    #[test]
    fn times() {
        for (tag, text, expect) in [
            (UTC_TIME, "700101000000Z", Some("Thu, 01 Jan 1970 00:00:00 GMT")),
            (UTC_TIME, "240229235959Z", Some("Thu, 29 Feb 2024 23:59:59 GMT")),
            (GENERALIZED_TIME, "20500301000000Z", Some("Tue, 01 Mar 2050 00:00:00 GMT")),
            (GENERALIZED_TIME, "20501301000000Z", None),
            (UTC_TIME, "2402292359Z", None),
            (UTC_TIME, "tomorrow", None),
        ] {
            let read = time(tag, text).map(httpdate::fmt_http_date);
            assert_eq!(read.as_deref(), expect, "{text}");
        }
    }

    /// Whatever a server sends.
    #[test]
    fn no_certificate_at_all() {
        let der = certificate("r.example", &element(UTC_TIME, b"261121090000Z"));
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
