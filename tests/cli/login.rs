//! Login verifies, keeps, and is used; logout forgets.

use insta::assert_snapshot;

use super::sandbox;

/// `bcrypt` of `hunter22` for `ci`, at the lowest cost.
fn users() -> String {
    format!("ci:{}\n", bcrypt::hash("hunter22", 4).expect("a hash"))
}

#[test]
fn in_and_out() {
    let sandbox = sandbox();
    let file = sandbox.write("users", &users());
    let registry = sandbox.serve(&["--memory", "--htpasswd", file.to_str().expect("utf-8")]);
    let address = registry.address.as_str();
    sandbox.write("work/app/a", "a");
    let reference = format!("{address}/app:1");

    assert_snapshot!(sandbox.idp(["pull", &reference, "oci:out"]), @r#"
    exit: 3
    --- stdout
    --- stderr
    error: Failed to pull `127.0.0.1:[PORT]/app:1` to `oci:out`
      caused by: manifest 127.0.0.1:[PORT]/app:1: the registry answered 401 Unauthorized; UNAUTHORIZED: this registry wants you to log in (GET http://127.0.0.1:[PORT]/v2/app/manifests/1)
      caused by: The registry does not know who is asking: there are no credentials for it, or it does not accept them
      caused by: provider generic 0.1.0: 127.0.0.1:[PORT] wants credentials and there are none; run `idp login 127.0.0.1:[PORT]`

    hint: run `idp login 127.0.0.1:[PORT]`
    "#);

    let wrong = sandbox
        .idp_with_stdin(["login", "-u", "ci", "--password-stdin", address], b"wrong-password\n")
        .exits(3);
    assert!(!sandbox.path("home/.docker/config.json").exists(), "{wrong}");

    assert_snapshot!(sandbox.idp_with_stdin(["login", "-u", "ci", "--password-stdin", address], b"hunter22\n"), @r#"
    exit: 0
    --- stdout
    Logged in to 127.0.0.1:[PORT] as ci; kept by [ROOT]/home/.docker/config.json
    --- stderr
    warning: the credential stands in `[ROOT]/home/.docker/config.json`, encoded and not encrypted; a credential helper keeps it better
    "#);
    let _ = sandbox.idp(["push", "./app", &reference]).exits(0);

    assert_snapshot!(sandbox.idp(["logout", address]), @r#"
    exit: 0
    --- stdout
    Removed the credentials of 127.0.0.1:[PORT] from [ROOT]/home/.docker/config.json
    --- stderr
    "#);
    let _ = sandbox.idp(["push", "./app", &reference]).exits(3);
    assert_snapshot!(sandbox.idp(["logout", address]), @r#"
    exit: 0
    --- stdout
    No credentials of 127.0.0.1:[PORT] were kept
    --- stderr
    "#);
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    assert_snapshot!(sandbox().idp(["login", "r.example"]), @r#"
    exit: 64
    --- stdout
    --- stderr
    error: no password is given, and there is no terminal to ask on

    hint: printf %s "$PASSWORD" | idp login --username USER --password-stdin REGISTRY
    "#);
}

#[test]
fn a_helper_that_fails_is_named() {
    let sandbox = sandbox();
    let file = sandbox.write("users", &users());
    let registry = sandbox.serve(&["--memory", "--htpasswd", file.to_str().expect("utf-8")]);
    sandbox.write("work/app/a", "a");
    sandbox.write("home/.docker/config.json", r#"{"credsStore":"broken"}"#);
    sandbox.program("docker-credential-broken", "echo 'the key ring is locked' >&2; exit 1");
    assert_snapshot!(sandbox.idp(["pull", &format!("{}/app:1", registry.address), "oci:out"]), @r#"
    exit: 3
    --- stdout
    --- stderr
    error: Failed to pull `127.0.0.1:[PORT]/app:1` to `oci:out`
      caused by: manifest 127.0.0.1:[PORT]/app:1: the registry answered 401 Unauthorized; UNAUTHORIZED: this registry wants you to log in (GET http://127.0.0.1:[PORT]/v2/app/manifests/1)
      caused by: The registry does not know who is asking: there are no credentials for it, or it does not accept them
      caused by: the registry asks who we are, and `[ROOT]/home/.docker/config.json` names a credential helper for `127.0.0.1:[PORT]`: credential helper `docker-credential-broken` failed (exit status: 1): the key ring is locked

    hint: run `idp login 127.0.0.1:[PORT]`
    "#);
}
