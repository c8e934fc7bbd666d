//! When something was made, as documents write it. Never the clock: who calls knows `SOURCE_DATE_EPOCH`, or the time of a commit.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::TrustError;

/// A second in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(OffsetDateTime);

impl Default for Timestamp {
    fn default() -> Self {
        Self::EPOCH
    }
}

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(OffsetDateTime::UNIX_EPOCH);

    /// Seconds since 1970.
    ///
    /// # Errors
    /// For times that have no year of four digits.
    pub fn from_unix(seconds: i64) -> Result<Self, TrustError> {
        let time = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| TrustError::Time(seconds))?;
        if (0..=9999).contains(&time.year()) { Ok(Self(time)) } else { Err(TrustError::Time(seconds)) }
    }
}

impl FromStr for Timestamp {
    type Err = TrustError;

    /// RFC 3339; what is finer than a second is left away.
    fn from_str(text: &str) -> Result<Self, TrustError> {
        let time =
            OffsetDateTime::parse(text, &Rfc3339).map_err(|error| TrustError::document("a time", error))?;
        Self::from_unix(time.unix_timestamp())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn times() {
        assert_eq!(Timestamp::EPOCH.to_string(), "1970-01-01T00:00:00Z");
        let at = |seconds| Timestamp::from_unix(seconds).map(|time| time.to_string()).ok();
        assert_eq!(at(1_700_000_000).as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(
            "2023-11-14T23:13:20.5+01:00".parse::<Timestamp>().ok(),
            Timestamp::from_unix(1_700_000_000).ok()
        );
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert_eq!(at(i64::MAX), None);
        assert_eq!(at(253_402_300_800), None);
        assert_eq!(at(-62_167_219_201), None);
    }
}
