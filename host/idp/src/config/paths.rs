//! Where our own files are. Names only; nothing is created here.

use std::path::PathBuf;

use idp_oci::name::Registry;

use super::env::{self, Environment};

/// Directories and files of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The home directory; `None` in a process without one, which then has no files.
    pub home: Option<PathBuf>,
    cache: Option<PathBuf>,
}

impl Paths {
    /// From `HOME` and the variables that override parts of it.
    pub fn new(env: &Environment) -> Self {
        Self { home: env.path(env::HOME), cache: env.path(env::CACHE_DIR) }
    }

    fn base(&self) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(".idpbuilder"))
    }

    /// `~/.idpbuilder/registries.yaml`.
    pub fn registries(&self) -> Option<PathBuf> {
        self.base().map(|base| base.join("registries.yaml"))
    }

    /// `~/.idpbuilder/oci-cache`, or `IDPBUILDER_OCI_CACHE_DIR`.
    pub fn cache(&self) -> Option<PathBuf> {
        self.cache.clone().or_else(|| self.base().map(|base| base.join("oci-cache")))
    }

    /// What plain layers became when they were packed.
    pub fn layers(&self) -> Option<PathBuf> {
        self.state().map(|state| state.join("layers.json"))
    }

    /// What talking to registries has taught, and what is under way: small files that another command goes on with.
    pub fn state(&self) -> Option<PathBuf> {
        self.base().map(|base| base.join("state"))
    }

    /// Upload sessions of processes that were cut off.
    pub fn uploads(&self) -> Option<PathBuf> {
        self.state().map(|state| state.join("uploads"))
    }

    /// What was learned of a registry: a file each.
    pub fn learned(&self, registry: &Registry) -> Option<PathBuf> {
        let name = registry.to_string().replace([':', '[', ']'], "_");
        self.state().map(|state| state.join("hosts").join(format!("{name}.json")))
    }

    /// `~/.idpbuilder/providers`: components that were installed.
    pub fn providers(&self) -> Option<PathBuf> {
        self.base().map(|base| base.join("providers"))
    }

    /// `~/.idpbuilder/registry`: the content of the embedded registry.
    pub fn registry(&self) -> Option<PathBuf> {
        self.base().map(|base| base.join("registry"))
    }

    /// `~/.idpbuilder/registry.yaml`: how the embedded registry is served.
    pub fn registry_settings(&self) -> Option<PathBuf> {
        self.base().map(|base| base.join("registry.yaml"))
    }

    /// What the embedded registry says when it runs in the background.
    pub fn registry_log(&self) -> Option<PathBuf> {
        self.state().map(|state| state.join("registry.log"))
    }
}

#[cfg(test)]
mod tests {
    use super::Paths;
    use crate::config::env::Environment;

    #[test]
    fn under_home_unless_told() {
        let paths = Paths::new(&Environment::of([("HOME", "/h")]));
        assert_eq!(paths.registries(), Some("/h/.idpbuilder/registries.yaml".into()));
        assert_eq!(paths.cache(), Some("/h/.idpbuilder/oci-cache".into()));
        let paths = Paths::new(&Environment::of([("IDPBUILDER_OCI_CACHE_DIR", "/c")]));
        assert_eq!((paths.registries(), paths.cache()), (None, Some("/c".into())));
    }
}
