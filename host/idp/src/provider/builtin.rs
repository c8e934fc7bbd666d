//! The providers that are part of idp. With the feature `bundled` they are inside the binary, precompiled; without it they are read from
//! `$IDP_PROVIDER_DIR`, in debug builds from the workspace's `target/providers`, else from `providers` beside the executable. Nothing but the chosen one is touched.

use std::path::PathBuf;

use super::manifest::{Manifest, ManifestError};

/// A provider that is part of idp.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BuiltIn {
    /// As in its manifest.
    pub(crate) name: &'static str,
    manifest: &'static str,
    /// Code for [`super::engine::Backend::BUILT_IN`].
    pub(crate) code: Option<&'static [u8]>,
}

/// One a directory of `plugins/`, by name; written by `build.rs`. The last resort is `generic`.
pub(crate) const ALL: &[BuiltIn] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// What answers for a registry that nobody else knows.
pub(crate) const GENERIC: &str = "generic";

impl BuiltIn {
    /// The one of a name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|provider| provider.name == name)
    }

    /// Its manifest, as the build read it; a test checks it as a stranger's is checked.
    pub(crate) fn manifest(&self) -> Result<Manifest, ManifestError> {
        serde_json::from_str(self.manifest).map_err(|error| ManifestError::Syntax(error.to_string()))
    }

    /// Where the component lies when it is not inside the binary.
    pub(crate) fn path(&self) -> PathBuf {
        let directory = std::env::var_os("IDP_PROVIDER_DIR").map(PathBuf::from);
        directory.unwrap_or_else(workspace).join(format!("{}.wasm", self.name))
    }
}

/// The workspace's own directory is known to debug builds only: a release must not depend on where it was built.
fn workspace() -> PathBuf {
    if cfg!(debug_assertions) {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/providers"))
    } else {
        // Never the working directory: what lies there would run as part of idp.
        let beside = std::env::current_exe().ok();
        beside.map_or_else(|| PathBuf::from("/nonexistent"), |program| program.with_file_name("providers"))
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, BuiltIn, GENERIC, Manifest};

    #[test]
    fn every_manifest_parses_and_names_its_provider() {
        for provider in ALL {
            let path =
                format!("{}/../../plugins/{}/provider.toml", env!("CARGO_MANIFEST_DIR"), provider.name);
            let text = fs_err::read_to_string(path).expect("a manifest");
            let checked = Manifest::parse(&text).expect(provider.name);
            assert_eq!(checked, provider.manifest().expect(provider.name));
            assert_eq!(checked.name, provider.name);
        }
        assert!(BuiltIn::find(GENERIC).is_some());
    }
}
