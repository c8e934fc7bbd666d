//! The clouds around a registry: services that say who somebody is (AWS STS and IAM Identity Center, Entra ID, Google's token service), and
//! ECR as far as it takes to be let in with AWS's keys. Facts: registries dossier 4.3, 4.4, 7 and 8; AWS STS API reference,
//! AssumeRoleWithWebIdentity; `portal.sso`, GetRoleCredentials; Entra, `oauth2/v2.0/token`.

use serde_json::{Value, json};

use super::base;
use crate::faults::{Registry, Reply};
use crate::net::{Request, Site};

/// Keys that STS and the SSO portal give.
const KEY: &str = "ASIACLOUD0000001";
/// The password of ECR's user `AWS`.
const PASSWORD: &str = "password-of-ecr-1";
const CHALLENGE: &str =
    r#"Basic realm="https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#;

/// AWS: the API of ECR, STS, the SSO portal, and one registry, told apart by host name.
#[derive(Debug, Default)]
pub struct Aws {
    /// The content of the registry.
    pub registry: Registry,
    /// What web identity tokens STS accepts.
    pub web_identity: Option<String>,
    /// What SSO sessions the portal accepts.
    pub session: Option<String>,
    /// The access keys that ECR accepts, besides those that were given here.
    pub key: Option<String>,
}

impl Aws {
    fn sts(&self, request: &Request) -> Reply {
        let token = request.form("WebIdentityToken");
        if request.form("Action").as_deref() != Some("AssumeRoleWithWebIdentity")
            || token != self.web_identity
        {
            let text = "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>No OpenIDConnect provider found</Message></Error></ErrorResponse>";
            return base::text(400, text);
        }
        let text = format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{KEY}</AccessKeyId>\
             <SecretAccessKey>secret-of-sts</SecretAccessKey><SessionToken>session-of-sts</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>"
        );
        base::text(200, &text)
    }

    fn portal(&self, request: &Request) -> Reply {
        if request.header("x-amz-sso_bearer_token").map(str::to_owned) != self.session {
            return base::document(401, &json!({"message": "Session token not found or invalid"}));
        }
        let keys = json!({"accessKeyId": KEY, "secretAccessKey": "secret-of-sso", "sessionToken": "session-of-sso",
                          "expiration": 4_070_908_800_000_u64});
        base::document(200, &json!({"roleCredentials": keys}))
    }

    fn api(&self, request: &Request) -> Reply {
        let sent = request.header("authorization").unwrap_or_default();
        let key =
            sent.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
        if key != KEY && Some(key) != self.key.as_deref() {
            let text = "The security token included in the request is invalid.";
            return base::document(400, &json!({"__type": "UnrecognizedClientException", "message": text}));
        }
        // `AWS:password-of-ecr-1`
        let token = "QVdTOnBhc3N3b3JkLW9mLWVjci0x";
        let data = json!({"authorizationToken": token, "expiresAt": 4_070_908_800.0,
                          "proxyEndpoint": "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com"});
        base::document(200, &json!({"authorizationData": [data]}))
    }
}

impl Site for Aws {
    fn answer(&mut self, request: &Request) -> Reply {
        if request.host.starts_with("sts.") {
            return self.sts(request);
        }
        if request.host.starts_with("portal.sso.") {
            return self.portal(request);
        }
        if request.host.starts_with("api.ecr.") {
            return self.api(request);
        }
        if request.basic() != Some(("AWS".to_owned(), PASSWORD.to_owned())) {
            // The registry's own name, also behind another one.
            return base::text(401, "Not Authorized\n").header("www-authenticate", CHALLENGE);
        }
        base::content(&mut self.registry, request)
    }
}

/// Entra ID: one application, with its secret.
#[derive(Debug, Default)]
pub struct Entra {
    /// The secret that is accepted.
    pub secret: String,
    /// The token that is given.
    pub token: String,
}

impl Site for Entra {
    fn answer(&mut self, request: &Request) -> Reply {
        if request.form("client_secret").as_ref() != Some(&self.secret) {
            let text = "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 0";
            return base::document(401, &json!({"error": "invalid_client", "error_description": text}));
        }
        let token: &Value = &json!({"token_type": "Bearer", "expires_in": 3599, "access_token": self.token});
        base::document(200, token)
    }
}
