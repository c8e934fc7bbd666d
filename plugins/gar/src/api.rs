//! The API of Artifact Registry: requests with an access token, pages, operations that take a while, and its refusals.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{link, refusal};
use serde::Deserialize;

use crate::login;
use crate::place::Place;

const BASE: &str = "https://artifactregistry.googleapis.com/v1/";

/// How often an operation is looked at. A repository takes a few seconds, and so do these.
const LOOKS: usize = 30;

/// `{"error":{"code":403,"message":"…","status":"PERMISSION_DENIED","details":[{"reason":"SERVICE_DISABLED"}]}}`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refused {
    error: Status,
}

/// An error of Google's APIs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    message: String,
    status: String,
    details: Vec<Detail>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    reason: String,
}

/// Something that takes a while.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) done: bool,
    pub(crate) error: Option<Status>,
}

/// A repository of Artifact Registry.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Repository {
    pub(crate) name: String,
    pub(crate) format: String,
    pub(crate) mode: String,
    pub(crate) description: String,
    pub(crate) docker_config: DockerConfig,
}

/// What is set for images.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DockerConfig {
    pub(crate) immutable_tags: bool,
}

/// The API with an access token. There is none for anonymous use, nor for hosts whose location is not known.
pub(crate) struct Api {
    token: Secret,
}

impl Api {
    /// None where the API cannot be asked.
    pub(crate) fn new(place: &Place) -> Result<Option<Self>> {
        if place.location.is_empty() {
            return Ok(None);
        }
        Ok(login::api_token()?.map(|token| Self { token }))
    }

    /// `path` is escaped already.
    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Response> {
        let request = Request::get(format!("{BASE}{path}"));
        let filled = query.iter().filter(|(_, value)| !value.is_empty());
        filled.fold(request, |request, (name, value)| request.query(name, value)).bearer(&self.token).send()
    }

    /// Deletes what has this path.
    pub(crate) fn delete(&self, path: &str) -> Result<Response> {
        Request::delete(format!("{BASE}{path}")).bearer(&self.token).send()
    }

    /// Makes a repository for images.
    pub(crate) fn create(&self, place: &Place, description: &str) -> Result<Response> {
        let body = serde_json::json!({ "format": "DOCKER", "description": description });
        Request::post(format!("{BASE}{}/repositories", place.parent()))
            .query("repositoryId", &place.repository)
            .json(&body)
            .bearer(&self.token)
            .send()
    }

    /// Follows an operation to its end, or for a while.
    pub(crate) fn follow(&self, mut operation: Operation) -> Result<Operation> {
        for _ in 0..LOOKS {
            if operation.done || operation.name.is_empty() {
                break;
            }
            // A name that leads elsewhere is no operation.
            let name: Vec<String> = operation.name.split('/').map(link::percent).collect();
            let answer = self.get(&name.join("/"), &[])?;
            if !answer.is_success() {
                break;
            }
            operation = answer.json()?;
        }
        Ok(operation)
    }
}

/// The error of a refusal. What is switched off in the project is said so.
pub(crate) fn error(answer: &Response, doing: &str, place: &Place) -> Error {
    let refused: Refused = answer.json().unwrap_or_default();
    from_status(&refused.error, answer.status(), doing, place)
        .unwrap_or_else(|| refusal::error(answer, doing))
}

/// The same, of an operation that failed.
pub(crate) fn failed(status: &Status, doing: &str, place: &Place) -> Error {
    from_status(status, 0, doing, place).unwrap_or_else(|| {
        Error::other(format!("could not {doing}: {}", status.message)).code(&*status.status)
    })
}

fn from_status(status: &Status, http: u16, doing: &str, place: &Place) -> Option<Error> {
    let project = &place.project;
    let message = &status.message;
    let reason = status.details.iter().map(|detail| detail.reason.as_str()).find(|reason| !reason.is_empty());
    let error = match (reason.unwrap_or_default(), status.status.as_str()) {
        ("SERVICE_DISABLED", _) => Error::denied(format!(
            "could not {doing}: Artifact Registry is switched off in project {project}; switch it on with `gcloud services enable \
             artifactregistry.googleapis.com --project {project}`"
        ))
        .code("SERVICE_DISABLED"),
        ("BILLING_DISABLED", _) => Error::denied(format!(
            "could not {doing}: project {project} has no billing account, which Artifact Registry wants"
        ))
        .code("BILLING_DISABLED"),
        (_, "UNAUTHENTICATED") => Error::unauthenticated(format!(
            "could not {doing}: the API does not accept the credentials ({message}); an access token ends within the hour"
        ))
        .code("credentials-expired"),
        (_, "PERMISSION_DENIED") => Error::denied(format!(
            "could not {doing}: {message}; to make repositories the account needs roles/artifactregistry.admin in project {project}"
        ))
        .code("PERMISSION_DENIED"),
        (_, "RESOURCE_EXHAUSTED") => Error::rate_limited(format!("could not {doing}: {message}")).code("RESOURCE_EXHAUSTED"),
        (_, code) if !code.is_empty() && http != 0 => {
            Error::new(refusal::kind(http), format!("could not {doing}: {message}")).code(code)
        }
        _ => return None,
    };
    Some(if http == 0 { error } else { error.status(http) })
}
