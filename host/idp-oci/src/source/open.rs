//! What SOURCE on the command line means.

use std::path::Path;

use crate::digest::Digest;
use crate::source::{
    ArchiveKind, ArchiveSource, DirectorySource, DockerSource, LayoutSource, Source, SourceError,
};

/// Finds the source that `text` names; relative paths start at `base`.
///
/// `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:NAME]`, `docker-daemon:NAME` (or `docker:NAME`); else
/// a directory (an OCI layout, or any other as an artifact), a tar, or the name of an image in the Docker daemon.
pub fn open(text: &str, base: &Path) -> Result<Box<dyn Source>, SourceError> {
    let needs = |what: &str| SourceError::Malformed(format!("`{text}` needs {what} after the colon"));
    match text.split_once(':') {
        Some(("oci", rest)) => {
            let (path, name) = split(rest, base);
            if path.is_empty() {
                Err(needs("a directory"))
            } else {
                Ok(Box::new(LayoutSource::new(base.join(path), name)))
            }
        }
        Some((kind @ ("oci-archive" | "docker-archive"), rest)) => {
            let (path, name) = split(rest, base);
            if path.is_empty() {
                return Err(needs("a file"));
            }
            let kind = if kind == "oci-archive" { ArchiveKind::Oci } else { ArchiveKind::Docker };
            Ok(Box::new(ArchiveSource::new(base.join(path), kind, name)))
        }
        Some(("docker-daemon" | "docker", rest)) => {
            if rest.is_empty() {
                return Err(needs("the name of an image"));
            }
            Ok(Box::new(DockerSource::from_env(rest)?))
        }
        _ => by_looking(text, base),
    }
}

fn by_looking(text: &str, base: &Path) -> Result<Box<dyn Source>, SourceError> {
    if text.is_empty() {
        return Err(SourceError::Malformed(
            "the source is empty: name a directory, a file or an image".to_owned(),
        ));
    }
    let path = base.join(text);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() && LayoutSource::is_layout(&path) => {
            Ok(Box::new(LayoutSource::new(path, None)))
        }
        Ok(metadata) if metadata.is_dir() => Ok(Box::new(DirectorySource::new(path))),
        Ok(_) => Ok(Box::new(ArchiveSource::new(path, ArchiveKind::Detect, None))),
        Err(_) if text.starts_with(['/', '.']) => {
            Err(SourceError::NotFound(format!("there is no file or directory {}", path.display())))
        }
        Err(_) => Ok(Box::new(DockerSource::from_env(text)?.after_looking())),
    }
}

/// Path and name of `PATH[:NAME]` or `PATH@DIGEST`. A path that exists as it stands is all path; a name that is itself a
/// reference (`app:1`, `host/app:1`) starts at the first colon after which the path exists.
fn split<'a>(text: &'a str, base: &Path) -> (&'a str, Option<String>) {
    if base.join(text).exists() {
        return (text, None);
    }
    if let Some((path, digest)) = text.rsplit_once('@')
        && digest.parse::<Digest>().is_ok()
    {
        return (path, Some(digest.to_owned()));
    }
    let colons = text.match_indices(':').map(|(at, _)| at);
    let existing = colons.clone().find(|at| *at > 0 && base.join(&text[..*at]).exists());
    match existing.or_else(|| colons.clone().next()) {
        Some(at) => (&text[..at], Some(text[at + 1..].to_owned()).filter(|name| !name.is_empty())),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::{open, split};

    fn described(text: &str, base: &Path) -> String {
        match open(text, base) {
            Ok(source) => source.describe().replace(&format!("{}/", base.display()), ""),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn what_an_argument_means() {
        let base = tempfile::tempdir().expect("a directory");
        let base = base.path();
        std::fs::create_dir_all(base.join("layout")).expect("made");
        std::fs::create_dir_all(base.join("tree")).expect("made");
        std::fs::create_dir_all(base.join("odd:name")).expect("made");
        std::fs::write(base.join("layout/oci-layout"), "{}").expect("written");
        std::fs::write(base.join("image.tar"), "").expect("written");
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, expect) in [
            ("oci:layout", "OCI layout layout"),
            ("oci:layout:1.0", "OCI layout layout, image 1.0"),
            ("oci:odd:name", "OCI layout odd:name"),
            ("oci:odd:name:1", "OCI layout odd:name, image 1"),
            (&format!("oci:layout@{digest}"), &format!("OCI layout layout, image {digest}")),
            ("oci:", "error: `oci:` needs a directory after the colon"),
            ("oci-archive:image.tar", "OCI archive image.tar"),
            ("docker-archive:image.tar:team/app:1", "docker archive image.tar, image team/app:1"),
            ("docker-archive:absent.tar:app:1", "docker archive absent.tar, image app:1"),
            ("docker:", "error: `docker:` needs the name of an image after the colon"),
            ("layout", "OCI layout layout"),
            ("./tree", "directory ./tree"),
            ("image.tar", "archive image.tar"),
            ("", "error: the source is empty: name a directory, a file or an image"),
        ] {
            assert_eq!(described(text, base), expect, "{text}");
        }
        assert!(described("./absent", base).starts_with("error: there is no file or directory"));
        assert!(described("docker-daemon:app:1", base).starts_with("image app:1 of the Docker daemon at "));
        assert!(described("app:1", base).starts_with("image app:1 of the Docker daemon at "));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(oci:|oci-archive:|docker-archive:|docker:|)[a-zé:@/._0]{0,20}") {
            let base = Path::new("/nonexistent");
            let _ = open(&text, base).map(|source| source.describe());
            let (path, _) = split(&text, base);
            prop_assert!(text.starts_with(path));
        }
    }
}
