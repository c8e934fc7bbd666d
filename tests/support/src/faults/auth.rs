//! How the registry behind the rules lets clients in.

use base64::Engine as _;
use http::HeaderMap;

use super::rule::Reply;

/// The password that [`Auth::Basic`] and [`Auth::Bearer`] want; the user is `user`.
const PASSWORD: &str = "right";

/// The token for no scope.
const FOR_NOTHING: &str = "token-for-no-scope";

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    /// Everybody.
    #[default]
    Open,
    /// `user` with password `right`.
    Basic,
    /// Whoever brings a token of `/token`, which wants the same by Basic, and knows no POST.
    Bearer,
}

impl Auth {
    /// The refusal, or the answer of the token service; `None` when the request is let in.
    pub(super) fn check(self, base: &str, method: &str, target: &str, headers: &HeaderMap) -> Option<Reply> {
        let sent = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("user:{PASSWORD}"));
        let right = sent == format!("Basic {pair}");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/token" {
            return Some(match (method, right) {
                ("GET", true) => {
                    let scopes: Vec<String> = url_pairs(query)
                        .filter(|(name, _)| name == "scope")
                        .map(|(_, value)| value)
                        .collect();
                    // A token for nothing lets one in at `/v2/`.
                    let token = if scopes.is_empty() { FOR_NOTHING.to_owned() } else { scopes.join("+") };
                    Reply::status(200)
                        .body(serde_json::json!({"token": token, "expires_in": 300}).to_string())
                }
                ("GET", false) => Reply::status(401),
                _ => Reply::status(404),
            });
        }
        let refusal = |challenge: &str| {
            Reply::error(401, "UNAUTHORIZED", &serde_json::Value::Null).header("www-authenticate", challenge)
        };
        match self {
            Self::Open => None,
            Self::Basic => (!right).then(|| refusal(r#"Basic realm="test""#)),
            Self::Bearer => {
                let (needed, from) = needed(method, path, query);
                let token = sent.strip_prefix("Bearer ").unwrap_or_default();
                let granted = |scope: &str| {
                    let (resource, action) = scope.rsplit_once(':').unwrap_or((scope, ""));
                    token.split('+').any(|grant| {
                        grant.rsplit_once(':').is_some_and(|(granted, actions)| {
                            granted == resource
                                && action.split(',').all(|action| actions.split(',').any(|one| one == action))
                        })
                    })
                };
                if path == "/v2/" && token == FOR_NOTHING {
                    return None;
                }
                let lacking = !granted(&needed) || from.is_some_and(|from| !granted(&from));
                lacking.then(|| {
                    refusal(&format!(r#"Bearer realm="{base}/token",service="test",scope="{needed}""#))
                })
            }
        }
    }
}

/// The scope of a request (distribution's rules), and the second one of a mount.
fn needed(method: &str, path: &str, query: &str) -> (String, Option<String>) {
    let rest = path.trim_start_matches("/v2/");
    let name = ["/blobs/", "/manifests/", "/tags/", "/referrers/"]
        .iter()
        .find_map(|part| rest.split_once(part))
        .map_or("", |(name, _)| name);
    let actions = match method {
        "GET" | "HEAD" => "pull",
        "DELETE" => "delete",
        _ => "pull,push",
    };
    let from =
        url_pairs(query).find(|(key, _)| key == "from").map(|(_, from)| format!("repository:{from}:pull"));
    (format!("repository:{name}:{actions}"), from)
}

/// `name=value` pairs with `%XX` and `+` decoded.
pub fn url_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), decode(value))
    })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex =
            |range: &[u8]| std::str::from_utf8(range).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, tail.get(..2).and_then(hex)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (other, _) => {
                bytes.push(*other);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
