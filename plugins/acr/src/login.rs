//! How to be let in: always by a token of `/oauth2/token`. A password is sent there with GET, a refresh token of the registry with
//! POST; a token of Entra ID is first exchanged for such a refresh token. No answer says how long a token lives.

use idp_provider_sdk::bearer::Flow;
use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{link, pairs as list, scope};

use crate::naming;

/// Access tokens live 75 minutes by their claims, which cannot be read here; an hour is safe.
const ACCESS_LIFETIME_S: u32 = 3600;
/// Refresh tokens live longer than this; how long exactly was seen to differ.
const REFRESH_LIFETIME_S: u32 = 3600;
/// The user name that says "the password is a refresh token".
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
const REFRESH: &str = "refresh-token";

/// Where tokens come from.
struct Service {
    token_url: String,
    name: String,
}

impl Service {
    /// By the challenge, or where it always is.
    fn of(challenges: &[Challenge]) -> Self {
        let bearer = challenges.iter().find(|challenge| challenge.is("bearer"));
        let realm = bearer.and_then(|challenge| challenge.realm_url(&invocation::origin()));
        let name = bearer.and_then(|challenge| challenge.param("service"));
        Self {
            token_url: realm.unwrap_or_else(|| Client::url("/oauth2/token")),
            name: name.map_or_else(invocation::registry, str::to_owned),
        }
    }

    fn exchange_url(&self) -> String {
        link::resolve(&self.token_url, "/oauth2/exchange")
    }
}

/// A client for both APIs.
pub(crate) fn client() -> Client {
    Client::answering(answer)
}

/// A token for what is asked and what the challenge wants besides: the API's rights have names that only it knows.
fn answer(challenges: &[Challenge], scopes: &[Scope]) -> Result<Grant> {
    let wanted = challenges.iter().filter_map(|challenge| challenge.param("scope"));
    let wanted = wanted.flat_map(str::split_whitespace).filter_map(Scope::parse);
    let mut all: Vec<Scope> = wanted.collect();
    all.extend(scopes.iter().filter(|scope| !all.contains(scope)).cloned().collect::<Vec<_>>());
    grant(&Service::of(challenges), invocation::credential("registry").as_ref(), &all)
}

/// A token for the pipeline.
pub(crate) fn authorize(scopes: &[Scope]) -> Result<Grant> {
    let credential = invocation::credential("registry");
    if invocation::attempt() > 1 {
        return Err(match credential {
            Some(credential) => denied(&credential, scopes),
            None => not_logged_in(),
        });
    }
    grant(&Service::of(&invocation::challenges()), credential.as_ref(), scopes)
}

/// Whether a bearer token is one of Entra ID's, for the exchange, and not one that the registry itself gave.
fn is_entra(credential: &Credential) -> bool {
    credential.kind == "bearer" && list::get(&credential.public, "issuer") == Some("entra")
}

fn grant(service: &Service, credential: Option<&Credential>, scopes: &[Scope]) -> Result<Grant> {
    let Some(credential) = credential else {
        return flow().exchange(&service.token_url, Some(&service.name), None, scopes).map_err(|error| {
            if error.http_status == Some(401) { not_logged_in().status(401) } else { error }
        });
    };
    if is_entra(credential) {
        return by_entra(service, credential, scopes);
    }
    if credential.kind == "identity-token" {
        let token = credential.secret("token").ok_or_else(not_logged_in)?;
        let answer = by_refresh_token(service, token, scopes)?;
        return match answer.status() {
            200..=299 => read(&answer, scopes),
            400 | 401 => Err(expired(credential).status(answer.status())),
            _ => Err(refused(&answer, "give a token for the refresh token")),
        };
    }
    let given = flow().exchange(&service.token_url, Some(&service.name), Some(credential), scopes);
    given.map_err(|error| match error.http_status {
        // The service says 400 to a password that it cannot even parse.
        Some(status @ (400 | 401)) if credential.username() == NOBODY => expired(credential).status(status),
        Some(401) => hint(error),
        _ => error,
    })
}

fn flow() -> Flow {
    Flow::new().default_lifetime_s(ACCESS_LIFETIME_S)
}

