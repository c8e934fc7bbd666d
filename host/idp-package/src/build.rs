//! From a package's directory to an artifact: one image manifest, one config blob that carries everything but the content, and one layer.
//! Equal directories give equal digests. Content is read once, and never whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::source::{Artifact, Layer, Made, Source, SourceError, Tree, TreeSource};

use crate::chart::{self, Chart};
use crate::config::{CONFIG_TYPE, Config, ConfigError, File, Image, ImageConfig};
use crate::content::{self, ContentError, LOCK_FILE};
use crate::manifest::{self, Manifest, ManifestError, Type};
use crate::trust::Timestamp;

/// `artifactType` of a package.
pub const ARTIFACT_TYPE: &str = "application/vnd.cnoe.package.v1";
/// Annotation: the package's name.
pub const NAME: &str = "io.cnoe.package.name";
/// Annotation: the package's type.
pub const TYPE: &str = "io.cnoe.package.type";
/// Annotation: the version of this format.
pub const FORMAT: &str = "io.cnoe.package.format";

/// All annotations of a manifest together; registries limit the manifest.
const MAX_ANNOTATIONS: usize = 64 * 1024;
/// A text that goes into the config blob.
const MAX_DOCUMENT: u64 = 256 * 1024;

/// A package's directory, read.
#[derive(Debug, Clone)]
pub struct Package {
    /// Where it lies.
    pub directory: PathBuf,
    /// `idp-package.yaml`.
    pub manifest: Manifest,
    /// The files that are its content.
    pub tree: Tree,
    /// `Chart.yaml`, of a chart.
    pub chart: Option<Chart>,
    /// `idp.lock`, where there is one.
    pub lock: Option<serde_json::Value>,
    documents: BTreeMap<String, String>,
}

/// What is said about a package that does not stand in its directory.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// 1970 unless somebody says otherwise, so that equal content has equal digests.
    pub created: Timestamp,
    /// Where the source is kept.
    pub source: Option<String>,
    /// Which revision of it this is.
    pub revision: Option<String>,
    /// Images that the content names.
    pub images: Vec<Image>,
}

/// Why a directory is no package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// There is no `idp-package.yaml`.
    #[error("{} has no {}", .0.display(), manifest::FILE)]
    NoManifest(PathBuf),
    /// It is wrong.
    #[error("{}: {error}", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: ManifestError,
    },
    /// The content.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The chart.
    #[error("{0}")]
    Chart(String),
    /// Another file of the package.
    #[error("{what}: {message}")]
    File {
        /// Which.
        what: String,
        /// What is wrong.
        message: String,
    },
    /// The config blob.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Package {
    /// Reads the directory: its manifest, which files there are, and the small ones that are looked into.
    ///
    /// # Errors
    /// It is no package, or one that cannot be built.
    pub fn open(directory: &Path) -> Result<Self, PackageError> {
        let path = directory.join(manifest::FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(PackageError::NoManifest(directory.to_owned()));
            }
            Err(error) => return Err(file(&path, &error)),
        };
        let manifest =
            manifest::parse(&text).map_err(|error| PackageError::Manifest { path: path.clone(), error })?;
        Self::with(directory, manifest)
    }

    /// The same with a manifest that does not stand in the directory.
    ///
    /// # Errors
    /// As [`Package::open`].
    pub fn with(directory: &Path, manifest: Manifest) -> Result<Self, PackageError> {
        let tree = content::content(directory, &manifest)?;
        let chart = match manifest.spec.r#type {
            Type::Helm => Some(chart_of(&tree, &manifest)?),
            _ => None,
        };
        let lock_path = directory.join(LOCK_FILE);
        let lock = match text_of(&lock_path, 4 * 1024 * 1024)? {
            Some(text) => Some(serde_saphyr::from_str(&text).map_err(|error| PackageError::File {
                what: lock_path.display().to_string(),
                message: error.without_snippet().to_string(),
            })?),
            None => None,
        };
        let documents = documents(directory, &manifest)?;
        Ok(Self { directory: directory.to_owned(), manifest, tree, chart, lock, documents })
    }

    /// One that was built before, with other content: files as they are in the archive, and what its config said.
    ///
    /// # Errors
    /// It is a chart, and there is no `Chart.yaml` that fits it.
    pub fn again(config: Config, tree: Tree) -> Result<Self, PackageError> {
        let chart = match config.package.spec.r#type {
            Type::Helm => Some(chart_of(&tree, &config.package)?),
            _ => None,
        };
        let Config { package, lock, documents, .. } = config;
        Ok(Self { directory: PathBuf::new(), manifest: package, tree, chart, lock, documents })
    }

    /// `name:version`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.manifest.metadata.name, self.manifest.metadata.version)
    }

    /// The artifact, made while it is read.
    ///
    /// # Errors
    /// The annotations would be too large for registries.
    pub fn into_source(self, facts: Facts) -> Result<Box<dyn Source>, PackageError> {
        let annotations = annotations(&self.manifest, &facts);
        let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > MAX_ANNOTATIONS {
            return Err(PackageError::File {
                what: manifest::FILE.to_owned(),
                message: format!("its annotations take {bytes} bytes, and registries take {MAX_ANNOTATIONS}"),
            });
        }
        let what = format!("package {} in {}", self.reference(), self.directory.display());
        let Self { manifest, tree, chart, lock, documents, .. } = self;
        let source = TreeSource::new(what, tree, move |layer| {
            let config = Config {
                config: ImageConfig { labels: labels(&annotations) },
                package: manifest,
                files: files(layer),
                images: facts.images,
                lock,
                documents,
            };
            artifact(layer, &config, chart.as_ref(), annotations)
        });
        Ok(Box::new(source.listing_files()))
    }
}

