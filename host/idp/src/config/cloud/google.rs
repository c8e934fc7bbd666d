//! Google Cloud: an access token by Application Default Credentials (a file that the environment names, the one of `gcloud auth
//! application-default login`, the metadata server), then by `gcloud` itself.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idp_oci::secret::Secret;
use ring::signature::RSA_PKCS1_SHA256;
use ring::{rand, rsa};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::ask::{Ask, Reply, is_near, url};
use super::{CloudCredential, CloudError, Tools, below_home, stamp};

const TOKENS: &str = "Google's token service";
const METADATA: &str = "Google's metadata server";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const NAMED: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// Where it looks, for people.
pub(super) const PLACES: &str = "GOOGLE_APPLICATION_CREDENTIALS, gcloud's application default credentials, Google's metadata server, `gcloud`";

/// Every variable that says which identity is found.
pub(super) const VARIABLES: &[&str] = &[
    NAMED,
    "CLOUDSDK_CONFIG",
    "CLOUDSDK_ACTIVE_CONFIG_NAME",
    "CLOUDSDK_CORE_ACCOUNT",
    "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE",
    "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT",
    "GCE_METADATA_HOST",
    "HOME",
];

fn gcloud(tools: &Tools) -> Option<PathBuf> {
    below_home(tools, &tools.env.named("CLOUDSDK_CONFIG").unwrap_or_else(|| "~/.config/gcloud".to_owned()))
}

/// The files that say it.
pub(super) fn files(tools: &Tools) -> Vec<PathBuf> {
    let named = tools.env.named(NAMED).map(PathBuf::from);
    let own = gcloud(tools).into_iter().flat_map(|directory| {
        ["application_default_credentials.json", "active_config", "configurations/config_default"]
            .map(|name| directory.join(name))
    });
    named.into_iter().chain(own).collect()
}

/// A token and how long it lasts.
struct Token {
    secret: Secret,
    until: Option<u64>,
}

pub(super) async fn find(tools: &Tools) -> Result<Option<CloudCredential>, CloudError> {
    if let Some(file) = tools.env.named(NAMED) {
        let text = tools.read(file.as_ref(), NAMED)?;
        return from_file(tools, Path::new(&file), &text).await.map(Some);
    }
    let usual = gcloud(tools).map(|directory| directory.join("application_default_credentials.json"));
    if let Some(file) = usual.filter(|file| file.is_file()) {
        let text = tools.read(&file, "gcloud")?;
        return from_file(tools, &file, &text).await.map(Some);
    }
    if let Some(found) = metadata(tools).await? {
        return Ok(Some(found));
    }
    cli(tools).await
}

async fn from_file(tools: &Tools, file: &Path, text: &str) -> Result<CloudCredential, CloudError> {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let account = document["client_email"].as_str().map(str::to_owned);
    let token = of_document(tools, &format!("`{}`", file.display()), &document).await?;
    let source = format!("`{}` ({})", file.display(), document["type"].as_str().unwrap_or_default());
    Ok(CloudCredential::bearer("google", token.secret, source, token.until).with("account", account))
}

