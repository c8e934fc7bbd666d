//! IAM Identity Center: the session that `aws sso login` left in `~/.aws/sso/cache`, exchanged for the keys of a role.

use ring::digest;

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
    let token = token(tools, name, cached_as)?;
    let base = override_of(tools, "SSO")
        .unwrap_or_else(|| format!("https://portal.sso.{region}.{}", suffix(region)));
    let mut address = url(PORTAL, &format!("{}/federation/credentials", base.trim_end_matches('/')))?;
    address.query_pairs_mut().append_pair("role_name", role).append_pair("account_id", account);
    let reply = tools.ask(PORTAL, &Ask::get(address).header("x-amz-sso_bearer_token", &token)).await?;
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

/// The token that `aws sso login` left.
fn token(tools: &Tools, profile: &str, cached_as: &str) -> Result<String, CloudError> {
    let name = hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, cached_as.as_bytes()).as_ref());
    let text = below_home(tools, &format!("~/.aws/sso/cache/{name}.json"))
        .and_then(|file| fs_err::read_to_string(file).ok())
        .ok_or_else(|| log_in(profile, "was never started"))?;
    let cached: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let token = cached["accessToken"].as_str().ok_or_else(|| log_in(profile, "cannot be read"))?;
    let over = cached["expiresAt"].as_str().and_then(stamp::unix).is_some_and(|at| at <= stamp::now());
    if over {
        return Err(log_in(profile, "is over"));
    }
    Ok(tools.secret(token).expose().to_owned())
}
