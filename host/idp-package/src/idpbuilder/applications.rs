//! Which Applications idpbuilder finds in a directory of a tree, where their `cnoe://` sources lead, and what it cannot do with them.
//! A tree comes in; Applications, notes (it works, but perhaps not as meant) and problems (it cannot work) go out.

use std::collections::BTreeMap;
use std::path::Path;

use idp_oci::source::Tree;
use serde::Serialize;

use super::names;
use super::sources::{self, Mention, SCHEME};
use crate::kube::{self, Limits, Node, ProblemKind};

/// No file with an Application is longer.
const LARGEST: u64 = 1024 * 1024;
/// No file with an Application holds more.
const LIMITS: Limits = Limits { depth: 64, nodes: 50_000, problems: 10 };
/// The API groups of objects that idpbuilder can read (its `pkg/k8s/schema.go`).
const KNOWN: [&str; 9] = [
    "admissionregistration.k8s.io/v1",
    "apiextensions.k8s.io/v1",
    "apps/v1",
    "argoproj.io/v1alpha1",
    "batch/v1",
    "idpbuilder.cnoe.io/v1alpha1",
    "networking.k8s.io/v1",
    "rbac.authorization.k8s.io/v1",
    "v1",
];

/// An Application or ApplicationSet that idpbuilder deploys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Application {
    /// The file it stands in.
    pub file: String,
    /// `Application` or `ApplicationSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What it takes from beside its file.
    pub sources: Vec<LocalSource>,
}

/// A `cnoe://` source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LocalSource {
    /// Where it is written, from 1.
    pub line: u32,
    /// The way to it: `spec.sources[1].repoURL`.
    pub key: String,
    /// As it is written.
    pub url: String,
    /// The directory, from the top of the tree; `.` for all of it.
    pub directory: String,
    /// The Git repository that idpbuilder pushes the directory to; none where it leaves the source as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// From 1.
    #[serde(skip)]
    pub(super) column: u32,
}

/// What works otherwise than it may be meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Note {
    /// The file it is about.
    pub file: String,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// In words.
    pub message: String,
}

impl std::fmt::Display for Note {
    /// `file:line: message`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// What cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not YAML, or more than is read.
    #[error("{file}{}: {message}", line.map(|line| format!(":{line}")).unwrap_or_default())]
    Unreadable {
        /// Which file.
        file: String,
        /// From 1.
        line: Option<u32>,
        /// What is wrong.
        message: String,
    },
    /// An Application that lacks what idpbuilder counts on.
    #[error("{file}:{line}: {what}")]
    Incomplete {
        /// Which file.
        file: String,
        /// From 1.
        line: u32,
        /// What is missing.
        what: String,
    },
    /// A source that is not in the package.
    #[error(
        "{file}:{line}: {key} is `{url}`, and {directory} is no directory of the package with files in it"
    )]
    Missing {
        /// Which file.
        file: String,
        /// From 1.
        line: u32,
        /// The way to it.
        key: String,
        /// As it is written.
        url: String,
        /// Where it leads.
        directory: String,
    },
    /// A source above the package.
    #[error("{file}:{line}: {key} is `{url}`, which leads out of the package; {remedy}")]
    Escapes {
        /// Which file.
        file: String,
        /// From 1.
        line: u32,
        /// The way to it.
        key: String,
        /// As it is written.
        url: String,
        /// From where to build instead.
        remedy: String,
    },
}

/// What idpbuilder is given: a directory of a tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub tree: &'a Tree,
    /// The directory; empty for the top.
    pub base: &'a str,
    /// What the top is called.
    pub name: &'a str,
    /// Where the top lies.
    pub root: Option<&'a Path>,
}

/// What idpbuilder finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub applications: Vec<Application>,
    pub notes: Vec<Note>,
    pub problems: Vec<Problem>,
    /// Files that are something else, and what.
    pub others: Vec<(String, String)>,
}

/// Whether idpbuilder looks into a file.
pub(super) fn is_yaml(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}

/// The last part of a directory's path, as idpbuilder calls it.
fn base_name<'a>(directory: &'a str, given: &Given<'a>) -> &'a str {
    match directory.rsplit('/').next() {
        Some("") | None => given.name,
        Some(last) => last,
    }
}

