//! What Masterminds semver's `NewVersion` makes of a text, as Argo CD reads every tag with it: `1`, `v1.2` and `20250101` are versions.

use super::Version;

/// No longer text is looked at.
const LONGEST: usize = 256;

/// A text that other tools read as a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loose {
    /// What it is taken for, without build metadata.
    pub version: Version,
    /// What stands after `+`.
    pub build: String,
    /// How many of the three numbers are written.
    pub numbers: usize,
    /// It begins with a `v`.
    pub prefixed: bool,
}

/// Why a text is no version to those tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LooseError {
    /// It does not look like one: such tags are passed over.
    #[error("invalid semantic version")]
    NotAVersion,
    /// A number of the pre-release is written with a zero in front: Argo CD gives up on the whole repository.
    #[error("version segment starts with 0")]
    LeadingZero,
    /// A number has no room in 64 bits: Argo CD gives up on the whole repository.
    #[error("value out of range")]
    OutOfRange,
}

/// Reads a version as `semver.NewVersion` does.
///
/// # Errors
/// What keeps it from being one.
pub fn parse(text: &str) -> Result<Loose, LooseError> {
    if text.len() > LONGEST {
        return Err(LooseError::NotAVersion);
    }
    let (prefixed, mut rest) = match text.strip_prefix('v') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut written = Vec::with_capacity(3);
    written.push(digits(&mut rest).ok_or(LooseError::NotAVersion)?);
    while written.len() < 3
        && let Some(mut after) = rest.strip_prefix('.')
    {
        written.push(digits(&mut after).ok_or(LooseError::NotAVersion)?);
        rest = after;
    }
    let (rest, build) = match rest.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (rest, None),
    };
    let pre = match rest.strip_prefix('-') {
        Some(pre) => Some(pre),
        None if rest.is_empty() => None,
        None => return Err(LooseError::NotAVersion),
    };
    if !pre.is_none_or(identifiers) || !build.is_none_or(identifiers) {
        return Err(LooseError::NotAVersion);
    }
    let mut numbers = [0; 3];
    for (number, written) in numbers.iter_mut().zip(&written) {
        *number = written.parse().map_err(|_| LooseError::OutOfRange)?;
    }
    let [major, minor, patch] = numbers;
    let version =
        Version::with_pre(major, minor, patch, pre.unwrap_or_default()).ok_or(LooseError::LeadingZero)?;
    Ok(Loose { version, build: build.unwrap_or_default().to_owned(), numbers: written.len(), prefixed })
}

/// Takes the digits in front; `None` where there are none.
fn digits<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let end = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    (!digits.is_empty()).then_some(digits)
}

/// Identifiers of letters, digits and dashes with dots between them, none empty.
pub(super) fn identifiers(text: &str) -> bool {
    text.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LooseError, parse};

    /// `text`, and what Masterminds semver v3.5.0 answers: a version, `ignored`, or the error that is not passed over.
    #[test]
    fn tags_are_read_as_masterminds_reads_them() {
        let mut rows = 0;
        for line in include_str!("loose.tsv").lines().filter(|line| !line.starts_with('#')) {
            let (text, expect) = line.split_once('\t').expect("two columns");
            let got = match parse(text) {
                Ok(loose) if loose.build.is_empty() => loose.version.to_string(),
                Ok(loose) => format!("{}+{}", loose.version, loose.build),
                Err(LooseError::NotAVersion) => "ignored".to_owned(),
                Err(LooseError::LeadingZero) => "leading zero".to_owned(),
                Err(LooseError::OutOfRange) => "out of range".to_owned(),
            };
            assert_eq!(got, expect, "{text}");
            rows += 1;
        }
        assert!(rows > 100, "{rows}");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_strict_is_read_alike(text in "(0|[1-9][0-9]{0,3})\\.(0|[1-9][0-9]{0,3})\\.(0|[1-9][0-9]{0,3})(-[a-z0-9]{1,4}(\\.[a-z]{1,3})?)?") {
            if let Ok(strict) = text.parse::<crate::version::Version>() {
                prop_assert_eq!(parse(&text).expect("strict").version, strict);
            }
        }
    }
}
