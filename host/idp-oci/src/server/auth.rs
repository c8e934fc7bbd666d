//! Authentication as it is configured: users, tokens and rules together, as one [`Access`].
//!
//! | kind | who sends a request | who may do what |
//! |---|---|---|
//! | `none` | is not asked | everybody everything, or what rules give to `anonymous` |
//! | `htpasswd` | user and password with every request | the rules |
//! | `token` | a token of our own service, which asks for user and password; or user and password | the rules, and what the token is for |
//! | `token` with `trustedKeys` | a token of somebody else's service | what the token is for |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use crate::name::Repository;
use crate::server::access::{Access, Action, Caller, Identity, Need, Open, Unidentified, Why};
use crate::server::htpasswd::{self, Htpasswd, HtpasswdError};
use crate::server::rules::{RuleError, RuleSettings, Rules};
use crate::server::scope::{Scope, name_of};
use crate::server::throttle::Rate;
use crate::server::token::issuer::OwnTokens;
use crate::server::token::jws::{Claims, TokenError, Unverified};
use crate::server::token::trusted::TrustedKeys;
use crate::server::token::{
    self, Issued, KeysError, Login, TokenIssuer, TokenRefused, TokenRequest, TrustedError,
};

const SERVICE: &str = "idp-registry";
const LIFETIME: u64 = 300;
/// Clients take shorter lifetimes for this one (distribution, "token").
const LEAST_LIFETIME: u64 = 60;
const MONTH: u64 = 30 * 24 * 60 * 60;

/// `auth:` of the registry's settings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthSettings {
    /// How requests say who sends them; `none`.
    pub kind: AuthKind,
    /// The users, as `htpasswd -B` and `idp registry user` write them; `users` in the registry's directory.
    pub users: Option<PathBuf>,
    /// Whether everybody may read everything without logging in; false.
    pub anonymous_pull: bool,
    /// Names of users by the name of their group; none.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Who may do what; without any, whoever is logged in may do everything.
    pub rules: Vec<RuleSettings>,
    /// Tokens, of the kind `token`.
    pub token: TokenSettings,
}

/// How requests say who sends them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuthKind {
    /// They need not.
    #[default]
    None,
    /// User and password with every request.
    Htpasswd,
    /// A token, which a token service gives for user and password.
    Token,
}

/// Tokens.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TokenSettings {
    /// The URL of the token service; `/token` of this registry, as the client reaches it.
    pub realm: Option<String>,
    /// What tokens are for (their `aud`); `idp-registry`.
    pub service: Option<String>,
    /// Who makes them (their `iss`); `idp-registry`.
    pub issuer: Option<String>,
    /// Keys of somebody else's token service: PEM certificates or public keys, or a JWKS document. With it this registry
    /// makes no tokens, and realm, service and issuer have to be said. None.
    pub trusted_keys: Option<PathBuf>,
    /// The file of our own keys, mode 0600, made if it is not there; `token-keys.json` in the registry's directory.
    pub keys: Option<PathBuf>,
    /// How long a token is good, in seconds; 300, and never less than 60.
    pub lifetime_seconds: Option<u64>,
    /// How long a refresh token is good, in seconds; 30 days; 0 for none.
    pub refresh_seconds: Option<u64>,
    /// After how many seconds a new key takes over; 30 days; 0 for never.
    pub rotation_seconds: Option<u64>,
}

