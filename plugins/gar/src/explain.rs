//! What the registry's refusals mean: permissions by their names, repositories that were never made, what is switched off, tokens that ended.

use idp_provider_sdk::invocation::Answer;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::refusal;
use idp_provider_sdk::standard::{self, explanation};

use crate::place::Place;
use crate::remove;

/// Explains by Google's table first, by the specification's after it.
pub(crate) fn explain() -> Result<Explanation> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is nothing to explain"))?;
    google(&subject)
        .or_else(|| standard::explain(&subject))
        .ok_or_else(|| Error::unsupported("the registry's own text says it best"))
}

/// The role that has a permission, the smallest one.
fn role(permission: &str) -> &'static str {
    match permission.rsplit('.').next().unwrap_or_default() {
        "uploadArtifacts" | "create" | "update" => "roles/artifactregistry.writer",
        "deleteArtifacts" | "delete" => "roles/artifactregistry.repoAdmin",
        "createOnPush" => "roles/artifactregistry.createOnPushWriter",
        _ => "roles/artifactregistry.reader",
    }
}

/// `Permission "artifactregistry.repositories.uploadArtifacts" denied on resource …`
fn permission(body: &str) -> Option<&str> {
    let at = body.find("artifactregistry.")?;
    let rest = &body[at..];
    Some(&rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len())])
}

