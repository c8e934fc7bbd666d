//! The one time format that token answers use.

/// Unix seconds of an RFC 3339 instant such as `2026-11-21T09:00:00.5+01:00`.
pub(crate) fn rfc3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes().first()? {
        b'Z' | b'z' => 0,
        sign @ (b'+' | b'-') if zone.len() == 6 => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let seconds = (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?) * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second - offset)
}

/// Days since 1970-01-01; years start in March here, so that the leap day is the last one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-21T09:00:00Z", Some(1_795_251_600)),
            ("2026-11-21T10:00:00.123456789+01:00", Some(1_795_251_600)),
            ("2024-02-29T23:59:59-00:30", Some(1_709_252_999)),
            ("2026-11-21T09:00:00+99999999999999999999:00", None),
            ("yesterday", None),
            ("2026-11-21T09:00:00", None),
        ] {
            assert_eq!(rfc3339(text), expected, "{text}");
        }
    }
}
