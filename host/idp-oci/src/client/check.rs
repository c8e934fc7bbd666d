//! Whether a registry lets us in: `GET /v2/` with everything that authorization takes (distribution-spec, "Determining Support").

use http::{Method, StatusCode};

use super::call::Call;
use super::manifest::{is_html, not_a_registry};
use super::{Client, ClientError};

impl Client {
    /// Succeeds when the registry accepts who we are. A registry that asks nobody accepts everybody.
    pub async fn check(&self) -> Result<(), ClientError> {
        let what = format!("logging in to registry {}", self.registry());
        let call = Call::new(Method::GET, self.shared.base.clone(), Vec::new(), what);
        let answered = self.call(&call).await?;
        if is_html(&answered) && answered.response.status.is_success() {
            return Err(ClientError::Content { what: call.what, problem: not_a_registry(&answered) });
        }
        if answered.response.status == StatusCode::OK {
            return Ok(());
        }
        Err(self.refusal(&call, answered, None).await)
    }
}