/// The manifest and what it names besides the layer.
fn artifact(
    layer: &Layer,
    config: &Config,
    chart: Option<&Chart>,
    annotations: BTreeMap<String, String>,
) -> Result<Made, SourceError> {
    let invalid = |error: &dyn std::fmt::Display| SourceError::Invalid(error.to_string());
    let ours = Blob::from_bytes(CONFIG_TYPE, config.to_bytes().map_err(|error| invalid(&error))?.into());
    let Some(chart) = chart else {
        let layer = layer.as_directory();
        let artifact = Artifact {
            artifact_type: Some(ARTIFACT_TYPE),
            annotations,
            ..Artifact::new(&ours, vec![layer.clone()])
        };
        return Ok(Made { manifest: artifact.to_bytes()?, layer, blobs: vec![ours] });
    };
    // What `helm push` makes, and our own config as one more layer: Helm, Argo CD (3.1.6 and later) and Flux pass it over.
    let document = crate::canonical::to_vec(&chart.document).map_err(|error| invalid(&error))?;
    let helms = Blob::from_bytes(chart::CONFIG_TYPE, Bytes::from(document));
    let mut layer = layer.descriptor.clone();
    layer.media_type = chart::CONTENT_TYPE.to_owned();
    let layers = vec![layer.clone(), ours.descriptor.clone()];
    let artifact =
        Artifact { artifact_type: Some(ARTIFACT_TYPE), annotations, ..Artifact::new(&helms, layers) };
    Ok(Made { manifest: artifact.to_bytes()?, layer, blobs: vec![helms, ours] })
}

fn files(layer: &Layer) -> Vec<File> {
    let file = |file: &idp_oci::source::PackedFile| File {
        path: file.path.clone(),
        size: file.size,
        digest: file.digest.clone(),
        executable: file.executable,
    };
    layer.files.iter().map(file).collect()
}

