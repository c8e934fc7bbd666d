//! What a provider may reach, and whose credentials it may use: what its manifest asks for, as far as the user (or being built in) allows
//! it. Two questions, [`Grants::check`] and [`Grants::allows`]. Holds no state of a call and sends nothing.

use std::collections::BTreeSet;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;

use super::manifest::{EgressRule, Manifest};
use super::pattern::{Captures, Origin, OriginPattern, PatternError, Symbols, path_matches};
use crate::config::sources::Source;

/// Something that the user allows a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserGrant(Allow);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Allow {
    /// `egress=ORIGIN [METHOD,METHOD] [/PREFIX …]`
    Egress(EgressRule),
    /// `source=cloud:aws`
    Source(Source),
}

/// Why a text is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not of this form.
    #[error(
        "`{0}` is not a grant: write egress=ORIGIN [METHOD,METHOD] [/PATH], for example `egress=https://auth.example:8443 GET,POST /token`, \
         or source=SOURCE, for example `source=cloud:aws`"
    )]
    Form(String),
    /// The origin.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl FromStr for UserGrant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let refuse = || GrantError::Form(text.chars().take(300).collect());
        if let Some(source) = text.trim().strip_prefix("source=") {
            let source: Source = source.parse().map_err(|_| refuse())?;
            // The others are there for every provider.
            return if source.is_ambient() { Ok(Self(Allow::Source(source))) } else { Err(refuse()) };
        }
        let mut words = text.trim().strip_prefix("egress=").ok_or_else(refuse)?.split_whitespace().peekable();
        let origin: OriginPattern = words.next().ok_or_else(refuse)?.parse()?;
        let is_path = |word: &&str| word.starts_with('/') || *word == "*";
        let methods = match words.next_if(|word| !is_path(word)) {
            Some(list) => list.split(',').map(str::to_owned).collect(),
            None => vec!["GET".to_owned()],
        };
        if methods
            .iter()
            .any(|method: &String| method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            return Err(refuse());
        }
        let paths: Vec<String> = words.map(str::to_owned).collect();
        if paths.iter().any(|path| !is_path(&path.as_str())) {
            return Err(refuse());
        }
        let paths = if paths.is_empty() { vec!["/".to_owned()] } else { paths };
        Ok(Self(Allow::Egress(EgressRule { origin, methods, paths })))
    }
}

impl std::fmt::Display for UserGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Allow::Egress(rule) => f.write_str(&line(rule)),
            Allow::Source(source) => f.write_str(&source_line(source)),
        }
    }
}

/// `source=cloud:aws`
pub(crate) fn source_line(source: &Source) -> String {
    format!("source={source}")
}

/// `egress=https://auth.example GET,POST /token`
fn line(rule: &EgressRule) -> String {
    let mut text = format!("egress={} {}", rule.origin, rule.methods.join(","));
    if rule.paths != ["/"] {
        text.push(' ');
        text.push_str(&rule.paths.join(" "));
    }
    text
}

/// Who allows what a manifest asks for.
#[derive(Debug, Clone)]
pub enum Allowance {
    /// The provider is part of idp: everything it asks for.
    BuiltIn,
    /// These, and what choosing it for a registry means: reading from and posting to the registry and its realm.
    User(Vec<UserGrant>),
}

/// A request that may not go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Where it would have gone.
    pub origin: String,
    /// What to add on the command line or in `registries.yaml`; `None` when the manifest does not even ask for it.
    pub line: Option<String>,
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.line {
            Some(line) => write!(f, "not granted: {}; to allow it, add --grant '{line}'", self.origin),
            None => write!(f, "{} is not among what the provider's manifest asks for", self.origin),
        }
    }
}

/// What a request was allowed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// A named origin or the registry.
    Granted,
    /// The origin of a URL that the user wrote as a setting: where it lies is the user's own choice.
    Written,
    /// Only by being the realm of a challenge, on another origin than the registry's: its answer is sealed.
    Challenge,
    /// Only by being on the host of such a realm: sealed too, but no token endpoint.
    RealmHost,
}

/// The grants of one provider for one registry.
#[derive(Debug, Clone)]
pub struct Grants {
    asked: Vec<EgressRule>,
    /// Those of `asked` that came from a setting.
    written: Vec<OriginPattern>,
    allowed: Option<Vec<EgressRule>>,
    /// Asked for, and not there for everybody.
    sources: Vec<Source>,
    granted: Vec<Source>,
}

