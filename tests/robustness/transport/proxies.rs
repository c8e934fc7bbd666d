//! Case 15: proxies.

use std::sync::{Arc, Mutex};

use idp_oci::client::http::{HttpError, HttpOptions};
use idp_oci::client::proxy::{Proxies, ProxyRules};
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::standard::Credential;
use idp_oci::client::{ClientError, Kind, Scheme};
use idp_test_support::faults::raw::{Raw, read_head};
use idp_test_support::faults::{Registry, Server};
use idp_test_support::net::certificates::{Authority, Serving};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::{blob, client_of, is_stored, options, push};

/// `user:right`.
const RIGHT: &str = "proxy-authorization: Basic dXNlcjpyaWdodA==";

/// The first lines of what a proxy was asked.
type Log = Arc<Mutex<Vec<String>>>;

/// A proxy that takes everything to one place, and may want to know for whom; `refuses` is its answer to everything.
async fn proxy(target: String, closed: bool, refuses: Option<u16>) -> (Raw, Log) {
    let log = Log::default();
    let lines = Arc::clone(&log);
    let server = Raw::start(move |_, mut stream| {
        let (target, log) = (target.clone(), Arc::clone(&lines));
        async move {
            let head = read_head(&mut stream).await;
            let line = head.lines().next().unwrap_or_default().to_owned();
            log.lock().expect("a list").push(line.clone());
            let known = !closed || head.contains(RIGHT);
            if let Some(status) = refuses.or((!known).then_some(407)) {
                let answer = format!("HTTP/1.1 {status} No\r\nproxy-authenticate: Basic realm=\"p\"\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
                return;
            }
            let mut there = TcpStream::connect(&target).await.expect("the registry");
            let first: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
            if line.starts_with("CONNECT ") {
                stream.write_all(first).await.expect("written");
            } else {
                there.write_all(head.as_bytes()).await.expect("written");
            }
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
        }
    })
    .await;
    (server, log)
}

fn by(rules: ProxyRules) -> HttpOptions {
    HttpOptions { proxy: Some(rules), ..options() }
}

fn both(proxy: &str) -> ProxyRules {
    ProxyRules { http: proxy.to_owned(), https: proxy.to_owned(), except: String::new() }
}

fn first(log: &Log) -> Vec<String> {
    log.lock().expect("a list").clone()
}

/// http goes to the proxy with its whole URL, https through a tunnel; names are looked up there and not here.
#[tokio::test]
async fn case_15a_by_a_proxy() {
    let authority = Authority::new();
    let roots = vec![authority.pem().into_bytes()];
    for scheme in [Scheme::Http, Scheme::Https] {
        let server = match scheme {
            Scheme::Http => Server::start(Registry::default()).await,
            Scheme::Https => {
                let tls = authority.serving(&Serving::name("registry.example"));
                Server::start_tls(tls, Registry::default()).await
            }
        };
        for user in ["", "user:right@"] {
            let (proxy, log) = proxy(server.address(), !user.is_empty(), None).await;
            let http = HttpOptions {
                extra_roots: roots.clone(),
                ..by(both(&format!("http://{user}{}", proxy.address())))
            };
            let retry = RetryPolicy::immediate(1);
            let (client, _) = client_of("registry.example", scheme, Credential::Anonymous, http, retry);
            let blob = blob(format!("one of {user}"));
            push(&client, &blob).await.expect("pushed");
            assert!(is_stored(&server, &blob));
            let expect = match scheme {
                Scheme::Http => " http://registry.example/v2/team/app/blobs/",
                Scheme::Https => "CONNECT registry.example:443 HTTP/1.1",
            };
            assert!(first(&log)[0].contains(expect), "{:?}", first(&log));
            // What this proxy gets of plain http, it hands on as it came.
            let told = server.requests().iter().any(|seen| seen.headers.contains_key("proxy-authorization"));
            assert!(!told || scheme == Scheme::Http);
        }
    }
}

/// A proxy that does not know us is an error of its own: not the registry's, not tried again, and it does not show the password.
#[tokio::test]
async fn case_15b_a_proxy_that_wants_a_password() {
    for scheme in [Scheme::Http, Scheme::Https] {
        for user in ["", "user:hunter2@"] {
            let (proxy, log) = proxy(String::new(), true, None).await;
            let (client, recorder) = client_of(
                "registry.example",
                scheme,
                Credential::Anonymous,
                by(both(&format!("http://{user}{}", proxy.address()))),
                RetryPolicy::immediate(4),
            );
            let error = client.check().await.expect_err("not let through");
            assert!(
                matches!(&error, ClientError::Network { error: HttpError::Proxy { .. }, .. }),
                "{error:?}"
            );
            let text = error.to_string();
            let says = format!("the proxy {} wants a user and a password", proxy.address());
            assert!(text.contains(&says) && text.contains("407"), "{text}");
            assert!(!format!("{text}{error:?}").contains("hunter2"), "{text}");
            assert_eq!((error.kind(), recorder.retries(), first(&log).len()), (Kind::Other, 0, 1));
        }
    }
}

/// A proxy that is down, or that makes no connection, is named.
#[tokio::test]
async fn case_15c_a_proxy_that_does_not_help() {
    let (refusing, log) = proxy(String::new(), false, Some(502)).await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").to_string()
    };
    for (at, expect) in [
        (closed.clone(), format!("proxy {closed} cannot be reached: connection refused")),
        (
            refusing.address(),
            format!(
                "registry.example cannot be reached: the proxy {} makes no connection to it",
                refusing.address()
            ),
        ),
    ] {
        let (client, recorder) = client_of(
            "registry.example",
            Scheme::Https,
            Credential::Anonymous,
            by(both(&at)),
            RetryPolicy::immediate(2),
        );
        let error = client.check().await.expect_err("no way");
        assert_eq!((error.kind(), recorder.retries()), (Kind::Transient, 1), "{error}");
        assert!(error.to_string().contains(&expect), "{error}");
    }
    assert_eq!(first(&log).len(), 2);
}

