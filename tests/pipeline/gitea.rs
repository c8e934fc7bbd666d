//! A real Gitea: who may write where, and how it is recognised.

use idp_test_support::peers::{self, Gitea};
use idp_test_support::sandbox::{Output, Sandbox};

use super::registries::log_in;
use super::sandbox;

const OTHER: (&str, &str) = ("someone", "other-password-1");

fn push(sandbox: &Sandbox, gitea: &Gitea, repository: &str) -> Output {
    sandbox.write("work/app/a", "a");
    sandbox.idp(["push", "./app", &format!("{}/{repository}:1", gitea.address())])
}

fn as_user(gitea: &Gitea, user: &str, password: &str) -> Sandbox {
    let sandbox = sandbox();
    log_in(&sandbox, gitea.address(), user, password);
    sandbox
}

#[tokio::test]
async fn who_may_write_where() {
    let Some(gitea) = peers::require(Gitea::start().await, "gitea") else { return };
    gitea.create_organisation("acme", "private").await.expect("an organisation");
    gitea.create_user(OTHER.0, OTHER.1).await.expect("a user");
    let admin = gitea.admin();
    let token =
        async |name: &str, scopes: &[&str]| gitea.create_token(admin, name, scopes).await.expect("a token");
    let write = token("write", &["write:package"]).await;
    let read = token("read", &["read:package"]).await;
    let none = token("none", &["read:user"]).await;

    for (secret, repository) in
        [(admin.1, "idp-admin/password"), (&write, "idp-admin/token"), (&write, "acme/app")]
    {
        let _ = push(&as_user(&gitea, admin.0, secret), &gitea, repository).exits(0);
    }
    for (user, secret, repository, code, told) in [
        (admin.0, none.as_str(), "idp-admin/app", 3, "write:package"),
        (admin.0, read.as_str(), "idp-admin/app", 3, "write:package"),
        (admin.0, "wrong", "idp-admin/app", 3, "password"),
        (OTHER.0, OTHER.1, "idp-admin/app", 3, "`idp-admin`"),
        (OTHER.0, OTHER.1, "acme/app", 3, "`acme`"),
        (admin.0, admin.1, "nobody/app", 2, "neither a user nor an organisation `nobody`"),
        // It may not look up who there is, and the push was told.
        (admin.0, write.as_str(), "nobody/app", 2, "neither a user nor an organisation `nobody`"),
    ] {
        let output = push(&as_user(&gitea, user, secret), &gitea, repository).exits(code);
        assert!(output.stderr.contains(told), "{told} is not said: {output}");
        assert!(output.stdout.is_empty(), "{output}");
    }
}

#[tokio::test]
async fn it_is_recognised_by_two_requests() {
    let Some(gitea) = peers::require(Gitea::start().await, "gitea") else { return };
    let sandbox = sandbox();
    let detected = sandbox.idp(["registry", "detect", gitea.address()]).exits(0);
    assert!(detected.stdout.lines().any(|line| line.starts_with("provider    gitea ")), "{detected}");
    let requests = gitea.requests().await.expect("an access log");
    let asked: Vec<&str> = requests.iter().map(|one| one.target.trim_end_matches('/')).collect();
    assert_eq!(asked, ["/v2", "/api/v1/version"]);

    // What was found is remembered.
    let why = sandbox.idp(["provider", "why", &format!("{}/idp-admin/app", gitea.address())]).exits(0);
    assert!(why.stdout.lines().any(|line| line.starts_with("provider    gitea ")), "{why}");
    assert_eq!(gitea.requests().await.expect("an access log").len(), 2);
}

#[tokio::test]
async fn an_organisation_is_made_when_it_is_asked_for() {
    let Some(gitea) = peers::require(Gitea::start().await, "gitea") else { return };
    let sandbox = as_user(&gitea, gitea.admin().0, gitea.admin().1);
    sandbox.write("work/app/a", "a");
    let reference = format!("{}/new/app:1", gitea.address());
    let refused = sandbox.idp(["push", "./app", &reference]).exits(2);
    assert!(refused.stderr.contains("--create"), "{refused}");
    let rehearsed = sandbox.idp(["push", "./app", &reference, "--create", "--dry-run"]).exits(0);
    assert!(rehearsed.stderr.contains("Would create organisation new (private)"), "{rehearsed}");
    let _ = sandbox.idp(["push", "./app", &reference]).exits(2);
    let made = sandbox.idp(["push", "./app", &reference, "--create"]).exits(0);
    assert!(made.stderr.contains("Created organisation new (private)"), "{made}");
    let shown = sandbox.idp(["registry", "show", &format!("{}/new/app", gitea.address())]).exits(0);
    assert!(shown.stdout.contains("repository  new/app"), "{shown}");
    // Nothing is made where nothing may be.
    let other = format!("{}/new/other:1", gitea.address());
    let never = sandbox.idp(["push", "./app", &other, "--create", "never"]).exits(2);
    assert!(never.stderr.contains("--create never"), "{never}");
    let _ = sandbox.idp(["push", "./app", &reference, "--create", "never"]).exits(0);
}
