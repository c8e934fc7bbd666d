//! Azure: an access token of Entra ID for container registries, as `DefaultAzureCredential` finds one: a client secret or a federated token in
//! the environment, the managed identity of this machine, `az`.

use std::path::PathBuf;

use serde_json::Value;
use url::Url;

use super::ask::{Ask, is_near, url};
use super::{CloudCredential, CloudError, Tools, below_home, stamp};

const ENTRA: &str = "Entra ID";
const MANAGED: &str = "the managed identity endpoint";

/// Where it looks, for people.
pub(super) const PLACES: &str =
    "AZURE_CLIENT_SECRET, AZURE_FEDERATED_TOKEN_FILE, the machine's managed identity, `az`";

/// Every variable that says which identity is found.
pub(super) const VARIABLES: &[&str] = &[
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_CONFIG_DIR",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "HOME",
];

/// The files that say it: who `az` is logged in as.
pub(super) fn files(tools: &Tools) -> Vec<PathBuf> {
    account_file(tools).into_iter().collect()
}

fn account_file(tools: &Tools) -> Option<PathBuf> {
    let directory = tools.env.named("AZURE_CONFIG_DIR").unwrap_or_else(|| "~/.azure".to_owned());
    Some(below_home(tools, &directory)?.join("azureProfile.json"))
}

/// One of Azure's clouds.
struct Place {
    authority: String,
    /// What the token is for. The public cloud's registries have an audience of their own; those of the others take the one of Azure's
    /// resource manager, which the public ones take too.
    resource: &'static str,
}

impl Place {
    fn of(tools: &Tools) -> Self {
        let authority = tools.env.named("AZURE_AUTHORITY_HOST");
        let authority = authority.unwrap_or_else(|| "https://login.microsoftonline.com".to_owned());
        let authority = authority.trim_end_matches('/').to_owned();
        let resource = if authority.ends_with(".cn") {
            "https://management.chinacloudapi.cn"
        } else if authority.ends_with(".us") {
            "https://management.usgovcloudapi.net"
        } else {
            "https://containerregistry.azure.net"
        };
        Self { authority, resource }
    }

    fn scope(&self) -> String {
        format!("{}/.default", self.resource)
    }
}

pub(super) async fn find(tools: &Tools) -> Result<Option<CloudCredential>, CloudError> {
    let place = Place::of(tools);
    if let Some(found) = application(tools, &place).await? {
        return Ok(Some(found));
    }
    if let Some(found) = managed(tools, &place).await? {
        return Ok(Some(found));
    }
    cli(tools, &place).await
}

/// An application that the environment names: by its secret, or by a token of a platform that its registration trusts.
async fn application(tools: &Tools, place: &Place) -> Result<Option<CloudCredential>, CloudError> {
    let env = |name: &str| tools.env.named(name);
    let (Some(tenant), Some(client)) = (env("AZURE_TENANT_ID"), env("AZURE_CLIENT_ID")) else {
        return Ok(None);
    };
    let scope = place.scope();
    let mut form =
        vec![("grant_type", "client_credentials"), ("client_id", client.as_str()), ("scope", scope.as_str())];
    let proof;
    let named = if let Some(secret) = env("AZURE_CLIENT_SECRET") {
        proof = tools.secret(&secret);
        form.push(("client_secret", proof.expose()));
        "AZURE_CLIENT_SECRET"
    } else if let Some(file) = env("AZURE_FEDERATED_TOKEN_FILE") {
        let token = tools.read(file.as_ref(), "AZURE_FEDERATED_TOKEN_FILE")?;
        proof = tools.secret(token.trim());
        form.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
        form.push(("client_assertion", proof.expose()));
        "AZURE_FEDERATED_TOKEN_FILE"
    } else if env("AZURE_CLIENT_CERTIFICATE_PATH").is_some() {
        return Err(CloudError::Entry {
            entry: "AZURE_CLIENT_CERTIFICATE_PATH".to_owned(),
            problem: "names a certificate, which idp cannot sign in with".to_owned(),
            fix: "run `az login --service-principal` with it and unset the variable, or use AZURE_CLIENT_SECRET".to_owned(),
        });
    } else {
        return Ok(None);
    };
    let address = url(ENTRA, &format!("{}/{tenant}/oauth2/v2.0/token", place.authority))?;
    let reply = tools.ask(ENTRA, &Ask::post(address).form(&form)).await?;
    let body = reply.json();
    if !reply.is_ok() {
        let fix = format!("look at {named}, AZURE_CLIENT_ID and AZURE_TENANT_ID");
        return Err(reply.refused(ENTRA, said(&body), fix));
    }
    let found = token(tools, &body, ENTRA, format!("the environment ({named})"))?;
    Ok(Some(found.with("tenant", Some(tenant))))
}

/// The first line of Entra's own words; the rest is identifiers of the request.
fn said(body: &Value) -> Option<&str> {
    let text = body["error_description"].as_str().or(body["error"].as_str()).or(body["message"].as_str())?;
    text.lines().next()
}

