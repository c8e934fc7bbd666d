//! URLs and `Link` headers, as far as paging and token endpoints need them.

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                encoded.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    encoded
}

/// Scheme, host and port of a URL: `https://r:5000`; empty when there is none.
pub fn origin(url: &str) -> &str {
    let Some(start) = url.find("://").map(|at| at + 3) else { return "" };
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    &url[..end]
}

/// The path of a URL, without query and fragment.
pub fn path(url: &str) -> &str {
    let rest = &url[origin(url).len()..];
    &rest[..rest.find(['?', '#']).unwrap_or(rest.len())]
}

/// A reference, resolved against a base URL: absolute, host-relative (`//h/p`), path-absolute, query only, or relative.
pub fn resolve(base: &str, reference: &str) -> String {
    if reference.contains("://") {
        return reference.to_owned();
    }
    if reference.starts_with("//") {
        return format!("{}:{reference}", base.split("://").next().unwrap_or("https"));
    }
    let base_path = path(base);
    if reference.starts_with('/') {
        format!("{}{reference}", origin(base))
    } else if reference.starts_with('?') {
        format!("{}{base_path}{reference}", origin(base))
    } else {
        let directory = base_path.rfind('/').map_or("/", |at| &base_path[..=at]);
        format!("{}{directory}{reference}", origin(base))
    }
}

/// The target of `rel="next"` in `Link` header values.
pub fn next<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<String> {
    values.into_iter().flat_map(links).find(|(_, rel)| rel == "next").map(|(target, _)| target)
}

/// Every target with its relation. A target may hold commas and semicolons, so it is read up to its `>`.
fn links(value: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = value;
    while let Some((target, after)) = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        let parameters = after.split('<').next().unwrap_or_default();
        let rel = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim().trim_end_matches(',').trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel").then(|| value.to_ascii_lowercase())
        });
        found.push((target.to_owned(), rel.unwrap_or_default()));
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolving() {
        for (base, reference, expected) in [
            ("https://r:5000/v2/", "https://a/t", "https://a/t"),
            ("https://r:5000/v2/x", "/token?a=b", "https://r:5000/token?a=b"),
            ("https://r:5000/v2/x?n=1", "?n=2", "https://r:5000/v2/x?n=2"),
            ("https://r/v2/_catalog", "//s/v2", "https://s/v2"),
            ("https://r", "token", "https://r/token"),
            ("https://r/a/b", "c", "https://r/a/c"),
        ] {
            assert_eq!(resolve(base, reference), expected, "{base} {reference}");
        }
        assert_eq!(path("https://r?x"), "");
        assert_eq!(origin("http://r:1/x"), "http://r:1");
    }

    #[test]
    fn next_links() {
        for (value, expected) in [
            (r#"</v2/_catalog?last=a&n=2>; rel="next""#, Some("/v2/_catalog?last=a&n=2")),
            ("</v2/x?last=a,b;c>;rel=next", Some("/v2/x?last=a,b;c")),
            (r#"</a>; rel="prev", </b>; title="t"; rel="Next""#, Some("/b")),
            (r#"</a>; rel="prev""#, None),
            ("broken", None),
        ] {
            assert_eq!(next([value]).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn percent_encoding_leaves_only_unreserved_characters() {
        assert_eq!(percent("a/b:c~é "), "a%2Fb%3Ac~%C3%A9%20");
    }
}
