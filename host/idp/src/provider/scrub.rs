//! The echo guard: whatever flows back to a guest, into logs or into results is searched for the secrets of the call, as they are and in
//! the forms that servers echo. Bytes in, bytes out; knows no guest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;
use zeroize::Zeroizing;

use super::error::{Limit, LimitHit};
use super::secrets::{Held, hex};

/// Shorter secrets are not searched for: they would blank ordinary words, and are found by guessing anyway.
const LEAST: usize = 4;
/// Shorter secrets are not searched for in encoded forms.
const LEAST_ENCODED: usize = 6;
/// Shorter secrets may stand in another one by chance.
const LEAST_INSIDE: usize = 8;
/// Secrets that are searched for in one call: every one of them costs a search of everything that flows back.
const KNOWN_MAX: usize = 128;
/// Their bytes together.
const KNOWN_BYTES: usize = 2 * 1024 * 1024;
/// What stands where a secret was.
pub(crate) const BLANK: &str = "***";

/// The secrets of one call, in all their forms. Clones share them: what the call logs is searched like what it gets.
#[derive(Clone, Default)]
pub(crate) struct Scrubber(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    secrets: Vec<Held>,
    bytes: usize,
    forms: Vec<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scrubber({} forms)", self.known().forms.len())
    }
}

impl Scrubber {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for this secret from now on. More than can be looked for ends the call.
    pub(crate) fn learn(&self, held: &Held) -> Result<(), LimitHit> {
        self.known().learn(held)
    }

    /// The known secrets that stand in `value` as they are or in base64, for what is cut out of an answer.
    pub(crate) fn inside(&self, value: &[u8]) -> Vec<Held> {
        let there = |held: &&Held| {
            let bytes = held.expose();
            bytes.len() >= LEAST_INSIDE
                && (memmem::find(value, bytes).is_some()
                    || base64_forms(bytes).iter().any(|form| memmem::find(value, form.as_bytes()).is_some()))
        };
        self.known().secrets.iter().filter(there).cloned().collect()
    }

    /// Blanks every form of every known secret.
    pub(crate) fn bytes(&self, data: &mut Vec<u8>) {
        self.known().blank(data);
    }

