//! The provider against a scripted AWS.

use idp_provider_sdk::ErrorKind;
use idp_provider_sdk::testing::{Exchange, Host, cases};

use super::*;

const REGISTRY: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const API: &str = "https://api.ecr.eu-west-1.amazonaws.com/";
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
const PUBLIC_TARGET: &str = "SpencerFrontendService.GetAuthorizationToken";
/// 2026-01-02 03:04:05 UTC
const NOW_MS: u64 = 1_767_323_045_000;

fn host(registry: &str, token: Option<&str>) -> Host {
    let mut secret = vec![
        ("access-key-id", "AKIDEXAMPLE"),
        ("secret-access-key", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
    ];
    secret.extend(token.map(|token| ("session-token", token)));
    Host::new(registry).manifest(Ecr::MANIFEST).now_ms(NOW_MS).credential(
        "registry",
        "aws-keys",
        &[],
        &secret,
    )
}

fn signed(url: &str, target: &str, scope: &str, headers: &str, signature: &str) -> Exchange {
    Exchange::new("POST", url)
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-date", "20260102T030405Z")
        .header("x-amz-target", target)
        .header(
            "authorization",
            &format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/{scope}/aws4_request, SignedHeaders={headers}, Signature={signature}"
            ),
        )
        .body("{}")
}

fn token(expires: &str) -> String {
    format!(
        r#"{{"authorizationData":[{{"authorizationToken":"QVdTOi4uLg==","expiresAt":{expires},"proxyEndpoint":"https://{REGISTRY}"}}]}}"#
    )
}

/// Without a session token; the vector of the dossier, made with botocore.
fn plain() -> Exchange {
    signed(
        API,
        TARGET,
        "eu-west-1/ecr",
        "content-type;host;x-amz-date;x-amz-target",
        "410b4a629d28fc8103515157591eaf7a694230d1230ed4251f6af21b87f129dc",
    )
}

fn pull() -> Vec<Scope> {
    vec![Scope::repository("team/app", ["pull"])]
}

#[test]
fn recorded_conversations() {
    cases::run::<Ecr>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
}

#[test]
fn signatures_are_those_of_botocore() {
    let session = signed(
        API,
        TARGET,
        "eu-west-1/ecr",
        "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
        "1927ff050232dcaa5ab99fb8638f1e402e95e794e670d946e93a3170cfe3f117",
    )
    .header("x-amz-security-token", "SESSIONTOKEN");
    let public = signed(
        "https://api.ecr-public.us-east-1.amazonaws.com/",
        PUBLIC_TARGET,
        "us-east-1/ecr-public",
        "content-type;host;x-amz-date;x-amz-target",
        "f9e95b28cf454a134189d09ec9db563d82e59f94ebc0ab03a7b0c7f45cbe6008",
    );
    let object =
        r#"{"authorizationData":{"authorizationToken":"QVdTOi4uLg==","expiresAt":1767366245}}"#.to_owned();
    for (registry, session_token, exchange, body) in [
        (REGISTRY, None, plain(), token("1.767366245E9")),
        (REGISTRY, Some("SESSIONTOKEN"), session, token("1.767366245E9")),
        ("public.ecr.aws", None, public, object),
    ] {
        let grant = host(registry, session_token)
            .exchange(exchange.reply(200, &body))
            .run(|| Ecr::authorize(pull()))
            .expect("let in");
        assert_eq!((grant.expires_in_s, grant.reuse), (Some(43_200 - 900), Reuse::Registry), "{registry}");
    }
}

#[test]
fn a_token_is_asked_for_once_and_again_when_an_old_one_was_refused() {
    let grants = host(REGISTRY, None).exchange(plain().reply(200, &token("1.767366245E9"))).run(|| {
        let first = Ecr::authorize(pull()).expect("a token");
        // Another scope of the same command: remembered.
        let second =
            Ecr::authorize(vec![Scope::repository("team/other", ["pull", "push"])]).expect("remembered");
        (first.expires_in_s, second.expires_in_s)
    });
    assert_eq!(grants, (Some(42_300), Some(300)));
    let refused = host(REGISTRY, None).remembered("fresh", "x").attempt(2).run(|| Ecr::authorize(pull()));
    assert_eq!(refused.expect_err("no better token").code, "token-refused");
    let renewed = host(REGISTRY, None)
        .remembered("token", "b2xk")
        .attempt(2)
        .exchange(plain().reply(200, &token("1.767366245E9")))
        .run(|| Ecr::authorize(pull()));
    assert!(renewed.is_ok(), "{renewed:?}");
}

#[test]
fn a_token_that_ended_before_its_time_is_not_used_again() {
    let answer = invocation::Answer {
        method: "POST".to_owned(),
        url: format!("https://{REGISTRY}/v2/team/app/blobs/uploads/"),
        status: 403,
        headers: Vec::new(),
        body: "Your authorization token has expired. Reauthenticate and try again.".to_owned(),
        extra: Vec::new(),
    };
    host(REGISTRY, None).remembered("token", "b2xk").remembered("last", "b2xk").subject(answer).run(|| {
        assert_eq!(Ecr::explain().expect("explained").class, "credentials-expired");
        assert!(invocation::remembered("token").is_none() && invocation::remembered("last").is_none());
    });
}

