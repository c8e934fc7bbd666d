//! The forms an image is kept in: layouts, archives, and what `docker save` of different versions writes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::content::header;
use super::{Content, LAYER, MANIFEST, TestImage, descriptor};

/// A member of a tar that a test composes.
#[derive(Debug, Clone)]
pub enum TarEntry {
    /// A regular file.
    File(String, Content),
    /// A directory.
    Directory(String),
    /// A symbolic link and its target.
    Symlink(String, String),
    /// A hard link and the member it means.
    Hardlink(String, String),
    /// Any other type, by its flag.
    Special(String, u8),
}

impl TarEntry {
    /// A file with these bytes.
    pub fn file(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::File(path.into(), Content::Bytes(bytes.into()))
    }
}

/// Writes a tar, names and all as they are given.
pub fn write_tar(mut output: impl Write, entries: &[TarEntry]) -> io::Result<()> {
    for entry in entries {
        let (path, kind, link, content) = match entry {
            TarEntry::File(path, content) => (path, tar::EntryType::Regular, None, Some(content)),
            TarEntry::Directory(path) => (path, tar::EntryType::Directory, None, None),
            TarEntry::Symlink(path, target) => (path, tar::EntryType::Symlink, Some(target), None),
            TarEntry::Hardlink(path, target) => (path, tar::EntryType::Link, Some(target), None),
            TarEntry::Special(path, flag) => (path, tar::EntryType::new(*flag), None, None),
        };
        let size = content.map_or(0, Content::size);
        let mut header = header(path, size, kind);
        if let Some(link) = link {
            header.set_link_name_literal(link)?;
            header.set_cksum();
        }
        output.write_all(header.as_bytes())?;
        if let Some(content) = content {
            io::copy(&mut content.reader(), &mut output)?;
            io::copy(&mut io::repeat(0).take(size.next_multiple_of(512) - size), &mut output)?;
        }
    }
    output.write_all(&[0; 1024])
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

impl TestImage {
    /// `index.json` with this image as its only entry.
    pub fn index_json(&self, tag: Option<&str>) -> Value {
        let mut entry = self.root.clone();
        if let Some(tag) = tag {
            entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        }
        json!({ "schemaVersion": 2, "manifests": [entry] })
    }

    /// The files of an OCI image layout, in the order of an archive of one.
    pub fn layout_entries(&self, tag: Option<&str>) -> io::Result<Vec<TarEntry>> {
        let mut entries =
            vec![TarEntry::Directory("blobs/".into()), TarEntry::Directory("blobs/sha256/".into())];
        entries.extend(
            self.contents.iter().map(|(digest, content)| TarEntry::File(blob_path(digest), content.clone())),
        );
        entries.push(TarEntry::file("index.json", serde_json::to_vec(&self.index_json(tag))?));
        entries.push(TarEntry::file("oci-layout", *br#"{"imageLayoutVersion":"1.0.0"}"#));
        Ok(entries)
    }

    /// Writes an OCI image layout.
    pub fn write_layout(&self, directory: &Path, tag: Option<&str>) -> io::Result<()> {
        std::fs::create_dir_all(directory.join("blobs/sha256"))?;
        for entry in self.layout_entries(tag)? {
            if let TarEntry::File(path, content) = entry {
                io::copy(&mut content.reader(), &mut File::create(directory.join(path))?)?;
            }
        }
        Ok(())
    }

    /// Writes a tar of an OCI image layout.
    pub fn write_oci_archive(&self, path: &Path, tag: Option<&str>) -> io::Result<()> {
        write_tar(io::BufWriter::new(File::create(path)?), &self.layout_entries(tag)?)
    }

    /// The files of `docker save` before 25: a directory for each layer, the same layer again as a symbolic link.
    pub fn docker_classic_entries(&self, tags: &[&str]) -> io::Result<Vec<TarEntry>> {
        let (mut entries, mut images) = (Vec::new(), Vec::new());
        for (number, single) in self.singles.iter().enumerate() {
            let mut paths: Vec<String> = Vec::new();
            for (position, layer) in single.layers.iter().enumerate() {
                let path = format!("{number}-{position}/layer.tar");
                entries.push(TarEntry::Directory(format!("{number}-{position}/")));
                entries.push(TarEntry::file(format!("{number}-{position}/VERSION"), *b"1.0"));
                entries.push(TarEntry::file(format!("{number}-{position}/json"), *b"{\"id\":\"x\"}"));
                match single.layers.iter().position(|other| other == layer).filter(|first| *first < position)
                {
                    Some(first) => {
                        let target = format!("../{number}-{first}/layer.tar");
                        entries.push(TarEntry::Symlink(path.clone(), target));
                    }
                    None => entries.push(TarEntry::File(path.clone(), layer.clone())),
                }
                paths.push(path);
            }
            let digest = Content::Bytes(single.config.clone()).digest()?;
            let config = format!("{}.json", digest.trim_start_matches("sha256:"));
            entries.push(TarEntry::file(config.clone(), single.config.clone()));
            let tag = tags.get(number);
            images.push(json!({ "Config": config, "RepoTags": tag.map(|tag| [tag]), "Layers": paths }));
        }
        entries.push(TarEntry::file("manifest.json", serde_json::to_vec(&images)?));
        Ok(entries)
    }

    /// The files of `docker save` from 25 on, without containerd's image store: a layout whose layers are plain tars.
    pub fn docker_25_entries(&self, tags: &[&str]) -> io::Result<Vec<TarEntry>> {
        let mut blobs = std::collections::BTreeMap::new();
        let (mut listed, mut images) = (Vec::new(), Vec::new());
        for (number, single) in self.singles.iter().enumerate() {
            let config = Content::Bytes(single.config.clone());
            let mut layers = Vec::new();
            for layer in &single.layers {
                layers.push(descriptor(LAYER, layer)?);
                blobs.insert(blob_path(&layer.digest()?), layer.clone());
            }
            let paths: Vec<_> =
                layers.iter().map(|layer| blob_path(layer["digest"].as_str().unwrap_or_default())).collect();
            let manifest = serde_json::to_vec(&json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(super::CONFIG, &config)?, "layers": layers,
            }))?;
            let manifest = Content::Bytes(manifest);
            let mut entry = descriptor(MANIFEST, &manifest)?;
            let tag = tags.get(number);
            if let Some(tag) = tag {
                entry["annotations"] =
                    json!({ "io.containerd.image.name": format!("docker.io/library/{tag}") });
            }
            listed.push(entry);
            images.push(json!({
                "Config": blob_path(&config.digest()?), "RepoTags": tag.map(|tag| [tag]), "Layers": paths,
            }));
            blobs.insert(blob_path(&manifest.digest()?), manifest);
            blobs.insert(blob_path(&config.digest()?), config);
        }
        let index = json!({ "schemaVersion": 2, "manifests": listed });
        let mut entries: Vec<_> =
            blobs.into_iter().map(|(path, content)| TarEntry::File(path, content)).collect();
        entries.push(TarEntry::file("index.json", serde_json::to_vec(&index)?));
        entries.push(TarEntry::file("manifest.json", serde_json::to_vec(&images)?));
        entries.push(TarEntry::file("oci-layout", *br#"{"imageLayoutVersion":"1.0.0"}"#));
        Ok(entries)
    }

    /// Writes what [`Self::docker_classic_entries`] lists.
    pub fn write_docker_classic(&self, path: &Path, tags: &[&str]) -> io::Result<()> {
        write_tar(io::BufWriter::new(File::create(path)?), &self.docker_classic_entries(tags)?)
    }

    /// Writes what [`Self::docker_25_entries`] lists.
    pub fn write_docker_25(&self, path: &Path, tags: &[&str]) -> io::Result<()> {
        write_tar(io::BufWriter::new(File::create(path)?), &self.docker_25_entries(tags)?)
    }
}
