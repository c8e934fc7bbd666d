//! Cases of the robustness list that only the binary shows: exit codes, variables, credential helpers, what is left on the disk and
//! in the list of processes. The others are in `tests/robustness/`, named the same way.

use std::sync::{Arc, Mutex};

use idp_test_support::faults::raw::{Raw, read_head};
use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, on};
use idp_test_support::net::certificates::{Authority, Serving};
use idp_test_support::sandbox::Sandbox;
use tokio::io::AsyncWriteExt as _;

use super::{World, image, runtime, sandbox};

/// A downgrade is refused for good: exit 1, after one request.
#[test]
fn case_05_a_downgrade_exits_1() {
    let (runtime, authority) = (runtime(), Authority::new());
    let tls = authority.serving(&Serving::name("127.0.0.1"));
    let server = runtime.block_on(Server::start_tls(tls, Registry::default()));
    let plain = runtime.block_on(Server::start(Registry::default()));
    let location = format!("http://{}/v2/app/manifests/1", plain.address());
    server.rule(
        on("GET", "/manifests/", Fault::Reply(Reply::status(307).header("location", &location))).always(),
    );
    let sandbox = sandbox();
    let certificate = sandbox.write("home/ca.pem", &authority.pem());
    let sandbox = sandbox.with_env("SSL_CERT_FILE", certificate.to_str().expect("utf-8"));
    let output = sandbox.idp(["pull", &format!("{}/app:1", server.address()), "oci:out"]).exits(1);
    assert!(output.stderr.contains("without TLS") && !output.stderr.contains("trying again"), "{output}");
    assert_eq!((server.count("GET", "/manifests/"), plain.requests().len()), (1, 0));
}

