//! IAM Identity Center: the session that `aws sso login` left in `~/.aws/sso/cache`, exchanged for the keys of a role.

use std::io::Write as _;
use std::path::Path;

use idp_oci::secret::Secret;
use ring::digest;
use serde_json::{Value, json};

use super::super::ask::{Ask, url};
use super::super::{CloudError, Tools, below_home, stamp};
use super::keys::Keys;
use super::profiles::{Profile, Profiles};
use super::sts::{hex, override_of, suffix};

const PORTAL: &str = "AWS IAM Identity Center";

/// Whether a profile uses it.
pub(super) fn is_used(profile: &Profile) -> bool {
    profile.get("sso_session").is_some() || profile.get("sso_start_url").is_some()
}

/// The keys of the profile's role.
pub(super) async fn keys(
    tools: &Tools,
    profiles: &Profiles,
    name: &str,
    profile: &Profile,
) -> Result<Keys, CloudError> {
    let session_name = profile.get("sso_session");
    let session = match session_name {
        Some(session) => Some(profiles.session(session).ok_or_else(|| CloudError::Entry {
            entry: format!("AWS profile `{name}`"),
            problem: format!("names the SSO session `{session}`, which is not configured"),
            fix: format!("add `[sso-session {session}]` to ~/.aws/config, or run `aws configure sso`"),
        })?),
        None => None,
    };
    let wanted = |key: &str| {
        let value = session.and_then(|session| session.get(key)).or_else(|| profile.get(key));
        value.ok_or_else(|| CloudError::Entry {
            entry: format!("AWS profile `{name}`"),
            problem: format!("has no `{key}`"),
            fix: "run `aws configure sso`".to_owned(),
        })
    };
    let (region, account, role) =
        (wanted("sso_region")?, wanted("sso_account_id")?, wanted("sso_role_name")?);
    let cached_as = match session_name {
        Some(session) => session,
        None => wanted("sso_start_url")?,
    };
    let token = token(tools, name, region, cached_as).await?;
    let base = override_of(tools, "SSO")
        .unwrap_or_else(|| format!("https://portal.sso.{region}.{}", suffix(region)));
    let mut address = url(PORTAL, &format!("{}/federation/credentials", base.trim_end_matches('/')))?;
    address.query_pairs_mut().append_pair("role_name", role).append_pair("account_id", account);
    let reply =
        tools.ask(PORTAL, &Ask::get(address).header("x-amz-sso_bearer_token", token.expose())).await?;
    let body = reply.json();
    if reply.status == 401 {
        return Err(log_in(name, "was refused"));
    }
    if !reply.is_ok() {
        let fix = format!("account {account} must give you the role `{role}`");
        return Err(reply.refused(PORTAL, body["message"].as_str(), fix));
    }
    let found = &body["roleCredentials"];
    let text = |key: &str| found[key].as_str().filter(|text| !text.is_empty());
    let (Some(id), Some(secret), Some(token)) =
        (text("accessKeyId"), text("secretAccessKey"), text("sessionToken"))
    else {
        return Err(CloudError::Garbage { service: PORTAL.to_owned() });
    };
    Ok(Keys {
        // Milliseconds.
        expires_at: found["expiration"].as_u64().map(|at| at / 1000),
        account: Some(account.to_owned()),
        ..Keys::new(tools, id, secret, Some(token)).from(format!("AWS profile {name} (SSO role {role})"))
    })
}

fn log_in(profile: &str, how: &str) -> CloudError {
    CloudError::LogIn {
        what: format!("the SSO session of AWS profile `{profile}` {how}"),
        command: format!("aws sso login --profile {profile}"),
    }
}

/// The token that `aws sso login` left; a new one where that is over and the session goes on.
async fn token(tools: &Tools, profile: &str, region: &str, cached_as: &str) -> Result<Secret, CloudError> {
    let name = hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, cached_as.as_bytes()).as_ref());
    let file = below_home(tools, &format!("~/.aws/sso/cache/{name}.json"));
    let text = file.as_deref().and_then(|file| fs_err::read_to_string(file).ok());
    let (Some(file), Some(text)) = (file, text) else { return Err(log_in(profile, "was never started")) };
    let cached: Value = serde_json::from_str(&text).unwrap_or_default();
    for name in ["accessToken", "refreshToken", "clientSecret"] {
        cached[name].as_str().iter().for_each(|value| drop(tools.secret(value)));
    }
    let token = cached["accessToken"].as_str().ok_or_else(|| log_in(profile, "cannot be read"))?;
    let ends = |name: &str| cached[name].as_str().and_then(stamp::unix);
    if ends("expiresAt").is_none_or(|at| at > stamp::now()) {
        return Ok(tools.secret(token));
    }
    if ends("registrationExpiresAt").is_some_and(|at| at <= stamp::now()) {
        return Err(log_in(profile, "is over"));
    }
    refresh(tools, region, &file, cached).await?.ok_or_else(|| log_in(profile, "is over"))
}

/// Goes on with a session. What is new is written where AWS's own tools look for it: the refresh token is good once.
async fn refresh(
    tools: &Tools,
    region: &str,
    file: &Path,
    mut cached: Value,
) -> Result<Option<Secret>, CloudError> {
    let field = |name: &str| cached[name].as_str();
    let (Some(client), Some(secret), Some(refresh)) =
        (field("clientId"), field("clientSecret"), field("refreshToken"))
    else {
        return Ok(None);
    };
    let base =
        override_of(tools, "SSO_OIDC").unwrap_or_else(|| format!("https://oidc.{region}.{}", suffix(region)));
    let body = json!({"grantType": "refresh_token", "clientId": client, "clientSecret": secret, "refreshToken": refresh});
    let address = url(PORTAL, &format!("{}/token", base.trim_end_matches('/')))?;
    let reply = tools.ask(PORTAL, &Ask::post(address).json(&body)).await?;
    let answer = reply.json();
    let Some(token) = answer["accessToken"].as_str().filter(|_| reply.is_ok()) else { return Ok(None) };
    let found = tools.secret(token);
    cached["accessToken"] = token.into();
    cached["expiresAt"] = stamp::text(stamp::now() + answer["expiresIn"].as_u64().unwrap_or(3600)).into();
    if let Some(next) = answer["refreshToken"].as_str() {
        cached["refreshToken"] = tools.secret(next).expose().into();
    }
    let write = || -> std::io::Result<()> {
        let mut new = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
        new.write_all(cached.to_string().as_bytes())?;
        new.persist(file).map_err(|error| error.error)?;
        Ok(())
    };
    if let Err(error) = write() {
        tracing::warn!(target: "idp::cloud", "the SSO session goes on and {} is not written: {error}", file.display());
    }
    Ok(Some(found))
}