#[test]
fn what_ecr_public_wants_exchanged_is_exchanged_from_then_on() {
    let realm = "https://public.ecr.aws/token/?service=public.ecr.aws&scope=repository%3Ateam%2Fapp%3Apull";
    let exchange = Exchange::get(realm).header("authorization", "Basic b2xk").reply(200, r#"{"token":"B"}"#);
    let grant = host("public.ecr.aws", None)
        .challenge(r#"Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws""#)
        .remembered("token", "b2xk")
        .remembered("exchange", "b2xk")
        .exchange(exchange)
        .run(|| Ecr::authorize(pull()));
    assert!(matches!(grant.expect("let in").authorization, Authorization::Bearer(_)));
}

#[test]
fn a_token_that_has_ended_already_is_good_for_this_command() {
    for expires in ["1420070400.0", "null", "\"soon\"", "1e300"] {
        let grant = host(REGISTRY, None)
            .exchange(plain().reply(200, &token(expires)))
            .run(|| Ecr::authorize(pull()))
            .expect("let in");
        assert_eq!(grant.expires_in_s, Some(150), "{expires}");
    }
}

#[test]
fn a_token_lives_no_longer_than_the_session_that_bought_it() {
    let secret =
        [("access-key-id", "AKIDEXAMPLE"), ("secret-access-key", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")];
    let until = (NOW_MS / 1000 + 3600).to_string();
    let grant = host(REGISTRY, None)
        .credential("registry", "aws-keys", &[("expires-at", until.as_str())], &secret)
        .exchange(plain().reply(200, &token("1.767366245E9")))
        .run(|| Ecr::authorize(pull()))
        .expect("let in");
    assert_eq!(grant.expires_in_s, Some(3600 - 900));
}

#[test]
fn while_the_api_fails_the_token_of_before_is_used() {
    let down = || plain().reply(503, r#"{"__type":"ServiceUnavailable"}"#);
    let kept =
        host(REGISTRY, None).remembered("last", "b2xk").exchange(down()).run(|| Ecr::authorize(pull()));
    assert!(kept.is_ok(), "{kept:?}");
    let error =
        host(REGISTRY, None).exchange(down()).run(|| Ecr::authorize(pull())).expect_err("nothing kept");
    assert_eq!(error.kind, ErrorKind::Unavailable);
}

#[test]
fn the_token_is_cut_out_of_the_answer() {
    let text = host(REGISTRY, None).exchange(plain().reply(200, &token("1.0"))).run(|| {
        let api = api::Api::open("look").expect("keys");
        let answer = api
            .send(
                "GetAuthorizationToken",
                &serde_json::json!({}),
                Some("/authorizationData/0/authorizationToken"),
            )
            .expect("granted");
        assert!(answer.captured("token").is_some());
        answer.text()
    });
    assert!(!text.contains("QVdTOi4uLg"), "{text}");
}

#[test]
fn keys_go_to_the_api_of_the_registrys_own_partition_only() {
    // The manifest names parts of each partition's hosts differently, so that only one template is filled.
    let manifest: toml::Table = Ecr::MANIFEST.parse().expect("a manifest");
    let patterns: Vec<&str> = manifest["host"]
        .as_array()
        .expect("hosts")
        .iter()
        .filter_map(|host| host["pattern"].as_str())
        .collect();
    let part = |text: &str| text.split(['{', '}']).rfind(|part| part.ends_with("region")).map(str::to_owned);
    for origin in
        manifest["egress"].as_array().expect("egress").iter().filter_map(|egress| egress["origin"].as_str())
    {
        let Some(part) = part(origin).filter(|_| origin.starts_with("https://")) else { continue };
        let hosts: Vec<_> =
            patterns.iter().filter(|pattern| pattern.contains(&format!("{{{part}}}"))).collect();
        assert_eq!(hosts.len(), 2, "{origin}: {hosts:?}");
        for pattern in hosts {
            let registry =
                pattern.replace("{account}", "123456789012").replace(&format!("{{{part}}}"), "eu-west-1");
            let place = place::Place::of(&registry).expect("a registry");
            let filled = origin.replace(&format!("{{{part}}}"), "eu-west-1");
            assert!([Some(&place.api), place.sts.as_ref()].contains(&Some(&filled)), "{registry} {filled}");
        }
    }
    // Every host has its API granted.
    for pattern in patterns {
        let Some(part) = part(pattern) else { continue };
        let granted = Ecr::MANIFEST.matches(&format!("ecr.{{{part}}}")).count()
            + Ecr::MANIFEST.matches(&format!("ecr-fips.{{{part}}}")).count();
        assert!(granted >= 2, "{pattern}");
    }
}