/// The token of a credential file; `entry` names it.
fn of_document<'a>(
    tools: &'a Tools,
    entry: &'a str,
    document: &'a Value,
) -> Pin<Box<dyn Future<Output = Result<Token, CloudError>> + Send + 'a>> {
    Box::pin(async move {
        let kind = document["type"].as_str().unwrap_or_default();
        for name in ["private_key", "refresh_token", "client_secret"] {
            document[name].as_str().iter().for_each(|value| drop(tools.secret(value)));
        }
        let field = |name: &str| {
            document[name].as_str().ok_or_else(|| wrong(entry, format!("has no `{name}`"), "create it anew"))
        };
        match kind {
            "service_account" => {
                let address = document["token_uri"].as_str().unwrap_or(TOKEN_URL);
                let assertion = assertion(entry, field("client_email")?, field("private_key")?, address)?;
                let form = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                    ("assertion", assertion.as_str()),
                ];
                let reply = tools.ask(TOKENS, &Ask::post(address_of(entry, address)?).form(&form)).await?;
                token(
                    tools,
                    &reply,
                    &format!("the key in {entry} may be disabled or deleted; check the clock too"),
                )
            }
            "authorized_user" => {
                let address = document["token_uri"].as_str().unwrap_or(TOKEN_URL);
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", field("client_id")?),
                    ("client_secret", field("client_secret")?),
                    ("refresh_token", field("refresh_token")?),
                ];
                let reply = tools.ask(TOKENS, &Ask::post(address_of(entry, address)?).form(&form)).await?;
                if reply.json()["error"] == "invalid_grant" {
                    return Err(CloudError::LogIn {
                        what: format!("the login in {entry} is over"),
                        command: "gcloud auth application-default login".to_owned(),
                    });
                }
                token(tools, &reply, "run `gcloud auth application-default login`")
            }
            "external_account" => {
                let subject = subject_token(tools, entry, &document["credential_source"]).await?;
                let form = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                    ("audience", field("audience")?),
                    ("scope", SCOPE),
                    ("subject_token_type", field("subject_token_type")?),
                    ("subject_token", subject.expose()),
                ];
                let address = address_of(entry, field("token_url")?)?;
                let reply = tools.ask(TOKENS, &Ask::post(address).form(&form)).await?;
                let token = token(tools, &reply, "look at the workload identity pool and its provider")?;
                impersonated(tools, entry, document, token).await
            }
            "impersonated_service_account" => {
                let source = of_document(tools, entry, &document["source_credentials"]).await?;
                impersonated(tools, entry, document, source).await
            }
            other => {
                let problem = format!("is of type `{other}`");
                let fix = "idp reads service_account, authorized_user, external_account and impersonated_service_account";
                Err(wrong(entry, problem, fix))
            }
        }
    })
}

fn wrong(entry: &str, problem: String, fix: &str) -> CloudError {
    CloudError::Entry { entry: entry.to_owned(), problem, fix: fix.to_owned() }
}

/// Where a file sends its secrets: with TLS, or to this machine.
fn address_of(entry: &str, text: &str) -> Result<url::Url, CloudError> {
    let address = url(TOKENS, text)?;
    if address.scheme() != "https" && !is_near(&address) {
        return Err(wrong(entry, format!("names `{text}`, without TLS"), "correct it"));
    }
    Ok(address)
}

/// A statement of a service account about itself, signed with its key.
fn assertion(entry: &str, account: &str, key: &str, audience: &str) -> Result<String, CloudError> {
    let bad =
        || wrong(entry, "holds a `private_key` that is none".to_owned(), "create a new key for the account");
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|_| bad())?;
    let key = rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| bad())?;
    let now = stamp::now();
    let claims = json!({"iss": account, "scope": SCOPE, "aud": audience, "iat": now, "exp": now + 3600});
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({"alg": "RS256", "typ": "JWT"})), encode(&claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &rand::SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| bad())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn token(tools: &Tools, reply: &Reply, fix: &str) -> Result<Token, CloudError> {
    let body = reply.json();
    if !reply.is_ok() {
        let error = &body["error"];
        let said = body["error_description"].as_str().or(error["message"].as_str()).or(error.as_str());
        return Err(reply.refused(TOKENS, said, fix));
    }
    let found =
        body["access_token"].as_str().or(body["accessToken"].as_str()).filter(|text| !text.is_empty());
    let found = found.ok_or_else(|| CloudError::Garbage { service: TOKENS.to_owned() })?;
    let until = body["expires_in"].as_u64().map(|seconds| stamp::now() + seconds);
    let until = until.or_else(|| body["expireTime"].as_str().and_then(stamp::unix));
    Ok(Token { secret: tools.secret(found), until })
}