/// Why authentication cannot be as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// There are no users.
    #[error("there is no users file `{}`: make one with `idp registry user add NAME`", .0.display())]
    NoUsers(PathBuf),
    /// The users.
    #[error(transparent)]
    Users(#[from] HtpasswdError),
    /// The rules.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// Our own keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The keys of others.
    #[error(transparent)]
    Trusted(#[from] TrustedError),
    /// A setting that is missing with `trustedKeys`.
    #[error("with `trustedKeys`, `token.{0}` has to say what the other token service has")]
    Missing(&'static str),
    /// A setting that would mean nothing.
    #[error("`{0}` means nothing with `trustedKeys`: the other token service decides; take it out")]
    Meaningless(&'static str),
    /// A value that cannot stand in a header.
    #[error(
        "`token.{name}` cannot be `{value}`: it has quotes, white space or other characters that a header does not hold"
    )]
    Value {
        /// Which.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

/// What decides about requests, as it is configured. `directory` is where the registry keeps files of its own; `failures` is
/// how often an address may come with a wrong password.
pub fn access(
    settings: &AuthSettings,
    directory: &Path,
    failures: Option<Rate>,
) -> Result<Arc<dyn Access>, AuthError> {
    let rules = Rules::new(&settings.rules, &settings.groups, settings.anonymous_pull)?;
    let users = || -> Result<Htpasswd, AuthError> {
        let path = settings.users.clone().unwrap_or_else(|| directory.join("users"));
        if !path.exists() {
            return Err(AuthError::NoUsers(path));
        }
        Ok(Htpasswd::read(&path)?.with_failures(failures))
    };
    let kind = match settings.kind {
        AuthKind::None if settings.rules.is_empty() => return Ok(Arc::new(Open)),
        AuthKind::None => Kind::None,
        AuthKind::Htpasswd => Kind::Password(users()?),
        AuthKind::Token => match &settings.token.trusted_keys {
            Some(keys) => {
                for (name, said) in [
                    ("rules", !settings.rules.is_empty()),
                    ("anonymousPull", settings.anonymous_pull),
                    ("users", settings.users.is_some()),
                    ("token.keys", settings.token.keys.is_some()),
                ] {
                    if said {
                        return Err(AuthError::Meaningless(name));
                    }
                }
                Kind::Others(Others::new(&settings.token, keys)?)
            }
            None => Kind::Own(Own::new(&settings.token, users()?, directory)?),
        },
    };
    Ok(Arc::new(Guard { kind, rules }))
}

/// Users, tokens and rules.
#[derive(Debug)]
struct Guard {
    kind: Kind,
    rules: Rules,
}

#[derive(Debug)]
enum Kind {
    None,
    Password(Htpasswd),
    Own(Own),
    Others(Others),
}

/// Our own token service.
#[derive(Debug)]
struct Own {
    users: Htpasswd,
    tokens: OwnTokens,
    realm: Option<String>,
}

/// Somebody else's.
#[derive(Debug)]
struct Others {
    keys: TrustedKeys,
    realm: String,
    service: String,
    issuer: String,
}

impl Own {
    fn new(settings: &TokenSettings, users: Htpasswd, directory: &Path) -> Result<Self, AuthError> {
        let TokenSettings { realm, service, issuer, .. } = settings;
        let realm = realm.as_ref().map(|realm| plain("realm", realm)).transpose()?;
        let service = plain("service", service.as_deref().unwrap_or(SERVICE))?;
        let issuer = issuer.clone().unwrap_or_else(|| SERVICE.to_owned());
        let path = settings.keys.clone().unwrap_or_else(|| directory.join("token-keys.json"));
        // 0 is never.
        let some = |seconds: Option<u64>| {
            Some(seconds.unwrap_or(MONTH)).filter(|seconds| *seconds > 0).map(Duration::from_secs)
        };
        let lifetime = Duration::from_secs(settings.lifetime_seconds.unwrap_or(LIFETIME).max(LEAST_LIFETIME));
        let (refresh, rotation) = (some(settings.refresh_seconds), some(settings.rotation_seconds));
        let tokens = OwnTokens::open(service, issuer, lifetime, refresh, path, rotation)?;
        Ok(Self { users, tokens, realm })
    }

    /// The user of a token, who has to be there still.
    fn bearer(&self, token: &str) -> Result<Identity, TokenError> {
        let Claims { sub, access, .. } = self.tokens.verify_access(token)?;
        let user = (!sub.is_empty()).then_some(sub);
        if user.as_ref().is_some_and(|user| !self.users.contains(user)) {
            return Err(TokenError::User);
        }
        Ok(Identity { user, scopes: Some(access) })
    }

    /// The user of a refresh token, whose password has to be what it was.
    fn refreshed(&self, token: &str) -> Result<String, TokenError> {
        let claims = self.tokens.verify_refresh(token)?;
        let fingerprint = self.users.fingerprint(&claims.sub).ok_or(TokenError::User)?;
        if claims.pwd.as_deref() == Some(&fingerprint) { Ok(claims.sub) } else { Err(TokenError::User) }
    }
}

impl Others {
    fn new(settings: &TokenSettings, keys: &Path) -> Result<Self, AuthError> {
        let said = |name, value: &Option<String>| value.clone().ok_or(AuthError::Missing(name));
        Ok(Self {
            keys: TrustedKeys::read(keys)?,
            realm: plain("realm", &said("realm", &settings.realm)?)?,
            service: plain("service", &said("service", &settings.service)?)?,
            issuer: said("issuer", &settings.issuer)?,
        })
    }

    fn bearer(&self, token: &str) -> Result<Identity, TokenError> {
        let claims = self.keys.verify(&Unverified::parse(token)?)?;
        claims.check(&self.issuer, &self.service)?;
        let user = (!claims.sub.is_empty()).then_some(claims.sub);
        Ok(Identity { user, scopes: Some(claims.access) })
    }
}

/// A value that can stand between quotes in a header.
fn plain(name: &'static str, value: &str) -> Result<String, AuthError> {
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if !value.is_empty() && value.bytes().all(good) {
        Ok(value.to_owned())
    } else {
        Err(AuthError::Value { name, value: value.chars().take(300).collect() })
    }
}

#[async_trait]
impl Access for Guard {
    async fn identify(&self, caller: &Caller<'_>) -> Result<Identity, Unidentified> {
        let Some(authorization) = caller.authorization else { return Ok(Identity::default()) };
        let refused = |error: TokenError| Unidentified::Token(error.to_string());
        match &self.kind {
            // What somebody shows to whom nobody asked is not looked at.
            Kind::None => Ok(Identity::default()),
            Kind::Password(users) => users.identify(caller).await,
            Kind::Own(own) => match bearer(authorization) {
                Some(token) => own.bearer(token).map_err(refused),
                None => own.users.identify(caller).await,
            },
            Kind::Others(others) => match bearer(authorization) {
                Some(token) => others.bearer(token).map_err(refused),
                None => Err(Unidentified::Credential),
            },
        }
    }

    fn permits(&self, identity: &Identity, need: Need<'_>) -> bool {
        let Identity { user, scopes } = identity;
        // Any token lets in, also one of somebody who did not log in: with it clients read what is for everybody.
        let let_in = user.is_some() || scopes.is_some();
        let covered = |scopes: &Vec<Scope>| scopes.iter().any(|scope| scope.covers(need));
        match (&self.kind, need) {
            (Kind::None, Need::Registry) => true,
            (_, Need::Registry) => let_in,
            (Kind::Others(_), _) => scopes.as_ref().is_some_and(covered),
            _ => scopes.as_ref().is_none_or(covered) && self.rules.permit(user.as_deref(), need),
        }
    }

    fn shows(&self, identity: &Identity, repository: &Repository) -> bool {
        // A token for the catalogue is for none of the repositories in it.
        matches!(self.kind, Kind::Others(_))
            || self.rules.permit(identity.user.as_deref(), Need::Repository(repository, Action::Pull))
    }

    fn challenges(&self, caller: &Caller<'_>, needs: &[Need<'_>], why: Why) -> Vec<String> {
        let (realm, service) = match &self.kind {
            Kind::None => return Vec::new(),
            Kind::Password(_) => return vec![htpasswd::CHALLENGE.to_owned()],
            Kind::Own(own) => {
                let here = || format!("{}{}", caller.origin, token::PATH);
                (own.realm.clone().unwrap_or_else(here), own.tokens.service.as_str())
            }
            Kind::Others(others) => (others.realm.clone(), others.service.as_str()),
        };
        let mut challenge = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
        let scopes: Vec<String> =
            needs.iter().filter_map(|need| Scope::of(*need)).map(|scope| scope.to_string()).collect();
        if !scopes.is_empty() {
            challenge.push_str(&format!(",scope=\"{}\"", scopes.join(" ")));
        }
        match why {
            Why::Anonymous => {}
            Why::Refused => challenge.push_str(",error=\"invalid_token\""),
            Why::Insufficient => challenge.push_str(",error=\"insufficient_scope\""),
        }
        vec![challenge]
    }

    fn token_issuer(&self) -> Option<&dyn TokenIssuer> {
        matches!(self.kind, Kind::Own(_)).then_some(self as &dyn TokenIssuer)
    }
}

/// The token of a Bearer `Authorization` (RFC 6750).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[async_trait]
impl TokenIssuer for Guard {
    async fn issue(&self, caller: &Caller<'_>, request: TokenRequest) -> Result<Issued, TokenRefused> {
        let Kind::Own(own) = &self.kind else { return Err(TokenRefused::Anonymous) };
        let Own { users, tokens, .. } = own;
        if request.service.as_ref().is_some_and(|service| *service != tokens.service) {
            return Err(TokenRefused::Service(tokens.service.clone()));
        }
        let (user, refresh) = match request.login {
            Login::Anonymous if self.rules.has_anonymous() => (None, None),
            Login::Anonymous => return Err(TokenRefused::Anonymous),
            Login::Password(user, password) => {
                if !users.check_password(&user, password, caller.address).await? {
                    return Err(Unidentified::Credential.into());
                }
                let refresh = tokens.refresh_lifetime.filter(|_| request.offline);
                let refresh = refresh.zip(users.fingerprint(&user));
                let refresh = refresh.map(|(lifetime, print)| tokens.refresh(&user, print, lifetime));
                (Some(user), refresh)
            }
            Login::Refresh(token) => {
                let user = own.refreshed(token.expose());
                (Some(user.map_err(|error| Unidentified::Token(error.to_string()))?), None)
            }
        };
        let scopes = self.granted(user.as_deref(), request.scopes);
        let token = tokens.access(user.as_deref(), scopes.clone());
        Ok(Issued { token, refresh, lifetime: tokens.lifetime, scopes, user })
    }
}

impl Guard {
    /// As much of what is asked as the rules grant; what is asked twice is granted once.
    fn granted(&self, user: Option<&str>, asked: Vec<Scope>) -> Vec<Scope> {
        let mut granted: Vec<Scope> = Vec::new();
        for mut scope in asked {
            if scope.is_catalogue() {
                let may = scope.has("*") && self.rules.permit(user, Need::Catalogue);
                scope.actions = if may { vec!["*".to_owned()] } else { Vec::new() };
            } else if let Some(Ok(repository)) = scope.repository().map(str::parse::<Repository>) {
                let actions = [Action::Pull, Action::Push, Action::Delete].into_iter().filter(|action| {
                    scope.has(name_of(*action))
                        && self.rules.permit(user, Need::Repository(&repository, *action))
                });
                scope.actions = actions.map(|action| name_of(action).to_owned()).collect();
            } else {
                scope.actions.clear();
            }
            if scope.actions.is_empty() {
                continue;
            }
            match granted.iter_mut().find(|known| known.kind == scope.kind && known.name == scope.name) {
                Some(known) => known.actions.extend(
                    scope
                        .actions
                        .into_iter()
                        .filter(|action| !known.actions.contains(action))
                        .collect::<Vec<_>>(),
                ),
                None => granted.push(scope),
            }
        }
        granted
    }
}
