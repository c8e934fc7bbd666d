//! How operations fail. Fields hold what a decision needs; `cli::error` makes sentences, hints and exit codes of them.

use std::path::PathBuf;

use idp_oci::client::ClientError;
use idp_oci::name::NameError;
use idp_oci::pipeline::PipelineError;
use idp_oci::sink::SinkError;
use idp_oci::source::SourceError;
use idp_package::build::PackageError;
use idp_package::resolve::ResolveError;
use idp_package::trust::TrustError;

use crate::config::credentials::CredentialError;
use crate::config::env::EnvError;
use crate::config::registries::RegistriesError;
use crate::config::store::StoreError;
use crate::provider::ProviderError;

/// Why an operation did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An environment variable.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// `registries.yaml`.
    #[error(transparent)]
    Registries(#[from] RegistriesError),
    /// A name on the command line.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Something on the command line that cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// No registry is named anywhere.
    #[error("no registry is named")]
    NoRegistry,
    /// An administrator switched push off.
    #[error("pushing is switched off (`ociPush.enabled: false` in `{}`)", .0.display())]
    PushDisabled(PathBuf),
    /// Credentials are broken.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// Credentials cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was to be pushed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Where something was to be pulled to.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The provider.
    #[error(transparent)]
    Provider(Box<ProviderError>),
    /// The provider could not be made ready.
    #[error("{0}")]
    Dialect(String),
    /// The registry or the way to it.
    #[error("{error}")]
    Registry {
        /// Which.
        registry: String,
        /// Where the credential came from; `None` when there was none.
        credential: Option<String>,
        /// Where one was looked for in vain, and where it was not to be looked for.
        notes: Vec<String>,
        /// What happened.
        error: Box<ClientError>,
    },
    /// Something that is to be there is not, and nothing is to be made.
    #[error("{0}")]
    Missing(String),
    /// Something that was asked for is not there.
    #[error("{0}")]
    Absent(String),
    /// Several registries, and none of them did it.
    #[error("{last}")]
    Several {
        /// How many.
        errors: usize,
        /// What the last one said.
        last: Box<Self>,
    },
    /// Source or sink, with its name, or an image that is not followed.
    #[error(transparent)]
    Pipeline(Box<PipelineError>),
    /// A directory that is no package.
    #[error(transparent)]
    Package(Box<PackageError>),
    /// What is there is not what it should be.
    #[error("{0}")]
    Unfit(String),
    /// It is there already, and is something else.
    #[error("{0}")]
    Conflict(String),
    /// Dependencies that do not come together.
    #[error(transparent)]
    Resolve(Box<ResolveError>),
    /// Keys, signatures and what else lies beside a package.
    #[error(transparent)]
    Trust(Box<TrustError>),
    /// The policy does not allow it.
    #[error("{0}")]
    Refused(String),
    /// A file of ours.
    #[error("{what}: {error}")]
    Io {
        /// What was done to it.
        what: String,
        /// Why it failed.
        error: std::io::Error,
    },
}

impl Error {
    /// The user wants no more of it.
    pub(super) fn interrupted() -> Self {
        Self::Pipeline(Box::new(ClientError::Interrupted.into()))
    }
}

impl From<PackageError> for Error {
    fn from(error: PackageError) -> Self {
        Self::Package(Box::new(error))
    }
}

impl From<ProviderError> for Error {
    fn from(error: ProviderError) -> Self {
        Self::Provider(Box::new(error))
    }
}
