//! `idp completions` and the generated reference.

use super::sandbox;

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    let sandbox = sandbox();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = sandbox.idp(["completions", shell]).exits(0);
        assert!(output.stdout.contains("push") && output.stderr.is_empty(), "{output}");
        assert!(!output.stdout.contains("__compile"), "{shell}");
    }
}

#[test]
fn the_reference_names_every_command() {
    let output = sandbox().idp(["__docs"]).exits(0);
    for command in
        ["push", "pull", "list", "login", "logout", "registry serve", "provider why", "completions"]
    {
        assert!(output.stdout.contains(&format!("## `idp {command}`")), "{command}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let sandbox = sandbox();
    let mut command = sandbox.command(["completions", "bash"]);
    let mut child = command.spawn().expect("starts");
    drop(child.stdout.take());
    let output = sandbox.wait(child).exits(0);
    assert_eq!(output.stderr, "");
}
