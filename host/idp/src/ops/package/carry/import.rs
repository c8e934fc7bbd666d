//! Import: what was exported, into a registry. Everything keeps its digest, unless packages are to name their new places.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use idp_oci::name::{Reference, Registry, Repository, Tag};
use idp_oci::pipeline::{self, Destination, Gathered};
use idp_oci::source::{ArchiveKind, ArchiveSource, LayoutSource, Source};
use idp_package::resolve::Rewrite;
use serde::Serialize;

use super::super::super::context::To;
use super::super::super::session::{self, Subject};
use super::super::super::{Context, Error};
use super::super::subject::{pipeline as failed, selection};
use super::{Entry, Kind, LIST, List, MAX_LIST, rewrite};

/// What is imported, and where to.
#[derive(Debug, Clone)]
pub struct Request {
    /// `FILE.tar`, `oci-archive:FILE` or `oci:DIR`.
    pub source: String,
    /// A registry, or a registry and the beginning of repositories.
    pub destination: String,
    /// Build packages again with the new places in them.
    pub rewrite: bool,
}

/// What was imported.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Imported {
    /// The package that was exported, at its new place.
    pub root: String,
    /// Everything, at its new place.
    pub entries: Vec<Placed>,
    /// What was, and what it is now: for `rewrites` in registries.yaml, and for mirrors of container runtimes.
    pub rewrites: Vec<Rewrite>,
    /// References in packages that could not be rewritten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    /// Bytes that were sent.
    pub bytes_sent: u64,
}

/// Something at its new place.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Placed {
    /// What it was.
    pub from: String,
    /// `registry/repository@digest` now.
    pub to: String,
    /// What it is.
    pub kind: Kind,
}

/// Imports.
///
/// # Errors
/// It is no export, or the registry does not take it. What arrived before stays.
pub async fn import(context: &Context, request: &Request) -> Result<Imported, Error> {
    let place = Place::of(&request.source)?;
    let list = place.list().await?;
    let prefix = request.destination.trim_start_matches("oci://").trim_end_matches('/');
    let parsed = parse_all(&list)?;
    context.find_registry(&[&format!("{prefix}/x")], To::Write).await?;
    let map = map(context, prefix, &parsed)?;
    let rewrites: Vec<Rewrite> = map
        .iter()
        .map(|((registry, repository), to)| Rewrite {
            from: format!("{registry}/{repository}"),
            to: format!("{}/{}", to.registry, to.repository),
        })
        .collect();
    let mut again = rewrite::Again::new(&rewrites);
    let (mut entries, mut bytes_sent, mut root) = (Vec::new(), 0, String::new());
    for (entry, from) in list.entries.iter().zip(&parsed) {
        let to = &map[&(from.registry.clone(), from.repository.clone())];
        // What a signature is about is not there any more.
        if request.rewrite && entry.kind == Kind::Referrer && again.is_about_replaced(&entry.reference) {
            again.left.push(format!("{}: it is about a package that was built again", entry.reference));
            continue;
        }
        let source = place.source(&entry.reference);
        let source = if request.rewrite && entry.kind == Kind::Package {
            let gathered = Gathered::of(source, &selection()).await.map_err(failed)?;
            again.build(gathered).await?
        } else {
            source
        };
        let tags: Vec<Tag> = from.tag.iter().cloned().collect();
        let session = session::open(context, Subject::from(to)).await?;
        let destination = Destination {
            client: session.client.clone(),
            repository: session.on_wire(&to.repository).clone(),
            tags,
            mount_from: Vec::new(),
            include_foreign: false,
        };
        let all = pipeline::push_all(vec![destination], source, &selection(), None, &context.cancel).await;
        let pushed = all.and_then(|mut all| all.remove(0)).map_err(|error| session.pipeline_failed(error))?;
        bytes_sent += pushed.bytes_sent;
        again.replaced(entry, &pushed.digest);
        let mut placed = to.clone();
        placed.tag.clone_from(&from.tag);
        if entry.reference == list.root {
            root = placed.to_string();
        }
        entries.push(Placed {
            from: entry.reference.clone(),
            to: placed.pinned(&pushed.digest),
            kind: entry.kind,
        });
    }
    let left = again.left;
    Ok(Imported { root, entries, rewrites, left, bytes_sent })
}

/// Where it comes from.
#[derive(Debug)]
enum Place {
    Layout(PathBuf),
    Archive(PathBuf),
}

impl Place {
    fn of(text: &str) -> Result<Self, Error> {
        let (path, archive) = match text.split_once(':') {
            Some(("oci", path)) => (path, false),
            Some(("oci-archive", path)) => (path, true),
            _ => (text, !LayoutSource::is_layout(Path::new(text))),
        };
        let path = PathBuf::from(path);
        if !path.exists() {
            return Err(Error::Absent(format!("there is nothing at {}", path.display())));
        }
        Ok(if archive { Self::Archive(path) } else { Self::Layout(path) })
    }

    fn source(&self, name: &str) -> Box<dyn Source> {
        let name = Some(name.to_owned());
        match self {
            Self::Layout(path) => Box::new(LayoutSource::new(path, name)),
            Self::Archive(path) => Box::new(ArchiveSource::new(path, ArchiveKind::Oci, name)),
        }
    }

    async fn list(&self) -> Result<List, Error> {
        let gathered = Gathered::of(self.source(LIST), &selection())
            .await
            .map_err(|error| Error::Unfit(format!("it is no export of `idp package export`: {error}")))?;
        let idp_oci::manifest::Shape::Image { layers, .. } = gathered.root().shape() else {
            return Err(Error::Unfit("the list of what is inside is an index".to_owned()));
        };
        let [layer] = layers.as_slice() else {
            return Err(Error::Unfit("the list of what is inside is not one file".to_owned()));
        };
        let bytes = gathered.bytes(layer, MAX_LIST).await.map_err(failed)?;
        let list: List = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Unfit(format!("the list of what is inside: {error}")))?;
        if list.version != 1 {
            return Err(Error::Unfit(format!("the export is of version {}; this idp reads 1", list.version)));
        }
        Ok(list)
    }
}

fn parse_all(list: &List) -> Result<Vec<Reference>, Error> {
    let parse = |entry: &Entry| Ok(Reference::parse(&entry.reference, None::<&Registry>)?);
    list.entries.iter().map(parse).collect()
}

/// Where each repository goes: its own path under `prefix`, with its registry's name before it where two would be one.
fn map(
    context: &Context,
    prefix: &str,
    all: &[Reference],
) -> Result<BTreeMap<(Registry, Repository), Reference>, Error> {
    let mut sources: BTreeMap<&Repository, Vec<&Registry>> = BTreeMap::new();
    for reference in all {
        let registries = sources.entry(&reference.repository).or_default();
        if !registries.contains(&&reference.registry) {
            registries.push(&reference.registry);
        }
    }
    let mut map = BTreeMap::new();
    for (repository, registries) in sources {
        for registry in &registries {
            let host = registry.to_string().replace([':', '[', ']'], "-");
            let text = if registries.len() > 1 {
                format!("{prefix}/{host}/{repository}")
            } else {
                format!("{prefix}/{repository}")
            };
            map.insert(((*registry).clone(), repository.clone()), context.reference(&text)?);
        }
    }
    Ok(map)
}