pub(super) fn find(given: Given<'_>) -> Found {
    let mut found = Found::default();
    for (path, entry) in given.tree.files() {
        let Some(name) = below(path, given.base).filter(|name| !name.contains('/') && is_yaml(name)) else {
            continue;
        };
        let unreadable = |message: String| Problem::Unreadable { file: path.to_owned(), line: None, message };
        if entry.size > LARGEST {
            let message =
                format!("longer than {LARGEST} bytes; whether it holds an Application is not looked at");
            found.notes.push(Note { file: path.to_owned(), line: None, message });
            continue;
        }
        let text = entry.bytes(LARGEST).map_err(|error| unreadable(error.to_string())).and_then(|bytes| {
            String::from_utf8(bytes.to_vec()).map_err(|_| unreadable("not UTF-8".to_owned()))
        });
        match text {
            Ok(text) => File { given: &given, path, name, text: &text, found: &mut found }.read(),
            Err(problem) => found.problems.push(problem),
        }
    }
    across(&given, &mut found);
    found
}

/// A path without the directory it lies in.
fn below<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    if base.is_empty() { Some(path) } else { path.strip_prefix(base)?.strip_prefix('/') }
}

/// A file that idpbuilder looks into.
struct File<'a> {
    given: &'a Given<'a>,
    path: &'a str,
    name: &'a str,
    text: &'a str,
    found: &'a mut Found,
}

impl File<'_> {
    fn note(&mut self, line: Option<u32>, message: String) {
        self.found.notes.push(Note { file: self.path.to_owned(), line, message });
    }

    fn incomplete(&mut self, line: u32, what: &str) {
        let (file, what) = (self.path.to_owned(), what.to_owned());
        self.found.problems.push(Problem::Incomplete { file, line, what });
    }

    fn read(mut self) {
        let parsed = kube::parse(self.text, LIMITS);
        let refuses = |kind| matches!(kind, ProblemKind::Syntax | ProblemKind::Limit);
        if let Some(problem) = parsed.problems.iter().find(|problem| refuses(problem.kind)) {
            let (file, message) = (self.path.to_owned(), problem.message.clone());
            self.found.problems.push(Problem::Unreadable { file, line: Some(problem.line), message });
            return;
        }
        let documents = parsed.documents;
        let Some(first) = documents.first() else {
            self.found.others.push((self.path.to_owned(), "empty".to_owned()));
            return;
        };
        let text = |path: &[&str]| first.text_at(path).unwrap_or_default().to_owned();
        let (kind, api) = (text(&["kind"]), text(&["apiVersion"]));
        if !api.starts_with("argoproj.io/") || !matches!(&*kind, "Application" | "ApplicationSet") {
            let what = if kind.is_empty() { "no Kubernetes object".to_owned() } else { kind };
            self.note(Some(first.line), format!("{what}: idpbuilder passes the file over"));
            self.found.others.push((self.path.to_owned(), what));
            return;
        }
        self.documents(&documents);
        let name = text(&["metadata", "name"]);
        if name.is_empty() {
            return self.incomplete(first.line, &format!("an {kind} without metadata.name"));
        }
        let set = kind == "ApplicationSet";
        let way: &[&str] = if set { &["spec", "template", "spec"] } else { &["spec"] };
        let spec = first.at(way);
        let several =
            spec.and_then(|spec| spec.get("sources")).is_some_and(|sources| !sources.items().is_empty());
        if !several && spec.and_then(|spec| spec.get("source")).is_none_or(Node::is_null) {
            let what = format!(
                "{kind} `{name}` has neither source nor sources in {}; idpbuilder dies of that",
                way.join(".")
            );
            return self.incomplete(first.line, &what);
        }
        let object = names::custom_package(self.name, &name);
        if let Some(why) = names::refuse_object(&object) {
            self.note(None, format!("idpbuilder makes an object `{object}` of it, which is {why}"));
        }
        let mentions = sources::mentions(first);
        let sources =
            mentions.iter().filter_map(|mention| self.source(mention, &name, set, several)).collect();
        self.found.applications.push(Application { file: self.path.to_owned(), kind, name, sources });
    }

    /// idpbuilder deploys the first object of a file, and has to be able to read what else is in it.
    fn documents(&mut self, documents: &[Node]) {
        for document in &documents[1..] {
            let kind = document.text_at(&["kind"]).unwrap_or("a document without a kind");
            let line = Some(document.line);
            self.note(line, format!("{kind}: idpbuilder deploys the first document of a file and no other"));
            let api = document.text_at(&["apiVersion"]).unwrap_or_default();
            if !KNOWN.contains(&api) {
                let message = format!(
                    "idpbuilder reads it all the same, knows no `{api}`, and fails at the whole file"
                );
                self.note(line, message);
            }
        }
        // It cuts the text at these lines itself.
        let is_blank = |piece: &str| {
            let parsed = kube::parse(piece, LIMITS);
            !piece.is_empty() && parsed.documents.is_empty() && parsed.problems.is_empty()
        };
        if self.text.split("\n---\n").any(is_blank) {
            let message = "idpbuilder takes what stands before and after every line of `---` for an object, and fails where that is \
                           only a comment or space; take the line out";
            self.note(None, message.to_owned());
        }
    }

    fn source(
        &mut self,
        mention: &Mention<'_>,
        application: &str,
        set: bool,
        several: bool,
    ) -> Option<LocalSource> {
        let (key, line) = (mention.key(), mention.line);
        let Some(relative) = mention.text.strip_prefix(SCHEME) else {
            self.note(Some(line), format!("{key} has `{SCHEME}` in its text; idpbuilder leaves it as it is"));
            return None;
        };
        let way = mention.way();
        let replaced = sources::is_replaced(&way, set, several);
        if !replaced {
            self.note(
                Some(line),
                format!("idpbuilder does not look at {key}; `{}` stays there as it is", mention.text),
            );
            if way.last() != Some(&"repoURL") {
                return None;
            }
        }
        let (file, url) = (self.path.to_owned(), mention.text.to_owned());
        let directory = match sources::resolve(self.given.base, relative) {
            Ok(directory) => directory,
            Err(above) => {
                let remedy = above.remedy(self.given.root);
                self.found.problems.push(Problem::Escapes { file, line, key, url, remedy });
                return None;
            }
        };
        let there = directory.is_empty()
            || self
                .given
                .tree
                .entries()
                .binary_search_by(|entry| entry.name.cmp(&directory))
                .is_ok_and(|at| self.given.tree.entries()[at].file.is_none());
        if !there {
            self.found.problems.push(Problem::Missing { file, line, key, url, directory });
            return None;
        }
        let repository = replaced.then(|| names::repository(application, base_name(&directory, self.given)));
        let directory = if directory.is_empty() { ".".to_owned() } else { directory };
        Some(LocalSource { line, key, url, directory, repository, column: mention.column })
    }
}

