//! Instants as AWS writes them: `20260102T030405Z` in signatures, seconds with a fraction in answers.

/// Year, month, day, hour, minute and second of Unix seconds.
fn civil(unix_s: u64) -> [u64; 6] {
    let (days, rest) = (unix_s / 86_400, unix_s % 86_400);
    // Eras of 400 years that start in March, so that the leap day is the last one.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    [year, month, day, rest / 3600, rest / 60 % 60, rest % 60]
}

/// `20260102T030405Z`
pub(crate) fn basic(unix_s: u64) -> String {
    let [year, month, day, hour, minute, second] = civil(unix_s);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// `2026-01-02T03:04:05Z` (RFC 3339). Fractions are left out.
pub(crate) fn rfc3339(unix_s: f64) -> Option<String> {
    let seconds = whole(unix_s)?;
    let [year, month, day, hour, minute, second] = civil(seconds);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// Whole seconds of a number in an answer: `1.764E9`, `1764000000.25`.
pub(crate) fn whole(unix_s: f64) -> Option<u64> {
    // Before the year 10000, so that the cast is exact enough and the text has four digits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (unix_s.is_finite() && (0.0..253_402_300_800.0).contains(&unix_s)).then_some(unix_s as u64)
}

/// Unix seconds of the `Date` header: `Tue, 24 Nov 2026 10:00:00 GMT` (RFC 9110, 5.6.7).
pub(crate) fn http(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = u64::try_from(MONTHS.iter().position(|month| *month == name)?).ok()? + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    (1970..10_000).contains(&year).then_some(())?;
    let march_year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let (era, year_of_era) = (march_year / 400, march_year % 400);
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::{basic, http, rfc3339, whole};

    #[test]
    fn instants() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (1_767_323_045, "20260102T030405Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_709_251_200, "20240301T000000Z"),
            (4_102_444_799, "20991231T235959Z"),
        ] {
            assert_eq!(basic(seconds), text);
        }
        assert_eq!(rfc3339(1_767_323_045.75).as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(rfc3339(-1.0), None);
        assert_eq!(whole(f64::NAN), None);
        assert_eq!(whole(1e300), None);
    }

    #[test]
    fn the_date_header() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Fri, 02 Jan 2026 03:04:05 GMT", Some(1_767_323_045)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("yesterday", None),
            ("Fri, 00 Jan 2026 03:04:05 GMT", None),
        ] {
            assert_eq!(http(text), expected, "{text}");
        }
    }
}
