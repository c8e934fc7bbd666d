//! AWS keys in flight: what every step of the chain hands to the next.

use idp_oci::secret::Secret;
use serde_json::Value;

use super::super::{CloudCredential, Tools, stamp};

/// Keys, and what is known of them.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) token: Option<Secret>,
    pub(super) expires_at: Option<u64>,
    pub(super) account: Option<String>,
    /// In words that complete "credentials came from …".
    pub(super) source: String,
}

impl Keys {
    pub(super) fn new(tools: &Tools, id: &str, secret: &str, token: Option<&str>) -> Self {
        Self {
            id: id.trim().to_owned(),
            secret: tools.secret(secret.trim()),
            token: token.map(str::trim).filter(|token| !token.is_empty()).map(|token| tools.secret(token)),
            expires_at: None,
            account: None,
            source: String::new(),
        }
    }

    /// From the JSON of ECS, IMDS (`Token`) and of helper programs (`SessionToken`).
    pub(super) fn from_json(tools: &Tools, value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let token = text("SessionToken").or_else(|| text("Token"));
        Some(Self {
            expires_at: text("Expiration").and_then(stamp::unix),
            account: text("AccountId").map(str::to_owned),
            ..Self::new(tools, text("AccessKeyId")?, text("SecretAccessKey")?, token)
        })
    }

    pub(super) fn from(self, source: impl Into<String>) -> Self {
        Self { source: source.into(), ..self }
    }

    pub(super) fn into_credential(self, region: Option<String>) -> CloudCredential {
        let mut secrets = vec![
            ("access-key-id".to_owned(), Secret::new(self.id)),
            ("secret-access-key".to_owned(), self.secret),
        ];
        secrets.extend(self.token.map(|token| ("session-token".to_owned(), token)));
        CloudCredential { kind: "aws-keys", public: Vec::new(), secrets }
            .with("source", Some(self.source))
            .with("region", region)
            .with("account", self.account)
            .with("expires-at", self.expires_at.map(|at| at.to_string()))
    }
}
