//! The metadata of a store on disk: rows in one transactional database (redb), changed by one thread for all.
//!
//! May use names, digests, manifests and the types of `store`; knows nothing of content files. In: [`Rows::change`], work on
//! the [`Tables`] of a transaction, and [`Rows::read`], work on a [`Snapshot`]. Out: what the work answered, once it is on the
//! disk.
//!
//! Group commit: whoever changes something hands its work to the committer and waits. The committer takes all work that
//! waits into one transaction and forces it to the disk once; what comes meanwhile is the next transaction. Nobody holds a
//! lock while waiting, and readers never wait for writers.
//!
//! Work that is refused (an `Err` with [`Fault::Refused`]) has changed nothing by then: it checks first and writes after.
//! When the database itself fails, the whole transaction is taken back, everyone in it is told, and the database is opened
//! anew from what is on the disk.

use std::any::Any;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase as _};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::store::StoreError;

pub(crate) mod change;
mod file;
pub(crate) mod query;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod trash;

pub(crate) use change::Tables;
use file::DatabaseFile;
pub(crate) use file::Traffic;
pub(crate) use query::Snapshot;

/// Most work in one transaction; bounds the memory that it takes.
const GROUP: usize = 256;
/// How long relaxed durability may leave acknowledged changes in memory.
const LAZY: Duration = Duration::from_secs(1);
/// What changes leave free on the disk, in bytes: deleting needs room too.
const RESERVE: u64 = 8 * 1024 * 1024;

/// When an acknowledged change is on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Durability {
    /// Before it is acknowledged.
    #[default]
    Strict,
    /// Within a second or so. A crash may lose what was acknowledged last, and never leaves half of anything.
    Relaxed,
}

/// Why work on rows came to nothing.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It may not be done; nothing was changed.
    Refused(Box<StoreError>),
    /// The database failed.
    Database(Box<redb::Error>),
}

macro_rules! database_faults {
    ($($error:ident)*) => {$(
        impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}

database_faults! { StorageError TableError TransactionError CommitError DatabaseError SetDurabilityError }

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::refused(error)
    }
}

impl Fault {
    pub(crate) fn refused(error: StoreError) -> Self {
        Self::Refused(Box::new(error))
    }

    fn into_error(self, path: &Path) -> StoreError {
        match self {
            Self::Refused(error) => *error,
            Self::Database(error) => match *error {
                redb::Error::Io(error) => {
                    let text = format!("`{}`: {error}", path.display());
                    StoreError::Io(io::Error::new(error.kind(), text))
                }
                redb::Error::Corrupted(what) => {
                    StoreError::Damaged { what: format!("`{}`: {what}", path.display()) }
                }
                other => StoreError::Io(io::Error::other(format!("`{}`: {other}", path.display()))),
            },
        }
    }
}

/// How a database is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeping {
    pub(crate) durability: Durability,
    /// Of pages in memory, at most.
    pub(crate) cache_bytes: usize,
}

/// The rows of a registry. Dropped, it finishes the work that waits and closes the file.
#[derive(Debug)]
pub(crate) struct Rows {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Message>>,
    committer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    keeping: Keeping,
    traffic: Arc<Traffic>,
    /// None while it cannot be opened again after a failure.
    database: RwLock<Option<Database>>,
    /// Transactions so far, and the work in them.
    groups: AtomicU64,
    works: AtomicU64,
}

enum Message {
    Work(Box<dyn Work>),
    /// A reader met a failure, after which the database answers nobody.
    Failed,
    /// By the committer, and not by who asks: it waits for all readers, and only the committer holds nothing that they
    /// could be waiting for.
    Check(oneshot::Sender<Result<bool, StoreError>>),
}

