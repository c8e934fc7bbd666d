//! Inputs that a fuzzer can get through to the code behind checksums and digests: text with parts, in which a part may name the digest
//! and the size of a later one, and tars whose sums are set right.
//!
//! Parts are separated by a line `--`. In a part, `@d3` is the digest of part 3, `@h3` its hex, `@s3` its size, `@t3` the digest it had
//! before it was compressed. Only later parts can be named, as in life.

use std::io::Write as _;

use crate::digest::Digest;
use crate::tarball;

const SEPARATOR: &[u8] = b"\n--\n";
/// More than this many parts are noise.
const MOST: usize = 64;

/// A part with its names filled in.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Its first line, where parts have names.
    pub(super) title: String,
    /// The rest, as it is stored.
    pub(super) bytes: Vec<u8>,
    plain: Digest,
}

/// The parts of an input. With `titled`, the first line of each is its title, and `gz:` or `tar:` before it says how the rest is stored.
pub(super) fn parts(input: &[u8], titled: bool) -> Vec<Part> {
    let mut texts: Vec<&[u8]> = Vec::new();
    let mut rest = input;
    while texts.len() < MOST {
        match rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
            Some(at) => {
                texts.push(&rest[..at]);
                rest = &rest[at + SEPARATOR.len()..];
            }
            None => {
                texts.push(rest);
                break;
            }
        }
    }
    let mut parts: Vec<Part> = Vec::new();
    for (index, text) in texts.iter().enumerate().rev() {
        let text = filled(text, index, texts.len(), &parts);
        let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
        let (title, body) =
            if titled { (&text[..end], text.get(end + 1..).unwrap_or_default()) } else { (&b""[..], &*text) };
        let mut title = String::from_utf8_lossy(title).into_owned();
        let mut bytes = body.to_vec();
        let is_gzip = strip(&mut title, "gz:");
        if strip(&mut title, "tar:") {
            bytes = archive(&[("f".to_owned(), bytes)]);
        }
        let plain = Digest::of(&bytes);
        if is_gzip {
            bytes = gzip(&bytes);
        }
        // In reverse: part `index` stands at `texts.len() - 1 - index`.
        parts.push(Part { title, bytes, plain });
    }
    parts.reverse();
    parts
}

fn strip(title: &mut String, prefix: &str) -> bool {
    let found = title.strip_prefix(prefix).map(str::to_owned);
    let is_there = found.is_some();
    if let Some(rest) = found {
        *title = rest;
    }
    is_there
}

/// `later` holds the parts behind `index`, the last one first.
fn filled(text: &[u8], index: usize, count: usize, later: &[Part]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'@'
            && let [kind @ (b'd' | b'h' | b's' | b't'), digit @ b'0'..=b'9', tail @ ..] = tail
            && (index + 1..count).contains(&usize::from(digit - b'0'))
            && let Some(part) = later.get(count - 1 - usize::from(digit - b'0'))
        {
            let digest = Digest::of(&part.bytes);
            let value = match kind {
                b'd' => digest.to_string(),
                b'h' => digest.hex().to_owned(),
                b's' => part.bytes.len().to_string(),
                _ => part.plain.to_string(),
            };
            result.extend_from_slice(value.as_bytes());
            rest = tail;
        } else {
            result.push(byte);
            rest = tail;
        }
    }
    result
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
}

/// A tar of titled parts. A title `a -> b` is a symbolic link, `a => b` a hard link, `a/` a directory, `a !c` a member of type `c`;
/// `a *` can be executed.
pub(super) fn archive(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (title, body) in members {
        let (title, kind, link) = if let Some((path, target)) = title.split_once(" -> ") {
            (path, tar::EntryType::Symlink, Some(target))
        } else if let Some((path, target)) = title.split_once(" => ") {
            (path, tar::EntryType::Link, Some(target))
        } else if let Some((path, flag)) = title.split_once(" !") {
            (path, tar::EntryType::new(flag.bytes().next().unwrap_or(b'0')), None)
        } else if title.ends_with('/') {
            (&**title, tar::EntryType::Directory, None)
        } else {
            (&**title, tar::EntryType::Regular, None)
        };
        let mut header = tar::Header::new_ustar();
        let mut field = |range: std::ops::Range<usize>, text: &[u8]| {
            let length = text.len().min(range.len());
            header.as_mut_bytes()[range][..length].copy_from_slice(&text[..length]);
        };
        field(0..100, title.as_bytes());
        field(157..257, link.unwrap_or_default().as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if title.ends_with(" *") { 0o755 } else { 0o644 });
        header.set_size(body.len() as u64);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(body);
        tar.resize(tar.len() + tarball::padding(body.len() as u64), 0);
    }
    tar.extend_from_slice(&tarball::END);
    tar
}

/// A tar from any bytes: made of titled parts, or as it is but for the sums of its headers, or wholly as it is. The first byte says which.
pub(super) fn tar(input: &[u8]) -> Vec<u8> {
    match input.split_first() {
        Some((b'R', raw)) => raw.to_vec(),
        Some((b'S', raw)) => summed(raw.to_vec()),
        Some((_, rest)) => {
            let members: Vec<_> =
                parts(rest, true).into_iter().map(|part| (part.title, part.bytes)).collect();
            archive(&members)
        }
        None => Vec::new(),
    }
}

/// Sets the sums of headers right, so that mutations of a header get further than its sum.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 0usize;
    while let Some(block) = bytes.get_mut(at..at.saturating_add(512)) {
        at += 512;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits =
            block[124..136].iter().copied().filter(u8::is_ascii_digit).map(char::from).collect::<String>();
        let size = usize::from_str_radix(&digits, 8).unwrap_or_default();
        at = at.saturating_add(size.checked_next_multiple_of(512).unwrap_or(usize::MAX));
    }
    bytes
}
