//! What the Hub's refusals mean. It does not say whether something is missing or forbidden, so neither do we; what it does tell is
//! who asks, for which namespace, and which of its limits is reached.

use idp_provider_sdk::invocation::Answer;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::refusal;
use idp_provider_sdk::standard::{self, explanation};

use crate::hub::{At, LARGEST_PAGE};
use crate::limits::{self, Pulls};
use crate::login::TOKENS_PAGE;
use crate::naming::{self, OFFICIAL, SHOWN_HOST};
use crate::tags;

/// Explains by the Hub's table first, by the specification's after it.
pub(crate) fn explain() -> Result<Explanation> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is nothing to explain"))?;
    hub(&subject)
        .or_else(|| standard::explain(&subject))
        .ok_or_else(|| Error::unsupported("the registry's own text says it best"))
}

fn hub(answer: &Answer) -> Option<Explanation> {
    let body = answer.body.trim();
    if refusal::is_html(answer.header("content-type"), body) {
        return None;
    }
    let lower = body.to_ascii_lowercase();
    let code = refusal::parse(body).into_iter().next().unwrap_or_default().code;
    let name = standard::repository(answer.path()).unwrap_or_default();
    Some(match answer.status {
        429 => too_many(answer, &lower),
        401 if answer.path().ends_with("/token") => bad_credentials(),
        401 | 403 if lower.contains("insufficient scope") => token_too_small(answer, name),
        401..=403 if lower.contains("private") && lower.contains("limit") => private_limit(name),
        403 if answer.method == "DELETE" => explanation(
            "policy-blocked",
            format!("Docker Hub keeps what is still needed in {}", naming::shown(name)),
            "a tag or an index refers to this digest, and only what nothing refers to can be deleted by digest",
            &["delete its tags first: `idp delete` with a tag does that through the Hub's API"],
        ),
        405 if answer.method == "DELETE" => explanation(
            "unsupported",
            "Docker Hub's registry deletes by digest only",
            "tags are deleted through the Hub's own API",
            &[&format!("run `idp delete {}:TAG`, which does that", naming::shown(name))],
        ),
        401 | 403 if writes(answer) => may_not_push(name),
        401 | 403 => unknown_or_private(name),
        404 if answer.path().contains("/referrers/") => explanation(
            "unsupported",
            "Docker Hub does not list referrers",
            "it has no referrers API; the tag `sha256-…` is used instead",
            &[],
        ),
        404 if answer.path().contains("/manifests/") && !writes(answer) => missing(answer, name),
        400 if answer.method == "PUT" && lower.contains("immutable") => explanation(
            "immutable",
            format!("A tag of {} may not be moved", naming::shown(name)),
            "its settings make tags immutable",
            &["push under another tag", &format!("change the settings at https://hub.docker.com/r/{name}")],
        ),
        400 if code == "MANIFEST_INVALID" => explanation(
            "unsupported",
            "Docker Hub does not take this manifest",
            "it takes OCI and Docker image manifests and indexes with a JSON config; the withdrawn OCI artifact manifest is none of them",
            &["push artifacts as image manifests with an artifactType"],
        ),
        _ => return None,
    })
}

/// Whether the request was part of writing. A push asks with HEAD first, and a refusal of that is one of the push.
fn writes(answer: &Answer) -> bool {
    !matches!(answer.method.as_str(), "GET" | "HEAD") || invocation::operation() == "push"
}

/// The user name of the credentials; `None` without any.
fn user() -> Option<String> {
    invocation::credential("registry").map(|credential| credential.username().to_owned())
}

fn log_in() -> String {
    format!("run `idp login {SHOWN_HOST}` with your Docker ID and an access token ({TOKENS_PAGE})")
}

fn bad_credentials() -> Explanation {
    explanation(
        "bad-credentials",
        "Docker Hub gives no token for these credentials",
        "the password is wrong, or the account has two-factor or single sign-on and needs an access token",
        &[&format!("create an access token at {TOKENS_PAGE}"), &log_in()],
    )
}

fn token_too_small(answer: &Answer, name: &str) -> Explanation {
    let (doing, need) = match answer.method.as_str() {
        "DELETE" => ("delete from", "Read, Write & Delete"),
        _ if writes(answer) => ("push to", "Read & Write"),
        _ => ("pull from", "Read-only"),
    };
    explanation(
        "no-permission",
        format!("The access token may not {doing} {}", naming::shown(name)),
        "it was made with fewer permissions than this takes",
        &[&format!("create an access token with {need} at {TOKENS_PAGE}"), &log_in()],
    )
}

fn private_limit(name: &str) -> Explanation {
    let namespace = naming::namespace(name);
    explanation(
        "quota",
        format!("`{namespace}` has as many private repositories as its plan allows"),
        "the push would make another one",
        &[
            &format!("make it public: `idp push --visibility public … {}`", naming::shown(name)),
            "delete a private repository, or change the plan",
        ],
    )
}

