//! How a blob will go up, decided before anything is sent: from what is known of the blob, of the registry's product (hints) and of
//! the registry itself (learned). The upload follows it, and a rehearsal prints it. No I/O.

use super::super::dialect::{Hints, Mount, UploadMode};
use super::super::learned::{Learned, Trait};
use crate::name::Repository;

/// Up to here a blob is not asked for before it is sent: the question costs as much as the bytes.
pub(crate) const SMALL: u64 = 64 * 1024;
/// Blobs up to here go with the POST, where a registry is known to take that.
const SINGLE_POST: u64 = 1024 * 1024;
/// Chunks, where a registry makes us send some and does not say how large.
pub(super) const CHUNK: u64 = 16 * 1024 * 1024;
/// A registry cannot ask for larger chunks than this: a broken one is sent again.
pub(super) const MOST_CHUNK: u64 = 512 * 1024 * 1024;

/// What is known of a blob at the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Unknown,
    /// It was there once: bytes are sent only when the registry says that they are missing.
    Likely,
    /// It is not in the repository.
    Missing,
}

/// Where a mount takes a blob from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// Another repository.
    Repository(Repository),
    /// The repository itself: a question in the form of a POST whose answer, if it is no, is the upload's session.
    Own,
    /// Wherever the registry has it.
    Anywhere,
}

/// Whether the bytes go with the POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Single {
    /// They do not.
    No,
    /// Nobody knows whether the registry takes that: this blob shows it, and no more than its few bytes are lost.
    Probe,
    /// It does.
    Known,
}

/// The size of chunks, within what the product takes.
fn chunk(hints: &Hints) -> u64 {
    let wanted = hints.chunk_default.unwrap_or(CHUNK).max(hints.chunk_min.unwrap_or(1));
    wanted.min(hints.chunk_max.unwrap_or(MOST_CHUNK)).max(1)
}

/// How an upload goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// HEAD first.
    pub(super) head: bool,
    /// Then these mounts, until one is granted or answered with a session.
    pub(super) mounts: Vec<From>,
    /// Then, where there is no session yet, a POST.
    pub(super) single: Single,
    /// The bytes go in chunks of this size; whole where it is `None`.
    pub(super) chunk: Option<u64>,
}

impl Way {
    /// Decides.
    pub(super) fn of(
        hints: &Hints,
        learned: &Learned,
        size: u64,
        presence: Presence,
        repository: &Repository,
        mount_from: &[Repository],
    ) -> Self {
        let chunk = (hints.upload_mode == UploadMode::Chunked).then(|| chunk(hints));
        let others: Vec<From> = match hints.mount {
            Mount::No => Vec::new(),
            _ => {
                mount_from.iter().filter(|from| *from != repository).cloned().map(From::Repository).collect()
            }
        };
        let is_small = size <= SMALL;
        let unknown = presence != Presence::Missing;
        let likely = presence == Presence::Likely;
        let single = if likely { Single::No } else { single(hints, learned, size) };
        let is_small = is_small && !likely;
        if !others.is_empty() {
            return Self { head: unknown && !is_small, mounts: others, single, chunk };
        }
        if hints.mount == Mount::Anonymous && !(is_small && single != Single::No) {
            return Self { head: false, mounts: vec![From::Anywhere], single, chunk };
        }
        if !unknown || (is_small && single != Single::No) {
            return Self { head: false, mounts: Vec::new(), single, chunk };
        }
        let own = match (hints.mount, learned.holds(Trait::OwnMount)) {
            (Mount::No, _) | (_, Some(false)) => false,
            (_, Some(true)) => true,
            // A registry that ignores it would be sent again what it has.
            (_, None) => is_small,
        };
        let mounts = if own { vec![From::Own] } else { Vec::new() };
        Self { head: !own && !is_small, mounts, single, chunk }
    }

