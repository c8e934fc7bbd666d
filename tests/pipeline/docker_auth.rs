//! A real token service of Docker Hub's shape: what the standard flow makes of grants that are less than was asked for.

use idp_test_support::peers::{self, Access, DockerAuth};
use idp_test_support::sandbox::Sandbox;

use super::registries::log_in;
use super::{digest, sandbox};

async fn both() -> Option<DockerAuth> {
    peers::require(DockerAuth::start().await, "docker_auth")
}

/// A home with something to push in `./app`, logged in or not.
fn home(both: &DockerAuth, login: Option<(&str, &str)>) -> Sandbox {
    let sandbox = sandbox();
    sandbox.write("work/app/a", "a");
    if let Some((user, password)) = login {
        log_in(&sandbox, both.registry().address(), user, password);
    }
    sandbox
}

fn count(requests: &[Access], method: &str, part: &str, status: u16) -> usize {
    let of = |one: &&Access| one.method == method && one.target.contains(part) && one.status == status;
    requests.iter().filter(of).count()
}

#[tokio::test]
async fn one_token_serves_a_push_although_its_lifetime_is_not_said() {
    let Some(both) = both().await else { return };
    let sandbox = home(&both, Some(DockerAuth::WRITER));
    let registry = both.registry().address();
    let pushed = sandbox.idp(["push", "./app", &format!("{registry}/team/app:1")]).exits(0);
    assert_eq!(both.tokens_of("writer"), 1, "{pushed}");
    let pulled = sandbox.idp(["pull", &format!("{registry}/team/app:1"), "./again"]).exits(0);
    assert_eq!(digest(&pushed), digest(&pulled));
    assert_eq!(std::fs::read(sandbox.path("work/again/a")).expect("read"), b"a");
    let tags = sandbox.idp(["list", &format!("{registry}/team/app")]).exits(0);
    assert_eq!(tags.stdout.trim(), "1");
    let catalog = sandbox.idp(["list", registry]).exits(0);
    assert_eq!(catalog.stdout.trim(), "team/app");
}

#[tokio::test]
async fn a_token_with_less_than_was_asked_for_is_explained_and_not_asked_for_again() {
    let Some(both) = both().await else { return };
    let registry = both.registry().address();
    let writer = home(&both, Some(DockerAuth::WRITER));
    let _ = writer.idp(["push", "./app", &format!("{registry}/team/app:1")]).exits(0);
    for (login, repository, told) in [
        // May read there, and gets a token for it.
        (DockerAuth::READER, "team/app", "`reader` may not push to team/app"),
        // May do nothing there, and gets a token all the same.
        (DockerAuth::WRITER, "elsewhere/app", "`writer` may not push to elsewhere/app"),
    ] {
        let before = both.tokens_of(login.0);
        let refused =
            home(&both, Some(login)).idp(["push", "./app", &format!("{registry}/{repository}:2")]).exits(3);
        assert!(refused.stderr.contains(told), "{told} is not said: {refused}");
        assert!(refused.stderr.contains(&format!("No permission on {repository}")), "{refused}");
        assert!(refused.stdout.is_empty(), "{refused}");
        assert!(both.tokens_of(login.0) - before <= 2, "{}", both.tokens_of(login.0));
    }
    let reader = home(&both, Some(DockerAuth::READER));
    let _ = reader.idp(["pull", &format!("{registry}/team/app:1"), "./again"]).exits(0);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let Some(both) = both().await else { return };
    let registry = both.registry().address();
    let sandbox = home(&both, Some((DockerAuth::WRITER.0, "wrong")));
    let refused = sandbox.idp(["push", "./app", &format!("{registry}/team/app:1")]).exits(3);
    assert!(refused.stderr.contains("does not accept the credentials of `writer`"), "{refused}");
    let login = ["login", registry, "--username", "writer", "--password-stdin"];
    let _ = sandbox.idp_with_stdin(login, b"wrong").exits(3);
    let login = ["login", registry, "--username", "writer", "--password-stdin"];
    let _ = sandbox.idp_with_stdin(login, DockerAuth::WRITER.1.as_bytes()).exits(0);
}

#[tokio::test]
async fn nobody_pulls_what_is_public_and_nothing_else() {
    let Some(both) = both().await else { return };
    let registry = both.registry().address();
    let writer = home(&both, Some(DockerAuth::WRITER));
    for repository in ["public/app", "team/app"] {
        let _ = writer.idp(["push", "./app", &format!("{registry}/{repository}:1")]).exits(0);
    }
    let nobody = home(&both, None);
    let _ = nobody.idp(["pull", &format!("{registry}/public/app:1"), "./public"]).exits(0);
    for words in [
        vec!["pull".to_owned(), format!("{registry}/team/app:1"), "./team".to_owned()],
        vec!["push".to_owned(), "./app".to_owned(), format!("{registry}/public/app:2")],
    ] {
        let refused = nobody.idp(&words).exits(3);
        assert!(refused.stderr.contains("idp login"), "{refused}");
    }
}

#[tokio::test]
async fn blobs_are_mounted_with_a_token_for_both_repositories() {
    let Some(both) = both().await else { return };
    let registry = both.registry().address();
    let sandbox = home(&both, Some(DockerAuth::WRITER));
    let _ = sandbox.idp(["push", "./app", &format!("{registry}/team/base:1")]).exits(0);
    let push = ["push", "./app", &format!("{registry}/team/app:1"), "--mount-from", "team/base"];
    let _ = sandbox.idp(push).exits(0);
    let requests = both.registry().requests().await.expect("an access log");
    assert!(count(&requests, "POST", "/v2/team/app/blobs/uploads/?", 201) >= 1, "{requests:#?}");
    assert_eq!(count(&requests, "PUT", "/v2/team/app/blobs/uploads/", 201), 0, "{requests:#?}");

    // What may not be read is sent instead.
    let before = requests.len();
    let push = ["push", "./app", &format!("{registry}/team/other:1"), "--mount-from", "elsewhere/base"];
    let _ = sandbox.idp(push).exits(0);
    let requests = both.registry().requests().await.expect("an access log");
    assert!(count(&requests[before..], "PUT", "/v2/team/other/blobs/uploads/", 201) >= 1, "{requests:#?}");
}

#[tokio::test]
async fn deleting_takes_a_token_of_its_own() {
    let Some(both) = both().await else { return };
    let registry = both.registry().address();
    let (writer, reader) = (home(&both, Some(DockerAuth::WRITER)), home(&both, Some(DockerAuth::READER)));
    let reference = format!("{registry}/team/app:1");
    let _ = writer.idp(["push", "./app", &reference]).exits(0);
    let refused = reader.idp(["delete", &reference]).exits(3);
    assert!(refused.stderr.contains("`reader`"), "{refused}");
    let _ = writer.idp(["delete", &reference]).exits(0);
    let _ = writer.idp(["pull", &reference, "./gone"]).exits(2);
}
