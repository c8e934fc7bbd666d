//! Amazon ECR with what `docker login` stores (the user `AWS` and a password), and ECR Public without credentials. With AWS credentials: `ecr_keys`.

use std::sync::{Arc, Mutex, PoisonError};

use idp_test_support::net::{Net, Request, Site as _};
use idp_test_support::products::base;
use idp_test_support::products::ecr::{Ecr, PRIVATE, Repository, STORE};
use idp_test_support::products::ecr_public::{API, EcrPublic, REGISTRY};
use idp_test_support::sandbox::Sandbox;

type Site = Arc<Mutex<Ecr>>;

fn start(site: Ecr) -> (Net, Site) {
    let net = Net::start();
    let site = net.site(&[PRIVATE, STORE], site);
    (net, site)
}

fn with<T>(site: &Site, change: impl FnOnce(&mut Ecr) -> T) -> T {
    change(&mut site.lock().unwrap_or_else(PoisonError::into_inner))
}

fn login(sandbox: &Sandbox, registry: &str) -> idp_test_support::sandbox::Output {
    let login = ["login", registry, "--username", "AWS", "--password-stdin"];
    sandbox.idp_with_stdin(login, b"registry-password\n")
}

/// A home that is logged in as by `aws ecr get-login-password`.
fn home(net: &Net) -> Sandbox {
    let sandbox = super::sandbox(net);
    let _ = login(&sandbox, PRIVATE).exits(0);
    sandbox
}

#[test]
fn login_push_pull_list_with_a_password() {
    let (net, site) = start(Ecr::default().with("team/app"));
    let sandbox = super::sandbox(&net);
    let logged_in = login(&sandbox, PRIVATE).exits(0);
    assert!(logged_in.stdout.contains("as AWS"), "{logged_in}");
    assert!(
        logged_in.stderr.contains("12 hours") && logged_in.stderr.contains("AWS credentials"),
        "{logged_in}"
    );
    let pushed = sandbox.idp(["push", "./app", &format!("{PRIVATE}/team/app:1")]).exits(0);
    assert!(pushed.stdout.starts_with(&format!("{PRIVATE}/team/app@sha256:")), "{pushed}");
    // The blobs come from S3, which refuses two ways of being let in; the manifest's digest is in no header.
    let _ = sandbox.idp(["pull", &format!("{PRIVATE}/team/app:1"), "./out"]).exits(0);
    assert!(net.count("GET", STORE, "X-Amz-Signature") >= 1, "{:#?}", net.log());
    assert!(!with(&site, |site| site.leaked), "{:#?}", net.log());
    // Without AWS credentials the registry's own list is asked, by no more than it allows.
    let tags = sandbox.idp(["list", &format!("{PRIVATE}/team/app")]).exits(0);
    assert_eq!(
        tags.stdout.lines().last().and_then(|line| line.split_whitespace().next()),
        Some("1"),
        "{tags}"
    );
    for seen in net.requests() {
        let number = seen.request.query("n").first().and_then(|number| number.parse::<u32>().ok());
        assert!(number.is_none_or(|number| number <= 1000), "{}", seen.request.target);
    }
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}

#[test]
fn what_a_password_does_not_open_is_said() {
    let (net, _) = start(Ecr::default());
    let sandbox = home(&net);
    let missing = sandbox.idp(["push", "./app", &format!("{PRIVATE}/team/new:1")]).exits(3);
    assert!(
        missing.stderr.contains("create the repository team/new")
            && missing.stderr.contains("AWS credentials"),
        "{missing}"
    );
    let list = sandbox.idp(["list", PRIVATE]).exits(3);
    assert!(list.stderr.contains("AWS credentials are needed"), "{list}");
    let delete = sandbox.idp(["delete", "--yes", &format!("{PRIVATE}/team/app:1")]).exits(3);
    assert!(delete.stderr.contains("AWS credentials are needed"), "{delete}");
}

#[test]
fn a_creation_template_makes_the_repository() {
    let (net, _) = start(Ecr { create_on_push: true, ..Ecr::default() });
    let _ = home(&net).idp(["push", "./app", &format!("{PRIVATE}/team/new:1")]).exits(0);
}

