//! What Quay's refusals mean. Rights that are missing are 401; a registry that takes no writes is 405.

use idp_provider_sdk::invocation::Answer;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::standard::{self, explanation};
use idp_provider_sdk::{link, refusal};

use crate::naming;

/// Explains by Quay's table first, by the specification's after it.
pub(crate) fn explain() -> Result<Explanation> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is nothing to explain"))?;
    quay(&subject)
        .or_else(|| standard::explain(&subject))
        .ok_or_else(|| Error::unsupported("the registry's own text says it best"))
}

fn quay(answer: &Answer) -> Option<Explanation> {
    let registry = invocation::registry();
    let repository = standard::repository(answer.path()).unwrap_or_default();
    let namespace = naming::split(repository).map_or("the namespace", |(namespace, _)| namespace);
    let refusal = refusal::parse(&answer.body).into_iter().next().unwrap_or_default();
    let (code, message) = (refusal.code.as_str(), refusal.message.as_str());
    let says = |part: &str| message.to_ascii_lowercase().contains(part);
    let writes = !matches!(answer.method.as_str(), "GET" | "HEAD");
    Some(match (answer.status, code) {
        (401, _) if link::path(&answer.url) == "/v2/auth" => explanation(
            "bad-credentials",
            format!("{registry} gives no token for these credentials"),
            if message.is_empty() { "user name and password do not belong together" } else { message },
            &[
                &format!(
                    "run `idp login {registry}` with a robot account (`ORGANISATION+ROBOT`) and its token"
                ),
                "where people sign in elsewhere (SSO), use the encrypted password of the account's settings",
            ],
        ),
        (401, _) if authenticated() => explanation(
            "no-permission",
            format!("No right to {} `{repository}`", if writes { "push to" } else { "pull from" }),
            format!(
                "Quay gives a token without rights, and refuses it with 401, where the organisation `{namespace}` does not exist or the \
                 account may not do this"
            ),
            &[
                &format!(
                    "give the robot or the team the permission {} on the repository, or Creator in `{namespace}`",
                    if writes { "Write" } else { "Read" }
                ),
                &format!(
                    "if there is no organisation `{namespace}`, make it, or let `idp push --create` do it"
                ),
            ],
        ),
        (400, "INVALID_REQUEST") if says("unable to decode repository and actions") => explanation(
            "unsupported",
            "The token endpoint does not know one of the rights that were asked for",
            "Quay knows pull, push and * only",
            &["report this: the provider must not ask for others"],
        ),
        (404, "TAG_EXPIRED") => explanation(
            "missing-reference",
            "The tag has expired",
            "it had an expiry date, or its repository has a policy of one",
            &[
                "push it again",
                "an owner can bring it back in the tag history while the time machine keeps it",
            ],
        ),
        (409, "TAG_IMMUTABLE") => explanation(
            "immutable",
            "The tag is immutable",
            "it can be neither overwritten nor deleted",
            &["push under another tag", "an administrator of the repository can unlock it"],
        ),
        (405, _) if answer.body.contains("is_readonly") || says("read-only") => explanation(
            "read-only",
            format!("{registry} is in read-only mode"),
            "it takes no writes while it is being maintained",
            &["try again later"],
        ),
        (405, _) if says("pushes to the registry are currently disabled") => explanation(
            "read-only",
            format!("{registry} takes no pushes at the moment"),
            "its administrators switched them off",
            &["try again later", "ask the administrators"],
        ),
        (405 | 403, _) if says("namespace") && says("disabled") => explanation(
            "policy-blocked",
            format!("The namespace `{namespace}` is disabled"),
            "its owner or the administrators of the registry disabled it",
            &["ask the administrators of the registry"],
        ),
        (403, "DENIED") if says("quota has been exceeded") => explanation(
            "quota",
            format!("The quota of `{namespace}` is used up"),
            "the size of all its images counts, deleted ones too until they are collected",
            &["delete tags that are not needed any more", "ask the administrators to raise the quota"],
        ),
        (413, _) if refusal::is_html(answer.header("content-type"), &answer.body) => return None,
        (400 | 413, _) if says("layer") && (says("large") || says("exceeds")) => explanation(
            "too-large",
            "A layer is larger than this registry takes",
            "the limit is MAXIMUM_LAYER_SIZE of its configuration, 20 GiB unless changed",
            &["split the layer", "ask the administrators to raise the limit"],
        ),
        (400, "NAME_INVALID") if says("nested") => explanation(
            "name-invalid",
            format!("{registry} takes no nested names such as `{repository}`"),
            "it is an old Quay, or EXTENDED_REPOSITORY_NAMES is off",
            &["push to ORGANISATION/REPOSITORY"],
        ),
        (415, _) | (400, "MANIFEST_INVALID")
            if says("schema version") || says("media type") || says("artifact") =>
        {
            explanation(
                "unsupported",
                "Quay does not take this kind of artifact",
                "with general OCI support off only the media types of its list pass",
                &[
                    "ask the administrators to switch FEATURE_GENERAL_OCI_SUPPORT on, or to add the media type",
                ],
            )
        }
        (400, "MANIFEST_INVALID") if answer.path().contains("/referrers/") => explanation(
            "missing-reference",
            "Quay knows no manifest of this digest",
            "it answers 400 instead of an empty list when the subject is not there",
            &["push the subject first"],
        ),
        (429, _) => {
            let mut it = explanation(
                "throttled",
                format!("Too many requests to {registry}"),
                "requests are limited by address and account",
                &["wait a minute", "pull through a mirror in continuous integration"],
            );
            it.retryable = Some(true);
            it
        }
        _ => return None,
    })
}

/// Whether there are credentials: without them a 401 means what it says.
fn authenticated() -> bool {
    invocation::credential("registry").is_some()
}