/// What another identity provider says about us.
async fn subject_token(tools: &Tools, entry: &str, source: &Value) -> Result<Secret, CloudError> {
    let text = if let Some(file) = source["file"].as_str() {
        tools.read(file.as_ref(), entry)?
    } else if let Some(address) = source["url"].as_str() {
        let address = address_of(entry, address)?;
        let near = is_near(&address);
        let mut ask = Ask::get(address);
        for (name, value) in source["headers"].as_object().into_iter().flatten() {
            ask = ask.named_header(name, value.as_str().unwrap_or_default());
        }
        let service = "the identity provider of the workload";
        let reply = tools.ask(service, &if near { ask.near() } else { ask }).await?;
        if !reply.is_ok() {
            return Err(reply.refused(service, None, format!("look at `credential_source` in {entry}")));
        }
        reply.text()
    } else {
        let problem = "takes its token from AWS or from a program, which idp does not do".to_owned();
        return Err(wrong(
            entry,
            problem,
            "use a source of the kind `file` or `url`, or give a token with --token-file",
        ));
    };
    if source["format"]["type"] != "json" {
        return Ok(tools.secret(text.trim()));
    }
    let name = source["format"]["subject_token_field_name"].as_str().unwrap_or("access_token");
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    match document[name].as_str() {
        Some(token) => Ok(tools.secret(token)),
        None => Err(wrong(
            entry,
            format!("names a token that has no field `{name}`"),
            "correct `credential_source`",
        )),
    }
}

/// The token of the account that is to be acted as, where one is.
async fn impersonated(
    tools: &Tools,
    entry: &str,
    document: &Value,
    token_of_source: Token,
) -> Result<Token, CloudError> {
    let Some(address) = document["service_account_impersonation_url"].as_str() else {
        return Ok(token_of_source);
    };
    let body =
        json!({"scope": [SCOPE], "delegates": document["delegates"].as_array().cloned().unwrap_or_default()});
    let bearer = format!("Bearer {}", token_of_source.secret.expose());
    let ask = Ask::post(address_of(entry, address)?).json(&body).header("authorization", &bearer);
    let reply = tools.ask(TOKENS, &ask).await?;
    token(tools, &reply, "the identity needs roles/iam.serviceAccountTokenCreator on the service account")
}

/// The service account of the machine. Nothing where there is none.
async fn metadata(tools: &Tools) -> Result<Option<CloudCredential>, CloudError> {
    let host = tools.env.named("GCE_METADATA_HOST").unwrap_or_else(|| "metadata.google.internal".to_owned());
    let path = "computeMetadata/v1/instance/service-accounts/default/token";
    let ask =
        Ask::get(url(METADATA, &format!("http://{host}/{path}"))?).header("metadata-flavor", "Google").near();
    match tools.send(&ask).await {
        Ok(reply) if reply.is_ok() => {
            let token = token(tools, &reply, "")?;
            Ok(Some(CloudCredential::bearer("google", token.secret, METADATA, token.until)))
        }
        Ok(reply) => {
            tracing::debug!(target: "idp::cloud", status = reply.status, "no service account");
            Ok(None)
        }
        Err(why) => {
            tracing::debug!(target: "idp::cloud", "no metadata server: {why}");
            Ok(None)
        }
    }
}

/// Who `gcloud` is logged in as. It takes a second to start, so it is not asked before somebody logged in.
async fn cli(tools: &Tools) -> Result<Option<CloudCredential>, CloudError> {
    if !gcloud(tools).is_some_and(|directory| directory.join("credentials.db").is_file()) {
        return Ok(None);
    }
    let Some(program) = tools.program("gcloud") else { return Ok(None) };
    let what = "`gcloud auth print-access-token`";
    let output =
        tools.output(&program, &["auth", "print-access-token"], what, "run `gcloud auth login`").await?;
    let token = String::from_utf8_lossy(&output).trim().to_owned();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(CloudError::Garbage { service: what.to_owned() });
    }
    Ok(Some(CloudCredential::bearer("google", tools.secret(&token), "`gcloud` (gcloud auth login)", None)))
}

#[cfg(test)]
#[path = "google_tests.rs"]
mod tests;