/// A token out of an answer: `expires_in` is relative, `expires_on` is not, and either may be text.
fn token(tools: &Tools, body: &Value, service: &str, source: String) -> Result<CloudCredential, CloudError> {
    let number = |name: &str| body[name].as_u64().or_else(|| body[name].as_str()?.parse().ok());
    let until = number("expires_on").or_else(|| number("expires_in").map(|seconds| stamp::now() + seconds));
    let found =
        body["access_token"].as_str().or(body["accessToken"].as_str()).filter(|text| !text.is_empty());
    let found = found.ok_or_else(|| CloudError::Garbage { service: service.to_owned() })?;
    Ok(CloudCredential::bearer("entra", tools.secret(found), source, until))
}

/// The identity of the app, container or virtual machine. Nothing where there is none.
async fn managed(tools: &Tools, place: &Place) -> Result<Option<CloudCredential>, CloudError> {
    let add = |mut address: Url, version: &str| {
        let mut query = address.query_pairs_mut();
        query.append_pair("api-version", version).append_pair("resource", place.resource);
        if let Some(client) = tools.env.named("AZURE_CLIENT_ID") {
            query.append_pair("client_id", &client);
        }
        drop(query);
        address
    };
    if let (Some(endpoint), Some(header)) =
        (tools.env.named("IDENTITY_ENDPOINT"), tools.env.named("IDENTITY_HEADER"))
    {
        let address = url(MANAGED, &endpoint)?;
        let near = is_near(&address);
        if !near && address.scheme() != "https" {
            return Err(CloudError::Entry {
                entry: "the variable IDENTITY_ENDPOINT".to_owned(),
                problem: "names a host that is not of this machine, without TLS".to_owned(),
                fix: "Azure sets it in its apps; elsewhere, unset it".to_owned(),
            });
        }
        let ask =
            Ask::get(add(address, "2019-08-01")).header("x-identity-header", tools.secret(&header).expose());
        let reply = tools.ask(MANAGED, &if near { ask.near() } else { ask }).await?;
        let body = reply.json();
        if !reply.is_ok() {
            return Err(reply.refused(
                MANAGED,
                said(&body),
                "the app needs a managed identity; AZURE_CLIENT_ID chooses one",
            ));
        }
        return token(tools, &body, MANAGED, "the managed identity (IDENTITY_ENDPOINT)".to_owned()).map(Some);
    }
    let base = tools.env.named("AZURE_POD_IDENTITY_AUTHORITY_HOST");
    let base = base.unwrap_or_else(|| "http://169.254.169.254".to_owned());
    let address = url(MANAGED, &format!("{}/metadata/identity/oauth2/token", base.trim_end_matches('/')))?;
    let ask = Ask::get(add(address, "2018-02-01")).header("metadata", "true").near();
    let reply = match tools.send(&ask).await {
        Ok(reply) => reply,
        Err(why) => {
            tracing::debug!(target: "idp::cloud", "no metadata service: {why}");
            return Ok(None);
        }
    };
    if !reply.is_ok() {
        // 400: a machine without an identity; 404 and the like: some other cloud.
        tracing::debug!(target: "idp::cloud", status = reply.status, "no managed identity");
        return Ok(None);
    }
    let body = reply.json();
    token(tools, &body, MANAGED, "the managed identity (instance metadata)".to_owned()).map(Some)
}