/// Annotations of the manifest: those that Argo CD and registries show, ours, and the author's.
fn annotations(manifest: &Manifest, facts: &Facts) -> BTreeMap<String, String> {
    let metadata = &manifest.metadata;
    let authors: Vec<String> = metadata
        .maintainers
        .iter()
        .map(|person| match &person.email {
            Some(email) => format!("{} <{email}>", person.name),
            None => person.name.clone(),
        })
        .collect();
    let oci = |name: &str| format!("org.opencontainers.image.{name}");
    let text = |text: &str| Some(text.to_owned());
    let pairs = [
        (oci("title"), metadata.display_name.clone().or_else(|| text(&metadata.name))),
        (oci("version"), text(&metadata.version)),
        (oci("created"), Some(facts.created.to_string())),
        (oci("description"), metadata.description.as_deref().map(|text| text.trim().to_owned())),
        (oci("source"), facts.source.clone().or_else(|| metadata.links.source.clone())),
        (oci("revision"), facts.revision.clone()),
        (oci("url"), metadata.links.homepage.clone()),
        (oci("documentation"), metadata.links.documentation.clone()),
        (oci("licenses"), metadata.licenses.clone()),
        (oci("authors"), Some(authors.join(", ")).filter(|authors| !authors.is_empty())),
        (NAME.to_owned(), text(&metadata.name)),
        (TYPE.to_owned(), text(manifest.spec.r#type.as_str())),
        (FORMAT.to_owned(), text("1")),
    ];
    let mut all = metadata.annotations.clone();
    all.extend(pairs.into_iter().filter_map(|(key, value)| Some((key, value?))));
    all
}

/// What Gitea shows of a package.
fn labels(annotations: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown = ["description", "source", "url", "documentation", "licenses", "authors"];
    annotations
        .iter()
        .filter(|(key, _)| shown.iter().any(|name| **key == format!("org.opencontainers.image.{name}")))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn chart_of(tree: &Tree, manifest: &Manifest) -> Result<Chart, PackageError> {
    let name = &manifest.metadata.name;
    let path = format!("{name}/Chart.yaml");
    let Some((_, entry)) = tree.files().find(|(file, _)| *file == path) else {
        return Err(PackageError::Chart(format!(
            "there is no Chart.yaml in the content, and the package is of type helm; `spec.content.root` names the chart's directory \
             (now `{}`)",
            manifest.spec.content.root
        )));
    };
    let bytes = entry
        .bytes(chart::MAX_CHART_FILE)
        .map_err(|error| PackageError::Chart(format!("Chart.yaml: {error}")))?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| PackageError::Chart("Chart.yaml is not UTF-8".to_owned()))?;
    let chart = chart::parse(text).map_err(PackageError::Chart)?;
    for (key, chart, package) in
        [("name", &chart.name, name), ("version", &chart.version, &manifest.metadata.version)]
    {
        if chart != package {
            return Err(PackageError::Chart(format!(
                "Chart.yaml says `{key}: {chart}`, and {} says `{package}`; Helm finds a chart only where both are one",
                manifest::FILE
            )));
        }
    }
    Ok(chart)
}

fn documents(directory: &Path, manifest: &Manifest) -> Result<BTreeMap<String, String>, PackageError> {
    let mut documents = BTreeMap::new();
    let values = manifest.spec.values.as_ref();
    let named = [
        ("releaseNotes", manifest.metadata.release_notes.as_deref(), true),
        ("valuesSchema", values.and_then(|values| values.schema.as_deref()), true),
        ("valuesDefaults", values.and_then(|values| values.defaults.as_deref()), true),
        ("readme", Some("README.md"), false),
    ];
    for (what, path, required) in named {
        let Some(path) = path else { continue };
        match text_of(&directory.join(path), MAX_DOCUMENT)? {
            Some(text) => {
                documents.insert(what.to_owned(), text);
            }
            None if required => {
                let message = format!("{} names it, and it is not there", manifest::FILE);
                return Err(PackageError::File { what: path.to_owned(), message });
            }
            None => {}
        }
    }
    Ok(documents)
}

/// A text file, none where there is none.
fn text_of(path: &Path, most: u64) -> Result<Option<String>, PackageError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file(path, &error)),
        Ok(metadata) if !metadata.is_file() => return Ok(None),
        Ok(metadata) if metadata.len() > most => {
            let message = format!("longer than {most} bytes");
            return Err(PackageError::File { what: path.display().to_string(), message });
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| file(path, &error))
}

fn file(path: &Path, error: &std::io::Error) -> PackageError {
    PackageError::File { what: path.display().to_string(), message: error.to_string() }
}
