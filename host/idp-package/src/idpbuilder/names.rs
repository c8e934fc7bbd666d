//! Names: what Kubernetes and Gitea take, and what idpbuilder makes of two.

/// What Gitea takes for a repository; idpbuilder puts `idpbuilder-localdev-` before the names that it makes.
const MAX_REPOSITORY: usize = 100 - "idpbuilder-localdev-".len();

/// A DNS label made of a text; none where nothing is left.
pub(super) fn label(text: &str) -> Option<String> {
    let mut label = String::new();
    for char in text.chars() {
        match char.to_ascii_lowercase() {
            char if char.is_ascii_lowercase() || char.is_ascii_digit() => label.push(char),
            _ if label.is_empty() || label.ends_with('-') => {}
            _ => label.push('-'),
        }
    }
    label.truncate(63);
    let label = label.trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

/// The Git repository that idpbuilder pushes a directory to.
pub(super) fn repository(application: &str, base: &str) -> String {
    format!("{application}-{base}")
}

/// The object that idpbuilder makes of a file.
pub(super) fn custom_package(file: &str, application: &str) -> String {
    let first = file.split('.').next().unwrap_or_default().to_lowercase();
    format!("{first}-{application}")
}

/// Why a repository cannot be called so.
pub(super) fn refuse_repository(name: &str) -> Option<String> {
    if name.len() > MAX_REPOSITORY {
        return Some(format!("longer than {MAX_REPOSITORY} characters, and Gitea refuses it"));
    }
    refuse_object(name)
}

/// Why no object of Kubernetes can be called so: names are DNS subdomains.
pub(super) fn refuse_object(name: &str) -> Option<String> {
    let inner = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
    let good = name.len() <= 253
        && name.split('.').all(|part| {
            part.starts_with(inner)
                && part.ends_with(inner)
                && part.chars().all(|char| inner(char) || char == '-')
        });
    (!good)
        .then(|| "no name of an object: Kubernetes takes lower-case letters, digits, `-` and `.`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{custom_package, label, refuse_object, refuse_repository};

    #[test]
    fn labels() {
        let made = |text: &str| label(text).unwrap_or_default();
        assert_eq!(made("ref-implementation"), "ref-implementation");
        assert_eq!(made("My Package_v2.0"), "my-package-v2-0");
        assert_eq!(made("--a--"), "a");
        assert_eq!(made("日本"), "");
        assert_eq!(made(&format!("{}-b", "a".repeat(62))), "a".repeat(62));
    }

    #[test]
    fn names_that_are_refused() {
        assert_eq!(custom_package("My_App.v1.yaml", "x"), "my_app-x");
        for good in ["a", "a-b.c1", "web-dev-web"] {
            assert_eq!(refuse_object(good), None, "{good}");
        }
        for bad in ["", "-a", "a-", "a_b", "A", "a..b", "a/b"] {
            assert!(refuse_object(bad).is_some(), "{bad}");
        }
        assert!(refuse_repository(&"a".repeat(80)).is_none());
        assert!(refuse_repository(&"a".repeat(81)).is_some());
    }
}
