//! Images for tests, made by rule: the same bytes every time, in every form that images are kept in.
//!
//! A [`TestImage`] knows its contents by digest; the writers put it on disk as a layout, as an archive of one, or as
//! `docker save` does. May depend on nothing of the project, so that what is tested is not what made the input.

mod content;
mod write;

use std::collections::BTreeMap;
use std::io::{self, Write as _};

pub use content::Content;
use serde_json::{Value, json};
pub use write::{TarEntry, write_tar};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

/// An image, or an index of several.
#[derive(Debug, Clone)]
pub struct TestImage {
    /// Descriptor of the root.
    pub root: Value,
    /// Blobs and manifests by digest; foreign layers are not among them.
    pub contents: BTreeMap<String, Content>,
    /// The images in it, as `docker save` would list them.
    pub(crate) singles: Vec<Single>,
}

/// What `docker save` knows of an image.
#[derive(Debug, Clone)]
pub(crate) struct Single {
    pub(crate) config: Vec<u8>,
    /// Plain tars, bottom first.
    pub(crate) layers: Vec<Content>,
}

/// A layer to be.
#[derive(Debug, Clone)]
enum Layer {
    /// Stored as gzip.
    Gzip(Content),
    /// Stored as it is.
    Plain(Content),
    /// Named, and not there.
    Foreign(Content),
}

impl TestImage {
    /// One small layer.
    pub fn one_layer() -> io::Result<Self> {
        Self::layers(1)
    }

    /// `count` small layers, all different.
    pub fn layers(count: u64) -> io::Result<Self> {
        let layers: Vec<_> =
            (0..count).map(|seed| Layer::Gzip(Content::Tar { seed, size: 700 + seed })).collect();
        Self::of(&layers, ("linux", "amd64", None))
    }

    /// One plain layer with a file of `size` bytes. Takes no memory for it.
    pub fn big(size: u64) -> io::Result<Self> {
        Self::of(&[Layer::Plain(Content::Tar { seed: 1, size })], ("linux", "amd64", None))
    }

    /// One plain layer with a file of `size` bytes, most of them zeros: where the size matters and its time does not.
    pub fn sparse(size: u64) -> io::Result<Self> {
        Self::of(&[Layer::Plain(Content::Sparse { seed: 1, size })], ("linux", "amd64", None))
    }

    /// A layer that is not to be distributed under one that is.
    pub fn foreign_layer() -> io::Result<Self> {
        let foreign = Layer::Foreign(Content::Tar { seed: 90, size: 10 });
        Self::of(&[foreign, Layer::Gzip(Content::Tar { seed: 0, size: 10 })], ("linux", "amd64", None))
    }

    /// A tar without members among the layers.
    pub fn empty_layer() -> io::Result<Self> {
        let empty = Layer::Gzip(Content::Bytes(vec![0; 1024]));
        Self::of(&[Layer::Gzip(Content::Tar { seed: 0, size: 10 }), empty], ("linux", "amd64", None))
    }

    /// The same layer below and above another one.
    pub fn same_layer_twice() -> io::Result<Self> {
        let layer = |seed| Layer::Gzip(Content::Tar { seed, size: 3000 });
        Self::of(&[layer(0), layer(1), layer(0)], ("linux", "amd64", None))
    }

    /// No layers at all.
    pub fn no_layers() -> io::Result<Self> {
        Self::of(&[], ("linux", "amd64", None))
    }

