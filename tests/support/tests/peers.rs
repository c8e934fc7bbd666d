//! Every peer is started once and asked something that only a working one can answer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idp_test_support::peers::{
    self, CraneRegistry, Distribution, DockerAuth, Dockerd, Gitea, Login, Moto, Olareg, Options, VersityGw,
    Zot,
};

const USER: &str = "someone";
const PASSWORD: &str = "a password";

/// Status and headers of `GET /v2/`.
fn get_v2(address: &str, basic: Option<(&str, &str)>) -> (u16, String) {
    let auth = basic.map_or_else(String::new, |(user, password)| {
        format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
    });
    let mut stream = TcpStream::connect(address).expect("the server listens");
    write!(stream, "GET /v2/ HTTP/1.1\r\nHost: {address}\r\n{auth}Connection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in UTF-8");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line");
    (status, answer)
}

fn with_password() -> Options {
    Options { auth: Some((USER.into(), PASSWORD.into())), ..Options::default() }
}

/// The parts of the two distributions that are alike.
async fn opens_to_its_password(server: &peers::Server) {
    let (status, answer) = get_v2(server.address(), None);
    assert_eq!(status, 401, "{answer}");
    assert!(answer.to_lowercase().contains("www-authenticate: basic"), "{answer}");
    assert_eq!(get_v2(server.address(), Some((USER, "wrong"))).0, 401);
    assert_eq!(get_v2(server.address(), Some((USER, PASSWORD))).0, 200);
    let statuses: Vec<u16> =
        server.requests().await.expect("an access log").iter().map(|one| one.status).collect();
    assert_eq!(statuses, [401, 401, 200], "{}", server.log());
}

#[tokio::test]
async fn distribution_3_without_authentication() {
    let Some(server) = peers::require(Distribution::v3(Options::default()).await, "distribution") else {
        return;
    };
    assert_eq!(get_v2(server.address(), None).0, 200);
    let requests = server.requests().await.expect("an access log");
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!((requests[0].method.as_str(), requests[0].target.as_str()), ("GET", "/v2/"));
}

#[tokio::test]
async fn distribution_3_with_htpasswd() {
    let Some(server) = peers::require(Distribution::v3(with_password()).await, "distribution") else {
        return;
    };
    opens_to_its_password(&server).await;
}

#[tokio::test]
async fn distribution_3_with_docker_auth() {
    let Some(both) = peers::require(DockerAuth::start().await, "docker_auth") else { return };
    let (status, answer) = get_v2(both.registry().address(), None);
    assert_eq!(status, 401, "{answer}");
    assert!(answer.to_lowercase().contains("www-authenticate: bearer realm=\"http://127.0.0.1:"), "{answer}");
    // The wait until it answered took one.
    assert_eq!((both.tokens_of("writer"), both.tokens_of("")), (0, 1));
}

#[tokio::test]
async fn distribution_2_without_authentication() {
    let Some(server) = peers::require(Distribution::v2(Options::default()).await, "docker-registry") else {
        return;
    };
    assert_eq!(get_v2(server.address(), None).0, 200);
}

#[tokio::test]
async fn distribution_2_with_htpasswd() {
    let Some(server) = peers::require(Distribution::v2(with_password()).await, "docker-registry") else {
        return;
    };
    opens_to_its_password(&server).await;
}

#[tokio::test]
async fn zot_without_authentication() {
    let Some(server) = peers::require(Zot::start(None).await, "zot") else { return };
    assert_eq!(get_v2(server.address(), None).0, 200);
    assert_eq!(server.requests().await.expect("an access log").len(), 1, "{}", server.log());
}

#[tokio::test]
async fn zot_with_htpasswd() {
    let auth = Some((USER.into(), PASSWORD.into()));
    let Some(server) = peers::require(Zot::start(auth).await, "zot") else { return };
    opens_to_its_password(&server).await;
}

#[tokio::test]
async fn crane_registry() {
    let Some(server) = peers::require(CraneRegistry::start().await, "crane") else { return };
    assert_eq!(get_v2(server.address(), None).0, 200);
    assert!(server.requests().await.is_none(), "it writes no access log");
}

#[tokio::test]
async fn olareg_without_authentication() {
    let Some(server) = peers::require(Olareg::start(Login::Open).await, "olareg") else { return };
    assert_eq!(get_v2(server.address(), None).0, 200);
}

#[tokio::test]
async fn olareg_with_basic_and_with_tokens() {
    let who = || (USER.to_owned(), PASSWORD.to_owned());
    let basic = Olareg::start(Login::Basic(who().0, who().1)).await;
    let Some(server) = peers::require(basic, "olareg") else { return };
    assert_eq!(get_v2(server.address(), Some((USER, "wrong"))).0, 401);
    assert_eq!(get_v2(server.address(), Some((USER, PASSWORD))).0, 200, "{}", server.log());
    let token = Olareg::start(Login::Token(who().0, who().1)).await;
    let Some(server) = peers::require(token, "olareg") else { return };
    let (status, answer) = get_v2(server.address(), None);
    assert_eq!(status, 401, "{answer}");
    assert!(answer.to_lowercase().contains("www-authenticate: bearer realm="), "{answer}");
}

