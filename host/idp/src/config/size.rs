//! Sizes as people write them: `2GiB`, `16M`, `500000`. Text in, bytes out.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Text")]
pub struct Size(pub u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: write a number of bytes, or one with a unit, like `512MiB`, `2GiB` or `1.5GB`")]
pub struct SizeError(String);

/// What YAML makes of it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Number(u64),
    Text(String),
}

impl TryFrom<Text> for Size {
    type Error = SizeError;

    fn try_from(text: Text) -> Result<Self, SizeError> {
        match text {
            Text::Number(bytes) => Ok(Self(bytes)),
            Text::Text(text) => text.parse(),
        }
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let refused = || SizeError(text.chars().take(40).collect());
        let trimmed = text.trim();
        let end =
            trimmed.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let unit: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "ki" | "kib" => 1 << 10,
            "m" | "mi" | "mib" => 1 << 20,
            "g" | "gi" | "gib" => 1 << 30,
            "t" | "ti" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(refused()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| refused())?;
        let whole = whole.checked_mul(unit).ok_or_else(refused)?;
        if fraction.is_empty() {
            return if number.ends_with('.') { Err(refused()) } else { Ok(Self(whole)) };
        }
        // Three digits behind the point say more than enough.
        let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(3).collect();
        let thousandths: u64 = digits.parse().map_err(|_| refused())?;
        if fraction.contains('.') || unit == 1 {
            return Err(refused());
        }
        whole
            .checked_add(unit / 1000 * thousandths + unit % 1000 * thousandths / 1000)
            .map(Self)
            .ok_or_else(refused)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Size;

    #[test]
    fn what_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("500000", 500_000),
            ("10B", 10),
            ("16MiB", 16 << 20),
            ("16m", 16 << 20),
            (" 2 GiB ", 2 << 30),
            ("1.5KiB", 1536),
            ("1.5GB", 1_500_000_000),
            ("0.25Gi", 1 << 28),
            ("1TB", 1_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1", "1.2.3M", "1.5", "1.", ".5G", "2 parsecs", "99999999999TiB", "1e3"] {
            let error = text.parse::<Size>().expect_err(text).to_string();
            assert!(error.contains("is not a size"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[0-9.]{0,22} ?[kKmMgGtTiIbB]{0,4}") {
            let _ = text.parse::<Size>();
        }
    }
}
