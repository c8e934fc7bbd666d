//! Whether a registry lets us in: `GET /v2/` with everything that authorization takes (distribution-spec, "Determining Support").

use http::{Method, StatusCode};

use super::call::Call;
use super::{Client, ClientError};

impl Client {
    /// Succeeds when the registry accepts who we are. A registry that asks nobody accepts everybody.
    pub async fn check(&self) -> Result<(), ClientError> {
        let what = format!("logging in to registry {}", self.registry());
        let call = Call::new(Method::GET, self.shared.base.clone(), Vec::new(), what);
        let answered = self.call(&call).await?;
        if answered.response.status == StatusCode::OK {
            return Ok(());
        }
        Err(self.refusal(&call, answered, None).await)
    }
}
