//! `registry.yaml`: how the embedded registry is served. Text in, checked values out; the only I/O is reading the file. Without the file
//! everything has its default, and nothing needs to be written into it. What each part holds is said where it is used, in `idp_oci`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::registries::{RegistriesError, read_yaml};

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port. Unless given: the loopback address, and the port of last time or the first free one from 5000 on.
    pub listen: Option<SocketAddr>,
    /// The directory of the content, relative to the file; `~/.idpbuilder/registry` unless given.
    pub root: Option<PathBuf>,
    #[serde(skip)]
    file: Option<PathBuf>,
}

impl ServerConfig {
    /// Reads the file. One that is not there is an empty one, unless it was asked for.
    pub fn load(file: Option<&Path>, asked_for: bool) -> Result<Self, RegistriesError> {
        let Some(file) = file else { return Ok(Self::default()) };
        match read_yaml::<Self>(file)? {
            Some((config, _)) => Ok(Self { file: Some(file.to_owned()), ..config }),
            None if asked_for => Err(RegistriesError::Read {
                file: file.to_owned(),
                error: std::io::ErrorKind::NotFound.into(),
            }),
            None => Ok(Self::default()),
        }
    }

    /// A path in the file is relative to the file.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        match self.file.as_deref().and_then(Path::parent) {
            Some(folder) => folder.join(path),
            None => path.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ServerConfig;

    #[test]
    fn read_with_paths_beside_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("registry.yaml");
        assert!(ServerConfig::load(Some(&file), true).is_err());
        assert!(ServerConfig::load(Some(&file), false).expect("nothing").listen.is_none());
        std::fs::write(&file, "# nothing\n").expect("written");
        assert!(ServerConfig::load(Some(&file), true).expect("empty").root.is_none());
        std::fs::write(&file, "listen: 127.0.0.1:5001\nroot: data\n").expect("written");
        let config = ServerConfig::load(Some(&file), true).expect("read");
        assert_eq!(config.listen, Some("127.0.0.1:5001".parse().expect("an address")));
        assert_eq!(config.resolve(config.root.as_deref().expect("a path")), directory.path().join("data"));
        std::fs::write(&file, "listen: 127.0.0.1:5001\nrot: data\n").expect("written");
        let error = ServerConfig::load(Some(&file), true).expect_err("a typing mistake").to_string();
        assert!(error.contains("registry.yaml:2:1") && error.contains("rot"), "{error}");
    }
}
