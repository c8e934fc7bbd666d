//! Shapes from CustomResourceDefinitions (their structural schemas) and from JSON Schemas: the part of both that says
//! which fields there are, their types, and which are required.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kube::{Node, Object};

use super::{Fields, GroupVersionKind, Shape};

/// Schemas nest no deeper.
const DEEPEST: usize = 64;
/// A schema that is inside itself in many places would grow without end.
const MOST: usize = 100_000;

/// A version of a kind that a CustomResourceDefinition brings.
#[derive(Debug, Clone)]
pub(crate) struct CrdKind {
    pub(crate) kind: GroupVersionKind,
    pub(crate) shape: Shape,
    pub(crate) namespaced: bool,
    pub(crate) served: bool,
    pub(crate) deprecated: bool,
}

/// The kinds of a CustomResourceDefinition.
pub(crate) fn kinds_of(object: &Object<'_>) -> Vec<CrdKind> {
    if !object.is("apiextensions.k8s.io", "CustomResourceDefinition") {
        return Vec::new();
    }
    let Some(spec) = object.at(&["spec"]) else { return Vec::new() };
    let (Some(group), Some(kind)) = (spec.text_at(&["group"]), spec.text_at(&["names", "kind"])) else {
        return Vec::new();
    };
    let namespaced = spec.text_at(&["scope"]) != Some("Cluster");
    let versions = spec.get("versions").map_or(&[][..], Node::items);
    let one = |version: &Node| {
        let name = version.text_at(&["name"])?;
        let schema = version.at(&["schema", "openAPIV3Schema"]);
        let mut shape = schema.map_or(Shape::Any, of_schema);
        if let Shape::Object(fields) = &mut shape {
            let fields = Arc::make_mut(fields);
            kind.clone_into(&mut fields.name);
            whole_object(fields);
        }
        Some(CrdKind {
            kind: GroupVersionKind::new(group, name, kind),
            shape,
            namespaced,
            served: version.get("served").is_none_or(Node::is_true),
            deprecated: version.get("deprecated").is_some_and(Node::is_true),
        })
    };
    versions.iter().filter_map(one).collect()
}

/// What every object has, whether its schema says so or not.
fn whole_object(fields: &mut Fields) {
    for key in ["apiVersion", "kind"] {
        fields.fields.insert(key.to_owned(), Shape::String(Vec::new()));
    }
    for key in ["metadata", "status"] {
        fields.fields.insert(key.to_owned(), Shape::Any);
    }
    fields.required.retain(|name| name != "status");
}

/// The shape of a schema; `$ref: "#/…"` starts from it, too.
pub(super) fn of_schema(schema: &Node) -> Shape {
    inner(schema, schema, 0, &mut { MOST })
}

fn inner(schema: &Node, root: &Node, depth: usize, left: &mut usize) -> Shape {
    if depth > DEEPEST || *left == 0 {
        return Shape::Any;
    }
    *left -= 1;
    if let Some(reference) = schema.text_at(&["$ref"]) {
        let Some(path) = reference.strip_prefix("#/") else { return Shape::Any };
        let path: Vec<&str> = path.split('/').collect();
        // A schema may be inside itself; then it is followed some steps.
        return root.at(&path).map_or(Shape::Any, |schema| inner(schema, root, depth + 8, left));
    }
    let is = |key: &str| schema.get(key).is_some_and(Node::is_true);
    if is("x-kubernetes-int-or-string") {
        return Shape::IntOrString;
    }
    // Several schemas at once are more than names and types.
    let combined = ["anyOf", "oneOf", "allOf"]
        .iter()
        .any(|key| schema.get(key).is_some_and(|node| !node.items().is_empty()));
    let kind = match schema.get("type") {
        Some(node) if node.items().is_empty() => node.text(),
        // `["string", "null"]`, as kubeconform's schemas write what may be null.
        Some(node) => {
            let mut kinds = node.items().iter().filter_map(Node::text).filter(|kind| *kind != "null");
            match (kinds.next(), kinds.next()) {
                (Some(kind), None) => Some(kind),
                _ => return Shape::Any,
            }
        }
        None if schema.get("properties").is_some() => Some("object"),
        None => None,
    };
    match kind {
        Some("string") if schema.text_at(&["format"]) == Some("int-or-string") => Shape::IntOrString,
        Some("string") => {
            let choices = schema.get("enum").map_or(&[][..], Node::items).iter();
            Shape::String(choices.filter_map(Node::text).map(str::to_owned).collect())
        }
        Some("integer") => Shape::Integer,
        Some("number") => Shape::Number,
        Some("boolean") => Shape::Boolean,
        Some("array") => {
            let items = schema.get("items").map_or(Shape::Any, |items| inner(items, root, depth + 1, left));
            Shape::List(Arc::new(items))
        }
        Some("object") => {
            let properties = schema.get("properties").map_or(&[][..], Node::entries);
            let additional = schema.get("additionalProperties").filter(|node| !node.is_null());
            let closed = additional.is_some_and(|node| node.text().is_some() && !node.is_true());
            let keeps = is("x-kubernetes-preserve-unknown-fields") || is("x-kubernetes-embedded-resource");
            if properties.is_empty() && !closed {
                let values = additional.filter(|node| !node.entries().is_empty());
                // Without `properties` a structural schema would lose every key; nobody means that.
                return Shape::Map(Arc::new(
                    values.map_or(Shape::Any, |node| inner(node, root, depth + 1, left)),
                ));
            }
            let fields: BTreeMap<String, Shape> = properties
                .iter()
                .map(|entry| (entry.key.clone(), inner(&entry.value, root, depth + 1, left)))
                .collect();
            let required = schema.get("required").map_or(&[][..], Node::items).iter();
            let required = required.filter_map(Node::text).map(str::to_owned);
            // What has a default is filled in before it is missed.
            let required = required
                .filter(|name| {
                    schema.at(&["properties", name]).is_none_or(|property| property.get("default").is_none())
                })
                .collect();
            let open =
                keeps || combined || additional.is_some_and(|node| !closed || !node.entries().is_empty());
            Shape::Object(Arc::new(Fields { name: String::new(), fields, required, open }))
        }
        _ => Shape::Any,
    }
}
