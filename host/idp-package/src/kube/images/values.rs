//! Images in the values of charts.

use std::collections::BTreeSet;

use crate::kube::node::{Node, is_placeholder};

use super::{Image, Source, looks_like_image};

/// Values as charts commonly write images: a text, or `registry`, `repository`, `tag` and `digest`.
pub(super) fn of_values(
    file: &str,
    node: &Node,
    source: Source,
    app_version: Option<&str>,
    inside: Option<&Node>,
    images: &mut BTreeSet<Image>,
) {
    // A text in a block is YAML of its own, whose first line is the one that the block starts on.
    let place = |line: u32, column: u32| match inside {
        Some(block) => (block.line + line - 1, block.column + column - 1),
        None => (line, column),
    };
    for entry in node.entries() {
        let is_image = entry.key == "image" || entry.key.ends_with("Image");
        if is_image
            && let Some(text) = entry.value.string()
            && looks_like_image(text)
            && !is_placeholder(text)
        {
            let at = place(entry.value.line, entry.value.column);
            images.insert(Image::new(file, at, text.to_owned(), source));
        }
        if let Some((text, (line, column))) = of_parts(&entry.value, is_image, app_version) {
            images.insert(Image::new(file, place(line, column), text, source));
        }
        of_values(file, &entry.value, source, app_version, inside, images);
    }
    for item in node.items() {
        of_values(file, item, source, app_version, inside, images);
    }
}

fn of_parts(node: &Node, is_image: bool, app_version: Option<&str>) -> Option<(String, (u32, u32))> {
    let part = |key: &str| node.text_at(&[key]).filter(|text| !text.is_empty() && !is_placeholder(text));
    let repository =
        part("repository").or_else(|| part("name").filter(|_| is_image && part("tag").is_some()))?;
    // `repository` alone may be a chart's or a git's.
    let has_more = ["tag", "digest", "registry", "pullPolicy"].iter().any(|key| node.get(key).is_some());
    if !(is_image || has_more) || repository.contains("://") {
        return None;
    }
    let mut text = match part("registry") {
        Some(registry) => format!("{registry}/{repository}"),
        None => repository.to_owned(),
    };
    let tag_at = node.get("tag").or_else(|| node.get("repository")).unwrap_or(node);
    if let Some(tag) = part("tag").or(app_version.filter(|_| part("digest").is_none())) {
        // Some write the digest behind the tag, or in its place.
        let separator = if tag.starts_with("sha256:") { '@' } else { ':' };
        text = format!("{text}{separator}{tag}");
    }
    if let Some(digest) = part("digest").or_else(|| part("sha").filter(|sha| sha.starts_with("sha256:"))) {
        text = format!("{text}@{digest}");
    }
    Some((text, (tag_at.line, tag_at.column)))
}