fn google(answer: &Answer) -> Option<Explanation> {
    let registry = invocation::registry();
    let name = standard::repository(answer.path()).unwrap_or_default();
    let place = Place::of(name)?;
    let (project, location, repository) = (&place.project, &place.location, &place.repository);
    let parent = place.prefix();
    let body = answer.body.as_str();
    let code = refusal::parse(body).into_iter().next().unwrap_or_default().code;
    let logged_in = invocation::credential("registry").is_some();
    let login = format!(
        "run `gcloud auth configure-docker {registry}`, or `gcloud auth print-access-token | idp login {registry} --username oauth2accesstoken --password-stdin`"
    );
    let create = format!(
        "gcloud artifacts repositories create {repository} --repository-format=docker --location={location} --project={project}"
    );
    Some(match (answer.status, code.as_str()) {
        (403, _)
            if body.contains("SERVICE_DISABLED")
                || body.contains("has not been used in project")
                || body.contains("API has not been enabled") =>
        {
            explanation(
                "policy-blocked",
                format!("Artifact Registry is switched off in project {project}"),
                "its API has never been switched on there, or the project's name is another one",
                &[
                    &format!(
                        "switch it on: `gcloud services enable artifactregistry.googleapis.com --project {project}`"
                    ),
                    "check the spelling of the project (its ID, not its name or number)",
                ],
            )
        }
        (403, _) if body.contains("BILLING_DISABLED") || body.contains("billing to be enabled") => {
            explanation(
                "policy-blocked",
                format!("Project {project} has no billing account"),
                "Artifact Registry wants one",
                &[&format!("link one: `gcloud billing projects link {project} --billing-account ACCOUNT`")],
            )
        }
        (403 | 404 | 412, _)
            if body.contains("Container Registry is deprecated")
                || body.contains("Container Registry is shut down") =>
        {
            explanation(
                "unsupported",
                format!("{registry} takes nothing for project {project} any more"),
                "Container Registry has ended; its names are served by Artifact Registry once a repository of that name is there",
                &[
                    &format!("make it: `{create}`, or run `idp push --create parent`"),
                    "move to the names of Artifact Registry, LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE",
                ],
            )
        }
        (401 | 403, _)
            if body.contains("Unauthenticated request") || (!logged_in && code != "NAME_UNKNOWN") =>
        {
            explanation(
                "not-logged-in",
                format!("{registry} does not know who is asking"),
                "there are no credentials for it, and the repository is not public (or is not there)",
                &[&login],
            )
        }
        (401, _) if invocation::granted().is_empty() => {
            let credential = invocation::credential("registry");
            let key =
                credential.as_ref().is_some_and(|credential| credential.username().starts_with("_json_key"));
            if key {
                explanation(
                    "bad-credentials",
                    format!("{registry} does not accept the key of the service account"),
                    "it is deleted or disabled, or was cut short",
                    &[
                        "see `gcloud iam service-accounts keys list --iam-account ACCOUNT`",
                        "make another key, or use an access token",
                    ],
                )
            } else {
                explanation(
                    "credentials-expired",
                    format!("{registry} does not accept the access token"),
                    "it lives an hour at most",
                    &[&login],
                )
            }
        }
        (401 | 403, _) => {
            let writes = !matches!(answer.method.as_str(), "GET" | "HEAD");
            let wanted = permission(body).unwrap_or(if writes {
                "artifactregistry.repositories.uploadArtifacts"
            } else {
                "artifactregistry.repositories.downloadArtifacts"
            });
            let role = role(wanted);
            let maybe = if body.contains("may not exist") {
                ", or the repository does not exist: Google does not say which"
            } else {
                ""
            };
            explanation(
                "no-permission",
                format!("The account lacks {wanted} on `{parent}`"),
                format!("{role} has it{maybe}"),
                &[
                    &format!(
                        "grant it: `gcloud artifacts repositories add-iam-policy-binding {repository} --location={location} --project={project} --member=MEMBER --role={role}`"
                    ),
                    &format!("if the repository is not there: `{create}`, or `idp push --create parent`"),
                ],
            )
        }
        (404, "NAME_UNKNOWN") if body.contains("Repository ") => explanation(
            "missing-parent",
            format!("Project {project} has no repository `{repository}` in {location}"),
            "an image appears with its first push, the repository that holds it does not",
            &[
                &format!("make it: `{create}`, or let `idp push --create parent` do it"),
                "check the location in the host's name",
            ],
        ),
        (404, "NAME_UNKNOWN") => explanation(
            "missing-repository",
            format!("Nothing was pushed to `{name}` yet"),
            "an image without versions is not there for the registry",
            &[&format!("see what is: `idp list {registry} --namespace {parent}`")],
        ),
        (404, "MANIFEST_UNKNOWN") if body.contains("but client accepts") => explanation(
            "proxy-interfered",
            "The registry thinks that this kind of manifest is not wanted",
            "it goes by the Accept header, which something on the way has dropped or changed",
            &["have the proxy pass the Accept header on"],
        ),
        (400 | 409, "GOOGLE_MANIFEST_DANGLING_TAG") => explanation(
            "policy-blocked",
            "Tags still point to this digest",
            "the registry deletes a digest after its tags only",
            &["delete the tags first, or run `idp delete --allow-siblings`"],
        ),
        (400 | 409, "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE") => explanation(
            "policy-blocked",
            "An index still refers to this digest",
            "the registry deletes it after the index only",
            &["delete the index first"],
        ),
        (400 | 409 | 412, code) if remove::is_immutable(code, body) => explanation(
            "immutable",
            format!("The tags of `{parent}` are immutable"),
            "a tag that is there can neither be moved nor deleted",
            &[
                "push under another tag",
                &format!(
                    "allow it: `gcloud artifacts repositories update {repository} --location={location} --project={project} --no-immutable-tags`"
                ),
            ],
        ),
        (400 | 404 | 405 | 411, _) if answer.method == "PATCH" => explanation(
            "unsupported",
            "The registry takes no uploads in chunks",
            "it wants a blob in one PUT of a known length",
            &["do not force chunks (`--chunk-size`, `chunkSize` in registries.yaml)"],
        ),
        (429, _) => {
            let mut it = explanation(
                "rate-limited",
                format!("The quota of requests for project {project} is used up"),
                "Artifact Registry counts requests a minute by project and location",
                &[
                    "try again later, with fewer jobs at a time",
                    &format!(
                        "see and raise quotas: https://console.cloud.google.com/iam-admin/quotas?project={project}"
                    ),
                ],
            );
            it.retryable = Some(true);
            it
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_and_roles() {
        for (body, expected) in [
            (
                r#"denied: Permission \"artifactregistry.repositories.uploadArtifacts\" denied on resource \"projects/p\""#,
                Some(("artifactregistry.repositories.uploadArtifacts", "roles/artifactregistry.writer")),
            ),
            (
                "artifactregistry.tags.delete",
                Some(("artifactregistry.tags.delete", "roles/artifactregistry.repoAdmin")),
            ),
            (
                "x artifactregistry.repositories.createOnPush y",
                Some((
                    "artifactregistry.repositories.createOnPush",
                    "roles/artifactregistry.createOnPushWriter",
                )),
            ),
            ("no", None),
        ] {
            assert_eq!(permission(body).map(|it| (it, role(it))), expected, "{body}");
        }
    }
}
