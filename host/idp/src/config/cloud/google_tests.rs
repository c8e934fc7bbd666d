use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::super::testing::{Service, Setting};
use super::super::{CloudCredential, CloudError, Wanted, find};
use crate::config::sources::Cloud;

const NOBODY: (&str, &str) = ("GCE_METADATA_HOST", "127.0.0.1:1");
const USUAL: &str = ".config/gcloud/application_default_credentials.json";

async fn found(setting: &Setting) -> Result<Option<CloudCredential>, CloudError> {
    find(Cloud::Google, &Wanted::default(), &setting.tools()).await
}

async fn token(setting: &Setting) -> String {
    let credential = found(setting).await.expect("no error").expect("one");
    assert_eq!(credential.kind, "bearer");
    assert!(credential.public("source").is_some());
    credential.secrets[0].1.expose().to_owned()
}

/// A token service that knows every grant, and the service that makes tokens of accounts.
fn google() -> Service {
    Service::start(|request| {
        let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let form: std::collections::HashMap<String, String> =
            url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let token = |name: &str| (200, json!({"access_token": name, "expires_in": 3599}).to_string());
        if request.starts_with("POST /impersonate") {
            return if request.contains("authorization: Bearer federated-token") {
                (
                    200,
                    json!({"accessToken": "token-of-account", "expireTime": "2099-01-01T00:00:00Z"})
                        .to_string(),
                )
            } else {
                (
                    403,
                    json!({"error": {"message": "Permission iam.serviceAccounts.getAccessToken denied"}})
                        .to_string(),
                )
            };
        }
        match field("grant_type") {
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                let claims = field("assertion").split('.').nth(1).unwrap_or_default();
                let claims = URL_SAFE_NO_PAD.decode(claims).unwrap_or_default();
                let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
                assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
                token(&format!("token-of-{}", claims["iss"].as_str().unwrap_or_default()))
            }
            "refresh_token" if field("refresh_token") == "refresh-1" => token("token-of-user"),
            "refresh_token" => {
                (400, json!({"error": "invalid_grant", "error_description": "expired"}).to_string())
            }
            "urn:ietf:params:oauth:grant-type:token-exchange" if field("subject_token") == "subject-1" => {
                assert_eq!(field("audience"), "//iam.googleapis.com/pool");
                token("federated-token")
            }
            _ => (400, json!({"error": "invalid_request", "error_description": "bad subject"}).to_string()),
        }
    })
}

fn key() -> String {
    // RSA keys are slow to make: one for all tests, made by the test and for it.
    include_str!("google_test_key.pem").to_owned()
}

#[tokio::test]
async fn service_accounts() {
    let google = google();
    let document = json!({
        "type": "service_account", "client_email": "ci@p.iam", "private_key": key(), "token_uri": google.base,
    });
    let setting = Setting::new(&[NOBODY]).file("key.json", &document.to_string());
    let path = setting.path("key.json");
    let setting = setting.variable("GOOGLE_APPLICATION_CREDENTIALS", &path);
    assert_eq!(token(&setting).await, "token-of-ci@p.iam");
    assert_eq!(found(&setting).await.expect("no error").expect("one").public("account"), Some("ci@p.iam"));
    assert!(!setting.known().blank_text(&key()).contains("PRIVATE KEY"));
    let missing = Setting::new(&[NOBODY, ("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")]);
    let error = found(&missing).await.expect_err("missing").to_string();
    assert_eq!(
        error,
        "cannot read `/nowhere.json`, which GOOGLE_APPLICATION_CREDENTIALS names: it is not there"
    );
    for (name, value, expect) in [
        ("private_key", json!("nonsense"), "holds a `private_key` that is none"),
        ("private_key", Value::Null, "has no `private_key`"),
        ("type", json!("gdch"), "is of type `gdch`"),
        ("token_uri", json!("http://evil.example/token"), "without TLS"),
    ] {
        let mut document = document.clone();
        document[name] = value;
        let error = found(&setting_of(&document)).await.expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    }
}

