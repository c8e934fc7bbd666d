//! Memory over the size of an image: 10 MiB to 10 GiB from a daemon that makes `docker save`'s archive while it is read, to a registry that
//! hashes what it gets and keeps nothing. Neither end touches the disk, so what is measured is the binary alone.
//!
//! In: the command to push with. Out: a table. Both ends are threads of this process. Alone, with any binary:
//! `IDP_BINARY=target/debug/idp cargo run -p idp-bench -- memory`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use idp_test_support::images::{TestImage, write_tar};
use sha2::{Digest as _, Sha256};

use crate::measure::{Series, run};
use crate::table::Table;
use crate::{MIB, mebibytes};

const SIZES: [u64; 4] = [10 * MIB, 100 * MIB, 1024 * MIB, 10 * 1024 * MIB];

/// One push a size.
pub(crate) async fn table(push: impl Fn() -> Command, scratch: &Path) -> Result<Table> {
    let mut table = Table::new(
        "Memory of a push from the Docker daemon over the size of its one layer (C7)",
        &["layer MiB", "peak memory MiB", "wall s", "CPU s", "bytes sent MiB"],
    );
    for size in SIZES {
        let registry = Swallow::start().await?;
        let socket = scratch.join(format!("daemon-{}.sock", size / MIB));
        serve_daemon(&socket, TestImage::sparse(size)?)?;
        let mut command = push();
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        command.args(["push", "docker-daemon:app:1"]).arg(format!("{}/bench/app:1", registry.address));
        let mut series = Series::default();
        series.push(tokio::task::spawn_blocking(move || run(&mut command)).await??);
        let swallowed = registry.swallowed();
        ensure!(swallowed.len() == 2, "a config and a layer were to come: {swallowed:?}");
        table.row(vec![
            (size / MIB).to_string(),
            mebibytes(series.peak()),
            seconds(series.median()),
            seconds(series.cpu()),
            mebibytes(swallowed.values().sum()),
        ]);
    }
    Ok(table)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}

/// Answers what a push asks of a daemon, for one image. The thread ends with the process.
fn serve_daemon(socket: &PathBuf, image: TestImage) -> Result<()> {
    let listener = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The client may go away; that is its business.
            let _ = answer(stream, &image);
        }
    });
    Ok(())
}

fn answer(mut stream: UnixStream, image: &TestImage) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        match io::Read::read(&mut stream, &mut buffer)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let mut body = io::BufWriter::with_capacity(64 * 1024, Chunked(stream));
    if line.contains("/get") {
        write_tar(&mut body, &image.docker_classic_entries(&["app:1"])?)?;
    } else {
        body.write_all(br#"{"RepoTags":["app:1"],"Os":"linux","Architecture":"amd64"}"#)?;
    }
    body.flush()?;
    body.into_inner().map_err(io::IntoInnerError::into_error)?.0.write_all(b"0\r\n\r\n")
}

/// As the daemon sends it.
struct Chunked(UnixStream);

impl Write for Chunked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write!(self.0, "{:x}\r\n", bytes.len())?;
        self.0.write_all(bytes)?;
        self.0.write_all(b"\r\n")?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A registry that checks digests and keeps nothing but their sizes.
struct Swallow {
    address: String,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<String, (Sha256, u64)>,
    blobs: HashMap<String, u64>,
    opened: u64,
}

impl Drop for Swallow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Swallow {
    async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let service = hyper::service::service_fn(move |request| serve(Arc::clone(&shared), request));
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, state, task })
    }

    fn swallowed(&self) -> HashMap<String, u64> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).blobs.clone()
    }
}

async fn serve(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let digest =
        head.uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("digest=")));
    let digest = digest.map(|digest| digest.replace("%3A", ":"));
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut hasher, mut size) = lock().sessions.remove(&path).unwrap_or_default();
    let (mut status, mut location) = (StatusCode::NOT_FOUND, None);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Ok(Response::new(Full::default())) };
        if let Ok(data) = frame.into_data() {
            hasher.update(&data);
            size += data.len() as u64;
        }
    }
    let is_upload = path.contains("/blobs/uploads/");
    match head.method {
        Method::GET if path == "/v2/" => status = StatusCode::OK,
        Method::PUT if !is_upload => status = StatusCode::CREATED,
        Method::PUT | Method::POST if is_upload && digest.is_some() => {
            let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            let digest = digest.unwrap_or_default();
            status = StatusCode::BAD_REQUEST;
            if digest == format!("sha256:{found}") {
                status = StatusCode::CREATED;
                lock().blobs.insert(digest, size);
            }
        }
        Method::POST | Method::PATCH if is_upload => {
            status = StatusCode::ACCEPTED;
            let session = if head.method == Method::POST {
                let mut state = lock();
                state.opened += 1;
                format!("{}{}", path, state.opened)
            } else {
                path
            };
            lock().sessions.insert(session.clone(), (hasher, size));
            location = Some(session);
        }
        _ => {}
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    if let Some(location) = location.and_then(|location| location.parse().ok()) {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}