    /// Blanks every form of every known secret.
    pub(crate) fn text(&self, text: &mut String) {
        let known = self.known();
        if known.forms.iter().any(|form| memmem::find(text.as_bytes(), form).is_some()) {
            let mut bytes = std::mem::take(text).into_bytes();
            known.blank(&mut bytes);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
    }

    /// A copy without secrets and control characters, at most `max` bytes.
    pub(crate) fn line(&self, text: &str, max: usize) -> String {
        let mut text = text.to_owned();
        self.text(&mut text);
        printable(&text, max)
    }
}

impl Known {
    fn learn(&mut self, held: &Held) -> Result<(), LimitHit> {
        let value = held.expose();
        if value.len() < LEAST || self.secrets.iter().any(|known| known.expose() == value) {
            return Ok(());
        }
        self.bytes += value.len();
        if self.secrets.len() >= KNOWN_MAX || self.bytes > KNOWN_BYTES {
            return Err(LimitHit(Limit::Secrets));
        }
        self.secrets.push(held.clone());
        let mut add = |form: Vec<u8>| {
            if form.len() >= LEAST && !self.forms.iter().any(|known| **known == form) {
                self.forms.push(Zeroizing::new(form));
            }
        };
        add(value.to_vec());
        if let Ok(text) = std::str::from_utf8(value)
            && let Ok(json) = serde_json::to_string(text)
        {
            let inner = &json[1..json.len() - 1];
            add(inner.as_bytes().to_vec());
            // Some servers write a slash as `\/`; Go's write what HTML knows as `\u0026`.
            add(inner.replace('/', "\\/").into_bytes());
            add(inner.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").into_bytes());
        }
        if value.len() >= LEAST_ENCODED {
            let lower = hex(value);
            add(lower.to_ascii_uppercase().into_bytes());
            add(lower.into_bytes());
            let encoded = percent(value);
            add(encoded.to_ascii_lowercase().into_bytes());
            add(encoded.replace("%20", "+").into_bytes());
            add(encoded.into_bytes());
            for form in base64_forms(value) {
                add(form.into_bytes());
            }
        }
        // Longest first, so that a part of a longer form is not blanked out of it.
        self.forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Ok(())
    }

    fn blank(&self, data: &mut Vec<u8>) {
        for form in &self.forms {
            // One pass and one copy: an answer may hold a million echoes.
            let mut places = memmem::find_iter(data, form.as_slice()).peekable();
            if places.peek().is_none() {
                continue;
            }
            let (mut blanked, mut from) = (Vec::with_capacity(data.len()), 0);
            for at in places {
                blanked.extend_from_slice(&data[from..at]);
                blanked.extend_from_slice(BLANK.as_bytes());
                from = at + form.len();
            }
            blanked.extend_from_slice(&data[from..]);
            *data = blanked;
        }
    }
}

/// Escapes control characters and what reorders text on terminals; at most `max` bytes.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for character in text.chars() {
        let bidi =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if out.len() + character.len_utf8() > max {
            out.push('…');
            break;
        }
        if character.is_control() || bidi {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// The unreserved characters of RFC 3986 as they are, all others as `%XX`.
pub(crate) fn percent(bytes: &[u8]) -> String {
    const SET: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::percent_encode(bytes, SET).to_string()
}

/// What of the value's base64 does not depend on what stands before and after it, for each of the three alignments.
fn base64_forms(value: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for before in 0..3usize {
        let mut padded = Zeroizing::new(vec![0; before]);
        padded.extend_from_slice(value);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = Zeroizing::new(engine.encode(padded.as_slice()));
            let first = [0, 2, 3][before];
            // The last character hangs on what follows unless the value ends on a boundary.
            let last = encoded.len() - usize::from(!padded.len().is_multiple_of(3));
            forms.push(encoded[first..last].to_owned());
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use idp_oci::secret::Secret;
    use proptest::prelude::*;

    use super::{KNOWN_BYTES, KNOWN_MAX, Scrubber, percent, printable};
    use crate::provider::secrets::{Audience, Held, hex};

    fn held(secret: &str) -> Held {
        Held::credential(&Secret::new(secret), Audience::default())
    }

    fn scrubber(secret: &str) -> Scrubber {
        let scrubber = Scrubber::default();
        scrubber.learn(&held(secret)).expect("few");
        scrubber
    }

    #[test]
    fn lines_are_for_terminals() {
        assert_eq!(printable("a\u{1b}[31m\nb\u{202e}", 100), "a\\u{1b}[31m\\nb\\u{202e}");
        assert_eq!(printable("äöü", 4), "äö…");
    }

    #[test]
    fn what_goes_writes_of_html_is_found() {
        let mut text = r#"{"echo":"a\u0026b\u003cc-1"}"#.to_owned();
        scrubber("a&b<c-1").text(&mut text);
        assert_eq!(text, r#"{"echo":"***"}"#);
    }

    #[test]
    fn a_call_knows_so_many_secrets_and_no_more() {
        let scrubber = Scrubber::default();
        for number in 0..KNOWN_MAX {
            scrubber.learn(&held(&format!("secret-{number}"))).expect("few enough");
        }
        scrubber.learn(&held("secret-0")).expect("a known one costs nothing");
        assert!(scrubber.learn(&held("one-too-many")).is_err());
        assert!(Scrubber::default().learn(&held(&"x".repeat(KNOWN_BYTES + 1))).is_err());
    }

    proptest! {
        #[test]
        fn no_form_comes_through(
            secret in "[ -~]{6,40}", before in "[ -~]{0,8}", after in "[ -~]{0,8}",
        ) {
            let scrubber = scrubber(&secret);
            let whole = format!("{before}{secret}{after}");
            let base64 = base64::engine::general_purpose::STANDARD.encode(&whole);
            let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&whole);
            for echo in [whole.clone(), base64, url, hex(whole.as_bytes()), percent(whole.as_bytes())] {
                let mut text = echo.clone();
                scrubber.text(&mut text);
                prop_assert!(text.contains("***"), "{} came through as {}", echo, text);
            }
        }

        #[test]
        fn the_rest_is_left_alone(text in "[a-m]{0,60}") {
            let mut same = text.clone();
            scrubber("secret-n-o-p").text(&mut same);
            prop_assert_eq!(same, text);
        }
    }
}
