//! The credentials of AWS, Azure and Google as their own tools find them: environment, files, helper programs, services of the machine.
//! May depend on the rest of `config` and on `idp_oci`'s HTTP; knows no registry and no provider. In go an environment and a question,
//! out comes a [`CloudCredential`], the places that were looked at in vain, or why one of them is broken and what to do about it.
//!
//! | module | holds |
//! |---|---|
//! | [`ask`] | requests and helper programs, and how they fail |
//! | [`aws`], [`azure`], [`google`] | each cloud's chain |
//! | [`stamp`] | times as the clouds write them |

mod ask;
mod aws;
mod azure;
mod google;
mod stamp;
#[cfg(test)]
mod testing;

use std::path::{Path, PathBuf};

use idp_oci::secret::Secret;

pub use ask::{CloudError, Tools};

use super::sources::Cloud;

/// Something that lets one into a cloud.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudCredential {
    /// As the provider contract names it: `aws-keys`, `bearer`.
    pub kind: &'static str,
    /// `source`, `region`, `account`, `expires-at`, …
    pub public: Vec<(String, String)>,
    /// By the names of the kind.
    pub secrets: Vec<(String, Secret)>,
}

impl CloudCredential {
    /// A token of OAuth 2. `issuer` tells it from tokens that a registry gave.
    fn bearer(issuer: &str, token: Secret, source: impl Into<String>, expires_at: Option<u64>) -> Self {
        Self { kind: "bearer", public: Vec::new(), secrets: vec![("token".to_owned(), token)] }
            .with("source", Some(source.into()))
            .with("issuer", Some(issuer.to_owned()))
            .with("expires-at", expires_at.map(|at| at.to_string()))
    }

    fn with(mut self, name: &str, value: Option<String>) -> Self {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.public.push((name.to_owned(), value));
        }
        self
    }

    /// What is public under a name.
    pub fn public(&self, name: &str) -> Option<&str> {
        self.public.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Which of a cloud's identities is wanted, by the provider's settings; the environment says the rest.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// AWS: the profile.
    pub profile: Option<String>,
}

/// Looks for the credential of a cloud. None: nothing is configured anywhere.
pub async fn find(
    cloud: Cloud,
    wanted: &Wanted,
    tools: &Tools,
) -> Result<Option<CloudCredential>, CloudError> {
    match cloud {
        Cloud::Aws => aws::find(wanted, tools).await,
        Cloud::Azure => azure::find(tools).await,
        Cloud::Google => google::find(tools).await,
    }
}

/// Where [`find`] looks, for people who wonder why it found nothing.
pub fn places(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Aws => aws::PLACES,
        Cloud::Azure => azure::PLACES,
        Cloud::Google => google::PLACES,
    }
}

/// What decides which credential [`find`] would give, told without finding it: variables by name and value, files by the time of their last
/// change. It is hashed by whoever keeps it, and shown to nobody.
pub fn selector(cloud: Cloud, wanted: &Wanted, tools: &Tools) -> String {
    let (variables, files) = match cloud {
        Cloud::Aws => (aws::VARIABLES, aws::files(tools)),
        Cloud::Azure => (azure::VARIABLES, azure::files(tools)),
        Cloud::Google => (google::VARIABLES, google::files(tools)),
    };
    let mut text = format!("{cloud} {:?}", wanted.profile);
    for name in variables {
        if let Some(value) = tools.env.named(name) {
            text.push_str(&format!("\n{name}={value:?}"));
        }
    }
    for file in files {
        text.push_str(&format!("\n{} {:?}", file.display(), changed(&file)));
    }
    text
}

fn changed(file: &Path) -> Option<(u64, std::time::SystemTime)> {
    let found = fs_err::metadata(file).ok()?;
    Some((found.len(), found.modified().ok()?))
}

/// A file below the home directory; a path that starts with `~/` is below it too.
fn below_home(tools: &Tools, path: &str) -> Option<PathBuf> {
    match path.strip_prefix("~/") {
        Some(rest) => Some(tools.env.path(super::env::HOME)?.join(rest)),
        None => Some(PathBuf::from(path)),
    }
}