fn matches(rule: &EgressRule, method: &str, origin: &Origin, path: &str, symbols: &Symbols) -> bool {
    let there = match rule.origin {
        OriginPattern::Realm => symbols.is_realm(origin, path),
        ref pattern => pattern.matches(origin, symbols),
    };
    there
        && rule.methods.iter().any(|granted| granted == method || (method == "HEAD" && granted == "GET"))
        && rule.paths.iter().any(|prefix| path_matches(prefix, path))
}

impl Grants {
    /// Joins what is asked with what is allowed. `captures` are the parts of the registry's name; a template over a part that it
    /// does not give asks for nothing.
    pub fn new(manifest: &Manifest, allowance: &Allowance, captures: &Captures) -> Self {
        let (mut asked, mut written) = (Vec::new(), Vec::new());
        for rule in &manifest.egress {
            match rule.origin.fill(captures) {
                Ok(origin) => {
                    if matches!(rule.origin, OriginPattern::Setting(_)) {
                        written.push(origin.clone());
                    }
                    asked.push(EgressRule { origin, ..rule.clone() });
                }
                // A manifest may have a template for every form of name; all but one are not for this one.
                Err(error) => tracing::trace!(target: "idp::provider", provider = manifest.name, %error),
            }
        }
        let sources = manifest.ambient_sources().into_iter().cloned().collect();
        let mut granted = Vec::new();
        let allowed = match allowance {
            Allowance::BuiltIn => None,
            Allowance::User(grants) => {
                let implied = |origin| EgressRule {
                    origin,
                    methods: ["GET", "HEAD", "POST"].map(str::to_owned).to_vec(),
                    paths: vec!["/".to_owned()],
                };
                let mut rules = vec![implied(OriginPattern::Registry), implied(OriginPattern::Realm)];
                for grant in grants {
                    match &grant.0 {
                        Allow::Egress(rule) => rules.push(rule.clone()),
                        Allow::Source(source) => granted.push(source.clone()),
                    }
                }
                Some(rules)
            }
        };
        Self { asked, written, allowed, sources, granted }
    }

    /// Whether a request may go out, as far as names decide it.
    pub fn check(&self, method: &str, url: &Url, symbols: &Symbols) -> Result<Allowed, Denied> {
        let denied = |line| Denied { origin: url.origin().ascii_serialization(), line };
        let origin = Origin::of(url).ok_or_else(|| denied(None))?;
        if climbs(url.path()) {
            return Err(Denied { origin: format!("a path with hidden `..` on {origin}"), line: None });
        }
        let asked: Vec<&EgressRule> =
            self.asked.iter().filter(|rule| matches(rule, method, &origin, url.path(), symbols)).collect();
        if asked.is_empty() {
            return Err(Denied { origin: format!("{method} {origin}{}", url.path()), line: None });
        }
        if let Some(allowed) = &self.allowed
            && !allowed.iter().any(|rule| matches(rule, method, &origin, url.path(), symbols))
        {
            let rule = EgressRule {
                origin: OriginPattern::exactly(&origin),
                methods: vec![method.to_owned()],
                paths: vec![url.path().to_owned()],
            };
            return Err(denied(Some(line(&rule))));
        }
        if origin == symbols.registry {
            return Ok(Allowed::Granted);
        }
        let by = |wanted: fn(&OriginPattern) -> bool| asked.iter().any(|rule| wanted(&rule.origin));
        Ok(if asked.iter().any(|rule| self.written.contains(&rule.origin)) {
            Allowed::Written
        } else if by(|origin| !matches!(origin, OriginPattern::Realm | OriginPattern::RealmHost)) {
            Allowed::Granted
        } else if by(|origin| *origin == OriginPattern::Realm) {
            Allowed::Challenge
        } else {
            Allowed::RealmHost
        })
    }

    /// Whether credentials may be taken from a source; else the line to add.
    pub fn allows(&self, source: &Source) -> Result<(), String> {
        if self.is_built_in() || !source.is_ambient() || self.granted.contains(source) {
            Ok(())
        } else {
            Err(source_line(source))
        }
    }

    /// Whether everything asked for is allowed because the provider is part of idp.
    pub(crate) fn is_built_in(&self) -> bool {
        self.allowed.is_none()
    }

