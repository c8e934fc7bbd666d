//! Which process is the embedded registry of this user, and where it listens: a lock that lives as long as the process, and a note beside
//! it. A note without its lock is what a crash left; it says nothing but which address was used last.

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Error;

/// What the registry says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Note {
    /// Its process.
    pub pid: i32,
    /// Where it listens.
    pub address: SocketAddr,
    /// The directory of its content.
    pub root: PathBuf,
    /// The certificate that clients have to trust; `None` where it speaks plain HTTP.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Whether it speaks HTTPS.
    #[serde(default)]
    pub tls: bool,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Which idp.
    pub version: String,
}

impl Note {
    /// How long it has been running.
    pub fn age(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(Duration::from_secs(self.since))
    }
}

/// Where lock and note are.
#[derive(Debug, Clone)]
pub struct Place {
    lock: PathBuf,
    note: PathBuf,
}

/// Whether there is a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It runs.
    Running(Note),
    /// A process has the lock and has not said yet where it listens.
    Starting,
    /// There is none. The address is that of the last one.
    None(Option<SocketAddr>),
}

impl Place {
    /// In this directory, which need not be there.
    pub fn new(directory: &Path) -> Self {
        Self { lock: directory.join("registry.lock"), note: directory.join("registry.json") }
    }

    /// Looks.
    pub fn look(&self) -> Found {
        let note = self.read();
        let held = File::open(&self.lock).is_ok_and(|file| {
            // A shared lock, given back at once: looking keeps nobody from starting for longer than that.
            matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
        });
        match (held, note) {
            (true, Some(note)) if is_alive(note.pid) => Found::Running(note),
            (true, _) => Found::Starting,
            (false, note) => Found::None(note.map(|note| note.address)),
        }
    }

    fn read(&self) -> Option<Note> {
        serde_json::from_slice(&std::fs::read(&self.note).ok()?).ok()
    }

    /// Becomes the registry of this user, for as long as the claim is kept.
    pub fn claim(&self) -> Result<Claim, Error> {
        let io = |error| Error::Io { what: format!("locking `{}`", self.lock.display()), error };
        if let Some(folder) = self.lock.parent() {
            fs_err::create_dir_all(folder).map_err(io)?;
        }
        let lock = File::options().create(true).truncate(false).write(true).open(&self.lock).map_err(io)?;
        // Who only looks has it for a moment.
        for _ in 0..20 {
            match lock.try_lock() {
                Ok(()) => return Ok(Claim { place: self.clone(), _lock: lock }),
                Err(TryLockError::Error(error)) => return Err(io(error)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        Err(Error::Usage(match self.look() {
            Found::Running(note) => format!(
                "the embedded registry runs already, at {} (process {}): use it, or stop it with `idp registry stop`; \
                 --root or --memory serves another one",
                note.address, note.pid
            ),
            _ => "another embedded registry is just starting".to_owned(),
        }))
    }
}

/// This process is the registry.
#[derive(Debug)]
pub struct Claim {
    place: Place,
    _lock: File,
}

impl Claim {
    /// Says where.
    pub fn announce(&self, note: &Note) -> io::Result<()> {
        use std::io::Write as _;
        let folder = self.place.note.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(note)?)?;
        file.persist(&self.place.note).map(drop).map_err(|error| error.error)
    }
}

/// Whether there is a process of this number.
fn is_alive(pid: i32) -> bool {
    rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::{Found, Note, Place};

    fn note(pid: i32) -> Note {
        Note {
            pid,
            address: "127.0.0.1:5000".parse().expect("an address"),
            root: "/r".into(),
            ca: None,
            tls: false,
            since: 0,
            version: "0".to_owned(),
        }
    }

    #[test]
    fn one_at_a_time_and_a_crash_leaves_only_an_address() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = Place::new(&directory.path().join("below"));
        assert_eq!(place.look(), Found::None(None));
        let claim = place.claim().expect("claimed");
        assert_eq!(place.look(), Found::Starting);
        let own = note(i32::try_from(std::process::id()).expect("a number"));
        claim.announce(&own).expect("announced");
        assert_eq!(place.look(), Found::Running(own.clone()));
        let refused = place.claim().expect_err("taken").to_string();
        assert!(refused.contains("127.0.0.1:5000") && refused.contains("idp registry stop"), "{refused}");
        drop(claim);
        assert_eq!(place.look(), Found::None(Some(own.address)));
        // The number of a dead process in the note of one that is just starting.
        let claim = place.claim().expect("claimed again");
        claim.announce(&note(i32::MAX)).expect("announced");
        assert_eq!(place.look(), Found::Starting);
        std::fs::write(directory.path().join("below/registry.json"), "{").expect("damaged");
        drop(claim);
        assert_eq!(place.look(), Found::None(None));
    }
}
