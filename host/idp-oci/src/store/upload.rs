//! Upload sessions: how far a blob has come, and its digest so far.
//!
//! Over any [`Store`]. In: chunks as they arrive. Out: a committed blob, whose bytes were hashed on their way and are not
//! read again. Sessions live in memory: after a restart a client finds its session unknown and begins anew, as the
//! specification lets it; what the store had staged is swept when it opens.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::mem;
use std::str::FromStr;
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard as SyncMutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::digest::{Algorithm, Digest, Hasher};
use crate::name::Repository;
use crate::store::{Staged, Store, StoreError};

/// How much is gathered before it is handed to the store: fewer, larger writes.
const GATHER: usize = 512 * 1024;

/// Names a session: a random UUID (distribution-spec, "POST then PUT"), unguessable.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadId([u8; 16]);

impl UploadId {
    pub(super) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
        }
        // Version 4, variant 1 (RFC 9562 section 5.4).
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Ok(Self(bytes))
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for UploadId {
    type Err = UploadError;

    fn from_str(text: &str) -> Result<Self, UploadError> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let mut bytes = [0; 16];
        if digits.len() != 32 {
            return Err(UploadError::Unknown);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| UploadError::Unknown)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| UploadError::Unknown)?;
        }
        let id = Self(bytes);
        // One spelling only: what we printed.
        if id.to_string() == text { Ok(id) } else { Err(UploadError::Unknown) }
    }
}

/// Why an upload did not go on.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Never begun, finished, cancelled, expired, or of another repository.
    #[error("there is no such upload: it was finished, cancelled or has expired; begin another")]
    Unknown,
    /// More sessions than the registry keeps open.
    #[error("{0} uploads are open, which is the limit; try again later")]
    TooMany(usize),
    /// More sessions than one owner may have open.
    #[error("you have {0} uploads open, which is the limit; finish or cancel some")]
    TooManyOfOwner(usize),
    /// The bytes are not what the client said. The session is gone.
    #[error("the content has digest {actual}, and not {expected}")]
    DigestMismatch {
        /// What the client said.
        expected: Digest,
        /// What it sent.
        actual: Digest,
    },
    /// The storage failed. The session is gone.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How long and how many.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    /// A session that nobody touched for so long is given up.
    pub expiry: Duration,
    /// At most so many at once.
    pub sessions: usize,
    /// At most so many at once of one owner.
    pub sessions_per_owner: usize,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self { expiry: Duration::from_secs(24 * 60 * 60), sessions: 10_000, sessions_per_owner: 1000 }
    }
}

impl UploadLimits {
    /// Whether there is room for another session of this owner.
    fn check(&self, sessions: &HashMap<UploadId, Entry>, owner: &str) -> Result<(), UploadError> {
        if sessions.len() >= self.sessions {
            return Err(UploadError::TooMany(self.sessions));
        }
        // Counted only where it can matter.
        let most = self.sessions_per_owner;
        if sessions.len() >= most && sessions.values().filter(|entry| entry.owner == owner).count() >= most {
            return Err(UploadError::TooManyOfOwner(most));
        }
        Ok(())
    }
}

/// The open sessions of a registry.
#[derive(Debug)]
pub struct Uploads {
    store: Arc<dyn Store>,
    limits: UploadLimits,
    sessions: SyncMutex<HashMap<UploadId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    repository: Repository,
    /// Who opened it: a user, or an address.
    owner: String,
    touched: Instant,
    /// `None` once the session has ended while others waited for it.
    session: Arc<Mutex<Option<Session>>>,
}

/// A session at work; nobody else appends to it meanwhile.
#[derive(Debug)]
pub struct Upload {
    guard: OwnedMutexGuard<Option<Session>>,
}

#[derive(Debug)]
struct Session {
    algorithm: Algorithm,
    hasher: Hasher,
    staged: Box<dyn Staged>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
}

impl Uploads {
    /// No sessions yet.
    pub fn new(store: Arc<dyn Store>, limits: UploadLimits) -> Self {
        Self { store, limits, sessions: SyncMutex::default() }
    }

    /// Opens a session for a blob that will be named by a digest of this algorithm. `owner` says whose it is, to be counted.
    pub async fn begin(
        &self,
        repository: &Repository,
        algorithm: Algorithm,
        owner: &str,
    ) -> Result<UploadId, UploadError> {
        self.expire();
        self.limits.check(&self.lock(), owner)?;
        let session = Session::new(self.store.stage().await?, algorithm);
        let id = UploadId::random().map_err(StoreError::from)?;
        let entry = Entry {
            repository: repository.clone(),
            owner: owner.to_owned(),
            touched: Instant::now(),
            session: Arc::new(Mutex::new(Some(session))),
        };
        let mut sessions = self.lock();
        self.limits.check(&sessions, owner)?;
        sessions.insert(id, entry);
        Ok(id)
    }

