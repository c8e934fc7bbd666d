//! The provider against a scripted server.

use idp_provider_sdk::testing::{Host, cases};

use super::*;

#[test]
fn recorded_conversations() {
    cases::run::<Gitlab>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
}

#[test]
fn where_a_project_may_end() {
    let host = || Host::new("registry.gitlab.com").manifest(Gitlab::MANIFEST);
    for (repository, expected) in
        [("g", vec![]), ("g/p", vec!["g/p"]), ("g/s/p/i", vec!["g/s/p/i", "g/s/p", "g/s"])]
    {
        assert_eq!(host().run(|| naming::projects(repository)), expected, "{repository}");
    }
    let told = host().setting("project", "G/S");
    assert_eq!(told.run(|| naming::projects("g/s/p/i")), ["g/s", "g/s/p/i", "g/s/p"]);
    // What a CI job says of another registry is not about this one.
    let elsewhere = host().setting("project", "g/s").setting("ci-registry", "registry.example");
    assert_eq!(elsewhere.run(naming::own_project), None);
}