    /// What is asked for, one line each, and whether it is allowed.
    pub fn lines(&self) -> Vec<(String, bool)> {
        let egress = self.asked.iter().map(|rule| (line(rule), self.covers(rule)));
        let sources = self.sources.iter().map(|source| (source_line(source), self.allows(source).is_ok()));
        egress.chain(sources).collect()
    }

    /// The lines that would have to be added so that everything asked for is allowed.
    pub fn missing(&self) -> BTreeSet<String> {
        let egress = self.asked.iter().filter(|rule| !self.covers(rule)).map(line);
        egress.chain(self.sources.iter().filter_map(|source| self.allows(source).err())).collect()
    }

    fn covers(&self, asked: &EgressRule) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        asked.methods.iter().all(|method| {
            asked.paths.iter().all(|path| {
                allowed.iter().any(|rule| {
                    rule.origin.covers(&asked.origin)
                        && rule.methods.contains(method)
                        && rule
                            .paths
                            .iter()
                            .any(|prefix| path_matches(prefix, path) || prefix == path || prefix == "/")
                })
            })
        })
    }
}

/// Whether a path, once or twice decoded, holds a `..` that the URL parser could not see.
fn climbs(path: &str) -> bool {
    let once = percent_decode_str(path).decode_utf8_lossy().into_owned();
    let twice = percent_decode_str(&once).decode_utf8_lossy().into_owned();
    [once, twice]
        .iter()
        .any(|path| path.split(['/', '\\']).any(|segment| segment == ".." || segment.starts_with("..;")))
}

#[cfg(test)]
mod tests {
    use super::{Allowance, Allowed, Grants, UserGrant};
    use crate::provider::manifest::Manifest;
    use crate::provider::pattern::{Origin, Symbols};

    fn grants(user: Option<&[&str]>) -> Grants {
        let manifest = Manifest::parse(
            "schema = 1\ncontract = \"0.1\"\nname = \"x\"\nversion = \"1\"\n\
             [[egress]]\norigin = \"registry\"\nmethods = [\"GET\", \"DELETE\"]\npaths = [\"/v2/\", \"/api/\"]\n\
             [[egress]]\norigin = \"realm\"\nmethods = [\"GET\", \"POST\"]\n\
             [[egress]]\norigin = \"realm-host\"\npaths = [\"/api/v4/\"]\n\
             [[egress]]\norigin = \"setting:api\"\n[[setting]]\nname = \"api\"\n\
             [[egress]]\norigin = \"setting:other\"\n[[setting]]\nname = \"other\"\n\
             [[egress]]\norigin = \"https://api.{region}.example.com\"\nmethods = [\"POST\"]\npaths = [\"/token\"]\n\
             [[credential]]\nslot = \"registry\"\nsources = [\"docker\", \"cloud:aws\", \"cloud:later\", \"prompt\"]\n",
        )
        .expect("a manifest");
        let allowance = match user {
            None => Allowance::BuiltIn,
            Some(lines) => Allowance::User(lines.iter().map(|line| line.parse().expect(line)).collect()),
        };
        let captures = [("region", "eu"), ("setting:api", "https://git.example:8443/sub")];
        Grants::new(
            &manifest,
            &allowance,
            &captures.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        )
    }

    fn symbols() -> Symbols {
        Symbols {
            registry: Origin::registry("https", "r.example").expect("an origin"),
            realms: vec![
                (Origin::registry("https", "auth.example").expect("an origin"), "/token".to_owned()),
                (Origin::registry("https", "r.example").expect("an origin"), "/oauth".to_owned()),
            ],
        }
    }

