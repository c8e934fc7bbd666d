//! What a `kustomization.yaml` names, and which images it puts in place of others.

use super::files::{base, join, parent};
use super::node::Node;

/// The names kustomize looks for in a directory.
pub(crate) const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A kustomization of the package.
#[derive(Debug, Clone)]
pub struct Kustomization {
    /// The file.
    pub file: String,
    /// The directory it is of; the root is empty.
    pub directory: String,
    /// Files, directories and addresses that it names.
    pub names: Vec<Named>,
    /// Its `images`.
    pub images: Vec<ImageOverride>,
    /// Its `namespace`.
    pub namespace: Option<String>,
}

/// Something a kustomization names.
#[derive(Debug, Clone)]
pub struct Named {
    /// As what.
    pub named_as: NamedAs,
    /// As it is written.
    pub text: String,
    /// In the package; none where it leads out of it or to somewhere else.
    pub path: Option<String>,
    /// Whether it is fetched from elsewhere.
    pub remote: bool,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// As what a kustomization names something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedAs {
    /// Objects, or a directory with a kustomization.
    Resource,
    /// A part of an object.
    Patch,
    /// Content of a generated object, values, settings.
    Data,
}

/// An entry of `images`.
#[derive(Debug, Clone)]
pub struct ImageOverride {
    /// Which image.
    pub name: String,
    /// What it is called instead.
    pub new_name: Option<String>,
    /// Its tag instead.
    pub new_tag: Option<String>,
    /// Its digest instead.
    pub digest: Option<String>,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl Kustomization {
    pub(crate) fn read(file: &str, node: &Node) -> Self {
        let mut read = Self {
            file: file.to_owned(),
            directory: parent(file).to_owned(),
            names: Vec::new(),
            images: Vec::new(),
            namespace: node.text_at(&["namespace"]).map(str::to_owned),
        };
        for key in ["resources", "bases", "components"] {
            read.list(node, key, NamedAs::Resource);
        }
        read.list(node, "patchesStrategicMerge", NamedAs::Patch);
        for key in ["generators", "transformers", "validators", "configurations", "crds"] {
            read.list(node, key, NamedAs::Data);
        }
        for key in ["patches", "patchesJson6902"] {
            for patch in items(node, key) {
                read.one(patch.get("path"), NamedAs::Patch);
            }
        }
        for replacement in items(node, "replacements") {
            read.one(replacement.get("path"), NamedAs::Data);
        }
        read.one(node.at(&["openapi", "path"]), NamedAs::Data);
        for chart in items(node, "helmCharts") {
            read.one(chart.get("valuesFile"), NamedAs::Data);
            read.list(chart, "additionalValuesFiles", NamedAs::Data);
        }
        for generator in items(node, "configMapGenerator").iter().chain(items(node, "secretGenerator")) {
            read.list(generator, "files", NamedAs::Data);
            read.list(generator, "envs", NamedAs::Data);
            read.one(generator.get("env"), NamedAs::Data);
        }
        for image in items(node, "images") {
            let text = |key| image.text_at(&[key]).map(str::to_owned);
            if let Some(name) = text("name") {
                read.images.push(ImageOverride {
                    name,
                    new_name: text("newName"),
                    new_tag: text("newTag"),
                    digest: text("digest"),
                    line: image.line,
                    column: image.column,
                });
            }
        }
        read
    }

    fn list(&mut self, node: &Node, key: &str, named_as: NamedAs) {
        for item in items(node, key) {
            self.one(Some(item), named_as);
        }
    }

    fn one(&mut self, node: Option<&Node>, named_as: NamedAs) {
        let Some(node) = node else { return };
        let Some(text) = node.text() else { return };
        // Some lists take YAML in place of a name.
        if text.contains('\n') || text.trim_start().starts_with('{') {
            return;
        }
        // `key=file` of a generator.
        let name = match named_as {
            NamedAs::Data => text.split_once('=').map_or(text, |(_, file)| file),
            _ => text,
        };
        let remote = is_remote(name);
        self.names.push(Named {
            named_as,
            text: text.to_owned(),
            path: if remote { None } else { join(&self.directory, name) },
            remote,
            line: node.line,
            column: node.column,
        });
    }
}

fn items<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    node.get(key).map_or(&[], Node::items)
}

/// Whether kustomize would fetch it.
fn is_remote(text: &str) -> bool {
    text.contains("://")
        || text.starts_with("git@")
        || text.contains("?ref=")
        || text.split_once('/').is_some_and(|(host, rest)| {
            matches!(host, "github.com" | "gitlab.com" | "bitbucket.org") && !rest.is_empty()
        })
}

/// Whether this is a kustomization, by its name.
pub(crate) fn is_kustomization(path: &str) -> bool {
    NAMES.contains(&base(path))
}
