//! What is done with a registry's directory besides serving it: garbage collection, checks, usage, bringing back. A running registry
//! has its directory to itself, so it is asked, over a socket in that directory that only its user can connect to; where none runs, this
//! process does it.
//!
//! One JSON object a line each way. In: a [`Task`]. Out: its report, or why there is none.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use idp_oci::name::{Repository, Target};
use idp_oci::store::collect::GcOptions;
use idp_oci::store::fs::FsStore;
use idp_oci::store::fsck::FsckOptions;
use idp_oci::store::object::{BucketStore, ObjectSettings, SweepOptions};
use idp_oci::store::{Page, Store as _, StoreSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::ops::Context;
use crate::ops::serve::VENDORS;

/// The socket's name in the registry's directory.
const SOCKET: &str = "control.sock";
/// A task is a short line.
const LONGEST: u64 = 64 * 1024;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Task {
    /// Collect garbage.
    Gc {
        /// Only say what would go.
        dry_run: bool,
        /// Seconds for which a blob is kept that no manifest names.
        grace_seconds: Option<u64>,
        /// Seconds after which a manifest goes that nothing keeps.
        delete_untagged_seconds: Option<u64>,
    },
    /// Check everything.
    Fsck {
        /// Do not read content.
        fast: bool,
        /// Put right what can be.
        repair: bool,
    },
    /// How much is there.
    Usage {
        /// Of the repositories that begin with these components; of all where it is empty.
        namespace: String,
        /// No more repositories than so many are named.
        limit: usize,
    },
    /// Bring back what was deleted.
    Restore {
        /// Where.
        repository: String,
        /// A tag, or a digest.
        reference: String,
    },
}

/// What a task came to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    Done(Value),
    Failed(String),
}

/// Does a task. `busy`: repositories with open uploads.
async fn perform(store: &FsStore, busy: HashSet<String>, task: Task) -> Result<Value, String> {
    let value = |report: Result<Value, serde_json::Error>| report.map_err(|error| error.to_string());
    match task {
        Task::Gc { dry_run, grace_seconds, delete_untagged_seconds } => {
            let options = GcOptions {
                dry_run,
                grace: grace_seconds.map(Duration::from_secs),
                delete_untagged: delete_untagged_seconds.map(Duration::from_secs),
                busy,
            };
            let report = store.collect(options).await.map_err(|error| error.to_string())?;
            value(serde_json::to_value(report))
        }
        Task::Fsck { fast, repair } => {
            let report = store.fsck(FsckOptions { fast, repair }).await.map_err(|error| error.to_string())?;
            value(serde_json::to_value(report))
        }
        Task::Usage { namespace, limit } => {
            let page = Page { after: None, limit };
            let report = store.usage(&namespace, &page).await.map_err(|error| error.to_string())?;
            value(serde_json::to_value(report))
        }
        Task::Restore { repository, reference } => {
            let wrong = |error: &dyn std::fmt::Display| format!("`{repository}` and `{reference}`: {error}");
            let place: Repository = repository.parse().map_err(|error| wrong(&error))?;
            let target = match reference.parse() {
                Ok(digest) => Target::Digest(digest),
                Err(_) => Target::Tag(reference.parse().map_err(|error| wrong(&error))?),
            };
            let restored = store.restore(&place, &target).await.map_err(|error| error.to_string())?;
            Ok(serde_json::json!({ "restored": restored }))
        }
    }
}

/// Serves tasks until it is cancelled. A directory that can hold no socket is told of and served without.
pub async fn serve(
    root: &Path,
    store: FsStore,
    busy: impl Fn() -> HashSet<String> + Send + Sync + 'static,
    cancel: CancellationToken,
) {
    let path = root.join(SOCKET);
    // The directory's lock is ours, so whoever had the socket is gone.
    let _ = std::fs::remove_file(&path);
    let bound = UnixListener::bind(&path).and_then(|listener| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map(|()| listener)
    });
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(target: "idp::registry", %error, path = %path.display(), "gc, fsck and usage cannot be asked for while this registry runs");
            return;
        }
    };
    let busy = Arc::new(busy);
    while let Some(accepted) = cancel.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (store, busy) = (store.clone(), Arc::clone(&busy));
        let cancel = cancel.clone();
        tokio::spawn(async move {
            if let Some(Err(error)) = cancel.run_until_cancelled(converse(stream, &store, &*busy)).await {
                tracing::debug!(target: "idp::registry", %error, "a task broke off");
            }
        });
    }
    let _ = std::fs::remove_file(&path);
}

async fn converse(
    stream: UnixStream,
    store: &FsStore,
    busy: &(dyn Fn() -> HashSet<String> + Send + Sync),
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Task>(&line) {
        Ok(task) => match perform(store, busy(), task).await {
            Ok(report) => Answer::Done(report),
            Err(why) => Answer::Failed(why),
        },
        Err(error) => Answer::Failed(format!("this registry does not know that task: {error}")),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    write.write_all(&line).await
}

/// The same for a registry in a bucket, which needs nobody's leave: replicas collect garbage beside each other.
pub async fn ask_bucket(context: &Context, bucket: &ObjectSettings, task: Task) -> Result<Value, Error> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| Error::Io {
        what: format!("the registry in `{}`", bucket.url),
        error: io::Error::other(error),
    };
    let unsupported = |what: &str| {
        Err(Error::Usage(format!("{what} is not to be had for a registry in a bucket (`{}`)", bucket.url)))
    };
    let store = BucketStore::open(bucket, context.env.beginning(VENDORS)).await;
    let store = store.map_err(|error| failed(error.into()))?;
    let report = match task {
        Task::Gc { dry_run, grace_seconds: None, delete_untagged_seconds: None } => {
            let swept = store.sweep(SweepOptions { dry_run }).await.map_err(|error| failed(error.into()))?;
            serde_json::to_value(swept)
        }
        Task::Gc { .. } => return unsupported("`--grace` and `--delete-untagged`"),
        Task::Fsck { fast, repair } => {
            let report =
                store.fsck(FsckOptions { fast, repair }).await.map_err(|error| failed(error.into()))?;
            serde_json::to_value(report)
        }
        Task::Usage { .. } => return unsupported("`usage`"),
        Task::Restore { .. } => return unsupported("`restore`"),
    };
    report.map_err(|error| failed(error.into()))
}

/// Has a task done with the registry in `root`: by the process that serves it, else here.
pub async fn ask(root: PathBuf, settings: StoreSettings, task: Task) -> Result<Value, Error> {
    let failed =
        |error: io::Error| Error::Io { what: format!("the registry in `{}`", root.display()), error };
    let socket = root.join(SOCKET);
    if let Ok(mut stream) = UnixStream::connect(&socket).await {
        let mut line = serde_json::to_vec(&task).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        stream.write_all(&line).await.map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(failed)?;
        return match serde_json::from_str(&answer) {
            Ok(Answer::Done(report)) => Ok(report),
            Ok(Answer::Failed(why)) => Err(failed(io::Error::other(why))),
            Err(_) => Err(failed(io::Error::other("it ended while it was at work; ask again"))),
        };
    }
    if !root.exists() {
        return Err(Error::Absent(format!(
            "there is no registry in `{}`: nothing was pushed yet",
            root.display()
        )));
    }
    let store = FsStore::open_with(&root, settings).await.map_err(|error| failed(io::Error::other(error)))?;
    perform(&store, HashSet::new(), task).await.map_err(|why| failed(io::Error::other(why)))
}
