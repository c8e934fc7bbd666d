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
