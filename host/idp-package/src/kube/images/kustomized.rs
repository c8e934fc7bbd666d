//! Images as kustomizations put them in place of others.

use std::collections::{BTreeMap, BTreeSet};

use crate::kube::files::clean;
use crate::kube::kustomize::{ImageOverride, Kustomization, NamedAs};
use crate::kube::scan::Scan;

use super::{Image, Source};

/// What kustomizations make of the images of the files they reach.
pub(super) struct Built<'a> {
    /// The files that a kustomization reaches: their images are what it makes of them.
    pub(super) reached: BTreeSet<&'a str>,
    pub(super) images: BTreeSet<Image>,
}

impl<'a> Built<'a> {
    pub(super) fn new(scan: &'a Scan<'_>, by_file: &BTreeMap<&'a str, Vec<Image>>) -> Self {
        let mut built = Self { reached: BTreeSet::new(), images: BTreeSet::new() };
        let named: BTreeSet<&str> = scan
            .kustomizations
            .iter()
            .flat_map(|kustomization| &kustomization.names)
            .filter_map(|named| named.path.as_deref())
            .collect();
        let targets: BTreeSet<String> = scan
            .manifest
            .map(|manifest| manifest.spec.targets.iter().map(|target| clean(&target.path)).collect())
            .unwrap_or_default();
        for kustomization in &scan.kustomizations {
            // What another one builds on is not deployed by itself, unless a target says so.
            let directory = kustomization.directory.as_str();
            if !named.contains(directory) || targets.contains(directory) {
                let images = built.build(scan, by_file, kustomization, &mut Vec::new());
                built.images.extend(images);
            }
        }
        built
    }

    fn build(
        &mut self,
        scan: &'a Scan<'_>,
        by_file: &BTreeMap<&'a str, Vec<Image>>,
        kustomization: &'a Kustomization,
        above: &mut Vec<&'a str>,
    ) -> BTreeSet<Image> {
        let mut images = BTreeSet::new();
        // A circle is a rule's to tell; so is a stack of overlays that nobody means.
        if above.contains(&kustomization.directory.as_str()) || above.len() > 20 {
            return images;
        }
        above.push(&kustomization.directory);
        for named in &kustomization.names {
            let Some(path) = named.path.as_deref().filter(|_| named.named_as != NamedAs::Data) else {
                continue;
            };
            if let Some(inner) = scan.kustomization_of(path).filter(|_| named.named_as == NamedAs::Resource) {
                images.extend(self.build(scan, by_file, inner, above));
            } else if let Some((file, found)) = by_file.get_key_value(path) {
                self.reached.insert(file);
                images.extend(found.iter().cloned());
            }
        }
        above.pop();
        for over in &kustomization.images {
            images = images.into_iter().map(|image| overridden(image, over, &kustomization.file)).collect();
        }
        images
    }
}

/// As kustomize replaces an image whose name is the override's.
fn overridden(image: Image, over: &ImageOverride, file: &str) -> Image {
    let name_end = image.text.find('@').unwrap_or(image.text.len());
    let slash = image.text[..name_end].rfind('/').map_or(0, |at| at + 1);
    let name_end = image.text[slash..name_end].rfind(':').map_or(name_end, |at| slash + at);
    if image.text[..name_end] != over.name {
        return image;
    }
    let rest = &image.text[name_end..];
    let mut text = over.new_name.clone().unwrap_or_else(|| over.name.clone());
    match (&over.new_tag, &over.digest) {
        (None, None) => text.push_str(rest),
        (tag, digest) => {
            if let Some(tag) = tag {
                text = format!("{text}:{tag}");
            }
            if let Some(digest) = digest {
                text = format!("{text}@{digest}");
            }
        }
    }
    Image::new(file, (over.line, over.column), text, Source::Kustomize)
}
