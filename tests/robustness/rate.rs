//! Cases 52 and 53: waiting when asked to.

use std::time::{Duration, SystemTime};

use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::standard::Credential;
use idp_oci::client::{Access, Event, Kind, Scheme};
use idp_test_support::faults::{Fault, Registry, Reply, Server, on};

use crate::{blob, bytes, client_of, client_with, hold, is_stored, manifest, options, push, repository, tag};

/// Waits that people were told of, in milliseconds.
fn waits(events: &[Event]) -> Vec<u64> {
    let of = |event: &Event| match event {
        Event::Retrying { after_ms, .. } => Some(*after_ms),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn busy(status: u16, after: &str) -> Fault {
    Fault::Reply(Reply::status(status).header("retry-after", after))
}

/// `Retry-After` in every form, on a write with a body: waited for as long as it says, but not for ever, and told.
#[tokio::test]
async fn case_52a_forms_of_retry_after() {
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (after, expect) in [
        ("0", 0),
        ("0.02", 20),
        (past, 0),
        ("86400", 30),
        ("1e300", 30),
        ("9999999999999999999", 30),
        ("soon", 0),
        ("-1", 0),
    ] {
        for status in [429, 503] {
            let server = Server::start(Registry::default()).await;
            server.registry(|registry| registry.add_blob("team/app", "{}"));
            server.rule(on("PUT", "/manifests/", busy(status, after)).times(2));
            let retry = RetryPolicy { server_cap: Duration::from_millis(30), ..RetryPolicy::immediate(4) };
            let (client, recorder) =
                client_of(&server.address(), Scheme::Http, Credential::Anonymous, options(), retry);
            client.put_manifest(&repository(), &tag(), &manifest()).await.expect("written");
            assert_eq!(waits(&recorder.events()), [expect, expect], "{status} {after}");
            let seen = server.requests();
            assert_eq!(seen.len(), 3);
            assert!(seen.iter().all(|seen| seen.body == manifest().bytes()), "the body goes with every try");
        }
    }
    // A date that is to come: what is left of it, and no more than the cap.
    let server = Server::start(Registry::default()).await;
    hold(&server);
    let tomorrow = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(86_400));
    server.rule(on("GET", "/manifests/", busy(429, &tomorrow)));
    let retry = RetryPolicy { server_cap: Duration::from_millis(30), ..RetryPolicy::immediate(4) };
    let (client, recorder) =
        client_of(&server.address(), Scheme::Http, Credential::Anonymous, options(), retry);
    client.manifest(&repository(), &tag(), None).await.expect("read");
    assert_eq!(waits(&recorder.events()), [30]);
}

/// On any method, and as often as the policy says.
#[tokio::test]
async fn case_52b_on_any_method() {
    for status in [429, 503] {
        for (method, part) in [
            ("HEAD", "/blobs/"),
            ("POST", "/uploads/"),
            ("PUT", "/uploads/"),
            ("PUT", "/manifests/"),
            ("GET", "/manifests/"),
            ("GET", "/tags/"),
            ("DELETE", "/manifests/"),
        ] {
            let server = Server::start(Registry::default()).await;
            hold(&server);
            server.rule(on(method, part, busy(status, "0")).times(3));
            let (client, _) = client_with(&server, Credential::Anonymous, options());
            let blob = blob(bytes(1000));
            client.has_blob(&repository(), &blob.descriptor, Access::Push).await.expect(part);
            push(&client, &blob).await.expect(part);
            assert!(is_stored(&server, &blob));
            client.put_manifest(&repository(), &tag(), &manifest()).await.expect(part);
            client.manifest(&repository(), &tag(), None).await.expect(part);
            client.tags(&repository()).await.expect(part);
            client.delete_manifest(&repository(), &tag()).await.expect(part);
            server.verify();
        }
        let server = Server::start(Registry::default()).await;
        server.rule(on("PUT", "/manifests/", busy(status, "0")).always());
        let (client, recorder) = client_with(&server, Credential::Anonymous, options());
        let error = client.put_manifest(&repository(), &tag(), &manifest()).await.expect_err("given up");
        assert_eq!((error.kind(), server.requests().len(), recorder.retries()), (Kind::Transient, 4, 3));
    }
}

/// When a registry asks one of us to wait, nobody asks it anything until that is over; it is told once.
#[tokio::test]
async fn case_53_all_wait_when_one_is_told_to() {
    for after in ["3600", ""] {
        let server = Server::start(Registry::default()).await;
        hold(&server);
        let told = if after.is_empty() { Fault::Reply(Reply::status(503)) } else { busy(429, after) };
        server.rule(on("GET", "/manifests/", told).after(1));
        let hour = Duration::from_secs(3600);
        let retry = RetryPolicy { attempts: 4, base: hour, cap: hour, server_cap: hour };
        let (client, recorder) =
            client_of(&server.address(), Scheme::Http, Credential::Anonymous, options(), retry);
        client.manifest(&repository(), &tag(), None).await.expect("read");
        let first = tokio::spawn({
            let client = client.clone();
            async move { client.manifest(&repository(), &tag(), None).await.map(drop) }
        });
        while recorder.retries() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let others: Vec<_> = (0..8)
            .map(|n| {
                let client = client.clone();
                tokio::spawn(async move {
                    if n % 2 == 0 {
                        client.tags(&repository()).await.map(drop)
                    } else {
                        push(&client, &blob(bytes(100 + n))).await.map(drop)
                    }
                })
            })
            .collect();
        // They would be there within a millisecond.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!((server.requests().len(), recorder.retries()), (2, 1), "{:#?}", server.log());
        assert!(others.iter().chain([&first]).all(|task| !task.is_finished()));
        others.iter().chain([&first]).for_each(tokio::task::JoinHandle::abort);
    }
    // And all go on when it is over.
    let server = Server::start(Registry::default()).await;
    hold(&server);
    server.rule(on("*", "/v2/", busy(429, "0.05")).after(1));
    let retry = RetryPolicy { server_cap: Duration::from_secs(1), ..RetryPolicy::immediate(4) };
    let (client, recorder) =
        client_of(&server.address(), Scheme::Http, Credential::Anonymous, options(), retry);
    client.manifest(&repository(), &tag(), None).await.expect("read");
    let repository = repository();
    let all = futures_util::future::join_all((0..8).map(|_| client.tags(&repository))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!((server.requests().len(), recorder.retries()), (1 + 8 + 1, 1));
}