/// Entra's token for a refresh token, that for an access token. The refresh token is kept; one that ended is replaced once.
fn by_entra(service: &Service, credential: &Credential, scopes: &[Scope]) -> Result<Grant> {
    if let Some(kept) = invocation::remembered(REFRESH) {
        let answer = by_refresh_token(service, &kept, scopes)?;
        if answer.is_success() {
            return read(&answer, scopes);
        }
        if !matches!(answer.status(), 400 | 401) {
            return Err(refused(&answer, "give a token"));
        }
    }
    let fresh = exchange(service, credential)?;
    let answer = by_refresh_token(service, &fresh, scopes)?;
    if answer.is_success() { read(&answer, scopes) } else { Err(refused(&answer, "give a token")) }
}

fn exchange(service: &Service, credential: &Credential) -> Result<Secret> {
    let token = credential.secret("token").ok_or_else(not_logged_in)?;
    let tenant = list::get(&credential.public, "tenant").map(str::to_owned);
    let mut request = Request::post(service.exchange_url())
        .form("grant_type", "access_token")
        .form("service", &*service.name)
        .form_secret("access_token", token)
        .capture("refresh", json("/refresh_token"));
    if let Some(tenant) = tenant.or_else(|| invocation::setting("tenant")) {
        request = request.form("tenant", tenant);
    }
    let answer = request.send()?;
    match (answer.status(), answer.captured("refresh")) {
        (200..=299, Some(refresh)) => {
            invocation::remember(REFRESH, &refresh, REFRESH_LIFETIME_S);
            Ok(refresh)
        }
        (200..=299, None) => Err(Error::invalid(format!(
            "{} answered {} without a refresh token; a proxy may be in the way",
            service.exchange_url(),
            answer.status()
        ))
        .code("no-token")
        .status(answer.status())),
        (status @ (400 | 401), _) => Err(Error::unauthenticated(format!(
            "{} does not accept the token of Entra ID from {}{}; it may be of another tenant or cloud than the registry, or have \
             ended: set `tenant` for the registry, or run `az login --tenant TENANT`",
            invocation::registry(),
            credential.source(),
            said(&answer)
        ))
        .code("entra-token-refused")
        .status(status)),
        (403, _) => Err(Error::denied(format!(
            "{} knows the account from {} and gives it nothing{}: it has no role on this registry; assign AcrPull or AcrPush (with \
             permissions by repository: Container Registry Repository Reader or Writer)",
            invocation::registry(),
            credential.source(),
            said(&answer)
        ))
        .code("no-role")
        .status(403)),
        _ => Err(refused(&answer, "exchange the token of Entra ID")),
    }
}

/// `scope` stands there once for every scope.
fn by_refresh_token(service: &Service, token: &Secret, scopes: &[Scope]) -> Result<Response> {
    let mut request = Request::post(&*service.token_url)
        .form("grant_type", "refresh_token")
        .form("service", &*service.name)
        .form("client_id", "idp")
        .form_secret("refresh_token", token)
        .capture("token", json("/access_token"));
    for scope in scopes {
        request = request.form("scope", scope.wire());
    }
    request.send()
}

fn read(answer: &Response, scopes: &[Scope]) -> Result<Grant> {
    let Some(token) = answer.captured("token") else {
        return Err(Error::invalid(format!(
            "the token service of {} answered without a token; a proxy or a login page may be in the way",
            invocation::registry()
        ))
        .code("no-token")
        .status(answer.status()));
    };
    Ok(Grant::bearer(token).scopes(scopes).expires_in_s(ACCESS_LIFETIME_S).extra("source", "token endpoint"))
}

/// The service's own words, where it has some.
fn said(answer: &Response) -> String {
    let message =
        answer.json_scalar("/errors/0/message").or_else(|| answer.json_scalar("/error_description"));
    message.map_or_else(String::new, |message| format!(" ({message})"))
}

fn refused(answer: &Response, doing: &str) -> Error {
    let error = idp_provider_sdk::refusal::error(answer, doing);
    let message = format!("{}{}", error.message, said(answer));
    Error { message, ..error }
}

