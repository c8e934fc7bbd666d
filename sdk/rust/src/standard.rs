//! What the specification's error codes mean, for registries that keep to it, and for the rest of those that do not.

use crate::contract::Explanation;
use crate::invocation::Answer;
use crate::{invocation, refusal};

/// Repository of the request, from its path: what lies between `/v2/` and `/blobs/`, `/manifests/`, `/tags/`, `/referrers/`.
pub fn repository(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/v2/")?;
    let end = ["/blobs/", "/manifests/", "/tags/", "/referrers/"]
        .iter()
        .filter_map(|noun| rest.rfind(noun))
        .min()?;
    Some(&rest[..end])
}

/// An explanation from its parts.
pub fn explanation(
    class: &str,
    title: impl Into<String>,
    cause: impl Into<String>,
    fixes: &[&str],
) -> Explanation {
    Explanation {
        class: class.to_owned(),
        title: title.into(),
        cause: cause.into(),
        fixes: fixes.iter().map(|fix| (*fix).to_owned()).collect(),
        retryable: None,
        extra: Vec::new(),
    }
}

/// What a refusal means by status and code of the specification; `None` when neither says anything.
pub fn explain(answer: &Answer) -> Option<Explanation> {
    if refusal::is_html(answer.header("content-type"), &answer.body) {
        return Some(proxy(answer));
    }
    let first = refusal::parse(&answer.body).into_iter().next().unwrap_or_default();
    by_code(answer, &first.code, &first.detail).or_else(|| by_status(answer))
}

/// A page for people instead of the registry's answer.
fn proxy(answer: &Answer) -> Explanation {
    let (class, cause, fix): (_, _, &str) = match answer.status {
        413 => (
            "too-large",
            "something in front of the registry limits the size of a request",
            "raise its limit (nginx: client_max_body_size 0), or push with smaller layers",
        ),
        502..=504 => {
            ("server-error", "something in front of the registry could not reach it", "try again later")
        }
        _ => (
            "proxy-interfered",
            "a proxy, a login page or a wrong host answered instead of the registry",
            "check the host name, and that /v2/ is passed on to the registry",
        ),
    };
    let mut it =
        explanation(class, format!("A web page came back with status {}", answer.status), cause, &[fix]);
    it.retryable = Some(matches!(answer.status, 502..=504));
    it
}