#[test]
fn nobody_is_let_in() {
    let (net, _) = start(Ecr::default().with("team/app"));
    let refused = super::sandbox(&net).idp(["pull", &format!("{PRIVATE}/team/app:1"), "./out"]).exits(3);
    assert!(refused.stderr.contains("aws ecr get-login-password --region eu-west-1"), "{refused}");
}

#[test]
fn refusals_are_explained() {
    let (net, site) = start(Ecr::default().with("team/app"));
    let sandbox = home(&net);
    let reference = format!("{PRIVATE}/team/app:1");
    with(&site, |site| site.denied = Some("ecr:InitiateLayerUpload"));
    let denied = sandbox.idp(["push", "./app", &reference]).exits(3);
    assert!(
        denied
            .stderr
            .contains("ecr:BatchCheckLayerAvailability, ecr:InitiateLayerUpload, ecr:UploadLayerPart"),
        "{denied}"
    );
    with(&site, |site| (site.denied, site.expired) = (None, true));
    let expired = sandbox.idp(["push", "./app", &reference]).exits(3);
    assert!(
        expired.stderr.contains("12 hours") && expired.stderr.contains("get-login-password"),
        "{expired}"
    );
    with(&site, |site| (site.expired, site.password) = (false, "another".to_owned()));
    let old = sandbox.idp(["push", "./app", &reference]).exits(3);
    assert!(old.stderr.contains("account 123456789012 in eu-west-1"), "{old}");
    with(&site, |site| {
        site.password = Ecr::default().password;
        site.repositories.insert("team/app".to_owned(), Repository { immutable: true });
    });
    let _ = sandbox.idp(["push", "./app", &reference]).exits(0);
    // The same again is no other image.
    let _ = sandbox.idp(["push", "./app", &reference]).exits(0);
    sandbox.write("work/app/a", "b");
    let immutable = sandbox.idp(["push", "./app", &reference]).exits(1);
    assert!(
        immutable.stderr.contains("cannot be overwritten") && immutable.stderr.contains("new tag"),
        "{immutable}"
    );
    let mut patient = home(&net);
    patient.set_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    with(&site, |site| site.throttled = true);
    let throttled = patient.idp(["pull", &reference, "./out"]).exits(4);
    assert!(throttled.stderr.contains("too many requests"), "{throttled}");
}

#[test]
fn names_are_checked_before_anything_is_sent() {
    let (net, _) = start(Ecr::default());
    let sandbox = super::sandbox(&net);
    let _ = sandbox.idp(["push", "./app", &format!("{PRIVATE}/a:1")]).exits(1);
    let _ = sandbox.idp(["push", "./app", "1234.dkr.ecr.eu-west-1.amazonaws.com/team/app:1"]).exits(1);
    let alias = sandbox.idp(["push", "./app", "public.ecr.aws/app:1"]).exits(1);
    assert!(alias.stderr.contains("public.ecr.aws/ALIAS/app"), "{alias}");
    assert!(net.log().is_empty(), "{:#?}", net.log());
}

#[test]
fn behind_a_name_of_ones_own() {
    let net = Net::start();
    let _ = net.site(&["registry.corp.example", STORE], Ecr::default().with("team/app"));
    let sandbox = super::sandbox(&net);
    let _ = login(&sandbox, "registry.corp.example").exits(0);
    let _ = sandbox.idp(["push", "./app", "registry.corp.example/team/app:1"]).exits(0);
    let _ = sandbox.idp(["pull", "registry.corp.example/team/app:1", "./out"]).exits(0);
    let why = sandbox.idp(["provider", "why", "registry.corp.example"]).exits(0);
    assert!(why.stdout.contains("provider    ecr "), "{why}");
}

