//! Headers by fixed rules: ustar, PAX only where ustar cannot say it, owner 0, time 0, nothing of the machine.
//!
//! The same content gives the same bytes everywhere; that is what lets an archive be named by its digest.

use super::BLOCK;

/// The end of an archive: two empty blocks, and no more (a longer end breaks digest checks of other tools).
pub(crate) const END: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

/// Sizes above this do not fit eleven octal digits.
const MAX_USTAR_SIZE: u64 = 0o777_7777_7777;

/// How many zero bytes follow a body of `size` bytes.
pub(crate) fn padding(size: u64) -> usize {
    ((BLOCK - size % BLOCK) % BLOCK) as usize
}

/// The header blocks of a regular file; its body and [`padding`] follow.
pub(crate) fn file(path: &str, size: u64, executable: bool) -> Vec<u8> {
    member(path, size, tar::EntryType::Regular, if executable { 0o755 } else { 0o644 })
}

/// The header blocks of a directory.
pub(crate) fn directory(path: &str) -> Vec<u8> {
    member(&format!("{path}/"), 0, tar::EntryType::Directory, 0o755)
}

fn member(path: &str, size: u64, kind: tar::EntryType, mode: u32) -> Vec<u8> {
    let name = split(path);
    let mut records = Vec::new();
    if name.is_none() {
        records.extend(record("path", path));
    }
    if size > MAX_USTAR_SIZE {
        records.extend(record("size", &size.to_string()));
    }
    let mut blocks = Vec::with_capacity(BLOCK as usize);
    if !records.is_empty() {
        let ascii: String =
            path.chars().map(|char| if char.is_ascii_graphic() { char } else { '_' }).collect();
        let shown = format!("PaxHeaders.0/{}", ascii.trim_end_matches('/'));
        let shown = &shown[..shown.len().min(100)];
        blocks.extend(header("", shown, records.len() as u64, tar::EntryType::XHeader, 0o644));
        blocks.extend(&records);
        blocks.resize(blocks.len().next_multiple_of(BLOCK as usize), 0);
    }
    let ascii: String = path.chars().map(|char| if char.is_ascii() { char } else { '_' }).take(100).collect();
    let (prefix, rest) = name.unwrap_or(("", &ascii));
    blocks.extend(header(prefix, rest, if size > MAX_USTAR_SIZE { 0 } else { size }, kind, mode));
    blocks
}

fn header(prefix: &str, name: &str, size: u64, kind: tar::EntryType, mode: u32) -> [u8; BLOCK as usize] {
    let mut header = tar::Header::new_ustar();
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.name[..name.len()].copy_from_slice(name.as_bytes());
        ustar.prefix[..prefix.len()].copy_from_slice(prefix.as_bytes());
        ustar.set_device_major(0);
        ustar.set_device_minor(0);
    }
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    *header.as_bytes()
}

/// Prefix and name as ustar wants them, or none where the path does not fit or is not ASCII.
fn split(path: &str) -> Option<(&str, &str)> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= 100 {
        return Some(("", path));
    }
    let earliest = path.len().checked_sub(101)?;
    path.char_indices()
        .filter(|(at, char)| *char == '/' && *at >= earliest && *at <= 155 && at + 1 < path.len())
        .map(|(at, _)| (&path[..at], &path[at + 1..]))
        .next_back()
}

/// `length key=value\n`, where the length counts itself.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::{file, record, split};

    #[test]
    fn records_count_themselves() {
        for length in 0..1200 {
            let bytes = record("path", &"x".repeat(length));
            let text = String::from_utf8(bytes).expect("text");
            let (count, _) = text.split_once(' ').expect("a space");
            assert_eq!(count.parse::<usize>().ok(), Some(text.len()));
        }
    }

    #[test]
    fn long_names_split_or_take_a_record() {
        assert_eq!(split("a/b"), Some(("", "a/b")));
        let long = format!("{}/{}", "d".repeat(150), "f".repeat(100));
        assert_eq!(split(&long), Some((&*"d".repeat(150), &*"f".repeat(100))));
        assert_eq!(split(&"f".repeat(101)), None);
        assert_eq!(split("ä"), None);
        assert_eq!(file(&long, 1, false).len(), 512);
        assert_eq!(file(&"f".repeat(101), 1, false).len(), 3 * 512);
        assert_eq!(file("big", 1 << 40, false).len(), 3 * 512);
    }
}
