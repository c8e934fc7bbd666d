//! Manifests, tars and layouts, in memory.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _};

use bytes::Bytes;

use super::recipe;
use crate::blob::Blob;
use crate::digest::Digest;
use crate::layout::{self, Contents};
use crate::manifest::{Descriptor, Manifest, Platform, Shape};
use crate::source::{Selection, SourceError};
use crate::tarball::{Kind, Reader, StreamInput};

/// A manifest: a content type in the first line, then the document. Its bytes stay what they are.
pub(super) fn manifest(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or_default();
    let (content_type, document) = input.split_at(end);
    let content_type = std::str::from_utf8(content_type).ok().filter(|text| !text.is_empty());
    match Manifest::parse(Bytes::copy_from_slice(document), content_type) {
        Ok(manifest) => {
            assert_eq!(&**manifest.bytes(), document);
            assert_eq!(*manifest.digest(), Digest::of(document));
            let named = match manifest.shape() {
                Shape::Image { layers, .. } => layers.len() + 1,
                Shape::Index { manifests } => manifests.len(),
            };
            assert!(named <= document.len(), "nothing is named that does not stand there");
            let again = Manifest::parse(manifest.bytes().clone(), Some(&manifest.descriptor().media_type));
            assert!(again.is_ok_and(|again| again.digest() == manifest.digest()), "it says what it is");
        }
        Err(error) => drop(error.to_string()),
    }
}

fn walk(bytes: &[u8], read: bool) -> Result<Vec<(String, Kind, u64)>, String> {
    let mut reader = Reader::new(StreamInput(bytes));
    let mut members = Vec::new();
    while let Some(member) = reader.next().map_err(|error| error.to_string())? {
        assert!(member.offset <= bytes.len() as u64, "a member starts in the archive");
        let mut count = member.size;
        if read {
            count = io::copy(&mut (&mut reader).take(u64::MAX), &mut io::sink())
                .map_err(|error| error.to_string())?;
        }
        assert_eq!(count, member.size, "all of a body is read");
        members.push((member.path, member.kind, member.size));
    }
    Ok(members)
}

/// A tar: read or skipped, the same members; nothing claims more than there is.
pub(super) fn tar(input: &[u8]) {
    let bytes = recipe::tar(input);
    let (skipped, read) = (walk(&bytes, false), walk(&bytes, true));
    match (&skipped, &read) {
        (Ok(skipped), Ok(read)) => {
            assert_eq!(skipped, read);
            let total: u64 = read.iter().map(|(_, _, size)| size).sum();
            assert!(total <= bytes.len() as u64, "no more than there is");
        }
        // A body that is cut off is found by who reads it and by who skips it.
        (Err(_), Err(_)) => {}
        _ => panic!("skipped: {skipped:?}, read: {read:?}"),
    }
}

struct Memory(HashMap<Digest, Bytes>);

impl Contents for Memory {
    fn size(&self, digest: &Digest) -> Result<Option<u64>, SourceError> {
        Ok(self.0.get(digest).map(|bytes| bytes.len() as u64))
    }

    fn open(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        let bytes = self.0.get(&descriptor.digest).expect("only what is there is opened");
        assert_eq!(bytes.len() as u64, descriptor.size, "only what has the right size is opened");
        Ok(Blob::from_known(descriptor.clone(), bytes.clone()))
    }
}

pub(super) fn selection(flags: u8) -> Selection {
    let platform = |text: &str| serde_json::from_str::<Platform>(text).expect("a platform");
    Selection {
        name: (flags & 1 != 0).then(|| "a".to_owned()),
        platform: match flags & 6 {
            2 => Some(platform(r#"{"os":"linux","architecture":"amd64"}"#)),
            4 => Some(platform(r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#)),
            _ => None,
        },
        ..Selection::default()
    }
}

/// A layout: `index.json` and content. Whatever it says, the result is whole, in order and each once.
pub(super) fn layout(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else { return };
    let mut parts = recipe::parts(rest, false);
    let index = Bytes::from(parts.remove(0).bytes);
    let contents = parts.into_iter().map(|part| (Digest::of(&part.bytes), Bytes::from(part.bytes))).collect();
    let memory = Memory(contents);
    match layout::resolve(&memory, index, &selection(*flags), "the layout") {
        Ok(resolved) => {
            let mut seen = HashSet::new();
            assert!(!resolved.manifests.is_empty());
            for manifest in &resolved.manifests {
                assert!(seen.insert(manifest.digest().clone()), "each once");
                if let Shape::Index { manifests } = manifest.shape() {
                    let later = resolved
                        .manifests
                        .iter()
                        .skip_while(|other| other.digest() != manifest.digest())
                        .skip(1);
                    for child in manifests {
                        assert!(later.clone().all(|other| *other.digest() != child.digest), "children first");
                    }
                }
            }
            for blob in &resolved.blobs {
                assert!(seen.insert(blob.digest.clone()), "each once");
                assert_eq!(memory.0.get(&blob.digest).map(|bytes| bytes.len() as u64), Some(blob.size));
            }
        }
        Err(error) => drop(error.to_string()),
    }
}
