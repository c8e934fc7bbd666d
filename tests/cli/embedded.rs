//! The embedded registry of a user: there with the first push, one at a time, and gone when it is told to.

use idp_test_support::images::TestImage;
use idp_test_support::sandbox::Output;
use serde_json::Value;

use super::sandbox;

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
}

#[test]
fn there_with_the_first_push_and_still_there_after_a_crash() {
    let sandbox = sandbox();
    assert_eq!(json(&sandbox.idp(["registry", "status", "--output", "json"]).exits(2))["running"], false);
    let _ = sandbox.idp(["pull", "hello:1", "out"]).exits(64);
    assert!(!sandbox.path("home/.idpbuilder/registry").exists(), "a pull makes no registry");
    sandbox.write("work/hello/greeting", "hello");
    let pushed = sandbox.idp(["push", "./hello", "hello:1"]).exits(0);
    assert!(pushed.stderr.contains("using the embedded registry at 127.0.0.1:"), "{pushed}");
    assert!(pushed.stderr.contains("started now"), "{pushed}");
    let again = sandbox.idp(["push", "./hello", "hello:2"]).exits(0);
    assert!(again.stderr.contains("(running)"), "{again}");
    let status = json(&sandbox.idp(["registry", "status", "--output", "json"]).exits(0));
    assert_eq!((&status["running"], &status["answers"]), (&true.into(), &true.into()), "{status}");
    // The power fails.
    let pid = i32::try_from(status["pid"].as_i64().expect("a number")).expect("a pid");
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill");
    assert!(killed.success());
    for _ in 0..500 {
        if sandbox.idp(["registry", "status"]).code == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let pulled = sandbox.idp(["pull", "hello:1", "out"]).exits(0);
    assert!(pulled.stderr.contains("started now"), "{pulled}");
    assert_eq!(std::fs::read_to_string(sandbox.path("work/out/greeting")).expect("read"), "hello");
    let tags = sandbox.idp(["list", "hello"]).exits(0);
    assert_eq!(tags.stdout, "1\n2\n", "{tags}");
    let images = json(&sandbox.idp(["registry", "images", "--output", "json"]).exits(0));
    let names: Vec<&str> =
        images.as_array().expect("a list").iter().filter_map(|one| one["tag"].as_str()).collect();
    assert_eq!(names, ["1", "2"], "{images}");
    let _ = sandbox.idp(["registry", "stop"]).exits(0);
    let _ = sandbox.idp(["registry", "status"]).exits(2);
    let _ = sandbox.idp(["registry", "images"]).exits(2);
    let _ = sandbox.idp(["registry", "stop"]).exits(0);
}

#[test]
fn one_for_each_user() {
    let sandbox = sandbox();
    // All at once: one of them starts it, and every push arrives.
    let image = TestImage::layers(2).expect("an image");
    image.write_layout(&sandbox.path("work/image"), None).expect("written");
    let runs: Vec<_> = (0..6)
        .map(|number| {
            sandbox.command(["push", "oci:image", &format!("app:{number}")]).spawn().expect("started")
        })
        .collect();
    for run in runs {
        let _ = sandbox.wait(run).exits(0);
    }
    assert_eq!(sandbox.idp(["list", "app"]).exits(0).stdout.lines().count(), 6);
    let started = sandbox.idp(["registry", "start", "--output", "json"]).exits(0);
    assert_eq!(json(&started)["started"], false);
    let second = sandbox.idp(["registry", "serve"]).exits(64);
    assert!(second.stderr.contains("runs already, at 127.0.0.1:"), "{second}");
    let elsewhere = sandbox.idp(["registry", "start", "--listen", "127.0.0.1:9"]).exits(1);
    assert!(
        elsewhere.stderr.contains("already") && elsewhere.stderr.contains("idp registry stop"),
        "{elsewhere}"
    );
}

#[test]
fn what_keeps_it_from_starting_is_told() {
    let sandbox = sandbox();
    sandbox.write("home/.idpbuilder/registry/thesis.txt", "precious");
    let output = sandbox.idp(["registry", "start"]).exits(1);
    assert!(output.stderr.contains("is not a registry's directory"), "{output}");
    let sandbox = super::sandbox();
    sandbox.write("home/.idpbuilder/registry.yaml", "listen: 127.0.0.1:0\nrot: x\n");
    let output = sandbox.idp(["registry", "start"]).exits(1);
    assert!(output.stderr.contains("registry.yaml:2:1"), "{output}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let sandbox = super::sandbox();
    let output = sandbox.idp(["registry", "start", "--listen", &address]).exits(1);
    assert!(output.stderr.contains("Address already in use"), "{output}");
}

#[test]
fn settings_stand_in_a_file() {
    let sandbox = sandbox();
    sandbox.write("home/.idpbuilder/registry.yaml", "listen: 127.0.0.1:0\nroot: elsewhere\n");
    let started = json(&sandbox.idp(["registry", "start", "--output", "json"]).exits(0));
    let root = sandbox.path("home/.idpbuilder/elsewhere");
    assert_eq!(started["root"].as_str(), root.to_str());
    assert!(root.join("layout").exists());
}
