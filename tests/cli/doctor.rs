//! `idp registry doctor`: a line a finding, an exit code that says the worst of them, and nothing changed at the registry.

use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, on};
use idp_test_support::net::{Net, Request};
use idp_test_support::peers::{self, Distribution, Gitea, Login, Olareg, Options};
use idp_test_support::sandbox::Output;
use serde_json::Value;

use super::sandbox;

/// The findings by name.
fn checks(output: &Output) -> Vec<Value> {
    let document: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output}"));
    document["checks"].as_array().expect("a list").clone()
}

fn check<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {checks:#?}"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn a_registry_that_is_well() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    sandbox.write("work/app/a", "a");
    let name = format!("{}/team/app", registry.address);
    let _ = sandbox.idp(["push", "./app", &format!("{name}:1.0.0")]).exits(0);

    let text = sandbox.idp(["registry", "doctor", &name]).exits(0);
    for line in [
        "ok    reached",
        "ok    tls              none: plain http, on this machine",
        "ok    pull",
        "0 failures",
    ] {
        assert!(text.stdout.contains(line), "{line} in {text}");
    }
    let found = checks(&sandbox.idp(["registry", "doctor", &name, "--output", "json"]).exits(0));
    for (name, value) in [("referrers", "yes"), ("ranges", "yes"), ("catalogue", "yes"), ("push", "unknown")]
    {
        assert_eq!(check(&found, name)["value"], value, "{name}: {found:#?}");
    }

    let found = checks(&sandbox.idp(["registry", "doctor", &name, "--write", "--output", "json"]).exits(0));
    for (name, value) in [("push", "yes"), ("mount", "yes"), ("delete", "yes")] {
        assert_eq!(check(&found, name)["value"], value, "{name}: {found:#?}");
        assert_eq!(check(&found, name)["origin"], "probed", "{name}");
    }
    let tags = sandbox.idp(["list", &name]).exits(0);
    assert!(tags.stdout.starts_with("1.0.0"), "nothing was added: {tags}");
}

#[test]
fn without_write_nothing_but_reading_is_sent() {
    let runtime = runtime();
    let server = runtime.block_on(Server::start(Registry::default()));
    let sandbox = sandbox();
    let _ = sandbox.idp(["registry", "doctor", &format!("{}/team/app", server.address())]);
    assert!(!server.requests().is_empty());
    let writes: Vec<_> =
        server.requests().into_iter().filter(|one| !["GET", "HEAD"].contains(&one.method.as_str())).collect();
    assert!(writes.is_empty(), "{writes:?}");
}

#[test]
fn with_write_nothing_stays() {
    let runtime = runtime();
    let mut registry = Registry { single_post: true, ..Registry::default() };
    let config = registry.add_blob("team/app", "{}");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
    );
    registry.add_manifest("team/app", "1.0.0", "application/vnd.oci.image.manifest.v1+json", manifest);
    let server = runtime.block_on(Server::start(registry));
    let before =
        server.registry(|registry| (registry.blobs.len(), registry.manifests.len(), registry.tags.clone()));
    let sandbox = sandbox();
    let output = sandbox.idp(["registry", "doctor", &format!("{}/team/app", server.address()), "--write"]);
    let after =
        server.registry(|registry| (registry.blobs.len(), registry.manifests.len(), registry.tags.clone()));
    assert_eq!(before, after, "{output}\n{:#?}", server.log());
    // Every session that was opened was cancelled.
    let opened = server.requests().iter().filter(|one| one.method == "POST" && one.status == 202).count();
    let cancelled = server.count("DELETE", "/blobs/uploads/");
    assert!(opened >= 1 && opened == cancelled, "{opened} {cancelled}: {output}\n{:#?}", server.log());
}

#[test]
fn nobody_is_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let output = sandbox().idp(["registry", "doctor", &format!("{address}/team/app")]).exits(4);
    assert!(output.stdout.contains("fail  reached"), "{output}");
    assert!(output.stdout.contains("connection refused"), "{output}");
    assert!(output.stdout.contains("-> check name and port"), "{output}");
    assert!(output.stdout.contains("product"), "the report goes on: {output}");
}

#[test]
fn a_wrong_password() {
    let runtime = runtime();
    let server = runtime.block_on(Server::start(Registry::with_auth(Auth::Bearer)));
    let sandbox = sandbox();
    let mut command = sandbox.command(["registry", "doctor", &server.address(), "--output", "json"]);
    command.env("IDPBUILDER_REGISTRY_USERNAME", "user").env("IDPBUILDER_REGISTRY_PASSWORD", "wrong-password");
    let output = sandbox.wait(command.spawn().expect("starts")).exits(3);
    let found = checks(&output);
    assert_eq!(check(&found, "reached")["status"], "ok", "{output}");
    assert_eq!(check(&found, "account")["status"], "fail", "{output}");
    assert!(
        check(&found, "account")["next"].as_str().is_some_and(|next| next.contains("idp login")),
        "{output}"
    );
    assert!(!output.stdout.contains("wrong-password"), "{output}");
    // Who is nobody is told, and it is no failure.
    let anonymous = sandbox.idp(["registry", "doctor", &server.address(), "--output", "json"]).exits(0);
    assert_eq!(check(&checks(&anonymous), "account")["status"], "warn", "{anonymous}");
}