    /// A session that is in no list: for a blob that comes in one request.
    pub async fn single(&self, algorithm: Algorithm) -> Result<Upload, UploadError> {
        let session = Session::new(self.store.stage().await?, algorithm);
        let guard = Arc::new(Mutex::new(Some(session))).lock_owned().await;
        Ok(Upload { guard })
    }

    /// Takes up a session; waits for whoever is at work on it.
    pub async fn open(&self, repository: &Repository, id: UploadId) -> Result<Upload, UploadError> {
        let session = {
            let mut sessions = self.lock();
            let entry = sessions.get_mut(&id).filter(|entry| entry.repository == *repository);
            let entry = entry.ok_or(UploadError::Unknown)?;
            entry.touched = Instant::now();
            Arc::clone(&entry.session)
        };
        let guard = session.lock_owned().await;
        if guard.is_some() { Ok(Upload { guard }) } else { Err(UploadError::Unknown) }
    }

    /// Ends a session and forgets its bytes.
    pub async fn cancel(&self, repository: &Repository, id: UploadId) -> Result<(), UploadError> {
        let mut upload = self.open(repository, id).await?;
        self.forget(id);
        upload.guard.take();
        Ok(())
    }

    /// Verifies what came and makes it a blob. Whatever the outcome, the session is over.
    pub async fn finish(
        &self,
        repository: &Repository,
        id: UploadId,
        upload: Upload,
        digest: &Digest,
    ) -> Result<(), UploadError> {
        self.forget(id);
        upload.commit(repository, digest).await
    }

    /// Takes a session that failed out of the list.
    pub fn forget(&self, id: UploadId) {
        self.lock().remove(&id);
    }

    /// Gives up sessions that nobody touched for too long. One at work is left alone.
    pub fn expire(&self) {
        let expiry = self.limits.expiry;
        self.lock()
            .retain(|_, entry| entry.touched.elapsed() < expiry || Arc::strong_count(&entry.session) > 1);
    }

    /// Repositories with open sessions: somebody is pushing there.
    pub fn repositories(&self) -> HashSet<String> {
        self.lock().values().map(|entry| entry.repository.as_str().to_owned()).collect()
    }

    /// How many sessions are open.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> SyncMutexGuard<'_, HashMap<UploadId, Entry>> {
        // No code under this lock can leave the map half changed.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// How many bytes have come.
    pub fn offset(&self) -> u64 {
        self.guard.as_ref().map_or(0, |session| session.hasher.count())
    }

    /// The next bytes: hashed now, written when enough are gathered.
    pub async fn append(&mut self, chunk: Bytes) -> Result<(), UploadError> {
        let session = self.guard.as_mut().ok_or(UploadError::Unknown)?;
        session.hasher.update(&chunk);
        session.gathered_bytes += chunk.len();
        session.gathered.push(chunk);
        if session.gathered_bytes >= GATHER { self.flush().await } else { Ok(()) }
    }

    /// Hands what is gathered to the store. A session whose storage failed is over.
    pub async fn flush(&mut self) -> Result<(), UploadError> {
        let session = self.guard.as_mut().ok_or(UploadError::Unknown)?;
        if session.gathered.is_empty() {
            return Ok(());
        }
        session.gathered_bytes = 0;
        let written = session.staged.append(mem::take(&mut session.gathered)).await;
        if written.is_err() {
            self.guard.take();
        }
        Ok(written?)
    }

    /// Verifies what came and makes it a blob.
    pub async fn commit(mut self, repository: &Repository, digest: &Digest) -> Result<(), UploadError> {
        self.flush().await?;
        let session = self.guard.take().ok_or(UploadError::Unknown)?;
        let actual = if session.algorithm == digest.algorithm() {
            session.hasher.finish()
        } else {
            // The client opened the session without saying which algorithm it would use.
            let mut hasher = Hasher::new(digest.algorithm());
            let mut chunks = session.staged.read_back().await?.read_from(0);
            while let Some(chunk) = chunks.try_next().await.map_err(StoreError::from)? {
                hasher.update(&chunk);
            }
            hasher.finish()
        };
        if actual != *digest {
            return Err(UploadError::DigestMismatch { expected: digest.clone(), actual });
        }
        Ok(session.staged.commit(repository, digest).await?)
    }

    /// Says, before the first byte, which algorithm the digest will have.
    pub fn expect(&mut self, algorithm: Algorithm) {
        if let Some(session) = self.guard.as_mut()
            && session.hasher.count() == 0
        {
            session.algorithm = algorithm;
            session.hasher = Hasher::new(algorithm);
        }
    }
}

