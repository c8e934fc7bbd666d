//! Amazon ECR with AWS credentials, as AWS's own tools find them in the environment. Private: the API is moto's, before which botocore
//! checks every signature, and the registry is CNCF distribution under the registry's name. ECR Public: fakes of both.

use std::sync::{Arc, Mutex, PoisonError};

use idp_test_support::net::Net;
use idp_test_support::peers::{self, Distribution, Moto, Options, Server, moto};
use idp_test_support::products::base;
use idp_test_support::products::ecr::{Bridge, PRIVATE, Repository};
use idp_test_support::products::ecr_public::{API, EcrPublic, REGISTRY};
use idp_test_support::products::forward::Forward;
use idp_test_support::sandbox::Sandbox;

const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A home with keys in its environment, and a region that is another one than the registry's, which must not matter.
fn home(net: &Net) -> Sandbox {
    let mut sandbox = super::sandbox(net);
    sandbox.set_env("AWS_ACCESS_KEY_ID", ID);
    sandbox.set_env("AWS_SECRET_ACCESS_KEY", SECRET);
    sandbox.set_env("AWS_REGION", "ap-south-1");
    sandbox
}

/// moto, distribution with moto's password, and the net in which they are one registry.
struct Private {
    net: Net,
    moto: Moto,
    _registry: Server,
}

impl Private {
    async fn start(session_token: Option<&str>) -> Option<Self> {
        let moto = peers::require(Moto::start(ID, SECRET, session_token).await, "moto")?;
        let (user, password) = moto::LOGIN;
        let options = Options { auth: Some((user.to_owned(), password.to_owned())), ..Options::default() };
        let registry = peers::require(Distribution::v3(options).await, "distribution")?;
        let net = Net::start();
        let bridge = Bridge { registry: Forward::to(registry.address()), moto: Forward::to(moto.address()) };
        let _ = net.site(&[PRIVATE], bridge);
        Some(Self { net, moto, _registry: registry })
    }

    fn home(&self) -> Sandbox {
        let mut sandbox = home(&self.net);
        sandbox.set_env("AWS_ENDPOINT_URL_ECR", &format!("http://{}", self.moto.address()));
        sandbox
    }

    /// How often moto was asked for an operation. That all signatures were botocore's too goes without saying.
    async fn count(&self, operation: &str) -> usize {
        let all = self.moto.requests().await.expect("it has a log");
        assert!(all.iter().all(|one| one.status != 403), "{}", self.moto.log());
        all.iter().filter(|one| one.target == format!("/{operation}")).count()
    }
}

