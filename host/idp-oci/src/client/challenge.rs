//! `WWW-Authenticate`: header text in, challenges out (RFC 9110, 11.6.1). No I/O, never panics, and lenient: what registries
//! really send has unquoted values, several challenges in a header, several headers, and schemes nobody knows.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

use super::dialect::{Challenge, Scope};

/// More than this many challenges are noise.
const MOST: usize = 16;

/// Every challenge of an answer, in the order of the headers.
pub fn of_headers(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .flat_map(|value| parse(&String::from_utf8_lossy(value.as_bytes())))
        .take(MOST)
        .collect()
}

/// The challenges of one header value.
pub fn parse(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    for item in items(text) {
        let (scheme, param) = split_scheme(item);
        if let Some(scheme) = scheme {
            challenges.push(Challenge {
                scheme: scheme.to_ascii_lowercase(),
                params: Vec::new(),
                raw: String::new(),
            });
        }
        let Some(challenge) = challenges.last_mut() else { continue };
        if !challenge.raw.is_empty() {
            challenge.raw.push_str(", ");
        }
        challenge.raw.push_str(item);
        if let Some((name, value)) = param.and_then(|param| param.split_once('=')) {
            challenge.params.push((name.trim().to_ascii_lowercase(), unquote(value.trim())));
        }
    }
    challenges
}

/// The scopes of a challenge's `scope` parameter; what is not `kind:name:actions` is left out.
pub fn scopes(challenge: &Challenge) -> Vec<Scope> {
    challenge.param("scope").unwrap_or_default().split_ascii_whitespace().filter_map(parse_scope).collect()
}

/// `kind:name:actions`; a name may hold a colon (a port), so the kind ends at the first and the actions begin at the last.
pub fn parse_scope(text: &str) -> Option<Scope> {
    let (kind, rest) = text.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let mut actions: Vec<String> =
        actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect();
    actions.sort();
    actions.dedup();
    Some(Scope { kind: kind.to_owned(), name: name.to_owned(), actions })
}

/// Splits at commas outside of quotes.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character: char| {
        let splits = character == ',' && !quoted;
        if quoted && character == '\\' && !escaped {
            escaped = true;
            return false;
        }
        if character == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = false;
        splits
    })
    .map(str::trim)
    .filter(|item| !item.is_empty())
}

/// `Bearer realm="…"` → scheme and first parameter; `realm="…"` → the parameter alone; `Negotiate` → the scheme alone.
fn split_scheme(item: &str) -> (Option<&str>, Option<&str>) {
    let token = item.find(|character: char| character.is_whitespace() || character == '=' || character == '"');
    match token {
        None => (Some(item), None),
        Some(at) if item[at..].trim_start().starts_with('=') => (None, Some(item)),
        Some(at) if item[at..].starts_with('"') => (None, None),
        Some(at) => (Some(&item[..at]), Some(item[at..].trim())),
    }
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else { return value.to_owned() };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    let mut result = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => result.extend(characters.next()),
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::{of_headers, parse, parse_scope, scopes};

    fn shown(text: &str) -> String {
        parse(text)
            .iter()
            .map(|challenge| {
                let params: Vec<String> =
                    challenge.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{}({})", challenge.scheme, params.join("; "))
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Case 21.
    #[test]
    fn what_registries_send() {
        for (text, expect) in [
            (
                r#"Bearer realm="https://a.example/token",service="r.example",scope="repository:a/b:pull,push""#,
                "bearer(realm=https://a.example/token; service=r.example; scope=repository:a/b:pull,push)",
            ),
            ("basic realm=zot", "basic(realm=zot)"),
            (r#"BEARER Realm = "x" , SERVICE=y"#, "bearer(realm=x; service=y)"),
            (
                r#"Negotiate, Custom abc==, Basic realm="a, b=\"c\"", Bearer realm="r""#,
                r#"negotiate() custom(abc==) basic(realm=a, b="c") bearer(realm=r)"#,
            ),
            ("", ""),
            (",,,", ""),
            (r#"realm="x""#, ""),
            (r#"Bearer realm="open"#, "bearer(realm=open)"),
        ] {
            assert_eq!(shown(text), expect, "{text}");
        }
    }

    /// Case 21: Gitea sends one header a scheme.
    #[test]
    fn several_headers() {
        let mut headers = HeaderMap::new();
        headers.append("www-authenticate", HeaderValue::from_static(r#"Bearer realm="r",service="s""#));
        headers.append("www-authenticate", HeaderValue::from_static(r#"Basic realm="b""#));
        let challenges = of_headers(&headers);
        let schemes: Vec<&str> = challenges.iter().map(|challenge| challenge.scheme.as_str()).collect();
        assert_eq!(schemes, ["bearer", "basic"]);
    }

    #[test]
    fn scopes_are_split_at_the_outer_colons() {
        let challenge = &parse(r#"Bearer scope="repository:h:5000/a:push,pull registry:catalog:* bad""#)[0];
        let shown: Vec<String> = scopes(challenge).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["repository:h:5000/a:pull,push", "registry:catalog:*"]);
        assert_eq!(parse_scope("a:b"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            parse(&text);
        }

        #[test]
        fn never_panics_on_near_misses(text in "[Bb=\", \\\\a:é]{0,80}") {
            for challenge in parse(&text) {
                scopes(&challenge);
            }
        }
    }
}
