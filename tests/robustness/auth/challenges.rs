//! Cases 21, 22, 24, 25: what a registry asks for.

use idp_oci::client::standard::Credential;
use idp_oci::client::{Kind, Presence};
use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, on};

use super::{asks, grants, scopes, token_requests};
use crate::{blob, client, client_with, hold, options, push, repository, tag, user};

/// Challenges of every form, in one header or several: the one that can be met is met.
#[tokio::test]
async fn case_21a_challenges_of_every_form() {
    let bearer = r#"Bearer realm="http://HOST/token",service="registry""#;
    for (challenges, service, expect) in [
        (vec![r#"Basic realm="a, b""#], None, "Basic dXNlcjpyaWdodA=="),
        (vec!["basic realm=unquoted"], None, "Basic dXNlcjpyaWdodA=="),
        (vec![r#"BASIC REALM="x", charset="UTF-8""#], None, "Basic dXNlcjpyaWdodA=="),
        (vec![bearer], Some("registry"), "Bearer t"),
        (vec![r#"bearer Realm="http://HOST/token" , SERVICE=registry"#], Some("registry"), "Bearer t"),
        (
            vec![r#"Bearer realm="http://HOST/token",service="a, \"b\", c",scope="repository:x:pull,push""#],
            Some(r#"a, "b", c"#),
            "Bearer t",
        ),
        (
            vec![
                r#"Negotiate, Custom abc==, Basic realm="x", Bearer realm="http://HOST/token",service="registry""#,
            ],
            Some("registry"),
            "Bearer t",
        ),
        (vec!["Negotiate", r#"Basic realm="x""#, bearer], Some("registry"), "Bearer t"),
        (vec![bearer, r#"Basic realm="x""#], Some("registry"), "Bearer t"),
        (
            vec![r#"Digest realm="x", nonce="a,b", qop="auth""#, r#"Basic realm="x""#],
            None,
            "Basic dXNlcjpyaWdodA==",
        ),
    ] {
        let server = Server::script(Vec::new()).await;
        server.rule(on("GET", "/v2/", asks(&server, &challenges)));
        if service.is_some() {
            server.rule(on("GET", "/token", grants("t")));
        }
        server.rule(on("GET", "/v2/", Fault::Reply(Reply::status(200).body("{}"))));
        let (client, _) = client_with(&server, user("right"), options());
        client.check().await.unwrap_or_else(|error| panic!("{challenges:?}: {error}"));
        server.verify();
        let seen = server.requests();
        assert_eq!(seen.last().expect("a request").authorization(), Some(expect), "{challenges:?}");
        if let Some(service) = service {
            let query = seen[1].target.split_once('?').expect("a query").1;
            let asked = idp_test_support::faults::url_pairs(query).find(|(name, _)| name == "service");
            assert_eq!(asked.map(|(_, value)| value).as_deref(), Some(service));
        }
    }
}

/// Schemes that nobody here knows, and challenges that are none: a refusal, once.
#[tokio::test]
async fn case_21b_challenges_that_nobody_can_meet() {
    for challenges in [vec!["Negotiate"], vec![r#"Digest realm="x""#, "NTLM"], vec!["Bearer"], vec![",,="]] {
        let server = Server::script(Vec::new()).await;
        server.rule(on("GET", "/v2/", asks(&server, &challenges)).always());
        let (client, recorder) = client_with(&server, user("right"), options());
        let error = client.check().await.expect_err("not let in");
        assert_eq!(
            (recorder.retries(), error.kind() == Kind::Transient),
            (0, false),
            "{challenges:?} {error}"
        );
        assert!(server.requests().iter().all(|seen| seen.authorization().is_none()), "{challenges:?}");
        assert!(server.requests().len() <= 2, "{:#?}", server.log());
    }
}

/// A 401 without a challenge: what was learned before is used; else `/v2/` is asked once; else it is final.
#[tokio::test]
async fn case_22_a_401_without_challenge() {
    let silent = || Fault::Reply(Reply::status(401));
    // Learned before, from an answer that let us in: what follows goes with a credential at once.
    let server = Server::start(Registry::default()).await;
    hold(&server);
    server.rule(on("GET", "/v2/", Fault::Header("www-authenticate", r#"Basic realm="x""#.to_owned())));
    let (client, _) = client_with(&server, user("right"), options());
    client.check().await.expect("let in");
    client.manifest(&repository(), &tag(), None).await.expect("read");
    let seen = server.requests();
    assert_eq!((seen.len(), seen[1].authorization().is_some()), (2, true), "{:#?}", server.log());
    // Asked for.
    let server = Server::start(Registry::with_auth(Auth::Basic)).await;
    hold(&server);
    server.rule(on("GET", "/manifests/", silent()));
    let (client, _) = client_with(&server, user("right"), options());
    client.manifest(&repository(), &tag(), None).await.expect("let in");
    assert_eq!(server.requests().len(), 3, "{:#?}", server.log());
    // Nowhere to be had.
    let server = Server::script(vec![
        on("GET", "/manifests/", silent()),
        on("GET", "/v2/", Fault::Reply(Reply::status(200).body("{}"))),
    ])
    .await;
    let (client, recorder) = client_with(&server, user("right"), options());
    let error = client.manifest(&repository(), &tag(), None).await.expect_err("final");
    assert_eq!((error.kind(), error.status(), recorder.retries()), (Kind::Auth, Some(401), 0));
    server.verify();
}

/// Who has read and now writes gets a token for both; what was refused stands first.
#[tokio::test]
async fn case_24a_from_pull_to_push() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    hold(&server);
    let (client, _) = client_with(&server, user("right"), options());
    client.manifest(&repository(), &tag(), None).await.expect("read");
    push(&client, &blob("one")).await.expect("written");
    client.manifest(&repository(), &tag(), None).await.expect("read");
    let asked: Vec<Vec<String>> = token_requests(&server).iter().map(scopes).collect();
    assert_eq!(asked, [["repository:team/app:pull"], ["repository:team/app:pull,push"]]);
}

/// A mount takes a token for both repositories, and the one that was refused for stands first.
#[tokio::test]
async fn case_24b_a_mount_reads_elsewhere() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    server.registry(|registry| registry.add_blob("other", "one"));
    let (client, _) = client_with(&server, user("right"), options());
    let from = ["other".parse().expect("a repository")];
    let cancel = tokio_util::sync::CancellationToken::new();
    let outcome = client.push_blob(&repository(), &blob("one"), Presence::Unknown, &from, &cancel).await;
    assert_eq!(outcome.expect("mounted"), idp_oci::client::Outcome::Mounted);
    let asked: Vec<Vec<String>> = token_requests(&server).iter().map(scopes).collect();
    let mount = asked.last().expect("a token");
    assert_eq!(mount.as_slice(), ["repository:team/app:pull,push", "repository:other:pull"]);
    assert!(asked.len() <= 2, "{asked:?}");
}

/// `insufficient_scope`: one new token with what the server names, first; then it is final.
#[tokio::test]
async fn case_25_insufficient_scope() {
    let challenge = r#"Bearer realm="http://HOST/token",scope="repository:team/app:pull,push,admin",error="insufficient_scope""#;
    for enough in [true, false] {
        let server = Server::start(Registry::default()).await;
        server.rule(on("PUT", "/manifests/", asks(&server, &[challenge])).times(if enough { 2 } else { 9 }));
        server.rule(on("GET", "/token", grants("one")));
        server.rule(on("GET", "/token", grants("two")));
        server.registry(|registry| registry.add_blob("team/app", "{}"));
        let (client, recorder) = client_with(&server, user("right"), options());
        let result = client.put_manifest(&repository(), &tag(), &crate::manifest()).await;
        assert_eq!((server.count("PUT", "/manifests/"), server.count("GET", "/token")), (3, 2), "{result:?}");
        assert_eq!(recorder.retries(), 0);
        let named = scopes(&token_requests(&server)[1]);
        assert_eq!(named[0], "repository:team/app:admin,pull,push");
        match result {
            Ok(_) => assert!(enough),
            Err(error) => assert_eq!((enough, error.kind(), error.status()), (false, Kind::Auth, Some(401))),
        }
        // Who was refused for good is not asked again.
        let before = server.requests().len();
        let again = client.put_manifest(&repository(), &tag(), &crate::manifest()).await;
        assert_eq!(again.is_ok(), enough);
        assert_eq!(server.requests().len() - before, usize::from(enough));
    }
    // Without a credential there is nothing to renew.
    let server = Server::start(Registry::with_auth(Auth::Basic)).await;
    let error = client(&server).check().await.expect_err("not let in");
    assert_eq!((error.kind(), server.requests().len()), (Kind::Auth, 1));
    let _ = Credential::Anonymous;
}
