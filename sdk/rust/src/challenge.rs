//! `WWW-Authenticate` challenges. The host parses those of the pipeline's answers ([`invocation::challenges`](
//! crate::invocation::challenges)); a provider that probes by itself parses its own.

use crate::contract::Pairs;
use crate::pairs;

/// One challenge: a scheme and its parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenge {
    /// `Bearer`, `Basic`, …, as the registry spells it.
    pub scheme: String,
    /// `realm`, `service`, `scope`, `error`, …
    pub params: Pairs,
}

impl Challenge {
    /// Whether it is of this scheme, whatever the case.
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// A parameter, whatever the case of its name.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The realm as a URL; a relative one is resolved against the registry's origin.
    pub fn realm_url(&self, registry_origin: &str) -> Option<String> {
        let realm = self.param("realm")?.trim();
        (!realm.is_empty()).then(|| crate::link::resolve(registry_origin, realm))
    }

    /// A challenge from its parts, for tests.
    pub fn new<K: Into<String>, V: Into<String>>(
        scheme: &str,
        params: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self { scheme: scheme.to_owned(), params: pairs::pairs(params) }
    }

    /// All challenges of one header value: quoted and bare parameters, several challenges after one another.
    pub fn parse(value: &str) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for part in split(value) {
            let (head, rest) =
                part.split_once([' ', '\t']).map_or((part, ""), |(head, rest)| (head, rest.trim()));
            // A comma separates parameters and challenges alike: what has no `=` in its first word opens a challenge.
            let parameter = if head.contains('=') || rest.starts_with('=') {
                part
            } else {
                found.push(Self { scheme: head.to_owned(), params: Vec::new() });
                rest
            };
            let Some((name, value)) = parameter.split_once('=') else { continue };
            if let Some(current) = found.last_mut() {
                current.params.push((name.trim().to_owned(), unquote(value.trim())));
            }
        }
        found
    }
}

/// Splits at the commas outside of quotes.
fn split(value: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    let parts = value.split(move |c: char| {
        let separator = c == ',' && !quoted;
        (quoted, escaped) = match c {
            _ if escaped => (quoted, false),
            '\\' if quoted => (true, true),
            '"' => (!quoted, false),
            _ => (quoted, false),
        };
        separator
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else { return value.to_owned() };
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => break,
            '\\' => text.extend(characters.next()),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: &[(&str, &[(&str, &str)])]) {
        let expected: Vec<_> =
            expected.iter().map(|(scheme, params)| Challenge::new(scheme, params.iter().copied())).collect();
        assert_eq!(Challenge::parse(value), expected, "{value}");
    }

    #[test]
    fn shapes_that_registries_send() {
        check(
            r#"Bearer realm="https://r/token",service="registry",scope="repository:a/b:pull,push""#,
            &[(
                "Bearer",
                &[
                    ("realm", "https://r/token"),
                    ("service", "registry"),
                    ("scope", "repository:a/b:pull,push"),
                ],
            )],
        );
        check("basic realm=zot", &[("basic", &[("realm", "zot")])]);
        check(
            r#"Bearer realm="x", error="invalid_token", Basic realm="a \"b\", c""#,
            &[
                ("Bearer", &[("realm", "x"), ("error", "invalid_token")]),
                ("Basic", &[("realm", "a \"b\", c")]),
            ],
        );
        check("Negotiate", &[("Negotiate", &[])]);
        check("Negotiate, Basic realm=\"\"", &[("Negotiate", &[]), ("Basic", &[("realm", "")])]);
        check(
            r#"Bearer realm = "spaced" , service=s"#,
            &[("Bearer", &[("realm", "spaced"), ("service", "s")])],
        );
        check("", &[]);
        check(r#"realm="no scheme""#, &[]);
        check(r#"Bearer realm="not closed"#, &[("Bearer", &[("realm", "not closed")])]);
    }

    #[test]
    fn a_relative_realm_belongs_to_the_registry() {
        let challenge = Challenge::new("Bearer", [("Realm", "/v2/token")]);
        assert_eq!(challenge.realm_url("http://r:5000").as_deref(), Some("http://r:5000/v2/token"));
        assert_eq!(Challenge::new("Bearer", [("realm", "")]).realm_url("http://r"), None);
    }
}
