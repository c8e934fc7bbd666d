use proptest::prelude::*;

use super::{HostPattern, Origin, OriginPattern, Symbols, path_matches};

fn host(text: &str) -> HostPattern {
    text.parse().expect(text)
}

fn origin(text: &str) -> OriginPattern {
    text.parse().expect(text)
}

fn symbols() -> Symbols {
    Symbols {
        registry: Origin::registry("https", "r.example:5000").expect("an origin"),
        realms: vec![(Origin::registry("https", "auth.example").expect("an origin"), "/token".to_owned())],
    }
}

#[test]
fn hosts() {
    let ecr = host("{account}.dkr.ecr.{region}.amazonaws.com");
    let captures = ecr.matches("123456789012.dkr.ecr.eu-west-1.amazonaws.com").expect("a match");
    assert_eq!((captures["account"].as_str(), captures["region"].as_str()), ("123456789012", "eu-west-1"));
    assert_eq!(
        host("{location}-docker.pkg.dev").matches("europe-west1-docker.pkg.dev").expect("a match")["location"],
        "europe-west1"
    );
    for (pattern, name, expect) in [
        ("{account}.dkr.ecr.{region}.amazonaws.com", "dkr.ecr.eu-west-1.amazonaws.com", false),
        ("{account}.dkr.ecr.{region}.amazonaws.com", "a.b.dkr.ecr.eu-west-1.amazonaws.com", false),
        ("{account}.dkr.ecr.{region}.amazonaws.com", "a.dkr.ecr.r.amazonaws.com.evil.example", false),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "A.Example.COM:8443", true),
        ("*.example.com", "a.b.example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.example.com", "example.com", false),
        ("example.com:5000", "example.com:5000", true),
        ("example.com:5000", "example.com", false),
        ("{a}.{a}.example.com", "x.x.example.com", true),
        ("{a}.{a}.example.com", "x.y.example.com", false),
    ] {
        assert_eq!(host(pattern).matches(name).is_some(), expect, "{pattern} {name}");
    }
    for bad in [
        "",
        "*",
        "{a}",
        "*.com",
        "{a}.{b}",
        "a.*.example.com",
        "a..b",
        "{a.example.com",
        "a b.example",
        "{}.example.com",
    ] {
        assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
    }
}

#[test]
fn origins() {
    let symbols = symbols();
    for (pattern, url, expect) in [
        ("registry", "https://r.example:5000/v2/", true),
        ("registry", "http://r.example:5000/v2/", false),
        ("registry", "https://r.example/v2/", false),
        ("realm", "https://auth.example/token", true),
        ("realm", "https://auth.example:8443/token", false),
        ("https://*.example.com", "https://api.example.com/x", true),
        ("https://*.example.com", "https://api.example.com:444/x", false),
        ("https://*.example.com", "https://api.example.com.evil.test/x", false),
        ("https://api.example.com", "https://api.example.com@evil.test/", false),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/", true),
        ("http://127.0.0.1:8080", "http://2130706433:8080/", true),
        ("https://[::1]:8443", "https://[::1]:8443/", true),
    ] {
        let url = url.parse().expect(url);
        let given = Origin::of(&url).expect("an origin");
        assert_eq!(origin(pattern).matches(&given, &symbols), expect, "{pattern} {url}");
    }
    for bad in
        ["example.com", "ftp://example.com", "https://example.com/path", "https://", "https://*", "self"]
    {
        assert!(bad.parse::<OriginPattern>().is_err(), "{bad}");
    }
}

#[test]
fn templates_take_labels_only() {
    let template = origin("https://api.ecr.{region}.amazonaws.com");
    let fill = |value: &str| template.fill(&[("region".to_owned(), value.to_owned())].into());
    assert_eq!(fill("eu-west-1").expect("filled").to_string(), "https://api.ecr.eu-west-1.amazonaws.com");
    assert!(fill("evil.test/").is_err());
    assert!(template.fill(&Default::default()).is_err());
}

#[test]
fn covering() {
    for (wide, narrow, expect) in [
        ("https://*.example.com", "https://api.example.com", true),
        ("https://api.example.com", "https://*.example.com", false),
        ("https://*.example.com", "http://api.example.com", false),
        ("https://*.example.com:8443", "https://api.example.com", false),
        ("registry", "registry", true),
        ("registry", "realm", false),
        ("https://api.{r}.example.com", "https://api.x.example.com", true),
    ] {
        assert_eq!(origin(wide).covers(&origin(narrow)), expect, "{wide} {narrow}");
    }
}

#[test]
fn paths() {
    for (prefix, path, expect) in [
        ("*", "/x", true),
        ("/", "/x", true),
        ("/v2/", "/v2/token", true),
        ("/v2/", "/v2", false),
        ("/token", "/token", true),
        ("/token", "/token/x", true),
        ("/token", "/tokens", false),
        ("/api/*", "/api/v1", true),
    ] {
        assert_eq!(path_matches(prefix, path), expect, "{prefix} {path}");
    }
}

proptest! {
    #[test]
    fn patterns_print_and_parse_again(text in "[a-z*{}.:0-9/\\[\\]-]{0,40}") {
        if let Ok(pattern) = text.parse::<HostPattern>() {
            prop_assert_eq!(pattern.to_string().parse::<HostPattern>(), Ok(pattern));
        }
        if let Ok(pattern) = text.parse::<OriginPattern>() {
            prop_assert_eq!(pattern.to_string().parse::<OriginPattern>(), Ok(pattern));
        }
    }

    /// Covering is what matching is: whatever a narrower pattern matches, the wider one matches.
    #[test]
    fn covering_agrees_with_matching(
        wide in "(\\*|\\{x\\}|a|\\{x\\}-a)\\.(b|c)\\.(d|e)",
        narrow in "(\\*|\\{x\\}|a|\\{x\\}-a|b-a)\\.(b|c)\\.(d|e)",
        name in "(a|b|b-a|c-a)\\.(b|c)\\.(d|e)",
    ) {
        let (wide, narrow) = (host(&wide), host(&narrow));
        if wide.covers(&narrow) && narrow.matches(&name).is_some() {
            prop_assert!(wide.matches(&name).is_some());
        }
    }
}
