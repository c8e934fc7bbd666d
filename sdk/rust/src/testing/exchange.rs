//! A scripted exchange: the request that is expected, to the letter, and its answer.

use serde::Deserialize;

/// One request and its answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Exchange {
    /// `GET https://registry.example/v2/`.
    pub request: String,
    /// Headers the request must have, secrets rendered; `authorization` must be absent unless it is given.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body the request must have, secrets rendered.
    #[serde(default)]
    pub body: String,
    /// The answer's status; 0 means that nothing answers.
    pub status: u16,
    /// The answer's headers.
    #[serde(default)]
    pub reply_headers: Vec<(String, String)>,
    /// The answer's body.
    #[serde(default)]
    pub reply: String,
}

impl Exchange {
    /// An expected request.
    pub fn new(method: &str, url: &str) -> Self {
        Self { request: format!("{method} {url}"), status: 200, ..Self::default() }
    }

    /// An expected GET.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// A header the request must have.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `Authorization: Basic` the request must have.
    #[must_use]
    pub fn basic(self, username: &str, password: &str) -> Self {
        let pair =
            super::value::encode(format!("{username}:{password}").as_bytes(), "base64").unwrap_or_default();
        self.header("authorization", &format!("Basic {}", String::from_utf8_lossy(&pair)))
    }

    /// `Authorization: Bearer` the request must have.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// The body the request must have.
    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    /// The answer.
    #[must_use]
    pub fn reply(mut self, status: u16, body: &str) -> Self {
        self.status = status;
        body.clone_into(&mut self.reply);
        self
    }

    /// A header of the answer.
    #[must_use]
    pub fn reply_header(mut self, name: &str, value: &str) -> Self {
        self.reply_headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What is different about a request that was sent, or nothing.
    pub fn mismatch(&self, request: &str, headers: &[(String, String)], body: &str) -> Option<String> {
        if self.request != request {
            return Some(format!("expected `{}`, and `{request}` was sent", self.request));
        }
        let sent = |name: &str| {
            headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        };
        for (name, value) in &self.headers {
            if sent(name) != Some(value) {
                return Some(format!("`{request}`: expected {name}: {value:?}, and it had {:?}", sent(name)));
            }
        }
        let authorization = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        if !authorization && sent("authorization").is_some() {
            return Some(format!("`{request}` carried credentials and was expected without"));
        }
        (self.body != body)
            .then(|| format!("`{request}`: expected the body {:?}, and it had {body:?}", self.body))
    }
}