/// Who `az` is logged in as. It takes a second to start, so it is not asked before somebody logged in.
async fn cli(tools: &Tools, place: &Place) -> Result<Option<CloudCredential>, CloudError> {
    let account = account_file(tools).and_then(|file| fs_err::read_to_string(file).ok());
    if !account.is_some_and(|text| text.contains("\"tenantId\"")) {
        return Ok(None);
    }
    let Some(program) = tools.program("az") else { return Ok(None) };
    let arguments = ["account", "get-access-token", "--output", "json", "--resource", place.resource];
    let output =
        tools.output(&program, &arguments, "`az account get-access-token`", "run `az login`").await?;
    let answer: Value = serde_json::from_slice(&output).unwrap_or_default();
    let found = token(tools, &answer, "`az`", "`az` (az login)".to_owned())?;
    Ok(Some(found.with("tenant", answer["tenant"].as_str().map(str::to_owned))))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Service, Setting};
    use super::super::{CloudCredential, CloudError, Wanted, find};
    use crate::config::sources::Cloud;

    async fn found(setting: &Setting) -> Result<Option<CloudCredential>, CloudError> {
        find(Cloud::Azure, &Wanted::default(), &setting.tools()).await
    }

    fn nobody() -> (&'static str, &'static str) {
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    }

    #[tokio::test]
    async fn applications() {
        let entra = Service::start(|request| {
            let secret = request.contains("client_secret=secret-of-app");
            let federated = request.contains("client_assertion=jwt-of-pod") && request.contains("jwt-bearer");
            let scope = request.contains("scope=https%3A%2F%2Fcontainerregistry.azure.net%2F.default");
            if (secret || federated) && scope && request.starts_with("POST /t-1/oauth2/v2.0/token ") {
                (200, r#"{"access_token":"entra-token-1","expires_in":3599}"#.to_owned())
            } else {
                (401, r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret.\r\nTrace ID: 1"}"#.to_owned())
            }
        });
        let base = [
            ("AZURE_TENANT_ID", "t-1"),
            ("AZURE_CLIENT_ID", "app"),
            ("AZURE_AUTHORITY_HOST", entra.base.as_str()),
            nobody(),
        ];
        let with = |name, value| Setting::new(&base).variable(name, value);
        let one = with("AZURE_CLIENT_SECRET", "secret-of-app");
        let credential = found(&one).await.expect("no error").expect("one");
        assert_eq!((credential.kind, credential.secrets[0].1.expose()), ("bearer", "entra-token-1"));
        assert_eq!((credential.public("tenant"), credential.public("issuer")), (Some("t-1"), Some("entra")));
        assert!(credential.public("expires-at").is_some());
        assert_eq!(one.known().blank_text("secret-of-app entra-token-1"), "*** ***");
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs_err::write(file.path(), "jwt-of-pod").expect("written");
        let pod = with("AZURE_FEDERATED_TOKEN_FILE", file.path().to_str().expect("utf-8"));
        assert_eq!(
            found(&pod).await.expect("no error").expect("one").public("source"),
            Some("the environment (AZURE_FEDERATED_TOKEN_FILE)")
        );
        let error =
            found(&with("AZURE_CLIENT_SECRET", "wrong-secret")).await.expect_err("refused").to_string();
        assert_eq!(
            error,
            "Entra ID answered 401 (AADSTS7000215: Invalid client secret.); look at AZURE_CLIENT_SECRET, AZURE_CLIENT_ID and AZURE_TENANT_ID"
        );
        let error =
            found(&with("AZURE_CLIENT_CERTIFICATE_PATH", "/x.pem")).await.expect_err("refused").to_string();
        assert!(error.contains("az login --service-principal"), "{error}");
    }

    #[tokio::test]
    async fn managed_identities() {
        let endpoint = Service::start(|request| {
            let resource =
                request.contains("resource=https%3A%2F%2Fcontainerregistry.azure.net&client_id=mine");
            let app =
                request.contains("x-identity-header: head-1") && request.contains("api-version=2019-08-01");
            let machine = request.contains("metadata: true") && request.contains("api-version=2018-02-01");
            if resource && (app || machine) {
                (200, r#"{"access_token":"managed-token-1","expires_on":"4070908800"}"#.to_owned())
            } else {
                (400, r#"{"error":"invalid_request","error_description":"Identity not found"}"#.to_owned())
            }
        });
        let client = ("AZURE_CLIENT_ID", "mine");
        let app = [("IDENTITY_ENDPOINT", endpoint.base.as_str()), ("IDENTITY_HEADER", "head-1"), client];
        let credential = found(&Setting::new(&app)).await.expect("no error").expect("one");
        assert_eq!(credential.public("expires-at"), Some("4070908800"));
        let machine = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", endpoint.base.as_str());
        let credential = found(&Setting::new(&[machine, client])).await.expect("no error").expect("one");
        assert_eq!(credential.secrets[0].1.expose(), "managed-token-1");
        assert_eq!(found(&Setting::new(&[machine])).await, Ok(None), "a machine without an identity");
        assert_eq!(found(&Setting::new(&[nobody()])).await, Ok(None));
        let error = found(&Setting::new(&app[..2])).await.expect_err("refused").to_string();
        assert!(error.contains("answered 400 (Identity not found)"), "{error}");
        let elsewhere = [("IDENTITY_ENDPOINT", "http://evil.example/"), ("IDENTITY_HEADER", "head-1")];
        assert!(found(&Setting::new(&elsewhere)).await.is_err());
    }

    #[tokio::test]
    async fn the_command_line() {
        let answer = r#"echo "$@" | grep -q 'get-access-token.*--resource https://containerregistry.azure.net' && echo '{"accessToken":"az-token-1","expires_on":4070908800,"tenant":"t-2"}'"#;
        let logged_in = ("azureProfile.json", "\u{feff}{\"subscriptions\":[{\"tenantId\":\"t-2\"}]}");
        let with = |script: &str| {
            Setting::new(&[nobody()])
                .program("az", script)
                .file(&format!(".azure/{}", logged_in.0), logged_in.1)
        };
        let credential = found(&with(answer)).await.expect("no error").expect("one");
        assert_eq!(
            (credential.secrets[0].1.expose(), credential.public("tenant")),
            ("az-token-1", Some("t-2"))
        );
        let error = found(&with("echo 'AADSTS70043: The refresh token has expired' >&2; exit 1")).await;
        let error = error.expect_err("failed").to_string();
        assert!(error.contains("AADSTS70043") && error.ends_with("run `az login`"), "{error}");
        assert_eq!(
            found(&Setting::new(&[nobody()]).program("az", "exit 1")).await,
            Ok(None),
            "never logged in"
        );
    }
}
