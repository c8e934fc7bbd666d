//! Refusals of a registry: what its error body says, and the contract's error for it.

use serde_json::Value;

use crate::contract::{Error, ErrorKind};
use crate::http::Response;

/// One entry of the specification's error body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// `NAME_UNKNOWN`, …; upper case as the specification has it.
    pub code: String,
    /// For people; often empty.
    pub message: String,
    /// As compact JSON; empty when it is absent or null.
    pub detail: String,
}

/// The entries of an error body: `{"errors":[…]}`, a single object, or a bare list. Text that is no JSON has none.
pub fn parse(body: &str) -> Vec<Refusal> {
    let Ok(value) = serde_json::from_str::<Value>(body) else { return Vec::new() };
    let entries = match value.get("errors").unwrap_or(&value) {
        Value::Array(entries) => entries.clone(),
        entry @ Value::Object(_) => vec![entry.clone()],
        _ => Vec::new(),
    };
    entries.iter().filter_map(entry).collect()
}

fn entry(value: &Value) -> Option<Refusal> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let detail = match value.get("detail") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let refusal = Refusal { code: text("code"), message: text("message"), detail };
    (!refusal.code.is_empty() || !refusal.message.is_empty()).then_some(refusal)
}

/// What a body says in one line, for people: its messages, else its plain text, else nothing. Pages of proxies are not
/// quoted.
pub fn text(body: &str) -> String {
    let entries = parse(body);
    if !entries.is_empty() {
        let one = |refusal: &Refusal| match (refusal.code.as_str(), refusal.message.as_str()) {
            (code, "") => code.to_owned(),
            ("", message) => message.to_owned(),
            (code, message) => format!("{code}: {message}"),
        };
        return entries.iter().map(one).collect::<Vec<_>>().join("; ");
    }
    let line = body.trim().lines().next().unwrap_or_default().trim();
    if line.starts_with('<') || line.starts_with('{') {
        String::new()
    } else {
        line.chars().take(200).collect()
    }
}

/// Whether a body is a page for people: an answer of a proxy, not of a registry.
pub fn is_html(content_type: Option<&str>, body: &str) -> bool {
    content_type.is_some_and(|value| value.to_ascii_lowercase().starts_with("text/html"))
        || body
            .trim_start()
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case("<html") || start.eq_ignore_ascii_case("<!doc"))
}

/// The error for a page for people where a registry's answer was due; none for any other answer. Trying again would bring the
/// same page.
pub fn web_page(answer: &Response) -> Option<Error> {
    is_html(answer.header("content-type").as_deref(), &answer.text()).then(|| {
        let message = format!(
            "{} answered with a web page: that is not a registry (a login page of the network, or a wrong address)",
            crate::link::origin(&answer.url())
        );
        Error::new(ErrorKind::Other, message).code("web-page").status(answer.status())
    })
}

/// The contract's error for an answer that refuses. `doing` completes "could not …".
pub fn error(answer: &Response, doing: &str) -> Error {
    let status = answer.status();
    let body = answer.text();
    let code = parse(&body).into_iter().next().map(|refusal| refusal.code);
    // Of a sealed answer the manifest may open at least the code.
    let code = code.or_else(|| answer.json_scalar("/errors/0/code")).unwrap_or_default();
    let said = match text(&body) {
        said if said.is_empty() && code.is_empty() => String::new(),
        said if said.is_empty() => format!(": {code}"),
        said => format!(": {said}"),
    };
    let message =
        format!("could not {doing}: {} answered {status}{said}", crate::link::origin(&answer.url()));
    let error = match too_little(answer) {
        Some(who) => {
            let message = format!("{message}; the token that was given to {who} does not allow it");
            Error::denied(message).code("insufficient_scope").status(status)
        }
        None => Error::new(kind(status), message).code(code).status(status),
    };
    match answer.retry_after_s() {
        Some(seconds) => error.retry_after_s(seconds),
        None => error,
    }
}

/// Who was given a token with fewer rights than this takes: 401 is the answer then, too, and logging in again would not help.
fn too_little(answer: &Response) -> Option<String> {
    let challenges = crate::client::challenges(answer);
    let refused = challenges.iter().any(|challenge| challenge.param("error") == Some("insufficient_scope"));
    let credential =
        crate::invocation::credential("registry").filter(|_| refused && answer.status() == 401)?;
    Some(match credential.username() {
        "" => "this account".to_owned(),
        username => format!("`{username}`"),
    })
}

/// The kind of error a status stands for.
pub fn kind(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        409 | 412 => ErrorKind::Conflict,
        429 => ErrorKind::RateLimited,
        408 | 500..=599 => ErrorKind::Unavailable,
        400..=499 => ErrorKind::Invalid,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_registries_send() {
        for (body, expected) in [
            (r#"{"errors":[{"code":"DENIED","message":"no","detail":null}]}"#, "DENIED: no"),
            (r#"{"errors":[{"code":"UNAUTHORIZED","message":""}]}"#, "UNAUTHORIZED"),
            (r#"{"code":"UNAUTHORIZED","message":"m"}"#, "UNAUTHORIZED: m"),
            (r#"[{"code":"A","message":"b"},{"message":"c"}]"#, "A: b; c"),
            ("reqPackageAccess", "reqPackageAccess"),
            ("404 page not found\n", "404 page not found"),
            ("<html><body>too large</body></html>", ""),
            ("", ""),
            ("{\"errors\":", ""),
        ] {
            assert_eq!(text(body), expected, "{body}");
        }
    }

    #[test]
    fn details_of_any_shape() {
        let body = r#"{"errors":[{"code":"X","detail":{"name":"a"}},{"code":"Y","detail":"unknown tag=x"}]}"#;
        let details: Vec<_> = parse(body).into_iter().map(|refusal| refusal.detail).collect();
        assert_eq!(details, [r#"{"name":"a"}"#, "unknown tag=x"]);
    }

    #[test]
    fn pages_of_proxies() {
        assert!(is_html(Some("text/html; charset=utf-8"), ""));
        assert!(is_html(None, " <!DOCTYPE html><p>"));
        assert!(!is_html(Some("text/plain"), "é is not html"));
    }
}
