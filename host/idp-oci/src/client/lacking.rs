//! What a registry says it lacks when it refuses a manifest: `MANIFEST_BLOB_UNKNOWN`, or `BLOB_UNKNOWN` (case 51).

use std::collections::BTreeSet;

use super::error::RegistryError;
use crate::digest::Digest;

/// Whether an error is about something that the registry lacks.
pub(crate) fn is(error: &RegistryError) -> bool {
    ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"].iter().any(|code| error.code.eq_ignore_ascii_case(code))
}

/// The digests that a refusal names; empty when it was refused for another reason. Registries write them into the detail as a
/// string or an object of their own, or into the message.
pub(crate) fn of(errors: &[RegistryError]) -> BTreeSet<Digest> {
    errors
        .iter()
        .filter(|error| is(error))
        .flat_map(|error| [error.message.as_str(), error.detail.as_deref().unwrap_or_default()])
        .flat_map(digests)
        .collect()
}

fn digests(text: &str) -> impl Iterator<Item = Digest> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != ':')
        .filter_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::digests;
    use crate::digest::Digest;

    #[test]
    fn digests_are_found_in_any_text() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        for text in
            [format!("blob {one}, {two} unknown"), format!(r#"{{"digest":"{one}","Other":["{two}"]}}"#)]
        {
            assert_eq!(digests(&text).collect::<Vec<_>>(), [one.clone(), two.clone()], "{text}");
        }
        assert_eq!(digests("sha256:0 nothing").count(), 0);
    }
}
