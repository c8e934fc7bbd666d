//! What is pushed: images that share layers, indexes over them, directories; on disk once, as layouts and as archives of `docker save`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use idp_test_support::images::TestImage;

use crate::dice::Dice;

/// Something to push.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) image: Option<TestImage>,
    /// How it is written on the command line.
    pub(crate) sources: Vec<String>,
    /// What a directory holds.
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
}

/// The same for every seed: what differs is what befalls it.
pub(crate) fn make(folder: &Path) -> Result<Vec<Item>> {
    let mut dice = Dice::new(7);
    // From nothing to what is worth resuming, and one that goes in several chunks.
    let sizes = [0, 10, 700, 5000, 40_000, 200_000, 900_000, 1_300_000, 2_500_000, 6_000_000];
    let layers: Vec<(u64, u64)> = sizes.iter().enumerate().map(|(seed, size)| (seed as u64, *size)).collect();
    let mut images = Vec::new();
    for _ in 0..6 {
        let count = dice.within(1..=5);
        let chosen: Vec<_> = (0..count).map(|_| *dice.pick(&layers)).collect();
        images.push(TestImage::of_layers(&chosen)?);
    }
    images.push(TestImage::layers(25)?);
    let mut items = Vec::new();
    for (number, image) in images.iter().enumerate() {
        let name = format!("image{number}");
        image.write_layout(&folder.join(&name), Some("1"))?;
        image.write_docker_classic(&folder.join(format!("{name}.tar")), &["app:1"])?;
        let sources = vec![
            format!("oci:{}:1", folder.join(&name).display()),
            format!("docker-archive:{}", folder.join(format!("{name}.tar")).display()),
        ];
        items.push(Item { name, image: Some(image.clone()), sources, files: BTreeMap::new() });
    }
    for (number, of) in [&images[0..3], &images[2..6]].into_iter().enumerate() {
        let index = TestImage::index_of(of.to_vec())?;
        let name = format!("index{number}");
        index.write_layout(&folder.join(&name), Some("1"))?;
        let archive = folder.join(format!("{name}.oci.tar"));
        index.write_oci_archive(&archive, Some("1"))?;
        let sources = vec![
            format!("oci:{}:1", folder.join(&name).display()),
            format!("oci-archive:{}", archive.display()),
        ];
        items.push(Item { name, image: Some(index), sources, files: BTreeMap::new() });
    }
    for number in 0..2 {
        let name = format!("files{number}");
        let root = folder.join(&name);
        let mut files = BTreeMap::new();
        for file in 0..dice.within(2..=12) {
            let size = dice.below(200_000);
            let mut noise = Dice::new(file + 100 * number);
            let bytes: Vec<u8> = (0..size / 8).flat_map(|_| noise.next().to_le_bytes()).collect();
            let path = PathBuf::from(format!("d{}/f{file}", file % 3));
            fs::create_dir_all(root.join(&path).parent().unwrap_or(&root))?;
            fs::write(root.join(&path), &bytes)?;
            files.insert(path, bytes);
        }
        items.push(Item { name, image: None, sources: vec![root.display().to_string()], files });
    }
    Ok(items)
}
