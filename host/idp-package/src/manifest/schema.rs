//! The format as a JSON Schema (2020-12), made from the types, for editors and for whoever writes the file by program.

use super::{API_VERSION, KIND, Manifest};

/// The schema; `docs/reference/idp-package.schema.json` is a copy of it.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Manifest).to_value();
    if let Some(properties) = schema.get_mut("properties").and_then(|found| found.as_object_mut()) {
        for (key, value) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            if let Some(property) = properties.get_mut(key).and_then(|found| found.as_object_mut()) {
                property.insert("const".to_owned(), value.into());
            }
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Editors read the file; `IDP_BLESS` writes it anew.
    #[test]
    fn the_published_schema_is_that_of_the_types() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/idp-package.schema.json");
        let mut text = serde_json::to_string_pretty(&super::schema()).expect("JSON");
        text.push('\n');
        if std::env::var_os("IDP_BLESS").is_some() {
            std::fs::write(&path, &text).expect("docs/reference can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == text,
            "docs/reference/idp-package.schema.json is out of date: run `cargo xtask bless`"
        );
    }
}
