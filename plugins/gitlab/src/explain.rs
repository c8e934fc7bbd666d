//! What GitLab's refusals mean. `denied` has half a dozen causes, and a token that lacks the right is a 401 of the registry.

use idp_provider_sdk::invocation::Answer;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::standard::{self, explanation};
use idp_provider_sdk::{link, refusal};

/// Explains by GitLab's table first, by the specification's after it.
pub(crate) fn explain() -> Result<Explanation> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is nothing to explain"))?;
    gitlab(&subject)
        .or_else(|| standard::explain(&subject))
        .ok_or_else(|| Error::unsupported("the registry's own text says it best"))
}

fn gitlab(answer: &Answer) -> Option<Explanation> {
    let registry = invocation::registry();
    let name = standard::repository(answer.path()).unwrap_or("the repository");
    let first = refusal::parse(&answer.body).into_iter().next().unwrap_or_default();
    let said = answer.body.to_ascii_lowercase();
    let writes = !matches!(answer.method.as_str(), "GET" | "HEAD");
    let held = invocation::credential("registry").is_some();
    let login = format!("run `idp login {registry}` with an access token as the password");
    let html = refusal::is_html(answer.header("content-type"), &answer.body);
    Some(match (answer.status, first.code.as_str()) {
        _ if html => return None,
        (_, _) if answer.path() == "/v2/_catalog" && matches!(answer.status, 401 | 403 | 404) => explanation(
            "unsupported",
            format!("{registry} shows its catalogue to administrators only"),
            "GitLab lists the repositories of a project or a group",
            &[&format!("run `idp list {registry} --namespace GROUP` or `--namespace GROUP/PROJECT`")],
        ),
        (404, "UNAVAILABLE") => explanation(
            "unsupported",
            format!("The GitLab of {registry} has its container registry switched off"),
            "its token endpoint says `registry not enabled`",
            &["ask its administrator to switch it on"],
        ),
        (400 | 404, _)
            if first.code == "NAME_INVALID"
                || said.contains("must start with")
                || said.contains("name invalid") =>
        {
            explanation(
                "name-invalid",
                format!("{registry} does not take the name {name}"),
                "the path of a repository is that of a project, GROUP/PROJECT, and after it at most two names more, all in lower case",
                &["start with the path of a project that is there", "write it in lower case"],
            )
        }
        (400 | 403 | 409, _) if said.contains("immutable") => explanation(
            "immutable",
            format!("The tag in {name} may not be changed"),
            "a rule of the project makes it immutable",
            &["push another tag", "change the rule in the project: Settings, Packages and registries"],
        ),
        (400 | 403, _) if said.contains("protected") => explanation(
            "policy-blocked",
            format!("A protection rule of the project stands before {name}"),
            "it names the tag or the repository and a higher role than the account has",
            &["ask a maintainer of the project", "change the rule: Settings, Packages and registries"],
        ),
        (401 | 403, _)
            if link::path(&answer.url).ends_with("/jwt/auth") && !said.contains("access forbidden") =>
        {
            explanation(
                "bad-credentials",
                format!("The GitLab of {registry} does not accept these credentials"),
                "a token has expired or was revoked, or a password is used with two-factor authentication",
                &["make an access token with read_registry and write_registry", &login],
            )
        }
        (403, _) if said.contains("access forbidden") => explanation(
            if held { "no-permission" } else { "not-logged-in" },
            format!("{registry} lets these credentials do nothing"),
            if held {
                "the access token has no right for the registry"
            } else {
                "there are no credentials, and GitLab wants some even to give a token"
            },
            &["make an access token with read_registry, or write_registry to push", &login],
        ),
        (401, _) if held && writes && answer.path().contains("/blobs/uploads") => explanation(
            "credentials-expired",
            format!("The token for {name} ended during the upload, or may not push"),
            "GitLab's tokens live five minutes unless its administrator says otherwise, and a slow upload takes longer",
            &[
                "push again: what is there is not sent twice",
                "an administrator can raise the token's duration: Admin, Settings, CI/CD, Container registry",
            ],
        ),
        (401, _) if !held => explanation(
            "not-logged-in",
            format!("{name} is shown to nobody without credentials"),
            "the project is not public, or there is none of this path",
            &[&login],
        ),
        (401 | 403, _) => explanation(
            "no-permission",
            format!("No {} access to {name}", if writes { "write" } else { "read" }),
            "the path starts with no project, its container registry is switched off, the role or the access token does not reach, or a \
             protection rule stands against it; GitLab says the same of all of them",
            &[
                "check that the path starts with that of a project, and that its container registry is on",
                if writes {
                    "the account needs the role Developer, the access token write_registry; a CI job pushes to its own project only"
                } else {
                    "the account needs the role Reporter, the access token read_registry"
                },
            ],
        ),
        (404, "NAME_UNKNOWN") => explanation(
            "missing-repository",
            format!("Nothing was pushed to {name} yet"),
            "a repository appears with its first push, in a project that is there",
            &[
                "push to it first",
                &format!("check the name with `idp list {registry} --namespace GROUP/PROJECT`"),
            ],
        ),
        (405, _) if writes => explanation(
            "read-only",
            format!("{registry} is read-only at the moment"),
            "it is being cleaned up or moved, and takes neither pushes nor deletions meanwhile",
            &["try again later"],
        ),
        (503, "UNAVAILABLE") => {
            let mut it = explanation(
                "server-error",
                format!("{registry} is not available at the moment"),
                "maintenance, or its storage or database does not answer",
                &["try again later"],
            );
            it.retryable = Some(true);
            it
        }
        _ => return None,
    })
}
