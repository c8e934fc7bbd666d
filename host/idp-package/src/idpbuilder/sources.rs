//! Where an Application names directories with `cnoe://`, whether idpbuilder looks there, and where they lead.

use std::path::Path;

use crate::kube::{Node, Value};

/// What a source begins with that is a directory beside its file.
pub(super) const SCHEME: &str = "cnoe://";

/// A text with the scheme in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mention<'a> {
    /// Keys, and `[0]`, `[1]` … of lists.
    pub path: Vec<String>,
    pub text: &'a str,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl Mention<'_> {
    /// The way to it: `spec.sources[1].repoURL`.
    pub(super) fn key(&self) -> String {
        self.path.join(".").replace(".[", "[")
    }

    /// The way to it without numbers.
    pub(super) fn way(&self) -> Vec<&str> {
        self.path.iter().map(|part| if part.starts_with('[') { "[]" } else { part }).collect()
    }
}

/// Every text with the scheme in it, in the order of the file.
pub(super) fn mentions(document: &Node) -> Vec<Mention<'_>> {
    let mut mentions = Vec::new();
    collect(document, &mut Vec::new(), &mut mentions);
    mentions
}

/// Nodes are no deeper than their reader allows.
fn collect<'a>(node: &'a Node, path: &mut Vec<String>, mentions: &mut Vec<Mention<'a>>) {
    match &node.value {
        Value::Scalar(_, text) if text.contains(SCHEME) => {
            mentions.push(Mention { path: path.clone(), text, line: node.line, column: node.column });
        }
        Value::Scalar(..) => {}
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(format!("[{index}]"));
                collect(item, path, mentions);
                path.pop();
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                path.push(entry.key.clone());
                collect(&entry.value, path, mentions);
                path.pop();
            }
        }
    }
}

/// Where in a text a URL stands that begins at a place, or after a quote there; none where it is written in another way.
pub(super) fn place(text: &str, url: &str, (line, column): (u32, u32)) -> Option<usize> {
    let mut lines = text.split_inclusive('\n');
    let before = usize::try_from(line).ok()?.checked_sub(1)?;
    let start: usize = lines.by_ref().take(before).map(str::len).sum();
    let line = lines.next()?;
    let (at, _) = line.char_indices().nth(usize::try_from(column).ok()?.checked_sub(1)?)?;
    let at = start + at;
    let quote = usize::from(text[at..].starts_with(['"', '\'']));
    text[at + quote..].starts_with(url).then_some(at + quote)
}

/// Whether idpbuilder puts the URL of a Git repository in this place (its `pkg/controllers/custompackage`).
pub(super) fn is_replaced(way: &[&str], set: bool, several: bool) -> bool {
    let in_source = |tail: &[&str]| matches!(tail, ["repoURL"] | ["helm", "valuesObject", ..]);
    let in_spec = |tail: &[&str]| match tail {
        ["source", tail @ ..] => !several && in_source(tail),
        ["sources", "[]", tail @ ..] => several && in_source(tail),
        _ => false,
    };
    match way {
        ["spec", "generators", "[]", "git", "repoURL"]
        | ["spec", "generators", "[]", "matrix", "generators", "[]", "git", "repoURL"] => set,
        ["spec", "template", "spec", tail @ ..] if set => in_spec(tail),
        ["spec", tail @ ..] if !set => in_spec(tail),
        _ => false,
    }
}

/// A path above the top of a tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Above {
    pub levels: usize,
    pub rest: String,
}

impl Above {
    /// From where to build instead, where the top lies at `root`.
    pub(super) fn remedy(&self, root: Option<&Path>) -> String {
        let Some(root) = root else {
            return "build the package from a directory that holds both".to_owned();
        };
        let Some(parent) = root.ancestors().nth(self.levels) else {
            return "there is no directory so far up".to_owned();
        };
        let own = root.strip_prefix(parent).unwrap_or(root).display();
        let other = if self.rest.is_empty() { "**".to_owned() } else { format!("{}/**", self.rest) };
        format!(
            "build from {}, with an {} there that says `type: argocd-apps`, `content: {{include: [\"{own}/**\", \"{other}\"]}}` \
             and a target whose path is `{own}`",
            parent.display(),
            crate::manifest::FILE
        )
    }
}

/// The directory that `relative` names from `base`, from the top; empty for the top itself.
pub(super) fn resolve(base: &str, relative: &str) -> Result<String, Above> {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    let mut levels = 0;
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => levels += 1,
            ".." => {}
            part => parts.push(part),
        }
    }
    let rest = parts.join("/");
    if levels > 0 { Err(Above { levels, rest }) } else { Ok(rest) }
}

#[cfg(test)]
mod tests {
    use super::{Above, is_replaced, mentions, place, resolve};
    use crate::kube::{Limits, parse};

    #[test]
    fn paths_are_resolved_as_idpbuilder_joins_them() {
        let to = |base: &str, relative: &str| resolve(base, relative).expect("inside");
        assert_eq!(to("", "manifests"), "manifests");
        assert_eq!(to("", "./a//b/../c/"), "a/c");
        assert_eq!(to("", ""), "");
        assert_eq!(to("", "/etc"), "etc");
        assert_eq!(to("complete", "../base/x"), "base/x");
        let above = Above { levels: 2, rest: "x".to_owned() };
        assert_eq!(resolve("a", "../../../x"), Err(above));
    }

    #[test]
    fn places_that_idpbuilder_looks_at() {
        let replaced =
            |key: &str, set, several| is_replaced(&key.split('.').collect::<Vec<_>>(), set, several);
        assert!(replaced("spec.source.repoURL", false, false));
        assert!(!replaced("spec.source.repoURL", false, true));
        assert!(replaced("spec.sources.[].repoURL", false, true));
        assert!(replaced("spec.sources.[].helm.valuesObject.a.[].b", false, true));
        assert!(!replaced("spec.source.helm.values", false, false));
        assert!(replaced("spec.template.spec.source.repoURL", true, false));
        assert!(replaced("spec.generators.[].git.repoURL", true, false));
        assert!(replaced("spec.generators.[].matrix.generators.[].git.repoURL", true, false));
        assert!(!replaced("spec.generators.[].merge.generators.[].git.repoURL", true, false));
        assert!(!replaced("spec.generators.[].git.template.spec.source.repoURL", true, false));
        assert!(!replaced("metadata.name", true, false));
    }

    #[test]
    fn texts_are_found_and_their_places() {
        let text = "a:\n- é: \"cnoe://x\"\n- &b cnoe://y\n- *b\nc: |\n  in cnoe://z\n";
        let parsed = parse(text, Limits::default());
        let mentions = mentions(&parsed.documents[0]);
        let told: Vec<_> = mentions
            .iter()
            .map(|found| {
                (found.key(), place(text, found.text, (found.line, found.column)).map(|at| &text[at..at + 8]))
            })
            .collect();
        let keys: Vec<_> = told.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, ["a[0].é", "a[1]", "a[2]", "c"]);
        assert_eq!(told[0].1, Some("cnoe://x"));
        // Where an alias stands is no URL.
        assert_eq!(told[2].1, None);
        assert_eq!(place(text, "cnoe://x", (0, 1)), None);
        assert_eq!(place(text, "cnoe://x", (99, 1)), None);
        assert_eq!(place(text, "cnoe://x", (2, 99)), None);
    }
}
