//! Artifacts by hand: a tar to the byte, a manifest around it, and the two requests of a push.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use flate2::Compression;
use flate2::write::GzEncoder;
use idp_oci::digest::Digest;
use serde_json::{Value, json};

pub(crate) const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const FLUX_CONTENT: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";
pub(crate) const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
pub(crate) const HELM_CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const PACKAGE: &str = "application/vnd.cnoe.package.v1";
const PACKAGE_CONFIG: &str = "application/vnd.cnoe.package.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A member of a tar, with its name as it is given.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    name: String,
    kind: u8,
    mode: u32,
    link: String,
    content: Vec<u8>,
}

impl Member {
    fn new(name: &str, kind: u8, mode: u32) -> Self {
        Self { name: name.to_owned(), kind, mode, link: String::new(), content: Vec::new() }
    }

    pub(crate) fn file(name: &str, content: &str) -> Self {
        Self { content: content.into(), ..Self::new(name, b'0', 0o644) }
    }

    pub(crate) fn directory(name: &str) -> Self {
        Self::new(&format!("{name}/"), b'5', 0o755)
    }

    pub(crate) fn symlink(name: &str, target: &str) -> Self {
        Self { link: target.to_owned(), ..Self::new(name, b'2', 0o777) }
    }

    pub(crate) fn hardlink(name: &str, target: &str) -> Self {
        Self { link: target.to_owned(), ..Self::new(name, b'1', 0o644) }
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    fn write(&self, tar: &mut Vec<u8>) {
        let mut name = self.name.clone();
        if name.len() > 100 || !name.is_ascii() {
            // A PAX record counts itself in its length.
            let rest = format!(" path={name}\n");
            let digits = (rest.len() + 3).to_string().len();
            let mut pax = Self::new("PaxHeaders.0/long", b'x', 0o644);
            pax.content = format!("{}{rest}", rest.len() + digits).into();
            pax.write(tar);
            name = "replaced-by-its-record".to_owned();
        }
        let mut header = [0; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, &name);
        put(100, &format!("{:07o}", self.mode));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", self.content.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, &self.link);
        put(257, "ustar\x0000");
        header[156] = self.kind;
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend(header);
        tar.extend(&self.content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
}

/// The members, and the two blocks of zeros that end a tar.
pub(crate) fn tar(members: &[Member]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for member in members {
        member.write(&mut bytes);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub(crate) fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A layer to be, with its annotations.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) annotations: Value,
}

impl Layer {
    /// The layer that the format wants: gzip, and the three annotations by which oras unpacks it.
    pub(crate) fn of_tar(tar: &[u8]) -> Self {
        Self {
            media_type: TAR_GZIP,
            bytes: gzip(tar, 6),
            annotations: json!({
                "org.opencontainers.image.title": ".",
                "io.deis.oras.content.unpack": "true",
                "io.deis.oras.content.digest": Digest::of(tar).to_string(),
            }),
        }
    }

    /// A layer that is no archive.
    pub(crate) fn json() -> Self {
        let media_type = "application/vnd.example.note+json";
        Self { media_type, bytes: b"{\"note\":1}".to_vec(), annotations: json!({}) }
    }
}

/// A manifest and what it names.
#[derive(Debug, Clone)]
pub(crate) struct Artifact {
    pub(crate) layers: Vec<Layer>,
    pub(crate) artifact_type: Option<&'static str>,
    pub(crate) config_type: &'static str,
    pub(crate) config: Vec<u8>,
    pub(crate) annotations: Value,
    /// Under the tag stands an index with this manifest as its only child.
    pub(crate) in_index: bool,
}

impl Artifact {
    /// The shape of the format.
    pub(crate) fn package(layers: Vec<Layer>) -> Self {
        Self {
            layers,
            artifact_type: Some(PACKAGE),
            config_type: PACKAGE_CONFIG,
            config: b"{}".to_vec(),
            annotations: json!({
                "org.opencontainers.image.version": "1.0.0",
                "io.cnoe.package.name": "pkg",
            }),
            in_index: false,
        }
    }

    /// What `helm push` makes of a chart.
    pub(crate) fn chart(tar: &[u8]) -> Self {
        Self {
            layers: vec![Layer { media_type: HELM_CONTENT, bytes: gzip(tar, 6), annotations: json!({}) }],
            artifact_type: None,
            config_type: HELM_CONFIG,
            config: br#"{"name":"mychart","version":"1.0.0","apiVersion":"v2"}"#.to_vec(),
            annotations: json!({}),
            in_index: false,
        }
    }

    /// Pushes it, and answers with the digest that stands under the tag.
    pub(crate) fn push(&self, address: &str, repository: &str, tag: &str) -> String {
        let blob = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
            send(address, "POST", &target, "application/octet-stream", bytes);
            json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
        };
        let config = blob(self.config_type, &self.config);
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                let mut descriptor = blob(layer.media_type, &layer.bytes);
                descriptor["annotations"] = layer.annotations.clone();
                descriptor
            })
            .collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": layers,
            "annotations": self.annotations,
        });
        if let Some(artifact_type) = self.artifact_type {
            manifest["artifactType"] = artifact_type.into();
        }
        let put = |reference: &str, media_type: &str, content: &Value| {
            let bytes = content.to_string().into_bytes();
            let target = format!("/v2/{repository}/manifests/{reference}");
            send(address, "PUT", &target, media_type, &bytes);
            Digest::of(&bytes).to_string()
        };
        if !self.in_index {
            return put(tag, MANIFEST, &manifest);
        }
        let bytes = manifest.to_string();
        let child = put(&Digest::of(bytes.as_bytes()).to_string(), MANIFEST, &manifest);
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{ "mediaType": MANIFEST, "digest": child, "size": bytes.len() }],
        });
        put(tag, INDEX, &index)
    }
}

/// A request that is answered with 201.
fn send(address: &str, method: &str, target: &str, content_type: &str, body: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the registry listens");
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 201 "), "{method} {target}: {answer}");
}
