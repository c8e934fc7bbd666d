//! The users of the embedded registry: a file that a running one reads again when it changes.

use std::path::{Path, PathBuf};

use idp_oci::secret::Secret;
use idp_oci::server::auth::AuthKind;
use idp_oci::server::users::{self, Change, UserError};

use super::{Found, look, registry_of};
use crate::config::credentials::Credential;
use crate::config::server::ServerConfig;
use crate::config::store::{self, Place};
use crate::ops::serve::root_of;
use crate::ops::{Context, Error};

/// Which users.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Their file.
    pub file: Option<PathBuf>,
    /// The settings that may name it.
    pub config: Option<PathBuf>,
}

/// What became of a user.
#[derive(Debug)]
pub struct Added {
    /// `added` or `changed`.
    pub change: &'static str,
    /// Where.
    pub file: PathBuf,
    /// Whether the settings ask for users.
    pub asked_for: bool,
    /// Where the credential is kept for who ran the command.
    pub kept: Option<Place>,
    /// For which registry.
    pub registry: Option<String>,
}

fn file(context: &Context, request: &Request) -> Result<(PathBuf, ServerConfig), Error> {
    let config = ServerConfig::of(&context.paths, request.config.as_deref())?;
    let file = match (&request.file, &config.auth.users) {
        (Some(file), _) => file.clone(),
        (None, Some(file)) => file.clone(),
        (None, None) => root_of(context, None, &config)?.join("users"),
    };
    Ok((file, config))
}

fn failed(what: &str, error: UserError) -> Error {
    match error {
        UserError::Name { .. } | UserError::Password(_) => Error::Usage(error.to_string()),
        UserError::Unknown { .. } => Error::Absent(error.to_string()),
        other => Error::Io { what: what.to_owned(), error: std::io::Error::other(other) },
    }
}

/// Adds a user, or changes the password. With `login` the credential is kept for the running registry's address as well.
pub async fn add(
    context: &Context,
    request: &Request,
    name: &str,
    password: &Secret,
    login: bool,
) -> Result<Added, Error> {
    let (file, config) = file(context, request)?;
    if let Some(folder) = file.parent().filter(|folder| *folder != Path::new("")) {
        fs_err::create_dir_all(folder)
            .map_err(|error| Error::Io { what: "making the users file".to_owned(), error })?;
    }
    let change =
        users::set(&file, name, password).map_err(|error| failed("writing the users file", error))?;
    let change = match change {
        Change::Added => "added",
        Change::Changed => "changed",
    };
    let (mut kept, mut registry) = (None, None);
    if login {
        let Found::Running(note) = look(&context.paths) else {
            return Err(Error::Usage(format!(
                "{name} is {change}, and --login keeps a credential for an address: start the registry first"
            )));
        };
        let here = registry_of(&note);
        let credential = Credential::Basic { username: name.to_owned(), password: password.clone() };
        kept = Some(store::store(&here, &credential, &context.env).await?);
        registry = Some(here.to_string());
    }
    Ok(Added { change, file, asked_for: config.auth.kind != AuthKind::None, kept, registry })
}

/// Removes a user.
pub fn remove(context: &Context, request: &Request, name: &str) -> Result<(), Error> {
    let (file, _) = file(context, request)?;
    if !file.exists() {
        let text = format!("there is no users file `{}`, and so no user `{name}`", file.display());
        return Err(Error::Absent(text));
    }
    users::remove(&file, name).map_err(|error| failed("writing the users file", error))
}

/// The names of all users; none where there is no file.
pub fn list(context: &Context, request: &Request) -> Result<Vec<String>, Error> {
    let (file, _) = file(context, request)?;
    if !file.exists() {
        return Ok(Vec::new());
    }
    users::list(&file).map_err(|error| failed("reading the users file", error))
}