trait Work: Send {
    fn adds(&self) -> bool;
    fn run(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault>;
    fn refuse(&mut self, error: StoreError);
    /// Tells who waits; `failure` is what befell the transaction.
    fn tell(self: Box<Self>, failure: Option<&(io::ErrorKind, String)>);
}

struct Task<T, F> {
    adds: bool,
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Work for Task<T, F>
where
    T: Send,
    F: FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send,
{
    fn adds(&self) -> bool {
        self.adds
    }

    fn run(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        let Some(work) = self.work.take() else { return Ok(()) };
        self.outcome = Some(match work(tables) {
            Ok(answer) => Ok(answer),
            Err(Fault::Refused(error)) => Err(*error),
            Err(fault) => return Err(fault),
        });
        Ok(())
    }

    fn refuse(&mut self, error: StoreError) {
        self.work = None;
        self.outcome = Some(Err(error));
    }

    fn tell(self: Box<Self>, failure: Option<&(io::ErrorKind, String)>) {
        let outcome = match failure {
            Some((kind, text)) => Err(StoreError::Io(io::Error::new(*kind, text.clone()))),
            None => self.outcome.unwrap_or_else(|| Err(gone())),
        };
        // Who asked may have gone away meanwhile.
        let _ = self.reply.send(outcome);
    }
}

fn gone() -> StoreError {
    StoreError::Io(io::Error::other("the registry's storage is being closed"))
}

impl Rows {
    /// Opens the database in this file, or makes one; after a crash it is put right first.
    pub(crate) fn open(path: &Path, keeping: Keeping) -> Result<Self, StoreError> {
        let traffic = Arc::new(Traffic::default());
        #[cfg(test)]
        traffic.writes_left.store(-1, Ordering::SeqCst);
        let database = open(path, keeping, &traffic).map_err(|fault| fault.into_error(path))?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            keeping,
            traffic,
            database: RwLock::new(Some(database)),
            groups: AtomicU64::new(0),
            works: AtomicU64::new(0),
        });
        let (queue, waiting) = mpsc::channel();
        let of_thread = Arc::clone(&shared);
        let committer = std::thread::Builder::new()
            .name("registry-commit".to_owned())
            .spawn(move || of_thread.commit_all(&waiting))?;
        Ok(Self { shared, queue: Some(queue), committer: Some(committer) })
    }

    /// Work that adds something: refused when the disk is all but full.
    pub(crate) async fn add<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.hand_in(true, work)?.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Work that takes away, or changes what is there.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.hand_in(false, work)?.await.unwrap_or_else(|_| Err(gone()))
    }

    /// [`Rows::change`] for threads that may block.
    pub(crate) fn change_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.hand_in(false, work)?.blocking_recv().unwrap_or_else(|_| Err(gone()))
    }

    fn hand_in<T: Send + 'static>(
        &self,
        adds: bool,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let task = Task { adds, work: Some(work), outcome: None, reply };
        self.send(Message::Work(Box::new(task)))?;
        Ok(answer)
    }

    fn send(&self, message: Message) -> Result<(), StoreError> {
        self.queue.as_ref().and_then(|queue| queue.send(message).ok()).ok_or_else(gone)
    }

    /// Reads what is committed, as of one moment. Blocking, if only for pages that no cache has.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Snapshot) -> Result<T, Fault>) -> Result<T, StoreError> {
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.as_ref() else {
            // The committer tries to open it again whenever it hears of this.
            self.send(Message::Failed)?;
            return Err(self.shared.closed());
        };
        let outcome = guarded(|| work(&Snapshot::new(database.begin_read()?)));
        outcome.map_err(|fault| {
            if let Fault::Database(_) = &fault {
                let _ = self.send(Message::Failed);
            }
            fault.into_error(&self.shared.path)
        })
    }

    /// Has the database look at its own pages; false where it had to put something right. Everybody waits meanwhile. For
    /// threads that may block.
    pub(crate) fn check_integrity(&self) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Check(reply))?;
        answer.blocking_recv().unwrap_or_else(|_| Err(gone()))
    }

    /// Transactions so far, and the pieces of work that were in them.
    pub(crate) fn groups(&self) -> (u64, u64) {
        (self.shared.groups.load(Ordering::Relaxed), self.shared.works.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.shared.traffic
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(committer) = self.committer.take() {
            // It catches its panics.
            let _ = committer.join();
        }
    }
}

impl Shared {
    fn closed(&self) -> StoreError {
        StoreError::Io(io::Error::other(format!(
            "`{}` failed before and cannot be opened again yet; the log says why",
            self.path.display()
        )))
    }

    fn commit_all(&self, waiting: &mpsc::Receiver<Message>) {
        // Since when something is committed and not on the disk.
        let mut unsynced: Option<Instant> = None;
        loop {
            let message = match unsynced {
                None => waiting.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(since) => waiting.recv_timeout(LAZY.saturating_sub(since.elapsed())),
            };
            let (mut group, mut checks) = (Vec::new(), Vec::new());
            let mut failed = false;
            let mut sort = |message| match message {
                Message::Work(work) => group.push(work),
                Message::Failed => failed = true,
                Message::Check(reply) => checks.push(reply),
            };
            match message {
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Ok(message) => {
                    sort(message);
                    waiting.try_iter().take(GROUP - 1).for_each(sort);
                }
            }
            if failed {
                self.open_again();
            }
            if !group.is_empty() && self.commit(group) && self.keeping.durability == Durability::Relaxed {
                unsynced.get_or_insert_with(Instant::now);
            }
            for reply in checks {
                let _ = reply.send(self.check_integrity());
            }
            if unsynced.is_some_and(|since| since.elapsed() >= LAZY) {
                self.sync();
                unsynced = None;
            }
        }
        if unsynced.is_some() {
            self.sync();
        }
        // Closing writes down which pages are free, so that the next start need not look for them.
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        close(&mut database);
    }

