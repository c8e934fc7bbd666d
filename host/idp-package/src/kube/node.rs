//! A YAML value that knows where it was written.

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What was written.
    pub value: Value,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One value: what it is, and its text.
    Scalar(Kind, String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file; of two equal keys the last is the one that counts.
    Map(Vec<Entry>),
}

/// What a scalar is to the YAML reader of Kubernetes, which follows YAML 1.1: a bare `yes` is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`, `~` or nothing.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Bool,
    /// A whole number.
    Integer,
    /// Any other number.
    Float,
    /// A text.
    String,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands, from 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What it is.
    pub value: Node,
}

impl Node {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A key with its value.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().rev().find(|entry| entry.key == key)
    }

    /// The value at the end of a path of keys; a number is an index where there is a list.
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| match &node.value {
            Value::List(items) => items.get(key.parse::<usize>().ok()?),
            _ => node.get(key),
        })
    }

    /// The text at the end of a path of keys.
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.text()
    }

    /// The entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a sequence; none of anything else.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar that is not null, as it was written.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(kind, text) if *kind != Kind::Null => Some(text),
            _ => None,
        }
    }

    /// The text of a scalar that is a text.
    pub fn string(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Kind::String, text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Kind::Null, _))
    }

    /// Whether it is true.
    pub fn is_true(&self) -> bool {
        match &self.value {
            Value::Scalar(Kind::Bool, text) => {
                matches!(text.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "y")
            }
            _ => false,
        }
    }

    /// Whether it is a text that something else fills in before Kubernetes reads it.
    pub fn is_placeholder(&self) -> bool {
        match &self.value {
            Value::Scalar(_, text) => is_placeholder(text),
            // Braces of a template without quotes are a mapping whose key is a mapping.
            Value::Map(entries) => entries.iter().any(|entry| entry.key.is_empty()),
            Value::List(_) => false,
        }
    }
}

/// Whether a text holds a mark of a template: `{{ … }}`, `${…}` or `$(…)`.
pub(crate) fn is_placeholder(text: &str) -> bool {
    text.contains("{{") || text.contains("${") || text.contains("$(") || text.contains("<%")
}
