//! The binary killed at random moments, while clients push, pull and delete and garbage is collected: after each start everything that
//! was acknowledged is there, byte for byte, and a check finds nothing. `IDP_CRASH_ROUNDS` makes it longer.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idp_oci::digest::Digest;
use idp_test_support::sandbox::Sandbox;

const ROUNDS: usize = 8;
const CLIENTS: usize = 4;

/// One request, one connection; status, headers and body.
fn ask(address: &str, method: &str, target: &str, body: &[u8]) -> io::Result<(u16, String, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let media = if target.contains("/manifests/") { MANIFEST } else { "application/octet-stream" };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let body = answer.split_off(end + 4);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    // Of an answer that broke off nothing is believed.
    if method != "HEAD" && length.is_some_and(|length| length != body.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((status, head, body))
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What was acknowledged: what a path holds, or that it holds nothing.
type Promised = Arc<Mutex<BTreeMap<String, Option<Vec<u8>>>>>;

struct Pusher {
    address: String,
    repository: String,
    promised: Promised,
}

impl Pusher {
    fn blob(&self, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        let (status, head, _) =
            ask(&self.address, "POST", &format!("/v2/{}/blobs/uploads/", self.repository), b"")?;
        assert_eq!(status, 202, "{head}");
        let location = head.lines().find_map(|line| line.strip_prefix("location: ")).expect("a session");
        let location = format!("{}?digest={digest}", location.trim());
        let (status, head, _) = ask(&self.address, "PUT", &location, bytes)?;
        assert_eq!(status, 201, "{head}");
        self.promise(format!("/v2/{}/blobs/{digest}", self.repository), Some(bytes));
        Ok(digest)
    }

    fn promise(&self, path: String, content: Option<&[u8]>) {
        self.promised.lock().expect("no panic").insert(path, content.map(<[u8]>::to_vec));
    }

    /// While it is on its way, it may be there or not.
    fn forget(&self, path: &str) {
        self.promised.lock().expect("no panic").remove(path);
    }

    fn image(&self, number: usize) -> io::Result<()> {
        let layer = self.blob(&vec![number.to_le_bytes()[0]; 3000 + number * 7 % 90_000])?;
        let config = format!(r#"{{"number":"{} {number}"}}"#, self.repository);
        let config_digest = self.blob(config.as_bytes())?;
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":{}}}]}}"#,
            config.len(),
            3000 + number * 7 % 90_000
        );
        // The last ten tags are moved again and again.
        let path = format!("/v2/{}/manifests/t{}", self.repository, number % 10);
        self.forget(&path);
        let (status, head, _) = ask(&self.address, "PUT", &path, manifest.as_bytes())?;
        assert_eq!(status, 201, "{head}");
        self.promise(path.clone(), Some(manifest.as_bytes()));
        let digest = Digest::of(manifest.as_bytes());
        let by_digest = format!("/v2/{}/manifests/{digest}", self.repository);
        self.promise(by_digest.clone(), Some(manifest.as_bytes()));
        if number % 5 == 4 {
            self.forget(&path);
            let (status, head, _) = ask(&self.address, "DELETE", &path, b"")?;
            assert_eq!(status, 202, "{head}");
            self.promise(path, None);
        }
        let (status, _, body) = ask(&self.address, "GET", &by_digest, b"")?;
        assert_eq!((status, &*body), (200, manifest.as_bytes()));
        Ok(())
    }
}

#[test]
fn what_was_acknowledged_is_there_whenever_it_is_killed() {
    let rounds = std::env::var("IDP_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_idp"));
    let promised = Promised::default();
    let number = Arc::new(AtomicUsize::new(0));
    let mut kept = 0;
    for round in 0..rounds {
        let serving = sandbox.serve(&["--root", "registry"]);
        let address = serving.address.clone();
        let over = Arc::new(AtomicBool::new(false));
        let pushers: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let pusher = Pusher {
                    address: address.clone(),
                    repository: format!("team{}/app{client}", round % 3),
                    promised: Arc::clone(&promised),
                };
                let (number, over) = (Arc::clone(&number), Arc::clone(&over));
                std::thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        // The server dies under it: what it had not acknowledged is nobody's.
                        if pusher.image(number.fetch_add(1, Ordering::Relaxed)).is_err() {
                            break;
                        }
                    }
                })
            })
            .collect();
        let collected = sandbox.idp(["registry", "gc", "--root", "registry", "--delete-untagged", "86400"]);
        assert_eq!(collected.code, 0, "{collected}");
        // Later each time, and never at the same point of anything.
        std::thread::sleep(Duration::from_millis(150 + (round as u64 * 137) % 700));
        drop(serving);
        over.store(true, Ordering::Relaxed);
        for pusher in pushers {
            pusher.join().expect("no acknowledgement was wrong");
        }
        let checked = sandbox.idp(["registry", "fsck", "--root", "registry", "--output", "json"]).exits(0);
        let report: serde_json::Value = serde_json::from_str(&checked.stdout).expect("a report");
        assert_eq!(report["findings"], serde_json::json!([]), "{checked}");
        assert_eq!(report["incomplete"], serde_json::json!({}), "{checked}");
        let serving = sandbox.serve(&["--root", "registry"]);
        for (path, content) in promised.lock().expect("no panic").iter() {
            let (status, _, body) = ask(&serving.address, "GET", path, b"").expect("an answer");
            match content {
                Some(content) => {
                    assert!(status == 200 && body == *content, "round {round}: {path} is {status}")
                }
                None => assert_eq!(status, 404, "round {round}: {path}"),
            }
            kept += 1;
        }
    }
    assert!(kept > rounds * 10, "{kept} promises are too few to show anything");
}
