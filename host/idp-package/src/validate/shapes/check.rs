//! A value against a shape. A null counts as nothing; what a template fills in later is not judged.

use crate::kube::{Kind, Node, Value};

use super::{Shape, bundled};

/// No object tells more than this.
const MOST: usize = 50;

/// A place where a value is not of its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What is wrong.
    pub kind: MismatchKind,
    /// The way to it: `spec.containers[0].image`.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// In words.
    pub message: String,
    /// What is probably meant.
    pub fix: Option<String>,
}

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MismatchKind {
    /// A field that the type does not have.
    Unknown,
    /// Another type.
    Type,
    /// A field that has to be there is not.
    Missing,
    /// A text that is none of those that may stand there.
    Choice,
}

/// Where a value is not of its shape, in the order of the file.
pub fn check(node: &Node, shape: &Shape) -> Vec<Mismatch> {
    let mut check = Check { found: Vec::new(), path: Vec::new() };
    check.value(node, shape);
    check.found
}

struct Check {
    found: Vec<Mismatch>,
    path: Vec<String>,
}

impl Check {
    fn tell(&mut self, kind: MismatchKind, (line, column): (u32, u32), message: String, fix: Option<String>) {
        if self.found.len() < MOST {
            self.found.push(Mismatch { kind, path: self.path.concat(), line, column, message, fix });
        }
    }

    fn within(&mut self, part: String, check: impl FnOnce(&mut Self)) {
        self.path.push(part);
        check(self);
        self.path.pop();
    }

    fn key(&mut self, key: &str, check: impl FnOnce(&mut Self)) {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.within(format!("{dot}{key}"), check);
    }

    fn value(&mut self, node: &Node, shape: &Shape) {
        if node.is_null() || node.is_placeholder() || self.found.len() >= MOST {
            return;
        }
        match (shape, &node.value) {
            (Shape::Any, _)
            | (Shape::Integer, Value::Scalar(Kind::Integer, _))
            | (Shape::Number, Value::Scalar(Kind::Integer | Kind::Float, _))
            | (Shape::Boolean, Value::Scalar(Kind::Bool, _))
            | (Shape::IntOrString, Value::Scalar(Kind::Integer | Kind::String, _))
            | (Shape::Quantity, Value::Scalar(Kind::Integer | Kind::Float | Kind::String, _)) => {}
            // 1e3 and 5.0 are whole numbers to JSON.
            (Shape::Integer, Value::Scalar(Kind::Float, text))
                if text.parse::<f64>().is_ok_and(|number| number.fract() == 0.0) => {}
            (Shape::String(choices), Value::Scalar(Kind::String, text)) => {
                if !choices.is_empty() && !choices.contains(text) {
                    let message = format!("`{}` is none of: {}", short(text), choices.join(", "));
                    self.tell(
                        MismatchKind::Choice,
                        (node.line, node.column),
                        message,
                        nearest(text, choices.iter()),
                    );
                }
            }
            (Shape::List(shape), Value::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.within(format!("[{index}]"), |check| check.value(item, shape));
                }
            }
            (Shape::Map(shape), Value::Map(entries)) => {
                for entry in entries {
                    self.key(&entry.key, |check| check.value(&entry.value, shape));
                }
            }
            (Shape::Object(fields), Value::Map(_)) => self.object(node, fields),
            (Shape::Bundled(index), _) => match bundled::fields(*index) {
                Some(fields) if matches!(node.value, Value::Map(_)) => self.object(node, fields),
                Some(_) => self.wrong(node, "a mapping"),
                None => {}
            },
            (Shape::String(_), _) => self.wrong(node, "a text"),
            (Shape::Integer, _) => self.wrong(node, "a whole number"),
            (Shape::Number, _) => self.wrong(node, "a number"),
            (Shape::Boolean, _) => self.wrong(node, "true or false"),
            (Shape::IntOrString, _) => self.wrong(node, "a whole number or a text"),
            (Shape::Quantity, _) => self.wrong(node, "a quantity"),
            (Shape::List(_), _) => self.wrong(node, "a list"),
            (Shape::Map(_) | Shape::Object(_), _) => self.wrong(node, "a mapping"),
        }
    }

    fn wrong(&mut self, node: &Node, wanted: &str) {
        let (is, fix) = match &node.value {
            Value::List(_) => ("a list".to_owned(), None),
            Value::Map(_) => ("a mapping".to_owned(), None),
            Value::Scalar(kind, text) => {
                let text = short(text);
                let fix = (wanted == "a text").then(|| format!("put it in quotes: \"{text}\""));
                let is = match kind {
                    Kind::Bool => format!("true or false (`{text}`)"),
                    Kind::Integer | Kind::Float => format!("a number (`{text}`)"),
                    _ => "a text".to_owned(),
                };
                let unquote = *kind == Kind::String && wanted != "a list" && wanted != "a mapping";
                (is, fix.or_else(|| unquote.then(|| "write it without quotes".to_owned())))
            }
        };
        let message = format!("{wanted} belongs here, and this is {is}");
        self.tell(MismatchKind::Type, (node.line, node.column), message, fix);
    }

    fn object(&mut self, node: &Node, fields: &super::Fields) {
        let of = if fields.name.is_empty() { String::new() } else { format!(" of {}", fields.name) };
        for entry in node.entries() {
            match fields.fields.get(&entry.key) {
                Some(shape) => self.key(&entry.key, |check| check.value(&entry.value, shape)),
                None if fields.open || crate::kube::is_placeholder(&entry.key) => {}
                None => {
                    let message = format!("`{}` is no field{of}", short(&entry.key));
                    let fix = nearest(&entry.key, fields.fields.keys());
                    self.key(&entry.key, |check| {
                        check.tell(MismatchKind::Unknown, (entry.line, entry.column), message, fix);
                    });
                }
            }
        }
        for name in &fields.required {
            if node.get(name).is_none_or(Node::is_null) {
                let message = format!("`{name}`{of} is missing");
                self.tell(MismatchKind::Missing, (node.line, node.column), message, None);
            }
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The choice that a slip of the finger makes of it.
fn nearest<'a>(text: &str, choices: impl Iterator<Item = &'a String>) -> Option<String> {
    let most = if text.len() < 6 { 1 } else { 2 };
    choices
        .map(|choice| (distance(&text.to_lowercase(), &choice.to_lowercase(), most), choice))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, choice)| format!("`{choice}` is meant?"))
}

