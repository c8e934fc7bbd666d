//! Times as the clouds write them, as Unix seconds.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// `2026-01-02T03:04:05Z`, with a fraction or `+00:00` or `UTC`; nothing for what is not in UTC.
pub(super) fn unix(text: &str) -> Option<u64> {
    let text = text.trim();
    let zone = text.get(19..)?.trim_start_matches(['.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    if !matches!(zone, "" | "Z" | "z" | "UTC" | "+00:00" | "+0000") {
        return None;
    }
    let marks = text.get(..19)?.as_bytes();
    let between = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if between.iter().any(|(at, mark)| marks.get(*at) != Some(mark))
        || !matches!(marks[10], b'T' | b't' | b' ')
    {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    u64::try_from(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second).ok()
}

/// `20260102T030405Z` and `20260102`, as signatures want them.
pub(super) fn basic(unix: u64) -> (String, String) {
    let (days, rest) = (unix / 86_400, unix % 86_400);
    let (year, month, day) = date(i64::try_from(days).unwrap_or_default());
    let date = format!("{year:04}{month:02}{day:02}");
    (format!("{date}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60), date)
}

/// `2026-01-02T03:04:05Z`
pub(super) fn text(unix: u64) -> String {
    let (time, _) = basic(unix);
    let [date, clock] = [&time[..8], &time[9..15]];
    format!("{}-{}-{}T{}:{}:{}Z", &date[..4], &date[4..6], &date[6..], &clock[..2], &clock[2..4], &clock[4..])
}

/// Days from 1970-01-01 in the Gregorian calendar; years start in March, so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 1
        - 719_468
}

/// The inverse of [`days`].
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::{basic, days, text, unix};

    #[test]
    fn times() {
        for (text, expect) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:30:45Z", Some(951_827_445)),
            ("2026-11-25T04:19:33Z", Some(1_795_580_373)),
            ("2026-11-25T04:19:33.123456Z", Some(1_795_580_373)),
            ("2026-11-25T04:19:33+00:00", Some(1_795_580_373)),
            ("2026-11-25T04:19:33UTC", Some(1_795_580_373)),
            ("2026-11-25T04:19:33+02:00", None),
            ("2026-13-25T04:19:33Z", None),
            ("2026-11-25", None),
            ("", None),
        ] {
            assert_eq!(unix(text), expect, "{text}");
        }
    }

    #[test]
    fn there_and_back() {
        assert_eq!(days(1970, 1, 1), 0);
        for day in (0..60_000).step_by(13) {
            let (_, date) = basic(day * 86_400);
            let text = format!("{}-{}-{}T00:00:00Z", &date[..4], &date[4..6], &date[6..]);
            assert_eq!(unix(&text), Some(day * 86_400), "{text}");
        }
        assert_eq!(text(1_795_580_373), "2026-11-25T04:19:33Z");
        assert_eq!(basic(1_795_580_373), ("20261125T041933Z".to_owned(), "20261125".to_owned()));
    }
}
