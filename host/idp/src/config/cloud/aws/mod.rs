//! AWS's credential chain, in AWS's order: a profile that is named, keys in the environment, web identity, the default profile, the
//! container's endpoint, the instance's metadata service.
//!
//! | module | holds |
//! |---|---|
//! | [`profiles`] | `~/.aws/config` and `~/.aws/credentials` |
//! | [`sts`] | roles |
//! | [`sso`] | IAM Identity Center |
//! | [`metadata`] | containers and instances |
//! | [`keys`] | what they hand on |

mod keys;
mod metadata;
mod profiles;
mod sso;
mod sts;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use self::keys::Keys;
use self::profiles::{Profile, Profiles};
use self::sts::Role;
use super::{CloudCredential, CloudError, Tools, Wanted};

/// Where it looks, for people.
pub(super) const PLACES: &str = "AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE, ~/.aws/config and ~/.aws/credentials, the \
                                 container's endpoint, the instance's metadata";

/// Every variable that says which identity is found.
pub(super) const VARIABLES: &[&str] = &[
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL_SSO",
    "AWS_ENDPOINT_URL_SSO_OIDC",
    "HOME",
];

/// The files that say it.
pub(super) fn files(tools: &Tools) -> Vec<PathBuf> {
    profiles::files(tools).into_iter().flatten().collect()
}

/// What every step needs.
struct Chain<'a> {
    tools: &'a Tools,
    profiles: Profiles,
    region: Option<String>,
}

pub(super) async fn find(wanted: &Wanted, tools: &Tools) -> Result<Option<CloudCredential>, CloudError> {
    let env = |name: &str| tools.env.named(name);
    let named = match &wanted.profile {
        Some(name) => Some((name.clone(), "the setting `profile`")),
        None => env("AWS_PROFILE")
            .map(|name| (name, "AWS_PROFILE"))
            .or_else(|| env("AWS_DEFAULT_PROFILE").map(|name| (name, "AWS_DEFAULT_PROFILE"))),
    };
    let profiles = Profiles::load(tools)?;
    let name = named.as_ref().map_or("default", |(name, _)| name.as_str());
    if let Some((name, by)) = &named
        && profiles.get(name).is_none()
    {
        return Err(CloudError::Entry {
            entry: format!("AWS profile `{name}`, which {by} names,"),
            problem: "is not configured".to_owned(),
            fix: format!(
                "`aws configure list-profiles` shows those that are, `aws configure --profile {name}` makes it"
            ),
        });
    }
    let of_profile = profiles.get(name).and_then(|profile| profile.get("region")).map(str::to_owned);
    let region = env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION")).or(of_profile);
    let chain = Chain { tools, profiles, region };
    let keys = chain.search(named.is_some(), name).await?;
    Ok(keys.map(|keys| keys.into_credential(chain.region)))
}