    #[test]
    fn asked_and_allowed() {
        let strict: &[&str] = &[];
        let given: &[&str] = &["egress=https://api.eu.example.com POST /token"];
        let delete: &[&str] = &["egress=registry DELETE /v2/"];
        for (user, method, url, expect) in [
            (None, "GET", "https://r.example/v2/x", Some(Allowed::Granted)),
            (None, "DELETE", "https://r.example/v2/x", Some(Allowed::Granted)),
            (None, "PUT", "https://r.example/v2/x", None),
            (None, "GET", "https://r.example/admin", None),
            (None, "GET", "https://r.example/v2/../admin", None),
            (None, "GET", "https://r.example/v2/%2e%2e/admin", None),
            (None, "GET", "https://r.example/v2/..%2fadmin", None),
            (None, "GET", "https://r.example/v2/..%252fadmin", None),
            (None, "GET", "https://r.example/v2/a%2Fb", Some(Allowed::Granted)),
            (None, "GET", "http://r.example/v2/x", None),
            (None, "GET", "https://r.example:444/v2/x", None),
            (None, "POST", "https://auth.example/token", Some(Allowed::Challenge)),
            (None, "POST", "https://auth.example/other", None),
            (None, "GET", "https://auth.example/api/v4/projects", Some(Allowed::RealmHost)),
            (None, "POST", "https://auth.example/api/v4/projects", None),
            (None, "GET", "https://elsewhere.example/api/v4/projects", None),
            (None, "GET", "https://git.example:8443/sub/api", Some(Allowed::Written)),
            (None, "GET", "https://git.example/sub/api", None),
            (None, "HEAD", "https://r.example/v2/x", Some(Allowed::Granted)),
            (None, "POST", "https://r.example/oauth", Some(Allowed::Granted)),
            (None, "POST", "https://r.example/v2/x", None),
            (None, "POST", "https://api.eu.example.com/token", Some(Allowed::Granted)),
            (None, "POST", "https://api.us.example.com/token", None),
            (Some(strict), "GET", "https://r.example/v2/x", Some(Allowed::Granted)),
            (Some(strict), "DELETE", "https://r.example/v2/x", None),
            (Some(delete), "DELETE", "https://r.example/v2/x", Some(Allowed::Granted)),
            (Some(delete), "DELETE", "https://r.example/api/x", None),
            (Some(strict), "POST", "https://api.eu.example.com/token", None),
            // Choosing a provider allows its realm, not everything on the realm's host.
            (Some(strict), "GET", "https://auth.example/api/v4/projects", None),
            (Some(given), "POST", "https://api.eu.example.com/token", Some(Allowed::Granted)),
            (Some(given), "GET", "https://api.eu.example.com/token", None),
        ] {
            let url = url.parse().expect(url);
            assert_eq!(grants(user).check(method, &url, &symbols()).ok(), expect, "{user:?} {method} {url}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_add_and_that_helps() {
        let url = "https://api.eu.example.com/token".parse().expect("a URL");
        let denied = grants(Some(&[])).check("POST", &url, &symbols()).expect_err("denied");
        let line = denied.line.clone().expect("a line");
        assert_eq!(line, "egress=https://api.eu.example.com POST /token");
        assert!(grants(Some(&[&line])).check("POST", &url, &symbols()).is_ok());
        assert!(denied.to_string().contains("--grant"));
    }

    #[test]
    fn credentials_of_a_cloud_are_not_everybodys() {
        let source = "cloud:aws".parse().expect("a source");
        assert_eq!(grants(None).allows(&source), Ok(()));
        let line = grants(Some(&[])).allows(&source).expect_err("not granted");
        assert_eq!(line, "source=cloud:aws");
        assert_eq!(grants(Some(&[&line])).allows(&source), Ok(()));
        let other = "env:AWS_SECRET_ACCESS_KEY".parse().expect("a source");
        assert!(grants(Some(&[&line])).allows(&other).is_err());
    }

    #[test]
    fn what_is_missing() {
        assert!(grants(None).missing().is_empty());
        let missing: Vec<String> = grants(Some(&[])).missing().into_iter().collect();
        assert_eq!(
            missing,
            [
                "egress=https://api.eu.example.com POST /token",
                "egress=https://git.example:8443 GET",
                "egress=realm-host GET /api/v4/",
                "egress=registry GET,DELETE /v2/ /api/",
                "source=cloud:aws"
            ]
        );
        let lines: Vec<&str> = missing.iter().map(String::as_str).collect();
        assert!(grants(Some(&lines)).missing().is_empty());
    }

    #[test]
    fn grants_print_and_parse_again() {
        for text in [
            "egress=https://a.example",
            "egress=registry GET,PUT /v2/ /x",
            "egress=realm /token",
            "source=cloud:aws",
            "source=env:A_USER+A_PASSWORD@A_HOST",
        ] {
            let grant: UserGrant = text.parse().expect(text);
            assert_eq!(grant.to_string().parse::<UserGrant>().expect(text), grant);
        }
        for bad in [
            "",
            "egress=",
            "egress=a.example",
            "https://a.example",
            "egress=https://a.example get",
            "egress=realm GET x",
            "source=",
            "source=docker",
            "source=cloud:nowhere",
        ] {
            assert!(bad.parse::<UserGrant>().is_err(), "{bad}");
        }
    }
}