impl Session {
    fn new(staged: Box<dyn Staged>, algorithm: Algorithm) -> Self {
        Self { algorithm, hasher: Hasher::new(algorithm), staged, gathered: Vec::new(), gathered_bytes: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::{UploadError, UploadId, UploadLimits, Uploads};
    use crate::digest::{Algorithm, Digest, Hasher};
    use crate::name::Repository;
    use crate::store::Store as _;
    use crate::store::memory::MemoryStore;

    fn repository() -> Repository {
        "team/app".parse().expect("a repository")
    }

    fn uploads(limits: UploadLimits) -> (Arc<MemoryStore>, Uploads) {
        let store = Arc::new(MemoryStore::default());
        (Arc::clone(&store), Uploads::new(store, limits))
    }

    #[test]
    fn ids_are_uuids_in_one_spelling() {
        let id = UploadId::random().expect("random bytes");
        let text = id.to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'4');
        assert_eq!(text.parse::<UploadId>().expect("itself"), id);
        for bad in ["", "x", &text.replace('-', ""), &text.to_uppercase().replace('4', "A"), &text[1..]] {
            assert!(bad.parse::<UploadId>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_blob_in_pieces() {
        let (store, uploads) = uploads(UploadLimits::default());
        let id = uploads.begin(&repository(), Algorithm::Sha256, "alice").await.expect("begun");
        for piece in ["ab", "", "c"] {
            let mut upload = uploads.open(&repository(), id).await.expect("open");
            upload.append(Bytes::from_static(piece.as_bytes())).await.expect("appended");
        }
        let upload = uploads.open(&repository(), id).await.expect("open");
        assert_eq!(upload.offset(), 3);
        let digest = Digest::of(b"abc");
        uploads.finish(&repository(), id, upload, &digest).await.expect("finished");
        assert_eq!(store.blob_size(&repository(), &digest).await.expect("read"), Some(3));
        assert!(matches!(uploads.open(&repository(), id).await, Err(UploadError::Unknown)));
        assert_eq!(uploads.count(), 0);
    }

    #[tokio::test]
    async fn an_algorithm_named_only_at_the_end() {
        let (store, uploads) = uploads(UploadLimits::default());
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"abc");
        let digest = hasher.finish();
        let mut upload = uploads.single(Algorithm::Sha256).await.expect("begun");
        upload.append(Bytes::from_static(b"abc")).await.expect("appended");
        upload.commit(&repository(), &digest).await.expect("committed");
        assert_eq!(store.blob_size(&repository(), &digest).await.expect("read"), Some(3));
        assert_eq!(store.blob_size(&repository(), &Digest::of(b"abc")).await.expect("read"), None);
    }

    #[tokio::test]
    async fn wrong_content_ends_the_session_and_leaves_nothing() {
        let (store, uploads) = uploads(UploadLimits::default());
        let id = uploads.begin(&repository(), Algorithm::Sha256, "alice").await.expect("begun");
        let mut upload = uploads.open(&repository(), id).await.expect("open");
        upload.append(Bytes::from_static(b"abd")).await.expect("appended");
        let digest = Digest::of(b"abc");
        let error = uploads.finish(&repository(), id, upload, &digest).await.expect_err("refused");
        assert!(matches!(error, UploadError::DigestMismatch { .. }));
        assert_eq!(store.blob_size(&repository(), &digest).await.expect("read"), None);
        assert_eq!(uploads.count(), 0);
    }

    #[tokio::test]
    async fn sessions_belong_to_a_repository_and_end() {
        let limits = UploadLimits { expiry: Duration::ZERO, sessions: 1, ..UploadLimits::default() };
        let (_store, uploads) = uploads(limits);
        let id = uploads.begin(&repository(), Algorithm::Sha256, "alice").await.expect("begun");
        let other = "team/other".parse().expect("a repository");
        assert!(matches!(uploads.open(&other, id).await, Err(UploadError::Unknown)));
        let at_work = uploads.open(&repository(), id).await.expect("open");
        uploads.expire();
        assert_eq!(uploads.count(), 1, "one at work does not expire");
        assert!(matches!(
            uploads.begin(&repository(), Algorithm::Sha256, "alice").await,
            Err(UploadError::TooMany(1))
        ));
        drop(at_work);
        uploads.expire();
        assert_eq!(uploads.count(), 0);
        let id = uploads.begin(&repository(), Algorithm::Sha256, "alice").await.expect("begun");
        uploads.cancel(&repository(), id).await.expect("cancelled");
        assert!(matches!(uploads.cancel(&repository(), id).await, Err(UploadError::Unknown)));
    }

    #[tokio::test]
    async fn one_owner_cannot_take_all_sessions() {
        let limits = UploadLimits { sessions: 4, sessions_per_owner: 2, ..UploadLimits::default() };
        let (_store, uploads) = uploads(limits);
        let begin = async |owner: &str| uploads.begin(&repository(), Algorithm::Sha256, owner).await;
        let first = begin("alice").await.expect("begun");
        begin("alice").await.expect("begun");
        assert!(matches!(begin("alice").await, Err(UploadError::TooManyOfOwner(2))));
        begin("bob").await.expect("begun");
        uploads.cancel(&repository(), first).await.expect("cancelled");
        begin("alice").await.expect("begun");
        begin("bob").await.expect("begun");
        assert!(matches!(begin("carol").await, Err(UploadError::TooMany(4))));
    }
}
