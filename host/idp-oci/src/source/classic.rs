//! What `docker save` writes: `manifest.json`, a config, and layers as plain tars; and the OCI manifest made of them.
//!
//! In: the files of such an archive through a closure. Out: which config and layers an image has, checked against each
//! other, and the manifest's bytes. Compresses nothing and reads no layer.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::layout::{canonical_name, familiar_name, platform_fits, platform_of_config, platform_text};
use crate::manifest::{Descriptor, Manifest, SpecDescriptor};
use crate::media;
use crate::source::{Selection, SourceError};

/// The list of images.
pub(crate) const MANIFEST: &str = "manifest.json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    /// Foreign layers by diffID.
    #[serde(default)]
    layer_sources: Option<std::collections::BTreeMap<String, SpecDescriptor>>,
}

#[derive(Debug, Deserialize)]
struct Config {
    rootfs: Option<RootFs>,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

/// One image of an archive.
#[derive(Debug)]
pub(crate) struct Saved {
    /// The config's bytes as they stand in the archive.
    pub(crate) config: Bytes,
    /// The layers, bottom first.
    pub(crate) layers: Vec<Layer>,
    /// What the archive calls the image.
    pub(crate) name: Option<String>,
}

/// A layer of an archive.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Where it stands.
    pub(crate) path: String,
    /// The digest of its tar, as the config says.
    pub(crate) diff_id: Digest,
    /// What the archive says of a layer that is not to be distributed.
    pub(crate) foreign: Option<Descriptor>,
}

/// Finds the wanted image in `manifest` (the bytes of `manifest.json`). `read` gives a small file of the archive; `what`
/// names the archive in errors.
pub(crate) fn choose(
    manifest: &[u8],
    selection: &Selection,
    what: &str,
    read: &dyn Fn(&str) -> Result<Option<Bytes>, SourceError>,
) -> Result<Saved, SourceError> {
    let invalid = |text: String| SourceError::Invalid(format!("{what}: {text}"));
    let entries: Vec<Entry> = serde_json::from_slice(manifest)
        .map_err(|error| invalid(format!("{MANIFEST} is not a list of images: {error}")))?;
    let (entry, name) = pick(&entries, selection.name.as_deref(), what)?;
    let config =
        read(&entry.config)?.ok_or_else(|| invalid(format!("the config `{}` is missing", entry.config)))?;
    if let Some(wanted) = &selection.platform
        && let Some(found) = platform_of_config(&config)
        && !platform_fits(wanted, &found)
    {
        return Err(SourceError::NotFound(format!(
            "{what} has no image for {}; it is for {}",
            platform_text(wanted),
            platform_text(&found)
        )));
    }
    let parsed: Config = serde_json::from_slice(&config)
        .map_err(|error| invalid(format!("the config `{}` is not valid: {error}", entry.config)))?;
    let paths = entry.layers.as_deref().unwrap_or_default();
    let diff_ids = parsed.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
    if diff_ids.is_empty() && !paths.is_empty() {
        return Err(invalid(format!(
            "the config `{}` lists no rootfs.diff_ids for {} layers: Docker before 1.10 wrote it; load it and save it \
             again with a current Docker",
            entry.config,
            paths.len()
        )));
    }
    if diff_ids.len() != paths.len() {
        return Err(invalid(format!(
            "{MANIFEST} lists {} layers and the config `{}` {} rootfs.diff_ids",
            paths.len(),
            entry.config,
            diff_ids.len()
        )));
    }
    let mut layers = Vec::with_capacity(paths.len());
    for (path, diff_id) in paths.iter().zip(diff_ids) {
        let foreign = entry.layer_sources.as_ref().and_then(|sources| sources.get(&diff_id));
        let digest = |error| invalid(format!("the layer `{path}`: {error}"));
        layers.push(Layer {
            path: path.clone(),
            diff_id: diff_id.parse().map_err(digest)?,
            foreign: foreign
                .map(Descriptor::try_from)
                .transpose()
                .map_err(digest)?
                .filter(|descriptor| media::is_foreign(&descriptor.media_type)),
        });
    }
    Ok(Saved { config, layers, name })
}

/// The entry that is meant, and the name it goes by.
fn pick<'a>(
    entries: &'a [Entry],
    wanted: Option<&str>,
    what: &str,
) -> Result<(&'a Entry, Option<String>), SourceError> {
    let first_tag =
        |entry: &Entry| entry.repo_tags.iter().flatten().next().map(|tag| familiar_name(tag).to_owned());
    let Some(wanted) = wanted else {
        return match entries {
            [one] => Ok((one, first_tag(one))),
            [] => Err(SourceError::NotFound(format!("{what} has no images"))),
            _ => Err(SourceError::Invalid(format!(
                "{what} has {} images, choose one by name or by the digest of its config; {}",
                entries.len(),
                listing(entries)
            ))),
        };
    };
    let canonical = canonical_name(wanted);
    let by_tag = entries.iter().find_map(|entry| {
        let tag = entry.repo_tags.iter().flatten().find(|tag| canonical_name(tag) == canonical)?;
        Some((entry, Some(familiar_name(tag).to_owned())))
    });
    let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    by_tag
        .or_else(|| {
            let entry = entries.iter().find(|entry| hex.len() >= 12 && config_hex(entry).starts_with(hex))?;
            Some((entry, first_tag(entry)))
        })
        .ok_or_else(|| SourceError::NotFound(format!("{what} has no image `{wanted}`; {}", listing(entries))))
}