/// Levenshtein's distance, or more than `most`.
fn distance(one: &str, other: &str, most: usize) -> usize {
    if one.len().abs_diff(other.len()) > most || one.len() > 100 {
        return most + 1;
    }
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, char) in one.chars().enumerate() {
        let mut corner = at;
        row[0] = at + 1;
        for (column, wanted) in other.iter().enumerate() {
            let change = corner + usize::from(char != *wanted);
            corner = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(corner + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Mismatch, check};
    use crate::kube::{Limits, parse};
    use crate::validate::shapes::{GroupVersionKind, bundled};

    fn told(text: &str) -> Vec<String> {
        let node = &parse(text, Limits::default()).documents[0];
        let (group, version) =
            node.text_at(&["apiVersion"]).and_then(|text| text.split_once('/')).unwrap_or(("", "v1"));
        let kind = GroupVersionKind::new(group, version, node.text_at(&["kind"]).expect("a kind"));
        let shape = bundled::find(&kind).expect("a shape");
        let show = |found: Mismatch| {
            let fix = found.fix.map(|fix| format!(" ({fix})")).unwrap_or_default();
            format!("{}:{} {}: {}{fix}", found.line, found.column, found.path, found.message)
        };
        check(node, shape).into_iter().map(show).collect()
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let text = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: x
  labels: {a: 1}
  creationTimestamp: null
spec:
  replica: 1
  selector: {}
  template:
    spec:
      containers:
      - image: x
        ports: [{containerPort: '80'}]
        env: [{name: A, value: yes}, {name: B, value: '${B}'}]
        livenessProbe: {httpGet: {port: http}}
        resources: {limits: {cpu: 1, memory: 1Gi}}
      volumes: {}
";
        insta::assert_snapshot!(told(text).join("\n"), @r#"
    5:15 metadata.labels.a: a text belongs here, and this is a number (`1`) (put it in quotes: "1")
    8:3 spec.replica: `replica` is no field of DeploymentSpec (`replicas` is meant?)
    14:33 spec.template.spec.containers[0].ports[0].containerPort: a whole number belongs here, and this is a text (write it without quotes)
    15:32 spec.template.spec.containers[0].env[0].value: a text belongs here, and this is true or false (`yes`) (put it in quotes: "yes")
    13:9 spec.template.spec.containers[0]: `name` of Container is missing
    18:16 spec.template.spec.volumes: a list belongs here, and this is a mapping
    "#);
    }
}