/// This machine is asked directly, whatever the rules say.
#[tokio::test]
async fn case_15d_loopback_needs_no_proxy() {
    let server = Server::start(Registry::default()).await;
    let (proxy, _) = proxy(server.address(), false, None).await;
    let (client, _) = client_of(
        &server.address(),
        Scheme::Http,
        Credential::Anonymous,
        by(both(&proxy.address())),
        RetryPolicy::immediate(1),
    );
    client.check().await.expect("an answer");
    assert_eq!((proxy.accepted(), server.requests().len()), (0, 1));
}

/// Which URLs go past the proxy: names and all below them, addresses, ranges, all of these with a port.
#[test]
fn case_15e_no_proxy() {
    for (except, url, expect) in [
        ("", "https://r.example/", true),
        ("*", "https://r.example/", false),
        ("r.example", "https://r.example/", false),
        ("r.example", "https://sub.r.example/", false),
        (".r.example", "https://sub.r.example/", false),
        ("r.example", "https://other.example/", true),
        ("r.example", "https://notr.example/", true),
        ("a.example, r.example", "https://r.example:5000/", false),
        ("r.example:5000", "https://r.example:5000/", false),
        ("r.example:5000", "https://sub.r.example:5000/", false),
        ("r.example:5000", "https://r.example/", true),
        ("r.example:5000", "https://other.example:5000/", true),
        ("r.example:443", "https://r.example/", false),
        ("r.example:80", "https://r.example/", true),
        ("r.example:port", "https://r.example/", true),
        ("10.0.0.0/8", "https://10.1.2.3/", false),
        ("10.0.0.0/8", "http://10.1.2.3:5000/", false),
        ("10.0.0.0/8", "https://11.1.2.3/", true),
        ("10.1.2.3", "https://10.1.2.3/", false),
        ("10.1.2.3:5000", "https://10.1.2.3:5000/", false),
        ("10.1.2.3:5000", "https://10.1.2.3/", true),
        ("10.0.0.0/8:5000", "https://10.1.2.3:5000/", false),
        ("10.0.0.0/8:5000", "https://10.1.2.3/", true),
        ("fd00::/8", "https://[fd00::1]/", false),
        ("fd00::1", "https://[fd00::1]/", false),
        ("fd00::1", "https://[fd00::2]/", true),
        ("[fd00::1]:5000", "https://[fd00::1]:5000/", false),
        ("[fd00::1]:5000", "https://[fd00::1]/", true),
        ("", "http://localhost:5000/", false),
        ("", "http://127.0.0.1:5000/", false),
        ("", "http://127.8.8.8/", false),
        ("", "https://[::1]:5000/", false),
        ("", "https://registry.localhost/", false),
    ] {
        let rules = ProxyRules { except: except.to_owned(), ..both("http://proxy.example:3128") };
        let before = Proxies::of(&rules).before(&url.parse().expect(url));
        assert_eq!(before.is_some(), expect, "NO_PROXY={except} {url}");
    }
    let one = ProxyRules { https: "http://proxy.example:3128".to_owned(), ..ProxyRules::default() };
    let before = |url: &str| Proxies::of(&one).before(&url.parse().expect(url)).is_some();
    assert_eq!((before("https://r.example"), before("http://r.example")), (true, false));
}