fn by_code(answer: &Answer, code: &str, detail: &str) -> Option<Explanation> {
    let name = repository(answer.path()).unwrap_or("the repository");
    let registry = invocation::registry();
    Some(match code {
        "UNAUTHORIZED" => unauthorized(answer),
        "DENIED" | "FORBIDDEN"
            if detail.contains("unknown manifest class") || answer.body.contains("manifest class") =>
        {
            explanation(
                "policy-blocked",
                format!("{registry} refuses this kind of artifact"),
                "its policy names the classes of manifests that a repository may hold",
                &["ask its administrator to allow the class (distribution: policy.repository.classes)"],
            )
        }
        "DENIED" | "FORBIDDEN" => explanation(
            "no-permission",
            format!("No permission on {name}"),
            "the account is known and may not do this",
            &["ask the owner of the repository for the right to push or delete"],
        ),
        "NAME_UNKNOWN" => explanation(
            "missing-repository",
            format!("{name} does not exist"),
            "nothing was pushed to it yet, or its name is spelled differently",
            &["check the name with `idp list`"],
        ),
        "NAME_INVALID" => explanation(
            "name-invalid",
            format!("{registry} does not allow the name {name}"),
            "the path has upper case, or separators that the registry does not take",
            &["use lower-case letters and digits, with single '.', '_' or '-' between them"],
        ),
        "MANIFEST_UNKNOWN" => explanation(
            "missing-reference",
            format!("There is no such tag or digest in {name}"),
            "it was never pushed, was deleted, or is spelled differently",
            &["list what is there with `idp list`"],
        ),
        "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN" if answer.method == "PUT" => explanation(
            "missing-reference",
            "The manifest names content that the registry does not have",
            "an upload was cleaned up before the manifest came, or never finished",
            &["push again"],
        ),
        "BLOB_UNKNOWN" => explanation(
            "missing-reference",
            format!("{name} does not have this content"),
            "it was deleted, or never pushed to this repository",
            &["push the artifact again"],
        ),
        "BLOB_UPLOAD_UNKNOWN" | "BLOB_UPLOAD_INVALID" | "RANGE_INVALID" => lost_upload(),
        "DIGEST_INVALID" if answer.method == "DELETE" => explanation(
            "unsupported",
            "This registry deletes by digest only",
            "it takes what is not a digest for a malformed one (distribution before 3)",
            &["delete the digest, which takes along every tag of it"],
        ),
        "DIGEST_INVALID" | "SIZE_INVALID" => explanation(
            "proxy-interfered",
            "The registry received other bytes than were sent",
            "something on the way changed or cut the upload, or the registry does not know the digest's algorithm",
            &["push again", "use sha256 digests"],
        ),
        "MANIFEST_INVALID" => explanation(
            "unsupported",
            format!("{registry} does not take this manifest"),
            "its media type, or that of an entry, is not one that the registry knows",
            &["push OCI image manifests, without nested indexes"],
        ),
        "TAG_INVALID" => explanation(
            "name-invalid",
            "The registry does not allow this tag",
            "a tag has letters, digits, '.', '_' and '-', at most 128 of them",
            &["choose another tag"],
        ),
        "PAGINATION_NUMBER_INVALID" => explanation(
            "unsupported",
            "The registry refuses pages of this size",
            "its configuration limits them (distribution: catalog.maxentries, tags.maxtags)",
            &["ask for smaller pages"],
        ),
        "TOOMANYREQUESTS" => too_many(answer),
        "UNSUPPORTED" if answer.method == "DELETE" => explanation(
            "unsupported",
            "Deletion is switched off on this registry",
            "distribution needs storage.delete.enabled, which is off by default",
            &["ask its administrator to switch it on"],
        ),
        "UNSUPPORTED" => explanation(
            "unsupported",
            "The registry does not do this",
            "the operation is not part of what it implements, or is switched off",
            &[],
        ),
        _ => return None,
    })
}

fn by_status(answer: &Answer) -> Option<Explanation> {
    Some(match answer.status {
        401 => unauthorized(answer),
        403 => explanation(
            "no-permission",
            "The registry refused",
            "the account is known and may not do this",
            &[],
        ),
        404 if answer.body.trim_start().starts_with("404 page not found") => explanation(
            "unsupported",
            "The registry does not know this address",
            "it does not implement the operation, or it is not an OCI registry",
            &["check the host name"],
        ),
        404 => explanation(
            "missing-reference",
            "There is no such thing in the registry",
            "it was never pushed, was deleted, or is spelled differently",
            &["list what is there with `idp list`"],
        ),
        400 if answer.body.contains("HTTP request to an HTTPS server") => explanation(
            "scheme-mismatch",
            "The registry speaks https, and was spoken to over http",
            "the registry is configured as insecure and is not",
            &["leave out --insecure"],
        ),
        409 if answer.method == "DELETE" => explanation(
            "policy-blocked",
            "The manifest is still needed",
            "an index in the repository refers to it",
            &["delete the index first"],
        ),
        413 => explanation(
            "too-large",
            "The registry does not take a request of this size",
            "the manifest or the upload is larger than it allows",
            &["raise the limit of the registry or of the proxy before it"],
        ),
        415 => explanation(
            "unsupported",
            "The registry does not take this media type",
            "zot takes OCI media types only, unless http.compat has docker2s2",
            &["push the artifact with OCI media types"],
        ),
        // zot sends nothing with it.
        416 => lost_upload(),
        429 => too_many(answer),
        500..=599 => {
            let mut it = explanation(
                "server-error",
                "The registry failed",
                refusal::text(&answer.body),
                &["try again later"],
            );
            it.retryable = Some(true);
            it
        }
        _ => return None,
    })
}

