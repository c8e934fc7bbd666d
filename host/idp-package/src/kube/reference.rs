//! Image references as a container runtime reads them: `nginx` is `docker.io/library/nginx`.

use idp_oci::name::{NameError, Reference, Registry};

/// Why a text is no image reference.
pub type BadImage = NameError;

/// The reference with its registry and, on Docker Hub, its `library/`; a tag is not made up where there is none.
///
/// # Errors
/// It is none that a runtime would take.
pub fn normalise(text: &str) -> Result<Reference, BadImage> {
    let hub: Registry = "docker.io".parse()?;
    // A scheme belongs to other places; no runtime takes it.
    if text.contains("://") {
        return Err(NameError::Registry(text.chars().take(300).collect()));
    }
    let mut reference = Reference::parse(text, Some(&hub))?;
    if reference.registry.as_str() == "index.docker.io" {
        reference.registry = hub.clone();
    }
    if reference.registry == hub && !reference.repository.as_str().contains('/') {
        reference.repository = format!("library/{}", reference.repository).parse()?;
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn as_a_runtime_reads_them() {
        for (text, expect) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx"),
            ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
            ("quay.io/a/b:c", "quay.io/a/b:c"),
            ("localhost:5000/x", "localhost:5000/x"),
        ] {
            assert_eq!(normalise(text).expect(text).to_string(), expect);
        }
        for bad in ["", "Nginx", "nginx:", "a b", "https://quay.io/a/b", "nginx@sha256:1"] {
            assert!(normalise(bad).is_err(), "{bad}");
        }
    }
}
