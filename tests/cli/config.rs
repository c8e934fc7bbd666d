//! `registries.yaml` and the environment.

use insta::assert_snapshot;

use super::sandbox;

#[test]
fn a_misspelt_key_is_placed() {
    let sandbox = sandbox();
    sandbox.write("home/.idpbuilder/registries.yaml", "registries:\n  r.example:\n    provder: gitea\n");
    assert_snapshot!(sandbox.idp(["pull", "app:1", "oci:out"]), @r#"
    exit: 1
    --- stdout
    --- stderr
    error: Failed to pull `app:1` to `oci:out`
      caused by: [ROOT]/home/.idpbuilder/registries.yaml:3:5: unknown field `provder`, expected one of provider, settings, create, visibility, insecure, caFile, certFile, keyFile, credentials, slots, grants
    "#);
}

#[test]
fn a_password_that_others_can_read() {
    let sandbox = sandbox();
    let text = "registries:\n  r.example:\n    credentials: {username: ci, password: hunter22}\n";
    sandbox.write("home/.idpbuilder/registries.yaml", text);
    assert_snapshot!(sandbox.idp(["pull", "app:1", "oci:out"]), @r#"
    exit: 1
    --- stdout
    --- stderr
    error: Failed to pull `app:1` to `oci:out`
      caused by: `[ROOT]/home/.idpbuilder/registries.yaml` holds a password and can be read by others (mode 644)

    hint: `chmod 600 [ROOT]/home/.idpbuilder/registries.yaml`, or keep the password elsewhere: passwordFile, passwordEnv, helper
    "#);
}

#[test]
fn push_switched_off() {
    let sandbox = sandbox();
    sandbox.write("home/.idpbuilder/registries.yaml", "ociPush: {enabled: false}\n");
    sandbox.write("work/app/a", "a");
    assert_snapshot!(sandbox.idp(["push", "./app", "127.0.0.1:9/app"]), @r#"
    exit: 3
    --- stdout
    --- stderr
    error: Failed to push `./app` to `127.0.0.1:[PORT]/app`
      caused by: pushing is switched off (`ociPush.enabled: false` in `[ROOT]/home/.idpbuilder/registries.yaml`)
    "#);
}

#[test]
fn a_variable_that_is_no_number() {
    let sandbox = sandbox().with_env("IDPBUILDER_OCI_TIMEOUT", "soon");
    sandbox.write("work/app/a", "a");
    assert_snapshot!(sandbox.idp(["push", "./app", "127.0.0.1:9/app"]), @r#"
    exit: 1
    --- stdout
    --- stderr
    error: Failed to push `./app` to `127.0.0.1:[PORT]/app`
      caused by: `IDPBUILDER_OCI_TIMEOUT` is `soon`, which is not a whole number from 1 to 86400
    "#);
}

#[test]
fn flag_beats_environment_beats_file() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    sandbox.write("work/app/a", "a");
    // Nobody listens at port 9, so whoever wins is seen by whether it works.
    let (there, nowhere) = (registry.address.as_str(), "127.0.0.1:9");
    let push = |flag: Option<&str>, env: Option<&str>, file: &str| {
        sandbox.write("home/.idpbuilder/registries.yaml", &format!("default: {file}\n"));
        let mut arguments = vec!["push", "./app", "app:1"];
        arguments.extend(flag.iter().flat_map(|flag| ["--registry", flag]));
        let mut command = sandbox.command(arguments);
        command.env("IDPBUILDER_OCI_RETRY_COUNT", "0");
        if let Some(env) = env {
            command.env("IDPBUILDER_REGISTRY_URL", format!("http://{env}/"));
        }
        sandbox.wait(command.spawn().expect("starts")).code
    };
    assert_eq!(push(None, None, there), 0);
    assert_eq!(push(None, Some(there), nowhere), 0);
    assert_eq!(push(None, Some(nowhere), there), 4);
    assert_eq!(push(Some(there), Some(nowhere), nowhere), 0);
    assert_eq!(push(Some(nowhere), Some(there), there), 4);
}
