//! Certificates as clients see them: trusted by `ca.crt`, replaced while connections go on, and broken pairs not shown.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{DAY, Tls, TlsError, TlsSettings};
use crate::client::http::{Http, HttpOptions, Request};
use crate::server::{ServeOptions, serve};
use crate::store::memory::MemoryStore;

struct Server {
    address: SocketAddr,
    tls: Arc<Tls>,
    shutdown: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Server {
    async fn start(tls: Tls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let tls = Arc::new(tls);
        let store = Arc::new(MemoryStore::default());
        let options = ServeOptions { tls: Some(Arc::clone(&tls)), ..ServeOptions::new(listener, store) };
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(options, shutdown.clone()));
        Self { address, tls, shutdown }
    }

    /// Shakes hands, trusting what is in the file.
    async fn connect(&self, roots: &Path, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_with(roots, name, rustls::ALL_VERSIONS).await
    }

    async fn connect_with(
        &self,
        roots: &Path,
        name: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut store = RootCertStore::empty();
        store.add(CertificateDer::from_pem_file(roots).expect("a certificate")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().expect("certificates")[0].clone().into_owned()
}

/// Asks for `/v2/` and leaves the connection open.
async fn ping(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"{}") {
        assert_ne!(stream.read_buf(&mut answer).await.expect("an answer"), 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
}

fn generated(directory: &Path, now: SystemTime) -> Tls {
    let settings = TlsSettings { names: vec!["registry.test".to_owned()], ..TlsSettings::default() };
    Tls::open(&settings, directory, now).expect("a certificate")
}

#[tokio::test]
async fn whoever_trusts_the_authority_is_served_and_nobody_else() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("tls");
    let server = Server::start(generated(&directory, SystemTime::now())).await;
    let roots = server.tls.authority().expect("an authority").to_owned();
    for name in ["127.0.0.1", "::1", "localhost", "registry.test"] {
        for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
            let mut stream = server.connect_with(&roots, name, &versions).await.expect(name);
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            ping(&mut stream).await;
        }
    }
    assert!(server.connect(&roots, "other.test").await.is_err());
    let other = home.path().join("other");
    let stranger = generated(&other, SystemTime::now());
    assert!(server.connect(stranger.authority().expect("an authority"), "localhost").await.is_err());
    let mode =
        |name: &str| std::fs::metadata(directory.join(name)).expect("there").permissions().mode() & 0o777;
    let modes = ["", "ca.key", "server.pem", "ca.crt"].map(mode);
    assert_eq!(modes, [0o700, 0o600, 0o600, 0o644]);
}

#[tokio::test]
async fn our_own_client_needs_the_authority() {
    let home = tempfile::tempdir().expect("a directory");
    let server = Server::start(generated(home.path(), SystemTime::now())).await;
    let pem = fs_err::read(server.tls.authority().expect("an authority")).expect("a certificate");
    for (extra_roots, trusts) in [(vec![], false), (vec![pem], true)] {
        let http = Http::new(HttpOptions { proxy_from_env: false, extra_roots, ..HttpOptions::default() });
        let url = format!("https://{}/v2/", server.address).parse().expect("a URL");
        let answer = http.execute(Request::new(http::Method::GET, url)).await;
        assert_eq!(answer.is_ok_and(|answer| answer.status.is_success()), trusts);
    }
}

#[tokio::test]
async fn a_certificate_is_replaced_before_it_ends_and_connections_go_on() {
    let home = tempfile::tempdir().expect("a directory");
    let now = SystemTime::now();
    let server = Server::start(generated(home.path(), now)).await;
    let roots = server.tls.authority().expect("an authority").to_owned();
    let mut before = server.connect(&roots, "localhost").await.expect("a connection");
    ping(&mut before).await;
    server.tls.check(now + 59 * DAY);
    let same = server.connect(&roots, "localhost").await.expect("a connection");
    assert_eq!(shown(&same), shown(&before));
    // From then on its time is over by a third.
    let later = now + 61 * DAY;
    server.tls.check(later);
    assert!(server.tls.ends() > now + 150 * DAY);
    ping(&mut before).await;
    // The new one begins in the future of this test's clients: what was written is what is looked at.
    let kept = CertificateDer::pem_file_iter(home.path().join("server.pem")).expect("a file");
    let kept: Vec<_> = kept.collect::<Result<_, _>>().expect("certificates");
    assert_ne!(kept[0], shown(&before));
    assert_eq!(kept[1], CertificateDer::from_pem_file(&roots).expect("the same authority"));
}

#[test]
fn what_is_kept_is_used_again_and_made_anew_where_it_does_not_fit() {
    let home = tempfile::tempdir().expect("a directory");
    let now = SystemTime::now();
    let file = |name: &str| std::fs::read(home.path().join(name)).expect("a file");
    let open = |names: &[&str], now| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Tls::open(&TlsSettings { names, ..TlsSettings::default() }, home.path(), now).map(drop)
    };
    open(&[], now).expect("made");
    let (authority, server) = (file("ca.crt"), file("server.pem"));
    open(&[], now + DAY).expect("kept");
    assert_eq!((file("ca.crt"), file("server.pem")), (authority.clone(), server.clone()));
    open(&["registry"], now).expect("another name");
    assert!(file("server.pem") != server && file("ca.crt") == authority);
    let server = file("server.pem");
    open(&["registry"], now + 70 * DAY).expect("nearly over");
    assert!(file("server.pem") != server && file("ca.crt") == authority);
    std::fs::write(home.path().join("server.pem"), "what").expect("written");
    open(&["registry"], now).expect("broken");
    let server = file("server.pem");
    open(&["registry"], now + 3640 * DAY).expect("the authority is over");
    assert!(file("server.pem") != server && file("ca.crt") != authority);
    std::fs::write(home.path().join("ca.key"), "what").expect("written");
    let error = open(&[], now).expect_err("a key that is none").to_string();
    assert!(error.contains("ca.key") && error.contains("remove `ca.crt`"), "{error}");
    std::fs::remove_file(home.path().join("ca.crt")).expect("removed");
    open(&[], now).expect("made anew");
}