impl Chain<'_> {
    async fn search(&self, named: bool, name: &str) -> Result<Option<Keys>, CloudError> {
        let tools = self.tools;
        if named {
            if let Some(keys) = self.profile(name, Vec::new()).await? {
                return Ok(Some(keys));
            }
        } else {
            if let Some(keys) = self.environment()? {
                return Ok(Some(keys));
            }
            if let (Some(file), Some(arn)) =
                (tools.env.named("AWS_WEB_IDENTITY_TOKEN_FILE"), tools.env.named("AWS_ROLE_ARN"))
            {
                let role = Role { arn, session: tools.env.named("AWS_ROLE_SESSION_NAME"), ..Role::default() };
                let keys = sts::with_web_identity(
                    tools,
                    &role,
                    &file,
                    "AWS_WEB_IDENTITY_TOKEN_FILE",
                    self.region.as_deref(),
                );
                return keys.await.map(Some);
            }
            if self.profiles.get(name).is_some()
                && let Some(keys) = self.profile(name, Vec::new()).await?
            {
                return Ok(Some(keys));
            }
        }
        if metadata::in_container(tools) {
            return metadata::container(tools).await.map(Some);
        }
        metadata::instance(tools).await
    }

    fn environment(&self) -> Result<Option<Keys>, CloudError> {
        let env = |name: &str| self.tools.env.named(name);
        match (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => Ok(Some(Keys {
                account: env("AWS_ACCOUNT_ID"),
                ..Keys::new(self.tools, &id, &secret, env("AWS_SESSION_TOKEN").as_deref())
                    .from("the environment (AWS_ACCESS_KEY_ID)")
            })),
            (None, None) => Ok(None),
            (id, _) => {
                let [there, missing] = if id.is_some() {
                    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
                } else {
                    ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"]
                };
                Err(CloudError::Entry {
                    entry: "the environment".to_owned(),
                    problem: format!("has {there} and no {missing}"),
                    fix: "set both, or neither".to_owned(),
                })
            }
        }
    }

    /// The keys of a profile; `None` when it says nothing about any. `visited` are the profiles that led here.
    fn profile<'a>(
        &'a self,
        name: &'a str,
        mut visited: Vec<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Keys>, CloudError>> + Send + 'a>> {
        Box::pin(async move {
            let Some(profile) = self.profiles.get(name) else {
                let from = visited.last().copied().unwrap_or_default();
                let problem = format!("names the source profile `{name}`, which is not configured");
                return Err(wrong(from, problem, "correct `source_profile` in ~/.aws/config"));
            };
            if visited.contains(&name) {
                return Err(wrong(
                    name,
                    "is its own source".to_owned(),
                    "correct `source_profile` in ~/.aws/config",
                ));
            }
            // A source with keys of its own is that, whatever role it has besides.
            if let Some(keys) = self.keys_of(name, profile).filter(|_| !visited.is_empty()) {
                return Ok(Some(keys));
            }
            visited.push(name);
            if let Some(arn) = profile.get("role_arn") {
                return self.role(name, profile, arn, visited).await.map(Some);
            }
            if sso::is_used(profile) {
                return sso::keys(self.tools, &self.profiles, name, profile).await.map(Some);
            }
            if let Some(keys) = self.keys_of(name, profile) {
                return Ok(Some(keys));
            }
            if let Some(command) = profile.get("credential_process") {
                return self.process(name, command).await.map(Some);
            }
            if profile.get("login_session").is_some() {
                let fix = format!(
                    "run `eval \"$(aws configure export-credentials --profile {name} --format env)\"` and unset AWS_PROFILE"
                );
                return Err(wrong(name, "uses `aws login`, which idp cannot read".to_owned(), &fix));
            }
            Ok(None)
        })
    }

    fn keys_of(&self, name: &str, profile: &Profile) -> Option<Keys> {
        let (id, secret) = (profile.get("aws_access_key_id")?, profile.get("aws_secret_access_key")?);
        let keys = Keys::new(self.tools, id, secret, profile.get("aws_session_token"));
        let account = profile.get("aws_account_id").map(str::to_owned);
        Some(Keys { account, ..keys.from(format!("AWS profile {name}")) })
    }

    async fn role<'a>(
        &'a self,
        name: &'a str,
        profile: &'a Profile,
        arn: &str,
        visited: Vec<&'a str>,
    ) -> Result<Keys, CloudError> {
        let owned = |key: &str| profile.get(key).map(str::to_owned);
        let role = Role {
            arn: arn.to_owned(),
            session: owned("role_session_name"),
            external_id: owned("external_id"),
            seconds: owned("duration_seconds"),
        };
        let region = profile.get("region").or(self.region.as_deref());
        if let Some(file) = profile.get("web_identity_token_file") {
            let named = format!("AWS profile {name}");
            return sts::with_web_identity(self.tools, &role, file, &named, region).await;
        }
        if profile.get("mfa_serial").is_some() {
            let fix = format!(
                "run `eval \"$(aws configure export-credentials --profile {name} --format env)\"`, which asks for the code, \
                 and unset AWS_PROFILE"
            );
            return Err(wrong(name, "asks for the code of an MFA device".to_owned(), &fix));
        }
        let source = match (profile.get("source_profile"), profile.get("credential_source")) {
            (Some(source), None) if source == name => self.keys_of(name, profile),
            (Some(source), None) => self.profile(source, visited).await?,
            (None, Some("Environment")) => self.environment()?,
            (None, Some("EcsContainer")) if metadata::in_container(self.tools) => {
                Some(metadata::container(self.tools).await?)
            }
            (None, Some("EcsContainer")) => None,
            (None, Some("Ec2InstanceMetadata")) => metadata::instance(self.tools).await?,
            (None, Some(other)) => {
                let problem = format!("has the credential_source `{other}`");
                return Err(wrong(name, problem, "it is Environment, Ec2InstanceMetadata or EcsContainer"));
            }
            _ => {
                let problem =
                    "has a role_arn, and not one of source_profile and credential_source".to_owned();
                return Err(wrong(name, problem, "say in ~/.aws/config whose keys take the role"));
            }
        };
        let source = source.ok_or_else(|| {
            wrong(
                name,
                "has a role_arn, and its source has no keys".to_owned(),
                "configure the source's keys",
            )
        })?;
        let keys = sts::assume(self.tools, &role, &source, region).await?;
        Ok(keys.from(format!("AWS profile {name} (role {arn})")))
    }

    /// The command is the user's own, in the user's own file: a shell reads it, as with AWS's tools.
    async fn process(&self, name: &str, command: &str) -> Result<Keys, CloudError> {
        let what = format!("`credential_process` of AWS profile `{name}`");
        let fix = "run the command by itself to see why";
        let shell = Path::new("/bin/sh");
        let output = self.tools.output(shell, &["-c", command], &what, fix).await?;
        let answer: serde_json::Value = serde_json::from_slice(&output).unwrap_or_default();
        let keys = Keys::from_json(self.tools, &answer).filter(|_| answer["Version"] == 1);
        let keys = keys.ok_or(CloudError::Garbage { service: what })?;
        Ok(keys.from(format!("AWS profile {name} (credential_process)")))
    }
}

fn wrong(profile: &str, problem: String, fix: &str) -> CloudError {
    CloudError::Entry { entry: format!("AWS profile `{profile}`"), problem, fix: fix.to_owned() }
}