/// A proxy that answers everything with one status, and what it was asked.
fn proxy(status: u16) -> (Raw, Arc<Mutex<Vec<String>>>, tokio::runtime::Runtime) {
    let runtime = runtime();
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let lines = Arc::clone(&log);
    let raw = runtime.block_on(Raw::start(move |_, mut stream| {
        let log = Arc::clone(&lines);
        async move {
            let head = read_head(&mut stream).await;
            log.lock().expect("a list").push(head.lines().next().unwrap_or_default().to_owned());
            let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }));
    (raw, log, runtime)
}

/// The variables are read as written above the cases: a port in `NO_PROXY` counts, this machine is asked directly, and a proxy that
/// wants a password is an error of its own, without another try.
#[test]
fn case_15_proxies_of_the_environment() {
    let (raw, log, _runtime) = proxy(407);
    let address = format!("http://user:hunter2@{}", raw.address());
    let with = |except: &str| {
        sandbox()
            .with_env("HTTPS_PROXY", &address)
            .with_env("HTTP_PROXY", &address)
            .with_env("NO_PROXY", except)
            .with_env("IDPBUILDER_OCI_RETRY_COUNT", "1")
    };
    let pull =
        |sandbox: &Sandbox, registry: &str| sandbox.idp(["pull", &format!("{registry}/app:1"), "oci:out"]);
    let output = pull(&with("registry.invalid:5001"), "registry.invalid:5000").exits(1);
    let says = format!("the proxy {} wants a user and a password", raw.address());
    assert!(output.stderr.contains(&says) && output.stderr.contains("407"), "{output}");
    assert!(!output.stderr.contains("hunter2"), "{output}");
    let asked = log.lock().expect("a list").clone();
    assert!(
        !asked.is_empty() && asked.iter().all(|line| line.starts_with("CONNECT registry.invalid:5000 ")),
        "{asked:?}"
    );
    // Past the proxy there is no such name.
    let output = pull(&with("registry.invalid:5000"), "registry.invalid:5000").exits(4);
    assert!(output.stderr.contains("no such name"), "{output}");
    let world = World::new(Registry::default()).holds(&image());
    let _ = pull(&with(""), &world.server.address()).exits(0);
    assert_eq!(log.lock().expect("a list").len(), asked.len());
}

/// A registry that wants to know who connects is told by `certFile`, and the error without one says so.
#[test]
fn case_16_a_client_certificate_of_the_configuration() {
    let (runtime, authority) = (runtime(), Authority::new());
    let how = Serving { wants_client: true, ..Serving::name("127.0.0.1") };
    let server = runtime.block_on(Server::start_tls(authority.serving(&how), Registry::default()));
    let sandbox = sandbox().with_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    sandbox.write("home/.idpbuilder/ca.pem", &authority.pem());
    let pem = authority.client("me");
    let (certificate, key) = pem.split_at(pem.find("-----BEGIN PRIVATE KEY").expect("a key"));
    sandbox.write("home/.idpbuilder/me.pem", certificate);
    sandbox.write_private("home/.idpbuilder/me.key", key);
    sandbox.write_private("home/.idpbuilder/both.pem", &pem);
    let image = image();
    image.write_layout(&sandbox.path("work/image"), Some("1")).expect("written");
    let reference = format!("{}/app:1", server.address());
    for (more, code) in [
        ("", 1),
        ("certFile: me.pem", 1),
        ("certFile: me.pem, keyFile: me.key", 0),
        ("certFile: both.pem", 0),
    ] {
        let entry = format!("{}: {{caFile: ca.pem, {more}}}", server.address());
        sandbox.write("home/.idpbuilder/registries.yaml", &format!("registries:\n  {entry}\n"));
        let output = sandbox.idp(["push", "oci:image:1", &reference]).exits(code);
        let says = if more.is_empty() { "`certFile`" } else { "is no certificate with its key" };
        assert_eq!(output.stderr.contains(says), code != 0, "{more}: {output}");
    }
}

/// Nobody is logged in at a page that says yes to everything, and no password is kept for it.
#[test]
fn case_20_no_login_at_a_captive_portal() {
    let page =
        Reply::status(200).header("content-type", "text/html").body("<!doctype html><title>Welcome</title>");
    let world = World::script(vec![on("*", "/", Fault::Reply(page)).always()]);
    let address = world.server.address();
    let output = world
        .sandbox
        .idp_with_stdin(["login", "-u", "user", "--password-stdin", &address], b"hunter2\n")
        .exits(1);
    assert!(output.stderr.contains("not a registry"), "{output}");
    assert!(!world.sandbox.path("home/.docker/config.json").exists());
}

/// A refresh token that the token service replaces is used, and written nowhere: the file stays as the user left it.
#[test]
fn case_28_a_replaced_refresh_token_is_not_written() {
    let world = World::new(Registry::with_auth(Auth::Bearer));
    let config =
        serde_json::json!({"auths": {world.server.address(): {"identitytoken": "first-refresh-token"}}});
    let file = world.sandbox.write_private("home/.docker/config.json", &config.to_string());
    let answer = serde_json::json!({
        "access_token": "repository:app:pull,push",
        "expires_in": 300,
        "refresh_token": "second-refresh-token",
    });
    let world =
        world.rule(on("POST", "/token", Fault::Reply(Reply::status(200).body(answer.to_string()))).always());
    let _ = world.push(&image(), &["--log-level", "trace"]).exits(0);
    assert!(world.server.count("POST", "/token") >= 1, "{:#?}", world.server.log());
    assert_eq!(std::fs::read_to_string(file).expect("a file"), config.to_string());
    let mut folders = vec![world.sandbox.path("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).expect("a file");
                let found = bytes.windows(20).any(|part| part == b"second-refresh-token");
                assert!(!found, "{}", entry.path().display());
            }
        }
    }
}

/// A registry that wants a password, and a Docker configuration that names helpers for it.
fn helped(store: &str, own: Option<&str>) -> World {
    let world = World::new(Registry::with_auth(Auth::Basic)).holds(&image()).tries(1);
    let mut config = serde_json::json!({ "credsStore": store });
    if let Some(own) = own {
        config["credHelpers"] = serde_json::json!({ world.server.address(): own });
    }
    world.sandbox.write("home/.docker/config.json", &config.to_string());
    world
}

fn answer(user: &str, secret: &str) -> String {
    let answer = serde_json::json!({"ServerURL": "x", "Username": user, "Secret": secret});
    format!("/bin/cat >/dev/null; printf %s '{answer}'")
}