#[tokio::test]
async fn an_own_certificate_is_read_again_when_it_changes_and_a_broken_one_is_not_shown() {
    let home = tempfile::tempdir().expect("a directory");
    let (certificate, key) = (home.path().join("own.crt"), home.path().join("own.key"));
    let pair = |directory: &str| {
        let directory = home.path().join(directory);
        drop(generated(&directory, SystemTime::now()));
        (directory.join("server.pem"), directory.join("ca.crt"))
    };
    let ((first, first_roots), (second, second_roots)) = (pair("first"), pair("second"));
    std::fs::copy(&first, &certificate).expect("copied");
    std::fs::copy(&first, &key).expect("copied");
    let settings = TlsSettings {
        certificate: Some(certificate.clone()),
        key: Some(key.clone()),
        ..TlsSettings::default()
    };
    let unused = home.path().join("unused");
    let server = Server::start(Tls::open(&settings, &unused, SystemTime::now()).expect("a pair")).await;
    assert!(server.tls.authority().is_none() && !unused.exists());
    let mut before = server.connect(&first_roots, "localhost").await.expect("a connection");

    // Half of the new pair is there: the old one goes on, and so it does with rubbish, and with nothing.
    for step in ["half", "rubbish", "gone"] {
        match step {
            "half" => drop(std::fs::copy(&second, &certificate).expect("copied")),
            "rubbish" => std::fs::write(&key, "rubbish").expect("written"),
            _ => std::fs::remove_file(&key).expect("removed"),
        }
        server.tls.check(SystemTime::now());
        server.tls.check(SystemTime::now());
        let stream = server.connect(&first_roots, "localhost").await.expect(step);
        assert_eq!(shown(&stream), shown(&before), "{step}");
    }
    std::fs::copy(&second, &key).expect("copied");
    server.tls.check(SystemTime::now());
    let mut after = server.connect(&second_roots, "localhost").await.expect("the new pair");
    assert_ne!(shown(&after), shown(&before));
    ping(&mut before).await;
    ping(&mut after).await;
}

#[test]
fn settings_that_cannot_be_are_told() {
    let home = tempfile::tempdir().expect("a directory");
    let open = |settings: TlsSettings| Tls::open(&settings, home.path(), SystemTime::now());
    let half = TlsSettings { certificate: Some("x".into()), ..TlsSettings::default() };
    assert!(matches!(open(half), Err(TlsError::HalfOwn)));
    let missing = home.path().join("missing");
    let absent =
        TlsSettings { certificate: Some(missing.clone()), key: Some(missing), ..TlsSettings::default() };
    assert!(matches!(open(absent), Err(TlsError::File { .. })));
    let port = TlsSettings { names: vec!["registry:5000".to_owned()], ..TlsSettings::default() };
    assert!(matches!(open(port), Err(TlsError::Name { .. })));
}

#[tokio::test]
async fn plain_http_is_told_to_use_https() {
    let home = tempfile::tempdir().expect("a directory");
    let server = Server::start(generated(home.path(), SystemTime::now())).await;
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("speaks HTTPS"), "{answer}");
}

#[tokio::test]
async fn who_does_not_shake_hands_keeps_nobody_waiting() {
    let home = tempfile::tempdir().expect("a directory");
    let settings = TlsSettings { handshake_seconds: Some(1), ..TlsSettings::default() };
    let tls = Tls::open(&settings, home.path(), SystemTime::now()).expect("a certificate");
    let server = Server::start(tls).await;
    let roots = server.tls.authority().expect("an authority").to_owned();
    let mut silent = TcpStream::connect(server.address).await.expect("a connection");
    let mut half = TcpStream::connect(server.address).await.expect("a connection");
    half.write_all(&[22, 3, 1]).await.expect("written");
    ping(&mut server.connect(&roots, "localhost").await.expect("a connection")).await;
    // Each is cut off in its time; otherwise this never ends.
    for stream in [&mut silent, &mut half] {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok());
    }
}