#[test]
fn a_server_that_fails_and_one_of_another_time() {
    let runtime = runtime();
    let server = runtime.block_on(Server::start(Registry::default()));
    server.rule(on("GET", "/v2/", Fault::Reply(Reply::status(503))).always());
    let sandbox = sandbox();
    let output = sandbox.idp(["registry", "doctor", &format!("{}/team/app", server.address())]).exits(4);
    assert!(output.stdout.contains("fail  reached") && output.stdout.contains("503"), "{output}");

    let old = Reply::status(200).header("date", "Sat, 21 Nov 2020 09:00:00 GMT");
    let server = runtime.block_on(Server::start(Registry::default()));
    server.rule(on("GET", "/v2/", Fault::Reply(old)).times(2));
    let output = sandbox.idp(["registry", "doctor", &server.address(), "--output", "json"]).exits(0);
    let found = checks(&output);
    assert_eq!(check(&found, "clock")["status"], "warn", "{output}");
}

#[test]
fn tags_that_break_consumers() {
    let runtime = runtime();
    let mut registry = Registry::default();
    for tag in ["1.0.0", "1.0.0-01", "1.2.0_build.5", "20250101", "Latest", "latest"] {
        registry.add_manifest("team/app", tag, "application/vnd.oci.image.manifest.v1+json", "{}");
    }
    let server = runtime.block_on(Server::start(registry));
    let output = sandbox().idp(["registry", "doctor", &format!("{}/team/app", server.address())]).exits(0);
    for words in ["1.0.0-01 (1 tag)", "1.2.0_build.5 (1 tag)", "20250101 (1 tag)", "Latest, latest (2 tags)"]
    {
        assert!(output.stdout.contains(words), "{words} in {output}");
    }
}

#[test]
fn certificates() {
    let net = Net::start();
    let mut registry = Registry::default();
    net.site(&["registry.example"], move |request: &Request| {
        registry.serve(
            "https://registry.example",
            &request.method,
            &request.target,
            &request.headers,
            &request.body,
        )
    });
    let mut sandbox = net.sandbox(env!("CARGO_BIN_EXE_idp"));
    let output = sandbox.idp(["registry", "doctor", "registry.example", "--output", "json"]).exits(0);
    let tls = check(&checks(&output), "tls").clone();
    assert_ne!(tls["status"], "fail", "{output}");
    let said = tls["finding"].as_str().unwrap_or_default();
    assert!(
        said.contains("TLS 1.3") && said.contains("issued by") && said.contains("valid until"),
        "{output}"
    );

    // The same without trust in who vouches for it.
    let other = Net::start();
    sandbox.set_env("SSL_CERT_FILE", other.certificate().to_str().expect("utf-8"));
    let output = sandbox.idp(["registry", "doctor", "registry.example", "--output", "json"]).exits(1);
    let tls = check(&checks(&output), "tls").clone();
    assert_eq!(tls["status"], "fail", "{output}");
    assert!(tls["finding"].as_str().is_some_and(|said| said.contains("issued by")), "{output}");
}

#[test]
fn usage() {
    let sandbox = sandbox();
    for arguments in [
        &["registry", "doctor", "r.example", "--write"][..],
        &["registry", "doctor", "r.example/app:1"],
        &["registry", "doctor", "r.example", "--registry", "other.example"],
    ] {
        let output = sandbox.idp(arguments).exits(64);
        assert!(output.stdout.is_empty(), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn distribution() {
    let user = ("user".to_owned(), "a-password".to_owned());
    let started = Distribution::v3(Options { auth: Some(user.clone()), ..Options::default() }).await;
    let Some(server) = peers::require(started, "distribution") else { return };
    at_a_peer(server.address(), "team/app", (&user.0, &user.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn olareg() {
    let login = Login::Token("user".to_owned(), "a-password".to_owned());
    let Some(server) = peers::require(Olareg::start(login).await, "olareg") else { return };
    at_a_peer(server.address(), "team/app", ("user", "a-password"));
}

#[tokio::test(flavor = "multi_thread")]
async fn gitea() {
    let Some(gitea) = peers::require(Gitea::start().await, "gitea") else { return };
    let (user, password) = gitea.admin();
    at_a_peer(gitea.address(), &format!("{user}/app"), (user, password));
}

/// Pushes, then looks with `--write`: rights are found, and the tags are what they were.
fn at_a_peer(registry: &str, repository: &str, user: (&str, &str)) {
    let sandbox = sandbox()
        .with_env("IDPBUILDER_REGISTRY_USERNAME", user.0)
        .with_env("IDPBUILDER_REGISTRY_PASSWORD", user.1);
    sandbox.write("work/app/a", "a");
    let name = format!("{registry}/{repository}");
    let _ = sandbox.idp(["push", "./app", &format!("{name}:1.0.0")]).exits(0);
    let before = sandbox.idp(["list", &name]).exits(0).stdout;
    let output = sandbox.idp(["registry", "doctor", &name, "--write", "--output", "json"]).exits(0);
    let found = checks(&output);
    for (name, value) in [("pull", "yes"), ("push", "yes")] {
        assert_eq!(check(&found, name)["value"], value, "{output}");
    }
    for name in ["account", "clock", "referrers", "ranges", "single-post", "delete"] {
        assert_ne!(check(&found, name)["status"], "fail", "{output}");
    }
    assert_eq!(sandbox.idp(["list", &name]).exits(0).stdout, before);
}