/// 401 is also the answer to a token that holds too little, or that the registry does not trust; the challenge tells them apart.
fn unauthorized(answer: &Answer) -> Explanation {
    let registry = invocation::registry();
    let login = format!("run `idp login {registry}`");
    let challenges = answer.challenges();
    let error = challenges.iter().find_map(|challenge| challenge.param("error")).unwrap_or_default();
    let known = invocation::credential("registry");
    match (error, known) {
        ("insufficient_scope", Some(credential)) => {
            let who = match credential.username() {
                "" => "the account".to_owned(),
                username => format!("`{username}`"),
            };
            let name = repository(answer.path()).unwrap_or("what was asked for");
            explanation(
                "no-permission",
                format!("No permission on {name}"),
                format!("the token service knows {who}, and gave a token with fewer rights than this takes"),
                &["ask the owner of the repository for the right", "check the spelling of the repository"],
            )
        }
        ("invalid_token", _) => explanation(
            "clock-skew",
            format!("{registry} does not accept the token that its own token service gave"),
            "its clock and that of the token service differ, or it does not trust the key that the token is signed with",
            &["ask its administrator to compare clocks, issuer and keys of the two"],
        ),
        _ => explanation(
            "not-logged-in",
            "The registry does not know who is asking",
            "there are no credentials for it, or it does not accept them",
            &[&login],
        ),
    }
}

fn lost_upload() -> Explanation {
    let mut it = explanation(
        "server-error",
        "The registry lost track of an upload",
        "the upload session ended, or its parts arrived at different servers",
        &["push again"],
    );
    it.retryable = Some(true);
    it
}

fn too_many(answer: &Answer) -> Explanation {
    let wait =
        answer.header("retry-after").map_or_else(String::new, |wait| format!("; it says to wait {wait}"));
    let mut it = explanation(
        "rate-limited",
        "The registry has had too many requests",
        format!("its limit is reached{wait}"),
        &["try again later", "log in: limits are often higher then"],
    );
    it.retryable = Some(true);
    it
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    fn class(method: &str, url: &str, status: u16, body: &str) -> Option<String> {
        let answer = Answer {
            method: method.to_owned(),
            url: url.to_owned(),
            status,
            headers: Vec::new(),
            body: body.to_owned(),
            extra: Vec::new(),
        };
        Host::new("r").run(|| explain(&answer)).map(|it| it.class)
    }

    #[test]
    fn classes_by_code_then_by_status() {
        let error = |code: &str| format!(r#"{{"errors":[{{"code":"{code}","message":"m","detail":null}}]}}"#);
        for (method, status, body, expected) in [
            ("GET", 401, error("UNAUTHORIZED"), Some("not-logged-in")),
            ("PUT", 403, error("DENIED"), Some("no-permission")),
            ("GET", 404, error("NAME_UNKNOWN"), Some("missing-repository")),
            ("PUT", 400, error("MANIFEST_BLOB_UNKNOWN"), Some("missing-reference")),
            ("DELETE", 405, error("UNSUPPORTED"), Some("unsupported")),
            ("GET", 404, "404 page not found\n".to_owned(), Some("unsupported")),
            ("PUT", 413, "<html>413</html>".to_owned(), Some("too-large")),
            ("GET", 200, "<!doctype html>".to_owned(), Some("proxy-interfered")),
            ("GET", 503, String::new(), Some("server-error")),
            ("GET", 418, String::new(), None),
        ] {
            assert_eq!(
                class(method, "https://r/v2/a/b/manifests/x", status, &body).as_deref(),
                expected,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn the_repository_of_a_path() {
        assert_eq!(repository("/v2/a/b/manifests/latest"), Some("a/b"));
        assert_eq!(repository("/v2/a/blobs/x/blobs/uploads/"), Some("a/blobs/x"));
        assert_eq!(repository("/v2/"), None);
        assert_eq!(repository("/v2/token"), None);
    }
}
