//! Instants as registries write them: RFC 3339, the one form of the contract, from and to Unix seconds.

/// Unix seconds of an RFC 3339 instant such as `2026-11-21T09:00:00.5+01:00`.
pub fn rfc3339(text: &str) -> Option<i64> {
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

/// Unix seconds as the contract wants times: `2026-11-21T09:00:00Z`.
pub fn to_rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The reverse of `days`, from 0000-03-01.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
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
    fn there_and_back() {
        for text in
            ["1970-01-01T00:00:00Z", "2026-11-21T09:00:00Z", "2024-02-29T23:59:59Z", "1969-12-31T23:59:59Z"]
        {
            assert_eq!(rfc3339(text).map(to_rfc3339).as_deref(), Some(text));
        }
        for day in 0..60_000 {
            let seconds = day * 86_400 - 1;
            assert_eq!(rfc3339(&to_rfc3339(seconds)), Some(seconds));
        }
    }

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