    /// The requests that it takes, with the bytes of their bodies, in order.
    pub(super) fn requests(&self, size: u64, is_there: bool) -> Vec<(&'static str, u64)> {
        let mut requests = Vec::new();
        if self.head {
            requests.push(("HEAD", 0));
            if is_there {
                return requests;
            }
        }
        let single = self.mounts.is_empty() && self.single == Single::Known;
        requests.push(("POST", if single { size } else { 0 }));
        let asks = self.mounts.iter().any(|mount| matches!(mount, From::Own | From::Anywhere));
        if single || (is_there && asks) {
            return requests;
        }
        match self.chunk {
            None => requests.push(("PUT", size)),
            Some(chunk) => {
                let chunk = chunk.max(1);
                let starts = (0..size.div_ceil(chunk)).map(|index| index * chunk);
                requests.extend(starts.map(|start| ("PATCH", chunk.min(size - start))));
                requests.push(("PUT", 0));
            }
        }
        requests
    }
}

fn single(hints: &Hints, learned: &Learned, size: u64) -> Single {
    let known = learned.holds(Trait::SinglePost);
    match hints.upload_mode {
        UploadMode::SinglePost if size <= SINGLE_POST && known != Some(false) => Single::Known,
        UploadMode::Learned if known == Some(true) && size <= SINGLE_POST => Single::Known,
        UploadMode::Learned if known.is_none() && size <= SMALL => Single::Probe,
        _ => Single::No,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::dialect::Hints;
    use super::super::super::learned::{Learned, Trait};
    use super::{From, Presence, SMALL, Single, Way};

    fn hints(pairs: &[(&str, &str)]) -> Hints {
        Hints::from_pairs(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }

    fn shown(hints: &Hints, learned: &Learned, size: u64, presence: Presence, from: &[&str]) -> String {
        let from: Vec<_> = from.iter().map(|name| name.parse().expect("a name")).collect();
        let own = "team/app".parse().expect("a name");
        let way = Way::of(hints, learned, size, presence, &own, &from);
        let mounts = way.mounts.iter().map(|mount| match mount {
            From::Repository(name) => format!("mount:{name}"),
            From::Own => "mount:own".to_owned(),
            From::Anywhere => "mount".to_owned(),
        });
        let head = way.head.then(|| "head".to_owned());
        let single = match way.single {
            Single::No => None,
            Single::Probe => Some("probe".to_owned()),
            Single::Known => Some("single".to_owned()),
        };
        head.into_iter().chain(mounts).chain(single).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ways() {
        let (unknown, missing) = (Presence::Unknown, Presence::Missing);
        let nothing = Learned::nothing();
        let plain = hints(&[("upload-mode", "post-put")]);
        let learning = hints(&[]);
        for (hints, learned, size, presence, from, expect) in [
            (&plain, &nothing, 9, unknown, &[][..], "mount:own"),
            (&plain, &nothing, SMALL + 1, unknown, &[], "head"),
            (&plain, &nothing, SMALL + 1, missing, &[], ""),
            (&plain, &nothing, 9, unknown, &["other", "team/app"], "mount:other"),
            (&plain, &nothing, SMALL + 1, unknown, &["other"], "head mount:other"),
            (&plain, &nothing, SMALL + 1, missing, &["other"], "mount:other"),
            (&learning, &nothing, 9, unknown, &[], "probe"),
            (&learning, &nothing, SMALL + 1, unknown, &[], "head"),
        ] {
            assert_eq!(shown(hints, learned, size, presence, from), expect, "{size} {presence:?} {from:?}");
        }
        let anonymous = hints(&[("mount", "anonymous"), ("upload-mode", "post-put")]);
        assert_eq!(shown(&anonymous, &nothing, SMALL + 1, unknown, &[]), "mount");
        let never = hints(&[("mount", "no"), ("upload-mode", "monolithic")]);
        assert_eq!(shown(&never, &nothing, 9, unknown, &["other"]), "");
        assert_eq!(shown(&never, &nothing, SMALL + 1, unknown, &["other"]), "head");
        let taught = Learned::nothing();
        taught.learn(Trait::SinglePost, true);
        taught.learn(Trait::OwnMount, true);
        assert_eq!(shown(&learning, &taught, SMALL + 1, missing, &[]), "single");
        assert_eq!(shown(&plain, &taught, 1 << 30, unknown, &[]), "mount:own");
        taught.learn(Trait::SinglePost, false);
        taught.learn(Trait::OwnMount, false);
        assert_eq!(shown(&learning, &taught, 9, unknown, &[]), "");
    }
}
