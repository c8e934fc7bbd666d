use idp_provider_sdk::testing::{Exchange, Host, cases};

use super::*;

#[test]
fn recorded_conversations() {
    cases::run::<Quay>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
}

/// Asking for a right to push would make the repository.
#[test]
fn a_rehearsal_asks_for_no_right_to_push() {
    let token = Exchange::get(
        "https://quay.io/v2/auth?service=quay.io&scope=repository%3Aorg%2Fapp%3Apull&client_id=idp",
    )
    .reply(200, r#"{"token":"T"}"#);
    let host = Host::new("quay.io")
        .manifest(Quay::MANIFEST)
        .dry_run(true)
        .challenge(r#"Bearer realm="https://quay.io/v2/auth",service="quay.io""#)
        .exchange(token);
    let scopes = vec![Scope::repository("org/app", ["pull", "push"])];
    host.run(|| Quay::authorize(scopes)).expect("a token to pull");
}

#[test]
fn every_class_is_one_of_the_contract() {
    for (status, body, class) in [
        (404, r#"{"errors":[{"code":"TAG_EXPIRED","message":"Tag expired"}]}"#, "missing-reference"),
        (409, r#"{"errors":[{"code":"TAG_IMMUTABLE","message":"tag is immutable"}]}"#, "immutable"),
        (403, r#"{"errors":[{"code":"DENIED","message":"Quota has been exceeded on namespace"}]}"#, "quota"),
        (
            405,
            r#"{"errors":[{"code":"DENIED","message":"System is in read-only mode","detail":{"is_readonly":true}}]}"#,
            "read-only",
        ),
    ] {
        let subject = idp_provider_sdk::invocation::Answer {
            method: "PUT".to_owned(),
            url: "https://quay.io/v2/org/app/manifests/1".to_owned(),
            status,
            headers: Vec::new(),
            body: body.to_owned(),
            extra: Vec::new(),
        };
        let host = Host::new("quay.io").manifest(Quay::MANIFEST).subject(subject);
        assert_eq!(host.run(Quay::explain).expect(body).class, class, "{body}");
    }
}