#[test]
fn everybody_may_pull_from_ecr_public() {
    let net = Net::start();
    let mut public = EcrPublic { alias: "acme", ..EcrPublic::default() };
    public.data.repositories.insert("docker/library/alpine".to_owned(), Repository::default());
    base::image(&mut public.data.content, "docker/library/alpine", "3", "alpine");
    let _ = net.site(&[REGISTRY, API], public);
    let sandbox = super::sandbox(&net);
    let _ = sandbox.idp(["pull", "public.ecr.aws/docker/library/alpine:3", "oci:./out"]).exits(0);
    let tags = sandbox.idp(["list", "public.ecr.aws/docker/library/alpine"]).exits(0);
    assert!(tags.stdout.contains('3'), "{tags}");
    let refused = sandbox.idp(["push", "./app", "public.ecr.aws/acme/app:1"]).exits(3);
    assert!(refused.stderr.contains("AWS credentials"), "{refused}");
    assert_eq!(net.count("*", API, ""), 0, "{:#?}", net.log());
}

fn ask(
    site: &mut Ecr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, http::HeaderMap, bytes::Bytes) {
    use base64::Engine as _;
    let credentials = base64::engine::general_purpose::STANDARD.encode("AWS:registry-password");
    let mut all = http::HeaderMap::new();
    all.insert("authorization", format!("Basic {credentials}").parse().expect("a value"));
    for (name, value) in headers {
        all.insert(
            http::HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            value.parse().expect("a value"),
        );
    }
    let request = Request {
        host: PRIVATE.to_owned(),
        method: method.to_owned(),
        target: target.to_owned(),
        headers: all,
        body: body.to_owned().into(),
    };
    site.answer(&request).into_parts()
}

/// The quirks that the binary steers clear of, so that a change of its ways meets them.
#[test]
fn the_fake_is_as_odd_as_the_registry() {
    let mut site = Ecr::default().with("team/app").with("team/other");
    base::image(&mut site.content, "team/app", "1", "x");
    // 14.6: chunks are stored, answered 201, and the range stays.
    let (status, headers, _) = ask(&mut site, "POST", "/v2/team/app/blobs/uploads/", &[], "");
    let location = headers["location"].to_str().expect("text").to_owned();
    assert_eq!(status, 202);
    let (status, headers, _) = ask(&mut site, "PATCH", &location, &[("content-range", "0-2")], "abc");
    assert_eq!((status, headers["range"].to_str().expect("text")), (201, "0-10485759"));
    // A list of more than 1000 is an error.
    assert_eq!(ask(&mut site, "GET", "/v2/team/app/tags/list?n=1001", &[], "").0, 400);
    assert_eq!(ask(&mut site, "GET", "/v2/team/app/tags/list?n=1000", &[], "").0, 200);
    // By tag a manifest is converted unless its type is accepted; its digest is in no header, but of a HEAD.
    let manifest = "/v2/team/app/manifests/1";
    let oci = [("accept", "application/vnd.oci.image.manifest.v1+json")];
    let (_, headers, stored) = ask(&mut site, "GET", manifest, &oci, "");
    assert!(!headers.contains_key("docker-content-digest"));
    assert!(ask(&mut site, "HEAD", manifest, &oci, "").1.contains_key("docker-content-digest"));
    let docker = [("accept", "application/vnd.docker.distribution.manifest.v2+json")];
    let (_, headers, converted) = ask(&mut site, "GET", manifest, &docker, "");
    assert_ne!(stored, converted);
    assert_eq!(headers["content-type"], "application/vnd.docker.distribution.manifest.v2+json");
    // A manifest names its type.
    let (status, _, body) = ask(&mut site, "PUT", "/v2/team/app/manifests/2", &[], r#"{"schemaVersion":2}"#);
    assert_eq!((status, String::from_utf8_lossy(&body).contains("Invalid JSON syntax")), (400, true));
    assert_eq!(ask(&mut site, "DELETE", manifest, &[], "").0, 405);
    // Mounts are off unless the account switched them on.
    let blob = site.content.blobs.keys().next().expect("a blob").1.clone();
    let mount = format!("/v2/team/other/blobs/uploads/?mount={blob}&from=team/app");
    assert_eq!(ask(&mut site, "POST", &mount, &[], "").0, 202);
    site.mounting = true;
    assert_eq!(ask(&mut site, "POST", &mount, &[], "").0, 201);
}