/// Appends one empty layer to nothing and pushes it with crane, as `user`.
fn crane_push(crane: &Path, scratch: &Path, reference: &str, user: &str, password: &str) -> Output {
    let host = reference.split('/').next().expect("split gives at least one part");
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let config = serde_json::json!({"auths": {host: {"auth": auth}}});
    std::fs::write(scratch.join("config.json"), config.to_string()).expect("written");
    // Two zero blocks: a tar file of nothing.
    std::fs::write(scratch.join("layer.tar"), [0; 1024]).expect("written");
    let mut command = Command::new(crane);
    command.args(["append", "--insecure", "-f"]).arg(scratch.join("layer.tar")).args(["-t", reference]);
    command.env("DOCKER_CONFIG", scratch).output().expect("crane runs")
}

#[tokio::test]
async fn gitea_takes_a_push_with_a_token_that_may_write() {
    let Some(gitea) = peers::require(Gitea::start().await, "gitea") else { return };
    let (status, answer) = get_v2(gitea.address(), None);
    assert_eq!(status, 401, "{answer}");
    assert!(answer.contains("service=\"container_registry\""), "{answer}");

    gitea.create_organisation("acme", "private").await.expect("an organisation");
    gitea.create_user("someone", "other-password-1").await.expect("a user");
    let write = gitea.create_token(gitea.admin(), "write", &["write:package"]).await.expect("a token");
    let read = gitea.create_token(gitea.admin(), "read", &["read:package"]).await.expect("a token");
    let outsider = ("someone", "other-password-1");
    let foreign = gitea.create_token(outsider, "foreign", &["write:package"]).await.expect("a token");

    let Some(crane) = peers::require(peers::tool("crane"), "crane") else { return };
    let scratch = tempfile::tempdir().expect("a directory");
    let reference = format!("{}/acme/app:1", gitea.address());
    let push = |user: &str, token: &str| crane_push(&crane, scratch.path(), &reference, user, token);
    assert!(!push(gitea.admin().0, &read).status.success(), "a token that may only read has written");
    assert!(!push("someone", &foreign).status.success(), "a stranger has written");
    let pushed = push(gitea.admin().0, &write);
    assert!(pushed.status.success(), "{}\n{}", String::from_utf8_lossy(&pushed.stderr), gitea.log());

    let requests = gitea.requests().await.expect("an access log");
    let stored =
        |one: &peers::Access| one.method == "PUT" && one.target.contains("/manifests/") && one.status == 201;
    assert_eq!(requests.iter().filter(|one| stored(one)).count(), 1, "{requests:?}");
    assert!(!requests.iter().any(|one| one.target.starts_with("/api/")), "our own are counted: {requests:?}");
}

#[tokio::test]
async fn dockerd_answers_on_its_own_socket_and_leaves_nothing() {
    let Some(daemon) = peers::require(Dockerd::start().await, "dockerd") else { return };
    assert!(daemon.version().contains("API 1."), "{}", daemon.version());
    assert_eq!(daemon.host(), format!("unix://{}", daemon.socket().display()));
    let socket = daemon.socket().to_owned();
    drop(daemon);
    assert!(!socket.parent().expect("it lies in a directory").exists(), "its directory is still there");
    // Its containerd has a process group of its own and is named by its configuration, which lay in that directory.
    let directory = socket.parent().expect("as before").display().to_string();
    let left: Vec<String> = std::fs::read_dir("/proc")
        .expect("a Linux machine")
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("cmdline")).ok())
        .filter(|command| command.contains(&directory))
        .collect();
    assert!(left.is_empty(), "still running: {left:?}");
}

#[test]
fn tools_run() {
    for (name, argument) in [("crane", "version"), ("oras", "version"), ("skopeo", "--version")] {
        let Some(path) = peers::require(peers::tool(name), name) else { continue };
        let output = Command::new(path).arg(argument).output().expect("it runs");
        assert!(output.status.success() && !output.stdout.is_empty(), "{name}: {output:?}");
    }
}

#[tokio::test]
async fn moto_knows_its_keys_and_nobody_else() {
    let Some(moto) = peers::require(Moto::start("AKIDEXAMPLE", "secret", None).await, "moto") else { return };
    // Signed by boto3, looked over by botocore.
    moto.put_images("eu-west-1", "team/app", &[("1", "one")]).expect("put");
    let mut stream = TcpStream::connect(moto.address()).expect("the server listens");
    let head = "POST / HTTP/1.0\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-west-1/ecr/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature=00\r\nX-Amz-Date: 20260102T030405Z\r\nHost: x\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in UTF-8");
    assert!(answer.contains(" 403 ") && answer.contains("InvalidSignatureException"), "{answer}");
    let asked: Vec<(String, u16)> =
        moto.requests().await.expect("a log").into_iter().map(|one| (one.target, one.status)).collect();
    let expect = [("/CreateRepository", 200), ("/PutImage", 200), ("/unknown", 403)];
    assert_eq!(asked, expect.map(|(target, status)| (target.to_owned(), status)), "{}", moto.log());
}

#[tokio::test]
async fn versitygw_lets_nobody_in_without_a_signature() {
    let Some(service) = peers::require(VersityGw::start(&["registry"]).await, "versitygw") else { return };
    let address = service.server().address();
    let mut stream = TcpStream::connect(address).expect("the server listens");
    write!(stream, "GET /registry HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in UTF-8");
    assert!(answer.contains(" 403 ") && answer.contains("<Code>AccessDenied</Code>"), "{answer}");
    let requests = service.requests();
    assert!(requests.iter().any(|request| request.starts_with("GET /registry?")), "{requests:?}");
}