/// There are no credentials, and no anonymous pulls.
pub(crate) fn not_logged_in() -> Error {
    let registry = invocation::registry();
    Error::unauthenticated(format!(
        "{registry} wants credentials and there are none, and it does not allow anonymous pulls; run `az acr login --name {}` or \
         `idp login {registry}`",
        naming::short(&registry)
    ))
    .code("not-logged-in")
}

fn expired(credential: &Credential) -> Error {
    let registry = invocation::registry();
    Error::unauthenticated(format!(
        "{registry} does not accept the refresh token from {} any more: it lives a few hours; run `az acr login --name {}` again",
        credential.source(),
        naming::short(&registry)
    ))
    .code("credentials-expired")
}

fn hint(error: Error) -> Error {
    let message = format!(
        "{}; the admin user may be switched off, the secret of the service principal or the password of the token may have ended, or \
         the token may be disabled",
        error.message
    );
    Error { message, ..error }
}

fn denied(credential: &Credential, scopes: &[Scope]) -> Error {
    let registry = invocation::registry();
    let who = match credential.username() {
        "" | NOBODY => "the account".to_owned(),
        username => format!("`{username}`"),
    };
    let what = if scopes.is_empty() { "do this".to_owned() } else { scope::in_words(scopes) };
    // Which roles that would be is explained with the refusal.
    Error::denied(format!(
        "{who} may not {what} at {registry}: it is known there, and no role of its allows that"
    ))
    .code("no-permission")
}

/// The roles that are lacking, in both of the registry's modes.
pub(crate) fn missing_role(writes: bool) -> &'static str {
    if writes {
        "it needs the role AcrPush (to delete, AcrDelete), or, where the registry has permissions by repository, Container Registry \
         Repository Writer or Contributor, since AcrPush counts for nothing there"
    } else {
        "it needs the role AcrPull, or, where the registry has permissions by repository, Container Registry Repository Reader, \
         since AcrPull counts for nothing there"
    }
}

/// What kind of account a user name is, as far as it shows.
fn kind(credential: &Credential) -> &'static str {
    let username = credential.username();
    let guid = username.len() == 36 && username.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    match credential.kind.as_str() {
        "basic" if username == NOBODY => "token",
        "basic" if guid => "robot",
        "basic" if username == naming::short(&invocation::registry()) => "user",
        _ => "token",
    }
}

/// Asks for a token without a scope, then whether the registry takes it.
pub(crate) fn verify() -> Result<Pairs> {
    let challenge = Request::get(Client::url("/v2/")).send()?;
    let challenges = idp_provider_sdk::client::challenges(&challenge);
    if challenge.status() != 401 || challenges.is_empty() {
        return Err(idp_provider_sdk::refusal::error(&challenge, "reach the registry"));
    }
    let service = Service::of(&challenges);
    let credential = invocation::credential("registry");
    let given = match grant(&service, credential.as_ref(), &[]) {
        // POST is documented with a scope only.
        Err(error) if error.http_status == Some(400) && credential.is_some() => {
            grant(&service, credential.as_ref(), &[Scope::catalog()])?
        }
        given => given?,
    };
    let check = Request::get(Client::url("/v2/")).authorized(&given.authorization).send()?;
    if !check.is_success() {
        return Err(match &credential {
            Some(credential) if check.status() == 401 => bearer::bad_credentials(credential).status(401),
            _ => idp_provider_sdk::refusal::error(&check, "use the token that the registry gave"),
        });
    }
    let Some(credential) = credential else { return Ok(pairs([("kind", "anonymous")])) };
    let mut found = pairs([("kind", kind(&credential))]);
    match credential.username() {
        "" | NOBODY => {}
        username => found.push(("account".to_owned(), username.to_owned())),
    }
    if let Some(ends) = list::get(&credential.public, "expires-at") {
        found.push(("expires-at".to_owned(), ends.to_owned()));
    }
    if credential.username() == NOBODY || credential.kind == "identity-token" {
        let text = "a refresh token of the registry ends within a few hours; `az acr login` makes a new one";
        found.push(("warning".to_owned(), text.to_owned()));
    }
    Ok(found)
}