/// Configs are named by their digest: `<hex>.json` or `blobs/sha256/<hex>`.
fn config_hex(entry: &Entry) -> &str {
    let name = entry.config.rsplit('/').next().unwrap_or_default();
    name.strip_suffix(".json").unwrap_or(name)
}

fn listing(entries: &[Entry]) -> String {
    let shown = entries.iter().take(20).map(|entry| match entry.repo_tags.iter().flatten().next() {
        Some(tag) => tag.clone(),
        None => format!("sha256:{} (without a name)", config_hex(entry)),
    });
    let more = if entries.len() > 20 { ", …" } else { "" };
    format!("it holds: {}{more}", shown.collect::<Vec<_>>().join(", "))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestDocument<'a> {
    schema_version: u8,
    media_type: &'a str,
    config: DescriptorDocument<'a>,
    layers: Vec<DescriptorDocument<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorDocument<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    urls: &'a [String],
}

impl<'a> From<&'a Descriptor> for DescriptorDocument<'a> {
    fn from(of: &'a Descriptor) -> Self {
        Self { media_type: &of.media_type, digest: &of.digest, size: of.size, urls: &of.urls }
    }
}

/// The OCI manifest of a config and its layers: always the same bytes for the same parts.
pub(crate) fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Result<Manifest, SourceError> {
    let document = ManifestDocument {
        schema_version: 2,
        media_type: media::OCI_MANIFEST,
        config: config.into(),
        layers: layers.iter().map(Into::into).collect(),
    };
    let what = || "the manifest made for the image".to_owned();
    let bytes = serde_json::to_vec(&document)
        .map_err(|error| SourceError::Io { what: what(), error: error.into() })?;
    Manifest::parse(bytes.into(), Some(media::OCI_MANIFEST))
        .map_err(|error| SourceError::Manifest { what: what(), error })
}

/// The error for a layer whose tar is not what the config names.
pub(crate) fn wrong_diff_id(what: &str, layer: &Layer, found: &Digest) -> SourceError {
    SourceError::Invalid(format!(
        "{what}: the layer `{}` hashes to {found}, and the config says {}: the archive is damaged",
        layer.path, layer.diff_id
    ))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Saved, choose};
    use crate::source::{Selection, SourceError};

    fn run(manifest: &str, config: Option<&str>, name: Option<&str>) -> Result<Saved, SourceError> {
        let selection = Selection { name: name.map(str::to_owned), ..Selection::default() };
        let config = config.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        choose(manifest.as_bytes(), &selection, "archive x.tar", &|_| Ok(config.clone()))
    }

    fn refused(manifest: &str, config: Option<&str>, name: Option<&str>) -> String {
        run(manifest, config, name).expect_err(manifest).to_string()
    }

    const DIFF: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_does_not_fit_together_is_said() {
        let one = r#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar"]}]"#;
        for (manifest, config, name, expect) in [
            ("{}", None, None, "not a list of images"),
            ("[]", None, None, "has no images"),
            (one, None, None, "the config `c.json` is missing"),
            (one, Some("]"), None, "is not valid"),
            (one, Some("{}"), None, "no rootfs.diff_ids for 1 layers"),
            (one, Some(r#"{"rootfs":{"diff_ids":null}}"#), None, "no rootfs.diff_ids for 1 layers"),
            (one, Some(r#"{"rootfs":{"diff_ids":["md5:0"]}}"#), None, "not supported"),
            (
                one,
                Some(&*format!(r#"{{"rootfs":{{"diff_ids":["{DIFF}","{DIFF}"]}}}}"#)),
                None,
                "lists 1 layers and the config `c.json` 2 rootfs.diff_ids",
            ),
            (one, Some("{}"), Some("app"), "no image `app`; it holds: sha256:c (without a name)"),
        ] {
            let error = refused(manifest, config, name);
            assert!(error.contains(expect) && error.contains("x.tar"), "{error}");
        }
    }

    #[test]
    fn images_are_chosen_by_name_or_config() {
        let hex = "0123456789abcdef";
        let two = format!(
            r#"[{{"Config":"{hex}.json","RepoTags":["app:1","app:2"]}},{{"Config":"b.json","RepoTags":["docker.io/library/other:latest"],"Layers":[]}}]"#
        );
        let name = |wanted| run(&two, Some("{}"), Some(wanted)).expect(wanted).name;
        assert_eq!(name("app:2").as_deref(), Some("app:2"));
        assert_eq!(name("docker.io/library/app:1").as_deref(), Some("app:1"));
        assert_eq!(name("other").as_deref(), Some("other:latest"));
        assert_eq!(name("sha256:0123456789ab").as_deref(), Some("app:1"));
        let error = refused(&two, Some("{}"), None);
        assert!(
            error.contains("2 images") && error.contains("app:1, docker.io/library/other:latest"),
            "{error}"
        );
    }
}
