//! What GitHub's refusals mean. Most are 403 `DENIED`, and the message alone tells them apart.

use idp_provider_sdk::invocation::Answer;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::standard::{self, explanation};
use idp_provider_sdk::{link, refusal};

use crate::naming;

/// Explains by GitHub's table first, by the specification's after it.
pub(crate) fn explain() -> Result<Explanation> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is nothing to explain"))?;
    let repository = standard::repository(subject.path()).unwrap_or("the package").to_owned();
    denied(&subject, &repository)
        .or_else(|| by_status(&subject, &repository))
        .or_else(|| standard::explain(&subject))
        .ok_or_else(|| Error::unsupported("the registry's own text says it best"))
}

fn writes(answer: &Answer) -> bool {
    !matches!(answer.method.as_str(), "GET" | "HEAD")
}

/// The refusals that say why.
fn denied(answer: &Answer, repository: &str) -> Option<Explanation> {
    let said = answer.body.to_ascii_lowercase();
    let owner = naming::split(repository).map_or("the owner", |(owner, _)| owner);
    let login = format!("run `idp login {}` with that token", invocation::registry());
    if answer.header("x-github-sso").is_some()
        || (answer.status == 403 && (said.contains("saml") || said.contains("single sign-on")))
    {
        return Some(explanation(
            "no-permission",
            format!("The token is not authorised for the single sign-on of `{owner}`"),
            "the organisation lets in only tokens that were authorised for it",
            &[
                "choose \"Configure SSO\" beside the token at https://github.com/settings/tokens, and authorise the organisation",
            ],
        ));
    }
    if said.contains("expected scopes") {
        let scope = if writes(answer) { "write:packages" } else { "read:packages" };
        return Some(explanation(
            "no-permission",
            "The token lacks a scope for packages",
            format!(
                "a personal access token (classic) needs {scope} for this; fine-grained tokens do not work here"
            ),
            &[&format!("make a token (classic) with {scope} at https://github.com/settings/tokens"), &login],
        ));
    }
    if said.contains("installation not allowed to create") {
        return Some(explanation(
            "no-permission",
            format!("A workflow or app may not create a package of `{owner}`"),
            "the token is that of a workflow or app, and the organisation or the workflow does not let it make packages",
            &[
                "give the job `permissions: { packages: write }`",
                &format!(
                    "let members create packages in the settings of `{owner}`: https://github.com/organizations/{owner}/settings/packages"
                ),
                "or make the first push with a personal access token (classic) that has write:packages, then give the repository access",
            ],
        ));
    }
    if said.contains("installation not allowed to write") {
        return Some(explanation(
            "no-permission",
            format!("A workflow or app may not write to {repository}"),
            "the token is that of a workflow or app, and the package does not name its repository",
            &[
                "give the job `permissions: { packages: write }`",
                "add the repository with the role Write under \"Manage Actions access\" in the package's settings",
            ],
        ));
    }
    if said.contains("permission_denied: write_package") || said.contains("permission_denied: create_package")
    {
        return Some(explanation(
            "no-permission",
            format!("No write access to {repository}"),
            "the token lacks write:packages, or the account may not write to this package; a package that a person pushed first \
             does not let workflows in by itself",
            &[
                "in a workflow: give the job `permissions: { packages: write }`, and add the repository with the role Write under \"Manage Actions \
                 access\" in the package's settings",
                "else make a personal access token (classic) with write:packages at https://github.com/settings/tokens",
                &login,
            ],
        ));
    }
    if said.contains("permission_denied: read_package") {
        return Some(explanation(
            "no-permission",
            format!("No read access to {repository}"),
            "the package is private, and the token lacks read:packages or the account was not given access",
            &[
                "make a personal access token (classic) with read:packages at https://github.com/settings/tokens",
                "in a workflow, add the repository under \"Manage Actions access\" in the package's settings",
                &login,
            ],
        ));
    }
    None
}

fn by_status(answer: &Answer, repository: &str) -> Option<Explanation> {
    let registry = invocation::registry();
    let code = refusal::parse(&answer.body).into_iter().next().unwrap_or_default().code;
    let html = refusal::is_html(answer.header("content-type"), &answer.body);
    let upload = answer.path().contains("/blobs/uploads");
    Some(match (answer.status, code.as_str()) {
        (401 | 403, _) if link::path(&answer.url).ends_with("/token") => explanation(
            "bad-credentials",
            format!("{registry} gives no token for these credentials"),
            "it wants a personal access token (classic) or a workflow's GITHUB_TOKEN as the password; passwords and fine-grained tokens do not \
             work, and tokens expire",
            &[
                "make a token (classic) with write:packages at https://github.com/settings/tokens",
                &format!("run `idp login {registry}` with it as the password"),
            ],
        ),
        (401, _) => explanation(
            "not-logged-in",
            format!("{repository} is private, or there is no such package"),
            format!("{registry} says the same of both to who may not read it"),
            &[
                &format!(
                    "run `idp login {registry}` with a personal access token (classic) that has read:packages"
                ),
                "check the name: OWNER/IMAGE in lower case",
            ],
        ),
        (403, "DENIED" | "") if !html => explanation(
            "no-permission",
            format!("No {} access to {repository}", if writes(answer) { "write" } else { "read" }),
            "the account is known and may not do this, or the owner is spelled differently: nobody pushes to a namespace that is not theirs",
            &[
                &format!(
                    "give the token (classic) the scope {}",
                    if writes(answer) { "write:packages" } else { "read:packages" }
                ),
                "ask an admin of the package for access",
            ],
        ),
        (404, "NAME_UNKNOWN") => explanation(
            "missing-repository",
            format!("There is no package {repository}"),
            "nothing was pushed to it yet, it was deleted, or its name is spelled differently",
            &["push to it first", "check the name with `idp list`"],
        ),
        (404, _) if answer.path().contains("/referrers/") => explanation(
            "unsupported",
            format!("{registry} does not list referrers"),
            "it has no referrers API; the tag `sha256-…` is used instead",
            &[],
        ),
        (400, "NAME_INVALID") => explanation(
            "name-invalid",
            format!("{registry} does not take the name {repository}"),
            "it takes OWNER/IMAGE in lower case; names on GitHub may have capitals, and are the same without",
            &["write the owner in lower case"],
        ),
        (416, _) if upload => explanation(
            "too-large",
            "A chunk of the upload is larger than 4 MiB",
            format!("{registry} takes layers of any size in one PUT, and no PATCH of more than 4 MiB"),
            &["push without chunks; with other tools, with chunks of at most 4 MiB"],
        ),
        (405, _) if answer.method == "DELETE" => explanation(
            "unsupported",
            format!("{registry} deletes nothing by the registry's own API"),
            "packages are deleted by GitHub's API, with a token that has delete:packages",
            &[
                "use `idp delete`, which asks that API",
                "or delete the version in the package's settings on GitHub",
            ],
        ),
        (413, _) => explanation(
            "too-large",
            "The layer is larger than GitHub takes",
            "a layer may have 10 GB",
            &["split the layer"],
        ),
        (408 | 499 | 504, _) if upload => slow(&registry),
        (404, "BLOB_UPLOAD_UNKNOWN") if upload => slow(&registry),
        _ => return None,
    })
}

/// The end of an upload that took too long.
fn slow(registry: &str) -> Explanation {
    let mut it = explanation(
        "server-error",
        "The upload of a layer did not end in time",
        format!("{registry} ends an upload after 10 minutes"),
        &["push again over a faster line", "make the layers smaller"],
    );
    it.retryable = Some(false);
    it
}
