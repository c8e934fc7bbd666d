//! What `tests/cli/secrets.rs` leaves open: token services and registries that hand back what they were sent, in bodies, headers,
//! challenges and in places where a URL or a digest is expected. Random passwords and tokens, at every log level, in both formats.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idp_test_support::faults::{Auth, Fault, Registry, Reply, on};
use idp_test_support::sandbox::Output;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{World, image};

/// Runs of the binary; each takes some tens of milliseconds.
const CASES: u32 = 24;

/// Who hands back what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    /// The token service, with 401.
    TokenRefused,
    /// The token service, with 200 and no token.
    TokenMissing,
    /// The token service gives a token, and the registry hands that one back.
    TokenRejected,
    /// A session's address holds it.
    Location,
    /// A redirect that cannot be followed holds it.
    Redirect,
    /// The registry's error after everything was sent.
    Manifest,
    /// Everything goes well, with a warning that holds it.
    Warning,
}

fn echoes() -> impl Strategy<Value = Echo> {
    prop::sample::select(vec![
        Echo::TokenRefused,
        Echo::TokenMissing,
        Echo::TokenRejected,
        Echo::Location,
        Echo::Redirect,
        Echo::Manifest,
        Echo::Warning,
    ])
}

fn world(echo: Echo, password: &str, token: &str) -> World {
    let basic = STANDARD.encode(format!("user:{password}"));
    // Before it gave a token, nobody has one to hand back.
    let error_with = |status, token: &str| {
        let all = format!("{password} {basic} {token}");
        let entry = serde_json::json!({"code": "UNKNOWN", "message": all, "detail": {"authorization": all}});
        Reply::status(status)
            .header("content-type", "application/json")
            .header("x-echo", &format!("Basic {basic} Bearer {token}"))
            .header("warning", &format!("299 - \"sent: {basic} {token}\""))
            .body(serde_json::json!({"errors": [entry]}).to_string())
    };
    let error = |status| error_with(status, token);
    let world = World::new(Registry::with_auth(Auth::Open)).tries(1).password(password);
    // The registry wants a token first, whatever comes then.
    let realm = format!("http://{}/token", world.server.address());
    let challenge =
        format!("Bearer realm=\"{realm}\",service=\"{basic}\",scope=\"repository:app:pull,push\"");
    let asks = |token| Fault::Reply(error_with(401, token).header("www-authenticate", &challenge));
    let grants = serde_json::json!({"token": token, "expires_in": 300}).to_string();
    let token_reply = match echo {
        Echo::TokenRefused => error_with(401, ""),
        Echo::TokenMissing => error_with(200, ""),
        _ => Reply::status(200).body(grants),
    };
    let world = world.rule(on("*", "/token", Fault::Reply(token_reply)).always());
    if echo == Echo::TokenRejected {
        // The first answer of all, and the one to the first real request, come before the token.
        return world.rule(on("*", "/v2/", asks("")).times(2)).rule(on("*", "/v2/", asks(token)).always());
    }
    let world = world.rule(on("POST", "/uploads/", asks("")));
    match echo {
        Echo::Location => {
            let target = format!("ftp://user:{token}@elsewhere.example/{token}/{basic}");
            world.rule(on("POST", "/uploads/", Fault::Reply(error(202).header("location", &target))).always())
        }
        Echo::Redirect => {
            let target = format!("ftp://{basic}:{token}@elsewhere.example/{token}?token={token}&sig={basic}");
            world.rule(on("POST", "/uploads/", Fault::Reply(error(307).header("location", &target))).always())
        }
        Echo::Manifest => world.rule(on("PUT", "/manifests/", Fault::Reply(error(400))).always()),
        Echo::Warning => {
            let warning = format!("299 - \"sent: {basic} {token}\"");
            world.rule(on("PUT", "/manifests/", Fault::Header("warning", warning)).always())
        }
        Echo::TokenRefused | Echo::TokenMissing | Echo::TokenRejected => world,
    }
}

fn check(output: &Output, secrets: &[String]) -> Result<(), TestCaseError> {
    for secret in secrets {
        prop_assert!(!output.stdout.contains(secret), "on stdout: {secret}\n{output}");
        prop_assert!(!output.stderr.contains(secret), "on stderr: {secret}\n{output}");
    }
    Ok(())
}

#[test]
fn what_is_handed_back_is_not_shown() {
    let levels = prop::sample::select(vec!["error", "warn", "info", "debug", "trace"]);
    let word = "[a-zA-Z0-9]{16,40}";
    let strategy = (word, word, echoes(), levels, any::<bool>());
    let config =
        Config { cases: CASES, max_shrink_iters: 20, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&strategy, |(password, token, echo, level, json)| {
            let world = world(echo, &password, &token);
            let format = if json { "json" } else { "text" };
            let output = world.push(&image(), &["--log-level", level, "--output", format]);
            let encoded = STANDARD.encode(format!("user:{password}"));
            check(&output, &[password.clone(), token.clone(), encoded, STANDARD.encode(&password)])?;
            prop_assert_eq!(output.code == 0, echo == Echo::Warning, "{}", output);
            // It would prove nothing if the password had not been sent.
            let sent = world.server.requests().iter().any(|seen| {
                seen.target.starts_with("/token")
                    && seen.authorization().is_some_and(|sent| sent.starts_with("Basic "))
            });
            prop_assert!(sent, "{:#?}\n{}", world.server.log(), output);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