/// What is wrong with several Applications together.
fn across(given: &Given<'_>, found: &mut Found) {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut repositories: BTreeMap<&str, (&str, u32, &str)> = BTreeMap::new();
    let ignores = |path: &&str| path.rsplit('/').next() == Some(".gitignore");
    let ignoring: Vec<&str> = given.tree.files().map(|(path, _)| path).filter(ignores).collect();
    let mut notes = Vec::new();
    let mut note = |file: &str, line, message| notes.push(Note { file: file.to_owned(), line, message });
    for application in &found.applications {
        let file = &*application.file;
        if let Some(other) = names.insert(&application.name, file) {
            let message = format!(
                "`{}` is the name of an Application in {other}, too; one of them wins",
                application.name
            );
            note(file, None, message);
        }
        for source in &application.sources {
            let Some(repository) = &source.repository else { continue };
            if let Some((other, line, directory)) = repositories.get(&**repository) {
                if *directory != source.directory {
                    let message = format!(
                        "idpbuilder pushes `{}` to the Git repository `{repository}`, and `{directory}` ({other}:{line}) to the \
                         same one; only one of them is there in the end, so rename a directory",
                        source.directory
                    );
                    note(file, Some(source.line), message);
                }
                continue;
            }
            repositories.insert(repository, (file, source.line, &source.directory));
            if let Some(why) = names::refuse_repository(repository) {
                let message =
                    format!("idpbuilder pushes it to a Git repository `{repository}`, which is {why}");
                note(file, Some(source.line), message);
            }
            let inside = |path: &str| source.directory == "." || below(path, &source.directory).is_some();
            if let Some(path) = ignoring.iter().find(|path| inside(path)) {
                note(
                    path,
                    None,
                    format!("what it matches is not pushed to the Git repository `{repository}`"),
                );
            }
        }
    }
    found.notes.extend(notes);
}
