//! The credential values that this process has read, so that the writers of its output can blank them: the last line of
//! defence behind [`Secret`], which nothing prints in the first place.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use idp_oci::secret::Secret;

/// Shorter values are left alone: blanking `a` or `admin` would damage names and results and protect nothing.
const SHORTEST: usize = 8;

/// What is printed in place of a credential.
const BLANK: &[u8] = b"***";

/// A list that is shared by whoever reads credentials and whoever writes output.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<Mutex<Vec<Secret>>>);

impl Known {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `secret` is blanked, with its base64 and percent-encoded forms.
    pub fn add(&self, secret: &Secret) {
        self.add_text(secret.expose());
    }

    /// A pair as HTTP Basic sends it, and the secret alone.
    pub fn add_basic(&self, username: &str, password: &Secret) {
        self.add(password);
        if password.expose().len() >= SHORTEST {
            self.insert(STANDARD.encode(format!("{username}:{}", password.expose())));
        }
    }

    fn add_text(&self, text: &str) {
        for value in [text, text.trim()] {
            if value.len() < SHORTEST {
                continue;
            }
            self.insert(value.to_owned());
            self.insert(STANDARD.encode(value));
            self.insert(STANDARD_NO_PAD.encode(value));
            self.insert(URL_SAFE.encode(value));
            self.insert(URL_SAFE_NO_PAD.encode(value));
            self.insert(
                percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string(),
            );
            let escaped = format!("{value:?}");
            self.insert(escaped[1..escaped.len() - 1].to_owned());
            if let Ok(json) = serde_json::to_string(value) {
                self.insert(json[1..json.len() - 1].to_owned());
            }
        }
    }

    fn insert(&self, value: String) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !list.iter().any(|known| known.expose() == value) {
            list.push(Secret::new(value));
            // The padded form holds the unpadded one: the longest goes first.
            list.sort_by_key(|known| std::cmp::Reverse(known.expose().len()));
        }
    }

    /// `bytes` with every known value replaced by `***`; `None` when there is none in it.
    pub fn blank(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut result: Option<Vec<u8>> = None;
        for known in list.iter() {
            let text = result.as_deref().unwrap_or(bytes);
            if let Some(blanked) = replace(text, known.expose().as_bytes()) {
                result = Some(blanked);
            }
        }
        result
    }

    /// [`Self::blank`] for text.
    pub fn blank_text(&self, text: &str) -> String {
        self.blank(text.as_bytes())
            .map_or_else(|| text.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn replace(text: &[u8], needle: &[u8]) -> Option<Vec<u8>> {
    let mut at = find(text, needle)?;
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(BLANK);
        rest = &rest[at + needle.len()..];
        match find(rest, needle) {
            Some(next) => at = next,
            None => break,
        }
    }
    result.extend_from_slice(rest);
    Some(result)
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use idp_oci::secret::Secret;

    use super::Known;

    #[test]
    fn values_and_their_encodings_are_blanked() {
        let known = Known::new();
        assert_eq!(known.blank(b"hunter22"), None);
        known.add_basic("ci", &Secret::new("hunter22\"+"));
        for (text, expect) in [
            ("a hunter22\"+ b hunter22\"+", "a *** b ***"),
            ("{\"p\":\"hunter22\\\"+\"}", "{\"p\":\"***\"}"),
            ("Basic Y2k6aHVudGVyMjIiKw==", "Basic ***"),
            ("aHVudGVyMjIiKw==", "***"),
            ("aHVudGVyMjIiKw", "***"),
            ("p=hunter22%22%2B", "p=***"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(known.blank_text(text), expect);
        }
    }

    #[test]
    fn short_values_damage_nothing() {
        let known = Known::new();
        known.add_basic("admin", &Secret::new("admin"));
        assert_eq!(known.blank_text("admin"), "admin");
    }
}
