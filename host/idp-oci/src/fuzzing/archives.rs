//! Archives as sources: a file that a person names, and what a daemon streams over its socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::TryStreamExt as _;
use tokio::sync::mpsc;

use super::{content, recipe};
use crate::digest::Hasher;
use crate::manifest::Shape;
use crate::source::{ArchiveKind, ArchiveSource, DockerSource, Image, Offer, Source, SourceError};

/// A blob that is larger than this was made of nothing.
const MOST_BLOB: u64 = 256 << 20;

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = runtime();
}

/// Runs on this thread's runtime: one for all inputs.
pub(super) fn run<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// Reads a source to its end; every blob is read too. `checked`: its digests were made here and must be right.
async fn drain(source: Box<dyn Source>, flags: u8, checked: bool) -> Result<Image, SourceError> {
    let (sender, mut receiver) = mpsc::channel(2);
    let selection = content::selection(flags);
    let reading = source.read(&selection, sender);
    let taking = async {
        let mut blobs = Vec::new();
        while let Some(offer) = receiver.recv().await {
            // Said early, and said again at the end.
            let Offer::Blob(blob) = offer else { continue };
            assert!(blob.descriptor.size <= MOST_BLOB, "{:?}", blob.descriptor);
            let hashed = blob
                .read_from(0)
                .try_fold(Hasher::new(blob.descriptor.digest.algorithm()), async |mut hasher, chunk| {
                    hasher.update(&chunk);
                    Ok(hasher)
                })
                .await;
            match hashed {
                Ok(hasher) => {
                    assert_eq!(hasher.count(), blob.descriptor.size);
                    assert!(!checked || hasher.finish() == blob.descriptor.digest, "{:?}", blob.descriptor);
                }
                // A region of an archive that ends early.
                Err(error) => assert!(!checked, "{error}"),
            }
            blobs.push(blob.descriptor);
        }
        blobs
    };
    let (image, blobs) = tokio::join!(reading, taking);
    let image = image?;
    for manifest in &image.manifests {
        let Shape::Image { config, layers } = manifest.shape() else { continue };
        for needed in std::iter::once(&**config).chain(layers) {
            let is_there = blobs.iter().any(|blob| blob.digest == needed.digest);
            assert!(
                is_there || crate::media::is_foreign(&needed.media_type),
                "{} was not sent",
                needed.digest
            );
        }
    }
    Ok(image)
}

/// `docker-archive:`, `oci-archive:` and either: the first byte says which, and what is chosen of it.
pub(super) fn archive(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else { return };
    let mut bytes = recipe::tar(rest);
    if flags & 0x20 != 0 {
        bytes = recipe::gzip(&bytes);
    }
    let kind = [ArchiveKind::Oci, ArchiveKind::Docker, ArchiveKind::Detect, ArchiveKind::Detect]
        [usize::from(flags >> 3 & 3)];
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&bytes).expect("written");
    let source = Box::new(ArchiveSource::new(file.path(), kind, None));
    match run(drain(source, *flags, false)) {
        Ok(image) => assert!(!image.manifests.is_empty()),
        Err(error) => drop(error.to_string()),
    }
}

/// A daemon that answers on a socket: what it says of the image, and the archive.
struct Daemon {
    path: PathBuf,
    answers: Arc<Mutex<(Vec<u8>, Vec<u8>)>>,
    _directory: tempfile::TempDir,
}

fn the_daemon() -> &'static Daemon {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    DAEMON.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let answers: Arc<Mutex<(Vec<u8>, Vec<u8>)>> = Arc::default();
        let shared = Arc::clone(&answers);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = Vec::new();
                let mut buffer = [0; 4096];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(0) | Err(_) => break,
                        Ok(count) => head.extend_from_slice(&buffer[..count]),
                    }
                }
                let wants_archive = head.windows(9).any(|window| window == b"/get HTTP");
                let (about, archive) = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let _ = stream.write_all(if wants_archive { &archive } else { &about });
            }
        });
        Daemon { path, answers, _directory: directory }
    })
}

/// The daemon's two answers, the archive among them.
pub(super) fn daemon(input: &[u8]) {
    let [flags, cut, rest @ ..] = input else { return };
    let about = match flags >> 3 & 3 {
        0 => r#"{"RepoTags":["a:1"],"Os":"linux","Architecture":"amd64"}"#,
        1 => r#"{"RepoTags":["a:1"],"Descriptor":{}}"#,
        2 => r#"{"Os":"linux","Architecture":"arm64","Variant":""}"#,
        _ => "{",
    };
    let tar = recipe::tar(rest);
    let length = if *cut == 0 { tar.len() } else { tar.len().saturating_sub(usize::from(*cut) * 64) };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", tar.len());
    let archive = [head.as_bytes(), &tar[..length]].concat();
    let about =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{about}", about.len());
    let daemon = the_daemon();
    *daemon.answers.lock().unwrap_or_else(PoisonError::into_inner) = (about.into_bytes(), archive);
    let host = format!("unix://{}", daemon.path.display());
    let source = Box::new(DockerSource::at(&host, "a:1").expect("an address"));
    match run(drain(source, flags & 6, true)) {
        Ok(image) => {
            assert!(length == tar.len() && !image.manifests.is_empty(), "an archive that was cut off is none")
        }
        Err(error) => drop(error.to_string()),
    }
}