/// One answer for all of them: not logged in, somebody else's namespace, a token that only reads, no private repository left.
fn may_not_push(name: &str) -> Explanation {
    let namespace = naming::namespace(name);
    let repository = name.rsplit('/').next().unwrap_or(name);
    let shown = naming::shown(name);
    let own = |user: &str| format!("push to {SHOWN_HOST}/{user}/{repository}");
    let more =
        naming::split(name).is_none().then_some("Docker Hub has names of two parts: NAMESPACE/REPOSITORY");
    let mut it = match user() {
        None => explanation(
            "not-logged-in",
            format!("Docker Hub wants to know who pushes to {shown}"),
            "nothing can be pushed without credentials, and there are none for it",
            &[&log_in()],
        ),
        Some(user) if namespace == OFFICIAL => explanation(
            "no-permission",
            format!("{SHOWN_HOST}/{OFFICIAL} is for official images, which only Docker publishes"),
            format!("a name of one word means {OFFICIAL}/WORD"),
            &[&own(if user.is_empty() { "NAMESPACE" } else { &user })],
        ),
        Some(user) if user == namespace => explanation(
            "no-permission",
            format!("`{user}` may not push to {shown}, although the namespace is theirs"),
            "the access token is read-only, or the repository would be one private repository too many, or the account's e-mail address is not verified",
            &[
                &format!(
                    "create an access token with Read & Write at {TOKENS_PAGE}, and run `idp login {SHOWN_HOST}` with it"
                ),
                "look at the account's plan and notices at https://hub.docker.com",
            ],
        ),
        Some(user) => explanation(
            "no-permission",
            format!(
                "{} may not push to {shown}",
                if user.is_empty() { "This account".to_owned() } else { format!("`{user}`") }
            ),
            format!(
                "the namespace `{namespace}` is somebody else's, or an organisation in which no team with write access has this account, or the access token is read-only"
            ),
            &[
                &own(if user.is_empty() { "NAMESPACE" } else { &user }),
                &format!("have an owner of `{namespace}` give write access to the repository"),
                &format!("create an access token with Read & Write at {TOKENS_PAGE}"),
            ],
        ),
    };
    it.fixes.extend(more.map(str::to_owned));
    it
}

/// The Hub does not tell the two apart, on purpose.
fn unknown_or_private(name: &str) -> Explanation {
    let shown = naming::shown(name);
    let cause = "Docker Hub gives one answer for both, so that private names stay private";
    match user() {
        None => explanation(
            "not-logged-in",
            format!("{shown} does not exist, or it is private"),
            format!("{cause}; nobody is logged in"),
            &["check the spelling", &format!("if it is private: {}", log_in())],
        ),
        Some(user) => explanation(
            "no-permission",
            format!(
                "{shown} does not exist, or {} may not read it",
                if user.is_empty() { "this account".to_owned() } else { format!("`{user}`") }
            ),
            cause,
            &[
                "check the spelling",
                "have its owner give read access",
                "check that the access token may read private repositories",
            ],
        ),
    }
}

/// Two limits with one status. The one for pulls says so; the one against abuse says three words.
fn too_many(answer: &Answer, lower: &str) -> Explanation {
    let wait =
        answer.header("retry-after").map_or_else(String::new, |wait| format!("; it says to wait {wait}"));
    if !lower.contains("pull rate limit") {
        let mut it = explanation(
            "throttled",
            "Docker Hub gets too many requests from this address",
            format!(
                "this is not the limit on pulls but the one against abuse: thousands of requests a minute from one address, of all who share it{wait}"
            ),
            &[
                "wait some minutes",
                "behind a shared address (CI, NAT): spread the jobs, or pull through a mirror",
            ],
        );
        it.retryable = Some(true);
        return it;
    }
    // The refusal may come without the numbers; asking for them does not count as a pull.
    let pulls = Pulls::of(answer).or_else(|| limits::ask().ok().flatten());
    let left = pulls.map_or_else(String::new, |pulls| format!(": {}", pulls.in_words()));
    let user = user();
    let first = match &user {
        None => log_in() + ": the limit of an account is higher, and not shared with others of this address",
        Some(_) => "change the plan of the account: paying ones have no such limit".to_owned(),
    };
    let mut it = explanation(
        "rate-limited",
        match &user {
            None => "The limit on pulls without a login is reached".to_owned(),
            Some(_) => "The limit on pulls of this account is reached".to_owned(),
        },
        format!("Docker Hub counts pulls of manifests over some hours{left}{wait}"),
        &[&first, "pull through a mirror or a proxy cache", "try again later"],
    );
    it.retryable = Some(false);
    it
}

/// A tag that is not there, with those that are spelled nearly so.
fn missing(answer: &Answer, name: &str) -> Explanation {
    let reference = answer.path().rsplit('/').next().unwrap_or_default();
    let shown = naming::shown(name);
    let list = format!("list what is there with `idp list {shown}`");
    if reference.contains(':') {
        return explanation(
            "missing-reference",
            format!("{shown} has no such digest"),
            "it was never pushed, or was deleted; untagged images can be cleaned up at any time",
            &[&list],
        );
    }
    let near = near(name, reference);
    let mut it = explanation(
        "missing-reference",
        format!("{shown} has no tag `{reference}`"),
        "it was never pushed, was deleted, or is spelled differently",
        &[&list],
    );
    if !near.is_empty() {
        it.fixes.insert(0, format!("tags like it: {}", near.join(", ")));
    }
    it
}

/// Up to three tags of the first page that resemble one. No answer is no reason to fail.
fn near(name: &str, tag: &str) -> Vec<String> {
    let Some((namespace, repository)) = naming::split(name) else { return Vec::new() };
    let Ok(Ok(page)) = tags::page_of(namespace, repository, At { page: 1, size: LARGEST_PAGE }, None) else {
        return Vec::new();
    };
    let mut names: Vec<(usize, String)> = page
        .results
        .into_iter()
        .map(|known| (distance(&known.name, tag), known.name))
        .filter(|(distance, _)| *distance <= 3.max(tag.len() / 2))
        .collect();
    names.sort();
    names.truncate(3);
    names.into_iter().map(|(_, name)| name).collect()
}

/// Edits from one text to another (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other = other.as_bytes();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, byte) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, theirs) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(byte != *theirs);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances() {
        for (one, other, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("1.0", "1.0", 0),
            ("v1.0", "1.0", 1),
            ("latest", "lastet", 2),
            ("abc", "xyz", 3),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }
}