/// A helper that is missing, fails, talks nonsense or hangs is named, with what it said and without what it keeps.
#[test]
fn case_29a_helpers_that_do_not_help() {
    for (script, expect) in [
        (None, "is not installed"),
        (
            Some("echo 'the key ring is locked' >&2; exit 3"),
            "failed (exit status: 3): the key ring is locked",
        ),
        (
            Some(
                "printf %s '{\"Username\":\"user\",\"Secret\":\"hunter2-hunter2\"}'; echo 'sent hunter2-hunter2' >&2; exit 1",
            ),
            "failed (exit status: 1): sent ",
        ),
        (Some("echo 'hunter2-hunter2, and no JSON'"), "answered with something that is not a credential"),
        (Some("exec sleep 1000"), "did not answer within 10s"),
    ] {
        let world = helped("absent", Some("poor"));
        if let Some(script) = script {
            world.sandbox.program("docker-credential-poor", script);
        }
        let output = world.pull("oci:out").exits(3);
        assert!(
            output.stderr.contains("docker-credential-poor") && output.stderr.contains(expect),
            "{output}"
        );
        assert!(!output.stderr.contains("hunter2"), "{output}");
        let sent = world.server.requests().iter().any(|seen| seen.authorization().is_some());
        assert!(!sent, "{:#?}", world.server.log());
    }
}

/// The helper of one registry goes before the helper of all.
#[test]
fn case_29b_the_helper_of_one_registry_goes_first() {
    for own in [true, false] {
        let world = helped("all", own.then_some("own"));
        world.sandbox.program("docker-credential-own", &answer("user", "right"));
        world.sandbox.program("docker-credential-all", &answer("user", "wrong"));
        let _ = world.pull("oci:out").exits(if own { 0 } else { 3 });
    }
}

/// `<token>` as a user says that the secret is a refresh token.
#[test]
fn case_29c_a_helper_that_keeps_a_token() {
    let world = World::new(Registry::with_auth(Auth::Bearer)).holds(&image()).tries(1);
    world.sandbox.write("home/.docker/config.json", r#"{"credsStore":"all"}"#);
    world.sandbox.program("docker-credential-all", &answer("<token>", "refresh-me"));
    let token = Reply::status(200).body(r#"{"access_token":"repository:app:pull","expires_in":300}"#);
    let world = world.rule(on("POST", "/token", Fault::Reply(token)).always());
    let _ = world.pull("oci:out").exits(0);
    let seen = world.server.requests();
    let asked = seen.iter().find(|seen| seen.method == "POST").expect("a question");
    let form = String::from_utf8_lossy(&asked.body).into_owned();
    assert!(form.contains("grant_type=refresh_token") && form.contains("refresh_token=refresh-me"), "{form}");
}

/// Who may not write is told so at once, by an exit code of its own (3).
#[test]
fn case_30_a_403_for_a_write_is_final() {
    let denied = Fault::Reply(Reply::error(403, "DENIED", &serde_json::Value::Null));
    let world = World::new(Registry::default())
        .rule(on("HEAD", "/blobs/", Fault::Reply(Reply::status(403))).always())
        .rule(on("PUT", "/manifests/", denied).always());
    let output = world.push(&image(), &[]).exits(3);
    assert_eq!(world.server.count("PUT", "/manifests/"), 1, "{output}");
    assert!(output.stderr.contains("DENIED") && !output.stderr.contains("trying again"), "{output}");
    assert_eq!(output.stdout, "");
}

/// Whoever lists processes sees no password: not in our arguments, nor in those of what we start.
#[test]
fn case_32_no_password_in_the_list_of_processes() {
    let world = helped("all", None);
    let list = world.sandbox.path("home/processes");
    let spy = format!(
        "/bin/cat /proc/$$/cmdline /proc/$PPID/cmdline | tr '\\0' ' ' >> {0}; {1}",
        list.display(),
        answer("user", "right")
    );
    world.sandbox.program("docker-credential-all", &spy);
    let _ = world.pull("oci:out").exits(0);
    let list = std::fs::read_to_string(list).expect("the helper ran");
    assert!(list.contains("docker-credential-all get") && list.contains("pull"), "{list}");
    assert!(!list.contains("right"), "{list}");
}

/// A wait that the registry asks for is printed before it begins.
#[test]
fn case_52_the_wait_is_printed() {
    let busy = Fault::Reply(Reply::status(429).header("retry-after", "1"));
    let world = World::new(Registry::default()).rule(on("PUT", "/manifests/", busy));
    let output = world.push(&image(), &[]).exits(0);
    assert!(
        output.stderr.contains("429") && output.stderr.contains("trying again in 1 s (try 2 of 10)"),
        "{output}"
    );
    assert_eq!(world.server.count("PUT", "/manifests/"), 2);
}
