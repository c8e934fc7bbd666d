//! Packages put into one directory: names that do not collide, an Application for each target, sources that lead where the files went.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use idp_oci::digest::Digest;
use idp_oci::source::{Content, FileEntry, Tree};

use super::applications::{self, Application, Given, Note};
use super::export::{ExportError, Exported, Options};
use super::losses::{self, Losses, Unconverted};
use super::names;
use super::part::{Part, Paths, join};
use super::render::{self, Deployed};
use super::sources::{SCHEME, place};
use crate::manifest::{DeployTarget, Manifest, Mapping, Renderer};

/// A directory while it is made.
pub(super) struct Build<'a> {
    options: &'a Options,
    files: BTreeMap<String, FileEntry>,
    /// Names at the top, in lower case.
    taken: BTreeSet<String>,
    applications: BTreeSet<String>,
    repositories: BTreeSet<String>,
    directories: BTreeSet<String>,
    pub(super) unconverted: Vec<Unconverted>,
    notes: Vec<Note>,
}

impl<'a> Build<'a> {
    pub(super) fn new(options: &'a Options) -> Self {
        Self {
            options,
            files: BTreeMap::new(),
            taken: BTreeSet::new(),
            applications: BTreeSet::new(),
            repositories: BTreeSet::new(),
            directories: BTreeSet::new(),
            unconverted: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The directories of an `argocd-apps` package in which its Applications are.
    fn bases(&self, part: &Part<'_>, losses: &mut Losses<'_>) -> Result<Vec<String>, ExportError> {
        let (mut bases, paths) = (Vec::new(), part.paths());
        for target in part.targets(self.options.variant.as_deref()) {
            let base = paths.directory(part.name(), &target)?;
            if target.namespace.is_some() || target.wave.is_some() || target.create_namespace {
                let what = format!("spec.targets.{}", target.name);
                losses
                    .add(what, "namespace and wave are what its Applications say, not what the target says");
            }
            bases.push(base.to_owned());
        }
        losses::values(part.manifest, &|_| false, losses);
        Ok(bases)
    }

    /// An `argocd-apps` package as it is.
    pub(super) fn keep(&mut self, part: &Part<'_>, losses: &mut Losses<'_>) -> Result<(), ExportError> {
        for base in self.bases(part, losses)? {
            let given = Given { tree: part.files, base: &base, name: &self.options.directory, root: None };
            let found = applications::find(given);
            self.know(&found.applications);
            self.directories.insert(base);
        }
        for (path, file) in part.files.files() {
            self.taken.insert(top(path).to_lowercase());
            self.files.insert(path.to_owned(), file.clone());
        }
        Ok(())
    }

    /// An `argocd-apps` package beside another: its files in a directory, its Applications at the top with their sources led there.
    pub(super) fn embed(&mut self, part: &Part<'_>, losses: &mut Losses<'_>) -> Result<(), ExportError> {
        let package = || part.name().to_owned();
        let around = self.free(part.name(), "", |_| true);
        for base in self.bases(part, losses)? {
            let found =
                applications::find(Given { tree: part.files, base: &base, name: &around, root: None });
            if !found.problems.is_empty() {
                return Err(ExportError::Problems { package: package(), problems: found.problems });
            }
            self.know(&found.applications);
            for application in &found.applications {
                let Some((_, entry)) = part.files.files().find(|(path, _)| *path == application.file) else {
                    continue;
                };
                let text = text_of(&application.file, entry)?;
                let text = lead(&text, application, &around).map_err(|(line, url)| ExportError::Written {
                    package: package(),
                    file: application.file.clone(),
                    line,
                    url,
                })?;
                let file = application.file.rsplit('/').next().unwrap_or(&application.file);
                let (stem, ending) = file.rsplit_once('.').unwrap_or((file, "yaml"));
                let name = self.free(stem, &format!(".{ending}"), |_| true);
                self.add(name, text);
            }
        }
        for (path, file) in part.files.files() {
            self.files.insert(format!("{around}/{path}"), file.clone());
        }
        Ok(())
    }

    /// Any other package: an Application for each target.
    pub(super) fn generate(&mut self, part: &Part<'_>, losses: &mut Losses<'_>) -> Result<(), ExportError> {
        let (manifest, paths) = (part.manifest, part.paths());
        let targets = part.targets(self.options.variant.as_deref());
        let names: Vec<String> =
            targets.iter().map(|target| self.application(part.name(), target, targets.len())).collect();
        let repositories = self.repositories.clone();
        let around = self.free(part.name(), "", |directory| {
            names.iter().all(|name| !repositories.contains(&names::repository(name, directory)))
        });
        self.repositories.extend(names.iter().map(|name| names::repository(name, &around)));
        losses::values(manifest, &|path| paths.of(path).is_some(), losses);
        for (target, name) in targets.iter().zip(&names) {
            let path = paths.directory(part.name(), target)?;
            let found = paths.renderer(path);
            let what = || format!("spec.targets.{}", target.name);
            if let Some(asked) = target.renderer
                && asked != found
                && !(asked == Renderer::Directory && target.recurse)
            {
                let why = format!(
                    "renderer {}: Argo CD goes by the files, and renders {} as {}",
                    word(asked),
                    target.path,
                    word(found)
                );
                losses.add(what(), why);
            }
            let rendered = target.renderer.unwrap_or(found);
            if target.wave.is_some() {
                let why = "the wave is written down, but idpbuilder creates all Applications at once";
                losses.add(what(), why);
            }
            if target.namespace.is_none() {
                let why = format!(
                    "it names no namespace; objects that name none go to `{}`, which is made",
                    part.name()
                );
                losses.add(what(), why);
            }
            let text = render::application(&Deployed {
                name,
                package: part.name(),
                version: &manifest.metadata.version,
                wave: target.wave,
                directory: &around,
                path: if path.is_empty() { "." } else { path },
                recurse: target.recurse && rendered == Renderer::Directory,
                value_files: if rendered == Renderer::Helm {
                    value_files(manifest, &paths, path)
                } else {
                    Vec::new()
                },
                namespace: target.namespace.as_deref().unwrap_or_else(|| part.name()),
                create_namespace: target.create_namespace || target.namespace.is_none(),
            });
            let file = self.free(name, ".yaml", |_| true);
            self.add(file, text);
        }
        self.directories.insert(String::new());
        for (path, file) in part.content() {
            self.files.insert(format!("{around}/{path}"), file.clone());
        }
        Ok(())
    }

    fn add(&mut self, name: String, text: String) {
        let size = text.len() as u64;
        let content = Content::Bytes(Bytes::from(text));
        self.files.insert(name, FileEntry { content, size, executable: false });
        self.directories.insert(String::new());
    }

    fn know(&mut self, applications: &[Application]) {
        for application in applications {
            self.applications.insert(application.name.clone());
            self.repositories
                .extend(application.sources.iter().filter_map(|source| source.repository.clone()));
        }
    }

    /// A name of an Application that no other has.
    fn application(&mut self, package: &str, target: &DeployTarget, targets: usize) -> String {
        let whole = if targets == 1 { package.to_owned() } else { format!("{package}-{}", target.name) };
        let mut name = whole.clone();
        // Labels, by which Argo CD knows what it deployed, are no longer.
        if name.len() > 63 {
            let told = Digest::of(whole.as_bytes());
            name = format!("{}-{}", cut(&whole, 50).trim_end_matches('-'), &told.hex()[..12]);
        }
        let first = name.clone();
        for number in 2.. {
            if self.applications.insert(name.clone()) {
                break;
            }
            name = format!("{}-{number}", cut(&first, 56));
        }
        name
    }

    /// A name at the top that is free and that `good` says yes to.
    fn free(&mut self, stem: &str, ending: &str, good: impl Fn(&str) -> bool) -> String {
        let names = std::iter::once(format!("{stem}{ending}"))
            .chain((2..).map(|number| format!("{stem}-{number}{ending}")));
        let mut free = names.filter(|name| good(name) && !self.taken.contains(&name.to_lowercase()));
        let name = free.next().expect("numbers do not end");
        drop(free);
        self.taken.insert(name.to_lowercase());
        name
    }

    /// The whole, looked through as idpbuilder does.
    pub(super) fn finish(mut self, package: &str) -> Result<Exported, ExportError> {
        if self.files.is_empty() {
            return Err(ExportError::Nothing(package.to_owned()));
        }
        let files = Tree::of_files(&self.options.directory, std::mem::take(&mut self.files))?;
        let mut applications = Vec::new();
        for base in &self.directories {
            let given = Given { tree: &files, base, name: &self.options.directory, root: None };
            let found = applications::find(given);
            if !found.problems.is_empty() {
                return Err(ExportError::Problems { package: package.to_owned(), problems: found.problems });
            }
            applications.extend(found.applications);
            self.notes.extend(found.notes);
        }
        let dot = |base: String| if base.is_empty() { ".".to_owned() } else { base };
        Ok(Exported {
            files,
            directories: self.directories.into_iter().map(dot).collect(),
            applications,
            unconverted: self.unconverted,
            notes: self.notes,
        })
    }
}

/// The beginning of a name.
fn cut(name: &str, most: usize) -> String {
    name.chars().take(most).collect()
}

fn word(renderer: Renderer) -> &'static str {
    match renderer {
        Renderer::Directory => "directory",
        Renderer::Kustomize => "kustomize",
        Renderer::Helm => "helm",
    }
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// Defaults that are not the chart's own `values.yaml`, which Helm takes by itself.
fn value_files(manifest: &Manifest, paths: &Paths<'_>, path: &str) -> Vec<String> {
    let values = manifest.spec.values.as_ref();
    let defaults = values
        .filter(|values| values.mapping == Mapping::Helm)
        .and_then(|values| paths.of(values.defaults.as_deref()?));
    let own = join(path, "values.yaml");
    // From the top of the repository, which Argo CD writes with a slash.
    defaults.filter(|file| **file != own).map(|file| format!("/{file}")).into_iter().collect()
}

fn text_of(path: &str, entry: &FileEntry) -> Result<String, ExportError> {
    let io = |error| ExportError::Io { what: path.to_owned(), error };
    let bytes = entry.bytes(entry.size).map_err(io)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| io(std::io::Error::other("not UTF-8")))
}

/// An Application's text with its sources below another directory; nothing else in it changes.
fn lead(text: &str, application: &Application, around: &str) -> Result<String, (u32, String)> {
    let mut places = BTreeMap::new();
    for source in &application.sources {
        let below = if source.directory == "." { String::new() } else { format!("/{}", source.directory) };
        let new = format!("{SCHEME}{around}{below}");
        let failed = || (source.line, source.url.clone());
        let at = place(text, &source.url, (source.line, source.column)).ok_or_else(failed)?;
        places.insert(at, (source.url.len(), new));
    }
    let mut led = text.to_owned();
    for (at, (length, new)) in places.into_iter().rev() {
        led.replace_range(at..at + length, &new);
    }
    Ok(led)
}
