//! What Harbor's refusals mean: every missing right is 401, and the message says which; rules of projects are 412 and 403.

use idp_provider_sdk::invocation::Answer;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::standard::{self, explanation};
use idp_provider_sdk::{link, refusal};

use crate::{login, naming};

/// Explains by Harbor's table first, by the specification's after it.
pub(crate) fn explain() -> Result<Explanation> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is nothing to explain"))?;
    harbor(&subject)
        .or_else(|| standard::explain(&subject))
        .ok_or_else(|| Error::unsupported("the registry's own text says it best"))
}

fn harbor(answer: &Answer) -> Option<Explanation> {
    let first = refusal::parse(&answer.body).into_iter().next().unwrap_or_default();
    let repository = standard::repository(answer.path()).unwrap_or_default();
    let project = naming::split(repository).map_or("", |(project, _)| project);
    let said = &first.message;
    match (answer.status, first.code.as_str()) {
        (401, _) => unauthorized(answer, repository, project),
        (403, _) => forbidden(answer, said, project),
        (404, _) => missing(said, repository, project),
        (412, code) => precondition(code, said, repository, project),
        (413, _) => Some(too_large(answer)),
        (429, _) => Some(upstream(said)),
        (400, "UNSUPPORTED") if answer.method == "DELETE" => Some(explanation(
            "unsupported",
            "Harbor deletes by digest only at this address",
            "a tag is deleted through its API, which leaves the artifact and its other tags",
            &["run `idp delete` with the tag"],
        )),
        (400, _) if answer.body.contains("Unable to handle service") => Some(explanation(
            "proxy-interfered",
            "The token service of Harbor was asked for another service",
            "something between changes the service of the challenge, which is always harbor-registry",
            &["check the proxy before Harbor"],
        )),
        _ => None,
    }
}

/// 401: no project, wrong credentials, or a missing right. A HEAD has no text; then the challenge tells.
fn unauthorized(answer: &Answer, repository: &str, project: &str) -> Option<Explanation> {
    if let Some(realm) = mismatched_realm(answer) {
        return Some(wrong_scheme(&realm));
    }
    let no_challenge = answer.header("www-authenticate").is_some_and(|value| value.trim().is_empty());
    let named = answer.body.contains("project") && answer.body.contains("not found");
    if no_challenge || named {
        return Some(no_project(project));
    }
    let registry = invocation::registry();
    let Some(credential) = invocation::credential("registry") else {
        return Some(explanation(
            "not-logged-in",
            format!(
                "Nobody is logged in at {registry}, and `{project}` is not public or is to be written to"
            ),
            "everybody may pull from public projects, and nothing else",
            &[&format!("run `idp login {registry}`")],
        ));
    };
    let username = credential.username();
    if link::path(&answer.url) == "/service/token" || login::wrong_credentials(&credential).is_some() {
        return Some(explanation(
            "bad-credentials",
            format!("{registry} does not know the credentials of `{username}`"),
            "Harbor gives wrong credentials a token with everybody's rights, so it is noticed only now",
            &[&login::advice(username), &format!("run `idp login {registry}`")],
        ));
    }
    let action = action(answer);
    Some(explanation(
        "no-permission",
        format!("`{username}` may not {action} {repository}"),
        "the account is known and lacks the right; Harbor says so with status 401, so logging in again does not help",
        &[&login::need(username, action, project), "ask an administrator of the project for it"],
    ))
}

/// What was refused: the message names it, else the method does.
fn action(answer: &Answer) -> &'static str {
    let named =
        ["push", "pull", "delete"].into_iter().find(|one| answer.body.contains(&format!("action: {one}")));
    named.unwrap_or(match answer.method.as_str() {
        "GET" | "HEAD" => "pull",
        "DELETE" => "delete",
        _ => "push",
    })
}

fn no_project(project: &str) -> Explanation {
    explanation(
        "missing-parent",
        format!("{} has no project `{project}`", invocation::registry()),
        "a repository appears with its first push, its project does not",
        &[
            "let `idp push --create` make the project, private, or make it first (where the server lets you)",
            "check the spelling of the project",
        ],
    )
}

/// The realm of a challenge with another scheme than the registry has.
fn mismatched_realm(answer: &Answer) -> Option<String> {
    let scheme = format!("{}://", invocation::scheme());
    let challenges = answer.challenges();
    let bearer = challenges.iter().find(|challenge| challenge.is("bearer"))?;
    let realm = bearer.realm_url(&invocation::origin())?;
    (!realm.starts_with(&scheme)).then_some(realm)
}

