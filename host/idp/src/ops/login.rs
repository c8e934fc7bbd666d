//! Login: credentials are checked with the registry, then kept. Logout: they are forgotten.

use serde::{Serialize, Serializer};

use super::session::{self, Subject};
use super::{Context, Error};
use crate::config::credentials::Found;
use crate::config::store::{self, Place};

/// A login that worked.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Login {
    /// Where.
    pub registry: String,
    /// Who the registry says it is, else the user name, else the kind of credential.
    pub account: String,
    /// The provider that checked it.
    pub provider: String,
    /// Where the credential is kept.
    #[serde(serialize_with = "place")]
    pub place: Place,
}

impl Login {
    /// The place in words.
    pub fn kept_by(&self) -> String {
        words(&self.place)
    }
}

/// What a logout did.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Logout {
    /// Where.
    pub registry: String,
    /// The places that held something.
    pub removed_from: Vec<String>,
    /// Where credentials for it still come from.
    pub remaining: Option<String>,
}

fn words(place: &Place) -> String {
    match place {
        Place::Helper(helper) => format!("credential helper {helper}"),
        Place::File(file) => file.display().to_string(),
    }
}

fn place<S: Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&words(place))
}

/// Checks the credential of the flags or the environment with the default registry and keeps it. Nothing is kept that was refused.
pub async fn login(context: &Context) -> Result<Login, Error> {
    let (address, _) = context.default_registry()?.ok_or(Error::NoRegistry)?;
    let registry = address.registry;
    let Some(Found { credential, .. }) = context.credentials.explicit(&registry)? else {
        return Err(Error::Usage("no user name and password, and no token, is given".to_owned()));
    };
    let session =
        session::open(context, Subject { registry: &registry, repository: None, tag: None }).await?;
    let account = session.verify().await?;
    let place = store::store(&registry, &credential, &context.env).await?;
    let account = account
        .or_else(|| credential.username().map(str::to_owned))
        .unwrap_or_else(|| format!("the holder of a {}", credential.kind()));
    Ok(Login { registry: registry.to_string(), account, provider: session.provider, place })
}

/// Forgets what is kept for the default registry.
pub async fn logout(context: &Context) -> Result<Logout, Error> {
    let (address, _) = context.default_registry()?.ok_or(Error::NoRegistry)?;
    let registry = address.registry;
    let removed_from = store::erase(&registry, &context.env).await?.iter().map(words).collect();
    let remaining = context.credentials.find(&registry, None).await?.map(|found| found.source);
    Ok(Logout { registry: registry.to_string(), removed_from, remaining })
}
