//! The README of a package or a chart: what its config says, or out of its one layer, which is read no further than its first
//! mebibytes.

use std::io::Read as _;

use flate2::read::GzDecoder;

use super::describe::{self, Described, Kind};
use super::format;
use crate::name::Repository;
use crate::server::Registry;

/// A larger layer is not opened.
const MOST_LAYER: u64 = 4 * 1024 * 1024;

/// How much of what is in it is looked at: what is compressed can be large.
const MOST_UNPACKED: u64 = 32 * 1024 * 1024;

/// How much of a README is shown.
const MOST_README: u64 = 64 * 1024;

/// How many of its entries are looked at.
const MOST_ENTRIES: usize = 2000;

/// The text, or nothing: what cannot be read has none.
pub(super) async fn read(
    registry: &Registry,
    repository: &Repository,
    described: &Described,
) -> Option<String> {
    if !matches!(described.kind, Kind::Package | Kind::Chart) {
        return None;
    }
    if let Some(text) = told(described) {
        return Some(text);
    }
    let layer = described.layers.first()?;
    let gzip = layer.media_type.ends_with("gzip");
    if !gzip && !layer.media_type.ends_with("tar") {
        return None;
    }
    let bytes = describe::read(registry, repository, layer, MOST_LAYER).await.ok()??;
    tokio::task::spawn_blocking(
        move || if gzip { find(GzDecoder::new(&bytes[..])) } else { find(&bytes[..]) },
    )
    .await
    .ok()?
}

/// What the config of a package says: its README is not among what is deployed.
fn told(described: &Described) -> Option<String> {
    let text = described.config.as_ref()?.documents.as_ref()?.get("readme")?.as_str()?;
    let most = usize::try_from(MOST_README).unwrap_or(usize::MAX);
    let text = format::plain(&text[..text.floor_char_boundary(most)]);
    Some(text).filter(|text| !text.trim().is_empty())
}

/// `README.md` at the top, or in the one directory that a chart is in.
fn find(archive: impl std::io::Read) -> Option<String> {
    let mut archive = tar::Archive::new(archive.take(MOST_UNPACKED));
    for entry in archive.entries().ok()?.take(MOST_ENTRIES) {
        let mut entry = entry.ok()?;
        let path = entry.path().ok()?.to_string_lossy().into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path);
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_readme = ["readme.md", "readme", "readme.txt"].contains(&name.to_ascii_lowercase().as_str());
        if is_readme && path.matches('/').count() <= 1 && entry.header().entry_type().is_file() {
            let mut text = Vec::new();
            entry.by_ref().take(MOST_README).read_to_end(&mut text).ok()?;
            let text = format::plain(&String::from_utf8_lossy(&text));
            return Some(text).filter(|text| !text.trim().is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::find;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *bytes).expect("appended");
        }
        builder.into_inner().expect("whole")
    }

    #[test]
    fn the_readme_is_found_and_bounded() {
        let big = vec![b'a'; 100_000];
        for (entries, expect) in [
            (&[("manifests/a.yaml", &b"x"[..]), ("README.md", b"hello")][..], Some(5)),
            (&[("./README.md", b"hello")], Some(5)),
            (&[("chart/Chart.yaml", b"x"), ("chart/README.md", b"hello")], Some(5)),
            (&[("chart/charts/other/README.md", b"hello")], None),
            (&[("README.md", b"  ")], None),
            (&[("README.md", &big)], Some(64 * 1024)),
            (&[], None),
        ] {
            let text = find(&archive(entries)[..]);
            assert_eq!(text.as_ref().map(String::len), expect);
        }
    }

    #[test]
    fn what_is_no_archive_and_what_never_ends_has_none() {
        assert_eq!(find(&b"not an archive"[..]), None);
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let mut header = tar::Header::new_ustar();
        header.set_path("big").expect("a path");
        header.set_size(1 << 40);
        header.set_mode(0o644);
        header.set_cksum();
        bomb.write_all(header.as_bytes()).expect("written");
        for _ in 0..64 {
            bomb.write_all(&[0; 1024 * 1024]).expect("written");
        }
        let bomb = bomb.finish().expect("whole");
        assert_eq!(find(flate2::read::GzDecoder::new(&bomb[..])), None);
    }
}