fn setting_of(document: &Value) -> Setting {
    Setting::new(&[NOBODY]).file(USUAL, &document.to_string())
}

#[tokio::test]
async fn people() {
    let google = google();
    let document = |refresh: &str| {
        json!({"type": "authorized_user", "client_id": "c", "client_secret": "secret-of-client",
               "refresh_token": refresh, "token_uri": google.base})
    };
    let setting = setting_of(&document("refresh-1"));
    assert_eq!(token(&setting).await, "token-of-user");
    assert_eq!(setting.known().blank_text("secret-of-client token-of-user"), "*** ***");
    let error = found(&setting_of(&document("refresh-2"))).await.expect_err("over").to_string();
    assert!(error.ends_with("is over; run `gcloud auth application-default login`"), "{error}");
}

#[tokio::test]
async fn workloads_of_other_platforms() {
    let google = google();
    let issuer = Service::start(|request| {
        let good = request.contains("x-key: k-1");
        (if good { 200 } else { 401 }, json!({"value": "subject-1"}).to_string())
    });
    let document = |source: Value| {
        json!({"type": "external_account", "audience": "//iam.googleapis.com/pool", "token_url": google.base,
               "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "credential_source": source})
    };
    let by_url = json!({"url": issuer.base, "headers": {"X-Key": "k-1"},
                        "format": {"type": "json", "subject_token_field_name": "value"}});
    assert_eq!(token(&setting_of(&document(by_url.clone()))).await, "federated-token");
    let mut impersonating = document(by_url);
    impersonating["service_account_impersonation_url"] = json!(format!("{}/impersonate", google.base));
    assert_eq!(token(&setting_of(&impersonating)).await, "token-of-account");
    let file = tempfile::NamedTempFile::new().expect("a file");
    for (content, expect) in [("subject-1\n", None), ("subject-2", Some("400 (bad subject)"))] {
        fs_err::write(file.path(), content).expect("written");
        let found = found(&setting_of(&document(json!({"file": file.path()})))).await;
        match expect {
            None => assert!(found.expect("no error").is_some()),
            Some(text) => assert!(found.expect_err(text).to_string().contains(text)),
        }
    }
    let error =
        found(&setting_of(&document(json!({"environment_id": "aws1"})))).await.expect_err("no").to_string();
    assert!(error.contains("which idp does not do"), "{error}");
}

#[tokio::test]
async fn machines_and_gcloud() {
    let server = Service::start(|request| {
        if request.contains("metadata-flavor: Google") && request.contains("/service-accounts/default/token")
        {
            (200, json!({"access_token": "token-of-machine", "expires_in": 100}).to_string())
        } else {
            (403, String::new())
        }
    });
    let host = server.base.trim_start_matches("http://").to_owned();
    assert_eq!(token(&Setting::new(&[("GCE_METADATA_HOST", &host)])).await, "token-of-machine");
    let empty = Service::start(|_| (404, String::new()));
    let host = empty.base.trim_start_matches("http://").to_owned();
    assert_eq!(found(&Setting::new(&[("GCE_METADATA_HOST", &host)])).await, Ok(None));
    let with = |script: &str| {
        Setting::new(&[NOBODY]).program("gcloud", script).file(".config/gcloud/credentials.db", "x")
    };
    assert_eq!(token(&with("echo ya29.token-of-gcloud")).await, "ya29.token-of-gcloud");
    let error = found(&with("echo 'Reauth failed.' >&2; exit 1")).await.expect_err("failed").to_string();
    assert!(error.contains("Reauth failed.; run `gcloud auth login`"), "{error}");
    assert_eq!(
        found(&Setting::new(&[NOBODY]).program("gcloud", "exit 1")).await,
        Ok(None),
        "never logged in"
    );
}