fn wrong_scheme(realm: &str) -> Explanation {
    let registry = invocation::registry();
    explanation(
        "scheme-mismatch",
        format!(
            "{registry} is reached over {} and says that its token service is {realm}",
            invocation::scheme()
        ),
        "external_url in harbor.yml has the wrong scheme, as behind a proxy that does the TLS",
        &["its administrator should set external_url to the address that clients use, and run prepare again"],
    )
}

fn forbidden(answer: &Answer, said: &str, project: &str) -> Option<Explanation> {
    Some(if said.contains("exceed the configured upper limit") {
        explanation(
            "quota",
            format!("The quota of the project `{project}` is used up"),
            said,
            &[
                "see how much is used with `idp registry show`",
                "delete what is not needed; the room is free after the garbage collection of the server",
                "ask an administrator of Harbor to raise the quota of the project",
            ],
        )
    } else if said.contains("read only mode") {
        let mut it = explanation(
            "read-only",
            "Harbor is in read-only mode",
            "its administrator switched it on, often for a garbage collection or an upgrade",
            &["try again later", "ask the administrator"],
        );
        it.retryable = Some(true);
        it
    } else if said.contains("proxy project") {
        explanation(
            "policy-blocked",
            format!("The project `{project}` is a proxy cache of another registry"),
            "it holds what was pulled through it, nothing can be pushed",
            &["push to a normal project"],
        )
    } else if answer.body.contains("CSRF token") {
        explanation(
            "proxy-interfered",
            "Harbor took the request for one of a browser",
            "it came with a cookie; idp sends none, so something on the way adds it",
            &["check the proxy between here and Harbor"],
        )
    } else {
        explanation(
            "no-permission",
            "The registry refused",
            if said.is_empty() { "the account is known and may not do this" } else { said },
            &["ask an administrator of the project for the right"],
        )
    })
}

fn missing(said: &str, repository: &str, project: &str) -> Option<Explanation> {
    Some(if said.starts_with("project ") {
        no_project(project)
    } else if said.starts_with("repository ") {
        explanation(
            "missing-repository",
            format!("Nothing was pushed to `{repository}` yet"),
            "a repository appears with its first push",
            &["push to it first", "check the name with `idp list`"],
        )
    } else if said.starts_with("artifact ") {
        explanation(
            "missing-reference",
            format!("There is no such tag or digest in `{repository}`"),
            "it was never pushed, was deleted, or a retention rule of the project removed it",
            &[&format!("list what is there with `idp list {}/{repository}`", invocation::registry())],
        )
    } else {
        return None;
    })
}

fn precondition(code: &str, said: &str, repository: &str, project: &str) -> Option<Explanation> {
    Some(match code {
        "PROJECTPOLICYVIOLATION" if said.contains("not signed") => explanation(
            "policy-blocked",
            format!("The project `{project}` lets only signed artifacts be pulled"),
            said,
            &["sign it (cosign or notation, as the message says)", "ask an administrator of the project"],
        ),
        "PROJECTPOLICYVIOLATION" => explanation(
            "policy-blocked",
            format!("The project `{project}` does not let artifacts with such vulnerabilities be pulled"),
            said,
            &[
                "have it scanned, and mend what was found",
                "ask an administrator of the project for an exception",
            ],
        ),
        _ if said.contains("immutable") => explanation(
            "immutable",
            format!("The tag is immutable in `{repository}`"),
            said,
            &[
                "push under a new tag",
                "an administrator of the project can change its tag immutability rules",
            ],
        ),
        "VIOLATE_FOREIGN_KEY_CONSTRAINT" => {
            explanation("policy-blocked", "It is still needed", said, &["delete what refers to it first"])
        }
        _ => explanation("policy-blocked", "A rule of the project is in the way", said, &[]),
    })
}

fn too_large(answer: &Answer) -> Explanation {
    if refusal::is_html(answer.header("content-type"), &answer.body) {
        return explanation(
            "too-large",
            "A proxy before Harbor does not take a request of this size",
            "Harbor's own nginx has no limit; that of an ingress or load balancer is lower than the layer",
            &[
                "raise the limit (nginx ingress: the annotation nginx.ingress.kubernetes.io/proxy-body-size: \"0\")",
                "push in chunks or with smaller layers",
            ],
        );
    }
    explanation(
        "too-large",
        "The manifest is larger than 4 MiB",
        "Harbor takes no larger ones",
        &["split the artifact"],
    )
}

fn upstream(said: &str) -> Explanation {
    let proxied = said.contains("upstream");
    let mut it = explanation(
        "rate-limited",
        if proxied {
            "The registry behind the proxy cache has had too many requests"
        } else {
            "Too many requests"
        },
        if said.is_empty() { "a limit is reached" } else { said },
        &["try again later", "the administrator can give the proxy cache credentials with a higher limit"],
    );
    it.retryable = Some(true);
    it
}