    /// Whether anything was changed and is committed.
    fn commit(&self, mut group: Vec<Box<dyn Work>>) -> bool {
        let free = self.free_space();
        if let Some(free) = free.filter(|free| *free < RESERVE) {
            for work in group.iter_mut().filter(|work| work.adds()) {
                work.refuse(StoreError::Full { path: self.path.clone(), free });
            }
        }
        // The failure may have passed meanwhile.
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.open_again();
        }
        let outcome = {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match database.as_ref() {
                None => Err(None),
                Some(database) => guarded(|| self.transact(database, &mut group)).map_err(Some),
            }
        };
        let count = group.len() as u64;
        match outcome {
            Ok(changed) => {
                if changed {
                    self.groups.fetch_add(1, Ordering::Relaxed);
                    self.works.fetch_add(count, Ordering::Relaxed);
                }
                group.into_iter().for_each(|work| work.tell(None));
                changed
            }
            Err(fault) => {
                let error = fault.map_or_else(|| self.closed(), |fault| fault.into_error(&self.path));
                tracing::error!(target: "idp::registry", %error, "a transaction failed and was taken back");
                let kind = match &error {
                    StoreError::Io(error) => error.kind(),
                    _ => io::ErrorKind::Other,
                };
                let failure = (kind, error.to_string());
                self.open_again();
                group.into_iter().for_each(|work| work.tell(Some(&failure)));
                false
            }
        }
    }

    fn transact(&self, database: &Database, group: &mut [Box<dyn Work>]) -> Result<bool, Fault> {
        let mut transaction = database.begin_write()?;
        if self.keeping.durability == Durability::Relaxed {
            transaction.set_durability(redb::Durability::None)?;
        }
        let mut tables = Tables::open(&transaction)?;
        for work in group {
            work.run(&mut tables)?;
        }
        let changed = tables.is_changed();
        drop(tables);
        if changed {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(changed)
    }

    fn check_integrity(&self) -> Result<bool, StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_mut().ok_or_else(|| self.closed())?;
        guarded(|| Ok(database.check_integrity()?)).map_err(|fault| fault.into_error(&self.path))
    }

    /// Forces to the disk what relaxed durability left: content first, then the rows that name it.
    fn sync(&self) {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.as_ref() else { return };
        let outcome = guarded(|| {
            sync_content(&self.path).map_err(redb::StorageError::from)?;
            Ok(database.begin_write()?.commit()?)
        });
        if let Err(fault) = outcome {
            let error = fault.into_error(&self.path);
            tracing::error!(target: "idp::registry", %error, "what was changed could not be forced to the disk");
        }
    }

    fn open_again(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Nobody reads now, and the old file refuses to write.
        close(&mut database);
        match open(&self.path, self.keeping, &self.traffic) {
            Ok(opened) => *database = Some(opened),
            Err(fault) => {
                let error = fault.into_error(&self.path);
                tracing::error!(target: "idp::registry", %error, "the metadata cannot be opened again");
            }
        }
    }

    fn free_space(&self) -> Option<u64> {
        let status = rustix::fs::statvfs(&self.path).ok()?;
        Some(status.f_bavail.saturating_mul(status.f_frsize))
    }
}

fn open(path: &Path, keeping: Keeping, traffic: &Arc<Traffic>) -> Result<Database, Fault> {
    let file = open_file(path).map_err(redb::StorageError::from)?;
    guarded(|| {
        let file = DatabaseFile::new(file, Arc::clone(traffic));
        let database = Database::builder().set_cache_size(keeping.cache_bytes).create_with_backend(file)?;
        let transaction = database.begin_write()?;
        let mut tables = Tables::open(&transaction)?;
        let made = tables.are_new()?;
        drop(tables);
        // Tables that are not there cannot be read, not even as empty.
        if made {
            transaction.commit()?
        } else {
            transaction.abort()?
        }
        Ok(database)
    })
}

/// A failed one says so again when it is closed.
fn close(database: &mut Option<Database>) {
    let _ = guarded(|| {
        *database = None;
        Ok(())
    });
}

fn open_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.options_mut().mode(0o600);
    Ok(options.open(path)?.into_parts().0)
}

#[cfg(target_os = "linux")]
fn sync_content(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fs_err::File::open(path)?)?)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux can tell")]
fn sync_content(_path: &Path) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// A damaged database may make redb panic: that is an error here, and no end of a thread that serves all.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = text_of(&*panic);
        Err(redb::StorageError::Corrupted(format!("the database cannot be worked with ({text})")).into())
    })
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
