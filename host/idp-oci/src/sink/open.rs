//! What DEST on the command line means.

use std::path::Path;

use crate::sink::{ArchiveSink, DirectorySink, DockerSink, LayoutSink, Sink, SinkError};

/// Finds the destination that `text` names; relative paths start at `base`.
///
/// `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-daemon:[NAME]` (or `docker:[NAME]`); else a directory to unpack an
/// artifact into.
pub fn open(text: &str, base: &Path) -> Result<Box<dyn Sink>, SinkError> {
    let needs = |what: &str| SinkError::NotFound(format!("`{text}` needs {what} after the colon"));
    match text.split_once(':') {
        Some(("oci", rest)) => {
            let (path, name) = split(rest, base)?;
            if path.is_empty() { Err(needs("a directory")) } else { Ok(Box::new(LayoutSink::new(base.join(path), name))) }
        }
        Some(("oci-archive", rest)) => {
            let (path, name) = split(rest, base)?;
            if path.is_empty() { Err(needs("a file")) } else { Ok(Box::new(ArchiveSink::new(base.join(path), name))) }
        }
        Some(("docker-daemon" | "docker", rest)) => {
            let name = Some(rest.to_owned()).filter(|name| !name.is_empty());
            if let Some(name) = &name
                && (name.contains('@') || crate::daemon::path_of_name(name).is_err())
            {
                return Err(SinkError::Unsupported(format!("`{name}` is not a name for an image: write name[:tag]")));
            }
            Ok(Box::new(DockerSink::from_env(name)?))
        }
        Some(("docker-archive", _)) => Err(SinkError::Unsupported(
            "docker-archive: is not written; oci-archive: is, and `docker load` of Docker 25 and later reads it".to_owned(),
        )),
        _ if text.is_empty() => Err(SinkError::NotFound("the destination is empty".to_owned())),
        _ => Ok(Box::new(DirectorySink::new(base.join(text)))),
    }
}

/// Path and tag of `PATH[:TAG]`; a path that exists as it stands is all path.
fn split<'a>(text: &'a str, base: &Path) -> Result<(&'a str, Option<String>), SinkError> {
    match text.rsplit_once(':') {
        Some((path, name)) if !base.join(text).exists() && !name.contains('/') => {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@".contains(&byte);
            if name.is_empty() || name.len() > 255 || !name.bytes().all(good) {
                return Err(SinkError::Unsupported(format!("`{name}` is not a tag")));
            }
            Ok((path, Some(name.to_owned())))
        }
        _ => Ok((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::{open, split};

    fn described(text: &str, base: &Path) -> String {
        match open(text, base) {
            Ok(sink) => sink.describe(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn what_an_argument_means() {
        let base = Path::new("/nonexistent");
        for (text, expect) in [
            ("oci:out", "OCI layout /nonexistent/out"),
            ("oci:out:1.0", "OCI layout /nonexistent/out"),
            ("oci-archive:a/b.tar", "OCI archive /nonexistent/a/b.tar"),
            ("out", "directory /nonexistent/out"),
            ("oci:", "error: `oci:` needs a directory after the colon"),
            ("oci:out:a b", "error: `a b` is not a tag"),
            ("", "error: the destination is empty"),
        ] {
            assert_eq!(described(text, base), expect, "{text}");
        }
        assert!(described("docker-archive:x", base).contains("is not written"));
        assert!(described("docker:app@sha256:0", base).contains("is not a name"));
        assert!(described("docker:", base).starts_with("the Docker daemon at "));
        assert_eq!(split("out:1.0", base).expect("both"), ("out", Some("1.0".to_owned())));
        assert_eq!(split("./a:b/c", base).expect("a path"), ("./a:b/c", None));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(oci:|oci-archive:|docker:|)[a-zé:@/._0]{0,20}") {
            let _ = open(&text, Path::new("/nonexistent")).map(|sink| sink.describe());
        }
    }
}
