//! Two values as trees: the fields that differ, by their paths.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::kube::{Kind, Node, Value as Written};
use crate::manifest::Manifest;

/// No object tells more than this.
const MOST: usize = 200;
/// No value is shown longer.
const LONGEST: usize = 200;

/// A field that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FieldChange {
    /// The way to it: `spec.containers[name=app].image`.
    pub path: String,
    /// Its old value; none where it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// Its new value; none where it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

pub(super) fn of_manifests(old: Option<&Manifest>, new: Option<&Manifest>) -> Vec<FieldChange> {
    let json = |manifest: Option<&Manifest>| {
        manifest.and_then(|manifest| serde_json::to_value(manifest).ok()).unwrap_or(Value::Null)
    };
    compare(&json(old), &json(new))
}

/// The fields that differ, in the order of their names.
pub(super) fn compare(old: &Value, new: &Value) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    walk(String::new(), Some(old), Some(new), &mut changes);
    changes
}

fn walk(path: String, old: Option<&Value>, new: Option<&Value>, changes: &mut Vec<FieldChange>) {
    if old == new || changes.len() >= MOST {
        return;
    }
    let key = |name: &str| match path.as_str() {
        "" => name.to_owned(),
        // A name with dots, as of a label, is one name.
        path if name.contains('.') || name.is_empty() => format!("{path}[\"{name}\"]"),
        path => format!("{path}.{name}"),
    };
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                walk(key(name), old.get(name), new.get(name), changes);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => match (by_name(old), by_name(new)) {
            (Some(old_names), Some(new_names)) => {
                let find = |names: &[&str], items: &'_ [Value], name: &str| {
                    names.iter().position(|known| *known == name).map(|at| items[at].clone())
                };
                for name in old_names.iter().chain(&new_names).collect::<BTreeSet<_>>() {
                    let (old, new) = (find(&old_names, old, name), find(&new_names, new, name));
                    walk(format!("{path}[name={name}]"), old.as_ref(), new.as_ref(), changes);
                }
            }
            _ => {
                for at in 0..old.len().max(new.len()) {
                    walk(format!("{path}[{at}]"), old.get(at), new.get(at), changes);
                }
            }
        },
        _ => changes.push(FieldChange { path, old: old.and_then(show), new: new.and_then(show) }),
    }
}

/// The names of a list's items, where each has one of its own.
fn by_name(items: &[Value]) -> Option<Vec<&str>> {
    let names: Vec<&str> = items.iter().map(|item| item.get("name")?.as_str()).collect::<Option<_>>()?;
    (names.iter().collect::<BTreeSet<_>>().len() == names.len()).then_some(names)
}

fn show(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    Some(short)
}

/// A value without its places.
pub(super) fn to_json(node: &Node) -> Value {
    match &node.value {
        Written::Map(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.value))).collect())
        }
        Written::List(items) => items.iter().map(to_json).collect(),
        Written::Scalar(Kind::Null, _) => Value::Null,
        Written::Scalar(Kind::Bool, _) => Value::Bool(node.is_true()),
        // As they are written: 0755 and 1e3 are not to become others.
        Written::Scalar(Kind::Integer | Kind::Float, text) => {
            text.parse::<i64>().map_or_else(|_| Value::String(text.clone()), Value::from)
        }
        Written::Scalar(Kind::String, text) => Value::String(text.clone()),
    }
}