fn names(list: &str) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(list).expect("JSON");
    let entries = list["entries"].as_array().expect("entries");
    entries.iter().map(|entry| entry["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_makes_the_repository_and_pushes_in_one_go() {
    let Some(private) = Private::start(None).await else { return };
    let sandbox = private.home();
    let reference = format!("{PRIVATE}/team/app:1");
    let _ = sandbox.idp(["push", "--dry-run", "./app", &reference]).exits(0);
    let missing = sandbox.idp(["pull", &reference, "./out"]).exits(2);
    assert!(
        missing.stderr.contains("team/app does not exist in account 123456789012 in eu-west-1"),
        "{missing}"
    );
    assert_eq!(private.count("CreateRepository").await, 0);
    let pushed = sandbox.idp(["push", "./app", &reference]).exits(0);
    assert!(pushed.stdout.starts_with(&format!("{PRIVATE}/team/app@sha256:")), "{pushed}");
    assert_eq!(private.count("CreateRepository").await, 1);
    let _ = sandbox.idp(["push", "./app", &reference]).exits(0);
    assert_eq!(private.count("CreateRepository").await, 1);
    let _ = sandbox.idp(["pull", &reference, "./out"]).exits(0);
    let listed = sandbox.idp(["list", PRIVATE, "--output", "json"]).exits(0);
    assert_eq!(names(&listed.stdout), ["team/app"], "{listed}");
    // moto's tokens ended in 2015, and let in all the same.
    assert!(private.count("GetAuthorizationToken").await >= 1);
    assert!(private.net.strangers().is_empty(), "{:?}", private.net.strangers());
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_keys_are_signed_with_their_token() {
    let Some(private) = Private::start(Some("SESSION/TOKEN+==")).await else { return };
    let mut sandbox = private.home();
    sandbox.set_env("AWS_SESSION_TOKEN", "SESSION/TOKEN+==");
    let _ = sandbox.idp(["push", "./app", &format!("{PRIVATE}/team/app:1")]).exits(0);
    assert_eq!(private.count("CreateRepository").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_told_from_a_wrong_clock() {
    let Some(private) = Private::start(None).await else { return };
    let mut sandbox = private.home();
    sandbox.set_env("AWS_SECRET_ACCESS_KEY", "another-secret");
    let refused = sandbox.idp(["list", PRIVATE]).exits(3);
    assert!(refused.stderr.contains("does not belong to its access key id"), "{refused}");
    assert!(!refused.stderr.contains("another-secret"), "{refused}");
    sandbox.set_env("AWS_ACCESS_KEY_ID", "AKIDNOBODY");
    let unknown = sandbox.idp(["push", "./app", &format!("{PRIVATE}/team/app:1")]).exits(3);
    assert!(unknown.stderr.contains("AWS does not know the credentials"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_listed_and_deleted_by_the_api() {
    let Some(private) = Private::start(None).await else { return };
    let put =
        private.moto.put_images("eu-west-1", "team/app", &[("1", "one"), ("2", "two"), ("latest", "two")]);
    put.expect("images");
    let sandbox = private.home();
    let repository = format!("{PRIVATE}/team/app");
    let list = || sandbox.idp(["list", &repository, "--output", "json"]).exits(0).stdout;
    let mut tags = names(&list());
    tags.sort();
    assert_eq!(tags, ["1", "2", "latest"]);
    let document: serde_json::Value = serde_json::from_str(&list()).expect("JSON");
    let entries = document["entries"].as_array().expect("entries");
    let two = entries.iter().find(|entry| entry["name"] == "2").expect("listed");
    let digest = two["digest"].as_str().expect("the API says it").to_owned();
    let delete = |arguments: &[&str]| sandbox.idp(["delete", "--yes"].iter().chain(arguments));
    // A digest takes all of its tags along, so that has to be said.
    let siblings = delete(&[&format!("{repository}@{digest}")]).exits(1);
    assert!(siblings.stderr.contains("--allow-siblings"), "{siblings}");
    let _ = delete(&["--dry-run", &format!("{repository}:1")]).exits(0);
    let _ = delete(&[&format!("{repository}:1")]).exits(0);
    let missing = delete(&[&format!("{repository}:1")]).exits(2);
    assert!(missing.stderr.contains("could not delete team/app:1"), "{missing}");
    // By tag the other one stays.
    let _ = delete(&[&format!("{repository}:2")]).exits(0);
    assert_eq!(names(&list()), ["latest"]);
    let not_empty = delete(&["--repository", &repository]).exits(1);
    assert!(not_empty.stderr.contains("--force"), "{not_empty}");
    let _ = delete(&["--repository", "--force", &repository]).exits(0);
    let gone = sandbox.idp(["list", &repository]).exits(2);
    assert!(gone.stderr.contains("team/app"), "{gone}");
    assert_eq!(private.count("BatchDeleteImage").await, 2);
}

type Site = Arc<Mutex<EcrPublic>>;

fn public() -> (Net, Site) {
    let net = Net::start();
    let site = net.site(&[REGISTRY, API], EcrPublic { alias: "acme", ..EcrPublic::default() });
    (net, site)
}

fn with<T>(site: &Site, change: impl FnOnce(&mut EcrPublic) -> T) -> T {
    change(&mut site.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn ecr_public_push_list_delete() {
    let (net, site) = public();
    let sandbox = home(&net);
    for name in ["app", "bb", "cc"] {
        let _ = sandbox.idp(["push", "./app", &format!("public.ecr.aws/acme/{name}:1")]).exits(0);
    }
    // Two a page.
    let listed = sandbox.idp(["list", REGISTRY, "--output", "json"]).exits(0);
    assert_eq!(names(&listed.stdout), ["acme/app", "acme/bb", "acme/cc"], "{listed}");
    let _ = sandbox.idp(["push", "./app", "public.ecr.aws/acme/app:2"]).exits(0);
    let tags = sandbox.idp(["list", "public.ecr.aws/acme/app", "--output", "json"]).exits(0);
    assert_eq!(names(&tags.stdout), ["1", "2"], "{tags}");
    let _ = sandbox.idp(["delete", "--yes", "public.ecr.aws/acme/app:1"]).exits(0);
    let tags = sandbox.idp(["list", "public.ecr.aws/acme/app", "--output", "json"]).exits(0);
    assert_eq!(names(&tags.stdout), ["2"], "{tags}");
    let _ = sandbox.idp(["delete", "--yes", "--repository", "--force", "public.ecr.aws/acme/bb"]).exits(0);
    assert!(!with(&site, |site| site.data.repositories.contains_key("acme/bb")));
}

#[test]
fn ecr_public_knows_ones_own_account_only() {
    let (net, site) = public();
    with(&site, |site| {
        site.data.repositories.insert("other/app".to_owned(), Repository::default());
        base::image(&mut site.data.content, "other/app", "1", "x");
        // Of the same name, in one's own: not to be taken for the other.
        site.data.repositories.insert("acme/app".to_owned(), Repository::default());
        base::image(&mut site.data.content, "acme/app", "mine", "y");
    });
    let sandbox = home(&net);
    let tags = sandbox.idp(["list", "public.ecr.aws/other/app", "--output", "json"]).exits(0);
    assert_eq!(names(&tags.stdout), ["1"], "{tags}");
    let refused = sandbox.idp(["delete", "--yes", "public.ecr.aws/other/app:1"]).exits(3);
    assert!(refused.stderr.contains("`other` is not one of the account"), "{refused}");
    let refused = sandbox.idp(["push", "./app", "public.ecr.aws/other/new:1"]).exits(3);
    assert!(refused.stderr.contains("`other` is not one of the account"), "{refused}");
    assert_eq!(with(&site, |site| site.data.repositories.len()), 2);
}

#[test]
fn ecr_public_in_dockers_way_and_as_nobody() {
    let (net, site) = public();
    let sandbox = home(&net);
    with(&site, |site| site.docker_only = true);
    let _ = sandbox.idp(["push", "./app", "public.ecr.aws/acme/app:1"]).exits(0);
    // Once is enough to know: the next command has nothing refused.
    net.forget();
    let _ = sandbox.idp(["push", "./app", "public.ecr.aws/acme/app:1"]).exits(0);
    let refused =
        net.requests().into_iter().filter(|seen| seen.status == 401 && seen.request.bearer().is_some());
    assert_eq!(refused.count(), 0, "{:#?}", net.log());
    // Keys that are around and may not ask for a token are no hindrance to pulling.
    with(&site, |site| site.denied = true);
    let mut other = home(&net);
    other.set_env("AWS_ACCESS_KEY_ID", "AKIDANOTHER");
    let _ = other.idp(["pull", "public.ecr.aws/acme/app:1", "./out"]).exits(0);
    let refused = other.idp(["push", "./app", "public.ecr.aws/acme/app:2"]).exits(3);
    assert!(refused.stderr.contains("sts:GetServiceBearerToken"), "{refused}");
}
