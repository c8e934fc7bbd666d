//! A registry whose answers are the input, on a socket of loopback: what parses `Range`, `Content-Range`, `Link`, `Location`, lengths and
//! documents in their places, with the retries around them.
//!
//! Parts are answers, one a request, in order; behind the last one connections are closed unanswered. An answer is `STATUS`, header lines,
//! an empty line, a body; what is not written, the length above all, is added.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{archives, recipe};
use crate::blob::Blob;
use crate::client::http::{Http, HttpOptions};
use crate::client::redirect;
use crate::client::retry::RetryPolicy;
use crate::client::standard::{Credential, Standard};
use crate::client::{Client, ClientOptions, Presence, Scheme, Verify, base_url};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::name::{Repository, Target};

/// Requests that one input may lead to; more would be a loop.
const MOST_REQUESTS: usize = 500;

#[derive(Default)]
struct Script {
    answers: std::collections::VecDeque<Vec<u8>>,
    requests: usize,
}

struct Registry {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

fn the_registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let script: Arc<Mutex<Script>> = Arc::default();
        let shared = Arc::clone(&script);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &shared);
            }
        });
        Registry { address, script }
    })
}

/// One request a connection: what is left of it does not leak into the next input.
fn serve(mut stream: TcpStream, script: &Mutex<Script>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut head = Vec::new();
    let mut buffer = [0; 8192];
    let end = loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => head.extend_from_slice(&buffer[..count]),
        }
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
    let length =
        text.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse::<usize>().ok());
    let mut body = head.len() - end;
    while body < length.unwrap_or_default() {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => body += count,
        }
    }
    let answer = {
        let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
        script.requests += 1;
        script.answers.pop_front()
    };
    if let Some(answer) = answer {
        let _ = stream.write_all(&answer);
    }
}

fn answer(text: &[u8]) -> Vec<u8> {
    let end = text.windows(2).position(|window| window == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&text[..end], &text[end + 2..]),
        None => (text, &b""[..]),
    };
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let mut result = format!("HTTP/1.1 {} X\r\n", lines.next().unwrap_or("200"));
    let mut has_length = false;
    for line in lines.filter(|line| stays_here(line)) {
        has_length |= ["content-length", "transfer-encoding"]
            .iter()
            .any(|name| line.to_ascii_lowercase().starts_with(name));
        result.push_str(line);
        result.push_str("\r\n");
    }
    if !has_length {
        result.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    result.push_str("connection: close\r\n\r\n");
    [result.as_bytes(), body].concat()
}

/// No header leads to another machine: whether it may is what `location` looks at, and a fuzzer is to talk to nobody.
fn stays_here(line: &str) -> bool {
    let here: Url = "http://127.0.0.1:1/v2/".parse().expect("a URL");
    let value = line.split_once(':').map_or("", |(_, value)| value.trim());
    let unescaped = value.replace('\\', "");
    let quoted = |text: &str| text.split(['"', '<', '>', ',', ' ']).map(str::to_owned).collect::<Vec<_>>();
    let candidates = [vec![value.to_owned(), unescaped.clone()], quoted(value), quoted(&unescaped)].concat();
    candidates.iter().all(|candidate| {
        here.join(candidate).map_or(true, |url| url.cannot_be_a_base() || redirect::same_origin(&here, &url))
    })
}

/// A client whose registry answers with the parts of `input`.
fn client(input: &[u8]) -> Client {
    let registry = the_registry();
    let answers = recipe::parts(input, false).into_iter().map(|part| answer(&part.bytes)).collect();
    *registry.script.lock().unwrap_or_else(PoisonError::into_inner) = Script { answers, requests: 0 };
    let name = registry.address.to_string().parse().expect("an address is a registry");
    let http = Http::new(HttpOptions {
        proxy_from_env: false,
        idle_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        ..HttpOptions::default()
    });
    let base = base_url(&name, Scheme::Http).expect("a URL");
    let dialect = Arc::new(Standard::new(base, Credential::Anonymous, http.clone()));
    let options = ClientOptions {
        retry: RetryPolicy::immediate(3),
        operation: "fuzz".to_owned(),
        ..ClientOptions::default()
    };
    Client::new(name, Scheme::Http, http, dialect, options).expect("a client")
}

fn requests() -> usize {
    the_registry().script.lock().unwrap_or_else(PoisonError::into_inner).requests
}

fn repository() -> Repository {
    "team/app".parse().expect("a repository")
}

/// A manifest, then a blob of 26 letters, then the tags: what arrives is right or an error.
pub(super) fn pull(input: &[u8]) {
    const CONTENT: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
    let Some((first, rest)) = input.split_first() else { return };
    let client = client(rest);
    archives::run(async {
        match first % 3 {
            0 => {
                let blob = Descriptor::of("application/octet-stream", CONTENT);
                let Ok(chunks) = client.fetch_blob(&repository(), &blob, Verify::Here).await else { return };
                let all: Result<Vec<Bytes>, _> = chunks.try_collect().await;
                if let Ok(all) = all {
                    assert_eq!(all.concat(), CONTENT);
                }
            }
            1 => {
                let digest = Digest::of(CONTENT);
                if let Ok(manifest) =
                    client.manifest(&repository(), &Target::Digest(digest.clone()), None).await
                {
                    assert_eq!(*manifest.digest(), digest);
                }
                let _ = client.manifest(&repository(), &Target::Tag("1".parse().expect("a tag")), None).await;
            }
            _ => {
                if let Ok(tags) = client.tags(&repository()).await {
                    assert!(
                        tags.iter().collect::<std::collections::HashSet<_>>().len() == tags.len(),
                        "each once"
                    );
                }
            }
        }
    });
    assert!(requests() < MOST_REQUESTS);
}

/// A blob, in one piece or, with a session that can be resumed, larger; then its manifest's way.
pub(super) fn push(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let client = client(rest);
    let size = if first & 1 == 0 { 1000 } else { 1_100_000 };
    let content = Bytes::from(vec![b'x'; size]);
    let from: Vec<Repository> =
        (first & 2 != 0).then(|| "team/base".parse().expect("a repository")).into_iter().collect();
    let blob = Blob::from_bytes("application/octet-stream", content);
    let presence = if first & 4 == 0 { Presence::Unknown } else { Presence::Missing };
    archives::run(async {
        let _ = client.push_blob(&repository(), &blob, presence, &from, &CancellationToken::new()).await;
    });
    assert!(requests() < MOST_REQUESTS);
}
