//! The API: `/api/v1`, with an OAuth access token or as anybody. Passwords and robots are nothing to it.

use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;

/// The URL of a path of the API.
pub(crate) fn url(path: &str) -> String {
    Client::url(&format!("/api/v1{path}"))
}

/// Who asks: the slot `management`, or the registry's own credential where that is an OAuth token.
pub(crate) struct Caller(Option<Credential>);

impl Caller {
    /// Looks for a token.
    pub(crate) fn find() -> Self {
        let registry =
            || invocation::credential("registry").filter(|found| found.username() == "$oauthtoken");
        Self(invocation::credential("management").or_else(registry))
    }

    /// Whether there is one.
    pub(crate) fn has_token(&self) -> bool {
        self.0.is_some()
    }

    /// Sends a request with it.
    pub(crate) fn send(&self, request: Request<'_>) -> Result<Response> {
        let secret =
            self.0.as_ref().and_then(|found| found.secret("token").or_else(|| found.secret("password")));
        match secret {
            Some(token) => request.bearer(token).send(),
            None => request.send(),
        }
    }
}

/// There is no token, and this cannot be done without.
pub(crate) fn no_token(what: &str) -> Error {
    let registry = invocation::registry();
    Error::unauthenticated(format!(
        "to {what} Quay's API wants an OAuth access token (an application of the organisation makes one); log in with \
         `idp login {registry} --username '$oauthtoken'`, or name it in registries.yaml as `slots: {{management: {{tokenEnv: …}}}}`"
    ))
    .code("management-token")
}
