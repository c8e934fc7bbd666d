//! How many pulls are left. Every answer to a manifest says so in its headers; a HEAD of Docker's probe repository says it without
//! counting as a pull.

use idp_provider_sdk::invocation::Answer;
use idp_provider_sdk::prelude::*;

use crate::login;

/// The repository that Docker keeps for this question.
const PROBE: &str = "ratelimitpreview/test";

/// A limit as the headers have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pulls {
    pub(crate) limit: Option<u64>,
    pub(crate) remaining: Option<u64>,
    /// Pulls are counted over so many seconds.
    pub(crate) window_s: Option<u64>,
    /// An address, or the id of an account.
    pub(crate) source: Option<String>,
}

impl Pulls {
    /// `100;w=21600`; no header, no limit.
    fn read(header: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let (limit, window_s) = numbers(&header("ratelimit-limit")?);
        let remaining = header("ratelimit-remaining").map(|text| numbers(&text));
        Some(Self {
            limit,
            window_s: window_s.or(remaining.and_then(|(_, window)| window)),
            remaining: remaining.and_then(|(number, _)| number),
            source: header("docker-ratelimit-source").filter(|source| !source.is_empty()),
        })
    }

    /// From the headers of a refusal.
    pub(crate) fn of(answer: &Answer) -> Option<Self> {
        Self::read(|name| answer.header(name).map(str::to_owned))
    }

    /// `0 of 100 pulls in 6 hours are left, counted for 192.0.2.1`
    pub(crate) fn in_words(&self) -> String {
        let limit = self.limit.map_or_else(String::new, |limit| format!(" of {limit}"));
        let window = match self.window_s {
            Some(seconds) if seconds % 3600 == 0 => format!(" in {} hours", seconds / 3600),
            Some(seconds) => format!(" in {seconds} s"),
            None => String::new(),
        };
        let source =
            self.source.as_ref().map_or_else(String::new, |source| format!(", counted for {source}"));
        let remaining = self.remaining.map_or_else(|| "no".to_owned(), |number| number.to_string());
        format!("{remaining}{limit} pulls{window} are left{source}")
    }

    fn pairs(&self) -> Pairs {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let all = [
            ("name", Some("pulls".to_owned())),
            ("limit", number(self.limit)),
            ("remaining", number(self.remaining)),
            // The window slides: after that long all of them are back.
            ("reset-s", number(self.window_s)),
            ("source", self.source.clone()),
        ];
        pairs(all.into_iter().filter_map(|(key, value)| Some((key, value?))))
    }
}

/// The number and the window of `100;w=21600`.
fn numbers(text: &str) -> (Option<u64>, Option<u64>) {
    let mut parts = text.split(';').map(str::trim);
    let number = parts.next().and_then(|number| number.parse().ok());
    (number, parts.find_map(|part| part.strip_prefix("w=")?.parse().ok()))
}

/// Asks with HEAD; `None` when there is no limit, as for paying accounts.
pub(crate) fn ask() -> Result<Option<Pulls>> {
    let credential = invocation::credential("registry");
    let scopes = [Scope::repository(PROBE, ["pull"])];
    let grant = login::exchange(login::TOKEN_URL, login::SERVICE, credential.as_ref(), &scopes)?;
    let url = Client::url(&format!("/v2/{PROBE}/manifests/latest"));
    let answer = Request::head(url)
        .header("accept", idp_provider_sdk::distribution::MANIFESTS)
        .authorized(&grant.authorization)
        .send()?;
    // 429 is an answer to this question, too.
    if !answer.is_success() && answer.status() != 429 {
        return Err(idp_provider_sdk::refusal::error(&answer, "ask for the rate limit"));
    }
    Ok(Pulls::read(|name| answer.header(name)))
}

/// The limits of this identity.
pub(crate) fn limits() -> Result<Vec<Pairs>> {
    Ok(ask()?.iter().map(Pulls::pairs).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        for (text, expected) in [
            ("100;w=21600", (Some(100), Some(21_600))),
            ("100; w=21600", (Some(100), Some(21_600))),
            ("5", (Some(5), None)),
            ("many", (None, None)),
            ("", (None, None)),
        ] {
            assert_eq!(numbers(text), expected, "{text}");
        }
    }

    #[test]
    fn words() {
        let pulls = Pulls { limit: Some(100), remaining: Some(0), window_s: Some(21_600), source: None };
        assert_eq!(pulls.in_words(), "0 of 100 pulls in 6 hours are left");
        let pulls = Pulls { window_s: Some(90), source: Some("192.0.2.1".to_owned()), ..Pulls::default() };
        assert_eq!(pulls.in_words(), "no pulls in 90 s are left, counted for 192.0.2.1");
    }
}