    /// An artifact whose config and only layer are the same two bytes.
    pub fn config_equals_layer() -> io::Result<Self> {
        let content = Content::Bytes(b"{}".to_vec());
        let part = descriptor("application/vnd.oci.empty.v1+json", &content)?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x-test", "config": part, "layers": [part],
        });
        let mut image = Self { root: Value::Null, contents: BTreeMap::new(), singles: Vec::new() };
        image.add(content)?;
        image.root = image.add_json(MANIFEST, &manifest)?;
        Ok(image)
    }

    /// An artifact that refers to another manifest, as signatures do.
    pub fn referrer(subject: &Value, artifact_type: &str) -> io::Result<Self> {
        let content = Content::Bytes(b"{}".to_vec());
        let part = descriptor("application/vnd.oci.empty.v1+json", &content)?;
        let subject = json!({ "mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"] });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact_type, "config": part, "layers": [part],
            "subject": subject,
        });
        let mut image = Self { root: Value::Null, contents: BTreeMap::new(), singles: Vec::new() };
        image.add(content)?;
        image.root = image.add_json(MANIFEST, &manifest)?;
        Ok(image)
    }

    /// A layer for each pair: the same seed and size give the same layer in every image.
    pub fn of_layers(layers: &[(u64, u64)]) -> io::Result<Self> {
        let layers: Vec<_> =
            layers.iter().map(|&(seed, size)| Layer::Gzip(Content::Tar { seed, size })).collect();
        Self::of(&layers, ("linux", "amd64", None))
    }

    /// An index of these images, one a platform.
    pub fn index_of(images: Vec<Self>) -> io::Result<Self> {
        let mut all = Self { root: Value::Null, contents: BTreeMap::new(), singles: Vec::new() };
        let mut manifests = Vec::new();
        for (number, image) in images.into_iter().enumerate() {
            let mut entry = image.root;
            entry["platform"] = json!({ "os": "linux", "architecture": format!("test{number}") });
            manifests.push(entry);
            all.contents.extend(image.contents);
            all.singles.extend(image.singles);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        all.root = all.add_json(INDEX, &index)?;
        Ok(all)
    }

    /// Three platforms; `linux/arm64` shares its first layer with `linux/amd64`.
    pub fn index() -> io::Result<Self> {
        let layer = |seed| Layer::Gzip(Content::Tar { seed, size: 5000 });
        let mut all = Self { root: Value::Null, contents: BTreeMap::new(), singles: Vec::new() };
        let mut manifests = Vec::new();
        for (platform, seeds) in [
            (("linux", "amd64", None), [0, 1]),
            (("linux", "arm64", Some("v8")), [0, 2]),
            (("linux", "arm", Some("v7")), [3, 4]),
        ] {
            let one = Self::of(&seeds.map(layer), platform)?;
            let mut entry = one.root.clone();
            entry["platform"] = json!({ "os": platform.0, "architecture": platform.1 });
            if let Some(variant) = platform.2 {
                entry["platform"]["variant"] = variant.into();
            }
            manifests.push(entry);
            all.contents.extend(one.contents);
            all.singles.extend(one.singles);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        all.root = all.add_json(INDEX, &index)?;
        Ok(all)
    }

    /// The digest of the root.
    pub fn digest(&self) -> &str {
        self.root["digest"].as_str().unwrap_or_default()
    }

    /// `depth` indexes around it, one in the other.
    pub fn nested(mut self, depth: usize) -> io::Result<Self> {
        for _ in 0..depth {
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [self.root] });
            self.root = self.add_json(INDEX, &index)?;
        }
        Ok(self)
    }

    fn of(layers: &[Layer], (os, architecture, variant): (&str, &str, Option<&str>)) -> io::Result<Self> {
        let mut image = Self { root: Value::Null, contents: BTreeMap::new(), singles: Vec::new() };
        let (mut parts, mut diff_ids, mut tars) = (Vec::new(), Vec::new(), Vec::new());
        for layer in layers {
            let (Layer::Gzip(tar) | Layer::Plain(tar) | Layer::Foreign(tar)) = layer;
            diff_ids.push(tar.digest()?);
            tars.push(tar.clone());
            parts.push(match layer {
                Layer::Plain(tar) => {
                    image.add(tar.clone())?;
                    descriptor(LAYER, tar)?
                }
                Layer::Gzip(tar) => {
                    let stored = gzip(tar)?;
                    let part = descriptor(LAYER_GZIP, &stored)?;
                    image.add(stored)?;
                    part
                }
                Layer::Foreign(tar) => {
                    let mut part = descriptor(FOREIGN, &gzip(tar)?)?;
                    part["urls"] = json!(["https://layers.example/foreign"]);
                    part
                }
            });
        }
        let mut config = json!({
            "architecture": architecture, "os": os, "config": { "Cmd": ["/data"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": tars.iter().map(|_| json!({ "created_by": "test" })).collect::<Vec<_>>(),
        });
        if let Some(variant) = variant {
            config["variant"] = variant.into();
        }
        let config = serde_json::to_vec(&config)?;
        let content = Content::Bytes(config.clone());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &content)?, "layers": parts,
        });
        image.add(content)?;
        image.root = image.add_json(MANIFEST, &manifest)?;
        image.singles.push(Single { config, layers: tars });
        Ok(image)
    }

    fn add(&mut self, content: Content) -> io::Result<()> {
        self.contents.insert(content.digest()?, content);
        Ok(())
    }

    fn add_json(&mut self, media_type: &str, document: &Value) -> io::Result<Value> {
        let content = Content::Bytes(serde_json::to_vec(document)?);
        let descriptor = descriptor(media_type, &content)?;
        self.add(content)?;
        Ok(descriptor)
    }
}

fn descriptor(media_type: &str, content: &Content) -> io::Result<Value> {
    Ok(json!({ "mediaType": media_type, "digest": content.digest()?, "size": content.size() }))
}

fn gzip(content: &Content) -> io::Result<Content> {
    let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::new(1));
    io::copy(&mut content.reader(), &mut encoder)?;
    encoder.flush()?;
    Ok(Content::Bytes(encoder.finish()?))
}
