//! GitLab's REST API: where it is, as whom it is asked, what its refusals mean.

use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{client, link, refusal};

use crate::identity;

/// The user name of CI jobs, and the start of those of deploy tokens.
const JOB: &str = "gitlab-ci-token";
const DEPLOY: &str = "gitlab+deploy-token";

/// Whether it is the token of a CI job.
pub(crate) fn is_job(credential: &Credential) -> bool {
    credential.username() == JOB
}

/// The header a credential goes into; none for a deploy token, which the API does not know.
pub(crate) fn header(credential: &Credential) -> Option<&'static str> {
    match credential.username() {
        JOB => Some("job-token"),
        name if name.starts_with(DEPLOY) => None,
        _ if credential.kind == "bearer" => Some("authorization"),
        _ => Some("private-token"),
    }
}

/// The API of one GitLab, for one call.
pub(crate) struct Api {
    base: String,
    credential: Option<Credential>,
}

impl Api {
    /// Where it is: the setting, else beside the token endpoint, which the registry has to be asked for.
    fn base() -> Result<String> {
        let registry = invocation::registry();
        if let Some(api) = invocation::setting("api") {
            let api = api.trim_end_matches('/');
            return Ok(if api.ends_with("/api/v4") { api.to_owned() } else { format!("{api}/api/v4") });
        }
        let answer = Request::get(Client::url("/v2/")).send()?;
        let gitlab = client::challenges(&answer).iter().find_map(identity::gitlab);
        let Some(gitlab) = gitlab else {
            return Err(Error::other(format!(
                "{registry} does not say where its GitLab is (status {}, no challenge of GitLab's); set it in registries.yaml, \
                 `settings: {{ api: https://HOST/api/v4 }}`",
                answer.status()
            ))
            .code("api-unknown"));
        };
        if gitlab != link::origin(&gitlab) {
            return Err(Error::invalid(format!(
                "the GitLab of {registry} lives under a path; say so in registries.yaml, `settings: {{ api: {gitlab}/api/v4 }}`"
            ))
            .code("api-unknown"));
        }
        Ok(format!("{gitlab}/api/v4"))
    }

    /// With the credential of its own slot, else the registry's, else as anybody. Where it goes is known first: its audience is what
    /// the challenge names.
    pub(crate) fn new() -> Result<Self> {
        let base = Self::base()?;
        let held = invocation::credential("management").or_else(|| invocation::credential("registry"));
        Ok(Self { base, credential: held.filter(|found| header(found).is_some()) })
    }

    /// With the registry's credential: to tell whose that is.
    pub(crate) fn as_registry_user() -> Result<Self> {
        let base = Self::base()?;
        Ok(Self { base, credential: invocation::credential("registry") })
    }

    /// Sends a request to a path below `/api/v4`.
    pub(crate) fn send(&self, method: &str, path: &str) -> Result<Response> {
        let request = Request::new(method, format!("{}{path}", self.base));
        let Some(credential) = &self.credential else { return request.send() };
        let held = credential.secret("token").or_else(|| credential.secret("password"));
        match (header(credential), held) {
            (Some("authorization"), Some(token)) => request.bearer(token).send(),
            (Some(name), Some(token)) => request.header_segments(name, [secret(token)]).send(),
            _ => request.send(),
        }
    }

    /// GET.
    pub(crate) fn get(&self, path: &str) -> Result<Response> {
        self.send("GET", path)
    }

    /// The path of the next page, which the API names by a URL of its own.
    pub(crate) fn next(&self, answer: &Response) -> Option<String> {
        let headers = answer.headers("link");
        let next = link::next(headers.iter().map(String::as_str))?;
        // GitLab may know itself by another scheme or host than we do.
        let path = next.find("/api/v4").map(|at| next[at + "/api/v4".len()..].to_owned())?;
        is_cursor(&path).then_some(path)
    }

    /// The error for a refusal. `doing` completes "could not …".
    pub(crate) fn refused(&self, answer: &Response, doing: &str) -> Error {
        let status = answer.status();
        let host = link::origin(&answer.url()).to_owned();
        let (registry, held) = (invocation::registry(), invocation::credential("registry"));
        if let (401 | 404, None, Some(held)) = (status, &self.credential, &held) {
            // The credential that there is was not sent.
            return Error::denied(format!(
                "could not {doing}: GitLab's API at {host} does not take deploy tokens, such as that from {}; give a personal, group or project \
                 access token with read_api in registries.yaml, `slots: {{ management: … }}`",
                held.source()
            ))
            .code("deploy-token")
            .status(status);
        }
        let source =
            self.credential.as_ref().map_or_else(|| "nobody".to_owned(), |found| found.source().to_owned());
        match status {
            401 if self.credential.is_none() => Error::unauthenticated(format!(
                "could not {doing}: GitLab's API at {host} wants an access token; run `idp login {registry}`"
            ))
            .code("not-logged-in")
            .status(401),
            401 => Error::unauthenticated(format!(
                "could not {doing}: GitLab's API at {host} does not accept the credentials from {source}; it takes personal, group and project access \
                 tokens with read_api or api and the tokens of CI jobs for their own project, no passwords and no deploy tokens"
            ))
            .code("bad-credentials")
            .status(401),
            403 => Error::denied(format!(
                "could not {doing}: {host} refused the credentials from {source} (403{}); the access token needs read_api, or api for deleting, and \
                 the account the role for it",
                said(answer)
            ))
            .code("denied")
            .status(403),
            _ => refusal::error(answer, doing),
        }
    }
}

fn said(answer: &Response) -> String {
    let text =
        ["/message", "/error_description", "/error"].iter().find_map(|pointer| answer.json_scalar(pointer));
    text.map(|text| format!(": {text}")).unwrap_or_default()
}

/// Whether a text is a path that [`Api::next`] gave.
pub(crate) fn is_cursor(path: &str) -> bool {
    ["/projects/", "/groups/"].iter().any(|prefix| path.starts_with(prefix))
}
