//! Numbers, times and addresses for people. Pure.

use url::Url;

/// `1.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths, rounded down, of the largest unit that is not more.
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10 / 1024;
    while tenths >= 10240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// `2026-11-28 16:24 UTC` of a time in RFC 3339; anything else is not shown.
pub(super) fn time(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let shape = b"0000-00-00T00:00";
    let fits = bytes.len() >= shape.len() && bytes.len() <= 40 && text.is_ascii();
    let good = fits
        && bytes.iter().zip(shape).all(|(byte, expected)| {
            if expected.is_ascii_digit() { byte.is_ascii_digit() } else { byte == expected }
        });
    // A time without a time is what builders write who want to build the same twice.
    if !good || text.starts_with("0001-") || text.starts_with("1970-01-01T00:00") {
        return None;
    }
    let zone = if text.ends_with('Z') { " UTC" } else { "" };
    Some(format!("{} {}{zone}", &text[..10], &text[11..16]))
}

/// An address that may be a link.
pub(super) fn http_url(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    (["http", "https"].contains(&url.scheme()) && url.username().is_empty() && url.password().is_none())
        .then(|| url.to_string())
}

/// No more than so many characters, and a sign where there were more; plain, as [`plain`] has it.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => plain(text),
        Some((end, _)) => format!("{}…", plain(&text[..end])),
    }
}

/// Without what makes a text look like another: characters that turn the direction of others, and controls.
pub(super) fn plain(text: &str) -> String {
    let turns = |letter: char| matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let hides = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t' | '\r');
    text.chars().map(|letter| if turns(letter) || hides(letter) { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::{http_url, plain, shortened, size, time};

    #[test]
    fn sizes() {
        for (bytes, expect) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1023.9 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(size(bytes), expect);
        }
    }

    #[test]
    fn times() {
        for (text, expect) in [
            ("2026-11-28T16:24:30Z", Some("2026-11-28 16:24 UTC")),
            ("2026-11-28T16:24:30.123456789+01:00", Some("2026-11-28 16:24")),
            ("1970-01-01T00:00:00Z", None),
            ("0001-01-01T00:00:00Z", None),
            ("yesterday", None),
            ("2026-11-28", None),
            ("2026-11-28T16:2ä:30Z", None),
            ("", None),
        ] {
            assert_eq!(time(text).as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn only_web_addresses_are_links() {
        for (text, good) in [
            ("https://example.com/a?b=c", true),
            ("http://example.com", true),
            ("javascript:alert(1)", false),
            ("JaVaScRiPt:alert(1)", false),
            ("data:text/html,x", false),
            ("https://user:secret@example.com/", false),
            ("//example.com", false),
            ("", false),
        ] {
            assert_eq!(http_url(text).is_some(), good, "{text}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöü", 2), "äö…");
    }

    #[test]
    fn nothing_looks_like_something_else() {
        assert_eq!(shortened("\u{202e}gnp.exe", 99), "\u{fffd}gnp.exe");
        assert_eq!(shortened("a\0b\u{2066}\u{1b}[31m", 99), "a\u{fffd}b\u{fffd}\u{fffd}[31m");
        assert_eq!(shortened("\u{202e}\u{202e}x", 1), "\u{fffd}…");
        assert_eq!(plain("שלום\tعربي\r\n"), "שלום\tعربي\r\n");
    }
}
