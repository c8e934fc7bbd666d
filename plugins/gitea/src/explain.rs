//! What Gitea's refusals mean: many are 401 or 403 with plain text or nothing at all.

use idp_provider_sdk::invocation::Answer;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::standard::{self, explanation};
use idp_provider_sdk::{link, refusal};

use crate::naming;

/// Explains by Gitea's table first, by the specification's after it.
pub(crate) fn explain() -> Result<Explanation> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is nothing to explain"))?;
    gitea(&subject)
        .or_else(|| standard::explain(&subject))
        .ok_or_else(|| Error::unsupported("the registry's own text says it best"))
}

fn gitea(answer: &Answer) -> Option<Explanation> {
    let registry = invocation::registry();
    let repository = standard::repository(answer.path()).unwrap_or_default();
    let owner = naming::split(repository).map_or_else(|| "the owner".to_owned(), |(owner, _)| owner);
    let body = answer.body.trim();
    let code = refusal::parse(body).into_iter().next().unwrap_or_default().code;
    let writes = !matches!(answer.method.as_str(), "GET" | "HEAD");
    let html = refusal::is_html(answer.header("content-type"), body);
    Some(match (answer.status, code.as_str()) {
        (401, _) if body.contains("reqPackageAccess") || is_forbidden(answer) => explanation(
            "no-permission",
            format!("No {} access to the packages of `{owner}`", if writes { "write" } else { "read" }),
            "the account is known and may not do this; Gitea says so with status 401, so logging in again does not help",
            &[
                &format!(
                    "give the access token the scope {}",
                    if writes { "write:package" } else { "read:package" }
                ),
                &format!(
                    "in an organisation, add the account to a team of `{owner}` with Packages={}",
                    if writes { "write" } else { "read" }
                ),
                "another user's namespace cannot be pushed to; use your own, or an organisation's",
            ],
        ),
        (401, _) if link::path(&answer.url).ends_with("/v2/token") => explanation(
            "bad-credentials",
            format!("{registry} gives no token for these credentials"),
            "the password is wrong, the account has two-factor authentication, or the access token lacks a package scope",
            &[
                &format!(
                    "make an access token with write:package at https://{registry}/user/settings/applications"
                ),
                &format!("run `idp login {registry}` with the access token as the password"),
            ],
        ),
        (403, "") if body.contains("reqToken") => explanation(
            "no-permission",
            format!("The access token may see public packages only, and `{owner}` is not public"),
            "it was made with the restriction to public resources",
            &["make an access token without that restriction"],
        ),
        (403, "") if body.is_empty() && answer.method == "PUT" => explanation(
            "quota",
            "A size or quota limit of the server is reached",
            "Gitea refuses with an empty answer when a limit for packages is exceeded",
            &[
                "delete what is not needed any more",
                "its administrator can raise LIMIT_SIZE_CONTAINER, LIMIT_TOTAL_OWNER_SIZE or LIMIT_TOTAL_OWNER_COUNT in [packages] of app.ini",
            ],
        ),
        (413, _) if body.contains("quota exceeded") => explanation(
            "quota",
            format!("The quota of `{owner}` is used up"),
            "Forgejo counts packages towards the quota of their owner",
            &["delete what is not needed any more", "ask the administrator to raise the quota"],
        ),
        (413, _) if html => explanation(
            "too-large",
            "A proxy before Gitea does not take a request of this size",
            "its limit for request bodies is lower than the layer",
            &["raise the limit (nginx: client_max_body_size 0)", "push with smaller layers"],
        ),
        (413, "MANIFEST_INVALID") => explanation(
            "too-large",
            "The manifest is larger than 10 MiB",
            "Gitea takes no larger ones",
            &["split the artifact"],
        ),
        (404, "") if body.starts_with("Not found") => explanation(
            "missing-parent",
            format!("{registry} has no user or organisation `{owner}`"),
            "an image appears with its first push, its owner does not; or /v2 is not passed on to Gitea by a proxy",
            &[
                &format!("create the organisation `{owner}` first, or let `idp push --create` do it"),
                "check the spelling of the owner",
                "have the proxy pass /v2 at the root of the host on to Gitea, also when Gitea lives under a path",
            ],
        ),
        (404, "") if answer.path().contains("/referrers/") => explanation(
            "unsupported",
            "Gitea does not list referrers",
            "it has no referrers API; the tag `sha256-…` is used instead",
            &[],
        ),
        (400, "NAME_INVALID") => explanation(
            "name-invalid",
            format!("Gitea does not allow the image name in `{repository}`"),
            format!("every part of an image's path is {}", naming::PATTERN),
            &["use lower case, and no `__`, `--` or mixed separators"],
        ),
        (404, "BLOB_UNKNOWN" | "MANIFEST_BLOB_UNKNOWN") if answer.method == "PUT" => explanation(
            "missing-reference",
            "The manifest names content that is not in this repository",
            "blobs that no manifest refers to are removed after 24 hours, and every blob must be in the same repository",
            &["push again"],
        ),
        (400, "SIZE_INVALID") => explanation(
            "unsupported",
            "A size in the manifest is not that of the blob",
            "Gitea compares them",
            &["build the artifact anew"],
        ),
        (400, "MANIFEST_INVALID") => explanation(
            "unsupported",
            "Gitea does not take this manifest",
            "it takes OCI and Docker image manifests, and indexes whose entries are image manifests, not other indexes",
            &["flatten the index", "push artifacts as image manifests"],
        ),
        (400, "DIGEST_INVALID") => explanation(
            "unsupported",
            "Gitea received other bytes than the digest says",
            "it knows sha256 only; another algorithm never matches",
            &["use sha256 digests", "push again"],
        ),
        (404, "NAME_UNKNOWN") => explanation(
            "missing-repository",
            format!("Nothing was pushed to `{repository}` yet"),
            "an image without versions does not exist for Gitea",
            &["push to it first", "check the name with `idp list`"],
        ),
        (500, _) if answer.path().contains("/manifests/") && answer.method == "PUT" => {
            let mut it = explanation(
                "server-error",
                "Gitea failed on the manifest",
                "before 1.24 it fails on a config that is not a JSON object",
                &["push with a JSON config", "upgrade Gitea"],
            );
            it.retryable = Some(false);
            it
        }
        _ => return None,
    })
}

/// The challenge of a refusal: the realm of the package API, not of the registry's token.
fn is_forbidden(answer: &Answer) -> bool {
    answer
        .challenges()
        .iter()
        .any(|challenge| challenge.is("basic") && challenge.param("realm") == Some("Gitea Package API"))
}
