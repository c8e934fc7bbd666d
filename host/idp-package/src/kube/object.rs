//! A YAML document that is a Kubernetes object, and what names it.

use std::fmt;

use super::node::Node;

/// An object of a file.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// The file it is in.
    pub file: &'a str,
    /// All of it.
    pub node: &'a Node,
}

/// What tells one object of a cluster from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ObjectKey {
    /// The API group; empty for the core.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty where it names none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        f.write_str(" ")?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

impl<'a> Object<'a> {
    /// The object a document is, where it has `apiVersion` and `kind`.
    pub fn of(file: &'a str, node: &'a Node) -> Option<Self> {
        let text = |key| node.get(key).and_then(Node::text).is_some_and(|text| !text.is_empty());
        (text("apiVersion") && text("kind")).then_some(Self { file, node })
    }

    /// `apps/v1`.
    pub fn api_version(&self) -> &'a str {
        self.node.text_at(&["apiVersion"]).unwrap_or_default()
    }

    /// `apps`; empty for the core.
    pub fn group(&self) -> &'a str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }

    /// `v1`.
    pub fn version(&self) -> &'a str {
        self.api_version().rsplit_once('/').map_or(self.api_version(), |(_, version)| version)
    }

    /// `Deployment`.
    pub fn kind(&self) -> &'a str {
        self.node.text_at(&["kind"]).unwrap_or_default()
    }

    /// `metadata.name`.
    pub fn name(&self) -> Option<&'a str> {
        self.node.text_at(&["metadata", "name"])
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> Option<&'a str> {
        self.node.text_at(&["metadata", "namespace"])
    }

    /// A value by its path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&'a Node> {
        self.node.at(path)
    }

    /// What tells it from others.
    pub fn key(&self) -> ObjectKey {
        ObjectKey {
            group: self.group().to_owned(),
            kind: self.kind().to_owned(),
            namespace: self.namespace().unwrap_or_default().to_owned(),
            name: self.name().unwrap_or_default().to_owned(),
        }
    }

    /// Whether it is of this group and kind, in any version.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group() == group && self.kind() == kind
    }
}
