//! The token flow of the distribution specification, with what its implementations get wrong.
//!
//! A challenge names a realm and a service; the scopes are the caller's, because some registries put placeholders there. The
//! token is asked for with GET and Basic credentials, or with POST when the credential is an identity token; a POST that is
//! answered 400, 401, 404 or 405 is tried once more as GET. The token is captured from `token` or `access_token`. A
//! refusal of a fresh token is final.

use crate::contract::{Error, Grant, Result, Reuse, Scope};
use crate::http::{Request, Response, json};
use crate::invocation::Credential;
use crate::{Challenge, ambient, invocation, scope, time};

/// Shorter lifetimes than this are raised to it, as every client does.
pub const MIN_LIFETIME_S: u32 = 60;

/// From the scopes of the host to those that a token endpoint knows.
pub type AskedFor = fn(&[Scope]) -> Vec<Scope>;

/// How a registry is let in by challenge: Basic, or Bearer through a token endpoint.
#[derive(Debug, Clone)]
pub struct Flow {
    client_id: String,
    slot: String,
    default_lifetime_s: u32,
    reuse: Reuse,
    scopes: bool,
    /// The user name of tokens that come without one; `None`: tokens are used as what they are.
    token_user: Option<String>,
    wire: Option<AskedFor>,
}

impl Default for Flow {
    fn default() -> Self {
        Self::new()
    }
}

impl Flow {
    /// The flow of the specification.
    pub fn new() -> Self {
        Self {
            client_id: "idp".to_owned(),
            slot: "registry".to_owned(),
            default_lifetime_s: MIN_LIFETIME_S,
            reuse: Reuse::Scope,
            scopes: true,
            token_user: None,
            wire: None,
        }
    }

    /// The name that is given to the token endpoint; `idp` unless told.
    #[must_use]
    pub fn client_id(mut self, client_id: &str) -> Self {
        client_id.clone_into(&mut self.client_id);
        self
    }

    /// The credential slot of the manifest; `registry` unless told.
    #[must_use]
    pub fn slot(mut self, slot: &str) -> Self {
        slot.clone_into(&mut self.slot);
        self
    }

    /// The lifetime of tokens whose answer does not say; 60 s unless told.
    #[must_use]
    pub fn default_lifetime_s(mut self, seconds: u32) -> Self {
        self.default_lifetime_s = seconds;
        self
    }

    /// For registries whose token covers everything the account may do: no scope is sent, and the grant is reused.
    #[must_use]
    pub fn without_scopes(mut self) -> Self {
        self.scopes = false;
        self.reuse = Reuse::Registry;
        self
    }

    /// For token endpoints that know GET and Basic only: a token that was given alone is sent as the password of this user.
    #[must_use]
    pub fn tokens_as_passwords(mut self, username: &str) -> Self {
        self.token_user = Some(username.to_owned());
        self
    }

    /// For registries that call the rights by other names, or refuse to hear of some: what is asked of the token endpoint. The
    /// grant is kept for the scopes as the host asked for them.
    #[must_use]
    pub fn scopes_as(mut self, wire: AskedFor) -> Self {
        self.wire = Some(wire);
        self
    }

    /// A grant for the challenges of this call.
    ///
    /// # Errors
    /// As [`answer`](Self::answer); on the second attempt `denied`, or `unauthenticated` when the credentials themselves
    /// cannot have been accepted; `unsupported` without a challenge.
    pub fn authorize(&self, scopes: &[Scope]) -> Result<Grant> {
        let challenges = invocation::challenges();
        if invocation::attempt() > 1 {
            return Err(self.refused_again(&challenges, scopes));
        }
        self.answer(&challenges, scopes)
    }

    /// A grant for these challenges: Bearer when there is one, else Basic.
    ///
    /// # Errors
    /// `unauthenticated` when credentials are missing or refused, `denied` when the token endpoint forbids, `unsupported` when
    /// no challenge can be answered, and what sending the token request fails with.
    pub fn answer(&self, challenges: &[Challenge], scopes: &[Scope]) -> Result<Grant> {
        let credential = invocation::credential(&self.slot);
        if let Some(challenge) = challenges.iter().find(|challenge| challenge.is("bearer")) {
            let Some(realm) = challenge.realm_url(&invocation::origin()) else {
                return Err(Error::invalid(format!(
                    "{} asks for a token and does not say where to get it (its challenge has no realm)",
                    invocation::registry()
                ))
                .code("no-realm"));
            };
            return self.exchange(&realm, challenge.param("service"), credential.as_ref(), scopes);
        }
        if challenges.iter().any(|challenge| challenge.is("basic")) {
            return self.basic(credential);
        }
        let offered: Vec<_> = challenges.iter().map(|challenge| challenge.scheme.as_str()).collect();
        Err(Error::unsupported(format!(
            "no Basic or Bearer challenge of {} to answer (offered: {})",
            invocation::registry(),
            if offered.is_empty() { "none".to_owned() } else { offered.join(", ") }
        ))
        .code("no-usable-challenge"))
    }

    fn basic(&self, credential: Option<Credential>) -> Result<Grant> {
        let Some(credential) = credential else { return Err(not_logged_in()) };
        let source = credential.source().to_owned();
        match credential.secret("password") {
            Some(password) => Ok(Grant::basic(credential.username(), password.duplicate())
                .extra("account", credential.username())
                .extra("source", source)),
            None => Err(Error::unauthenticated(format!(
                "{} wants a user name and a password, and {source} has a credential of kind `{}`",
                invocation::registry(),
                credential.kind
            ))
            .code("wrong-credential-kind")),
        }
    }

    /// A token from a token endpoint.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn exchange(
        &self,
        realm: &str,
        service: Option<&str>,
        credential: Option<&Credential>,
        scopes: &[Scope],
    ) -> Result<Grant> {
        let own = credential.filter(|_| self.token_user.is_none());
        if let Some(token) = own.filter(|own| own.kind == "bearer").and_then(|own| own.secret("token")) {
            return Ok(self.grant(token.duplicate(), scopes, credential));
        }
        let asked = self.wire.map(|wire| wire(scopes));
        let asked = asked.as_deref().unwrap_or(scopes);
        let wire: Vec<String> =
            if self.scopes { asked.iter().map(Scope::wire).collect() } else { Vec::new() };
        let identity = own.filter(|own| own.kind == "identity-token");
        if let Some(identity) = identity.and_then(|credential| credential.secret("token")) {
            let mut request = Request::post(realm)
                .form("grant_type", "refresh_token")
                .form("client_id", &*self.client_id)
                .form("service", service.unwrap_or_default())
                .form_secret("refresh_token", identity);
            if !wire.is_empty() {
                request = request.form("scope", wire.join(" "));
            }
            let answer = captures(request).send()?;
            if !matches!(answer.status(), 400 | 401 | 404 | 405) {
                return self.read(&answer, scopes, credential);
            }
        }
        let mut request = Request::get(realm);
        if let Some(service) = service.filter(|service| !service.is_empty()) {
            request = request.query("service", service);
        }
        for scope in &wire {
            request = request.query("scope", scope);
        }
        request = request.query("client_id", &self.client_id);
        if let Some(credential) = credential {
            let secret = credential.secret("password").or_else(|| credential.secret("token"));
            let Some(secret) = secret else { return Err(not_logged_in()) };
            let username = match credential.username() {
                "" if self.token_user.is_some() => self.token_user.as_deref().unwrap_or_default(),
                // What Docker's credential helpers write for an identity token.
                "" if credential.kind == "identity-token" => "<token>",
                username => username,
            };
            request = request.basic(username, secret);
        }
        self.read(&captures(request).send()?, scopes, credential)
    }

    /// The grant in the answer of a token endpoint.
    fn read(&self, answer: &Response, scopes: &[Scope], credential: Option<&Credential>) -> Result<Grant> {
        if !answer.is_success() {
            return Err(token_refused(answer, credential));
        }
        let Some(token) = answer.captured("token").or_else(|| answer.captured("access_token")) else {
            return Err(Error::invalid(format!(
                "the token endpoint {} answered {} without a token; a proxy or a login page may be in the way",
                crate::link::origin(&answer.url()),
                answer.status()
            ))
            .code("no-token")
            .status(answer.status()));
        };
        let lifetime = self.lifetime(answer);
        Ok(self.grant(token, scopes, credential).expires_in_s(lifetime))
    }

    fn lifetime(&self, answer: &Response) -> u32 {
        // Some write a fraction of a second.
        let seconds = |text: String| text.split('.').next()?.parse::<i64>().ok();
        let said = answer.json_scalar("/expires_in").and_then(seconds).filter(|seconds| *seconds >= 0);
        let Some(said) = said else { return self.default_lifetime_s.max(MIN_LIFETIME_S) };
        // A cached answer may be older than it looks; a clock that is wrong must not shorten it to nothing.
        let issued = answer.json_scalar("/issued_at").and_then(|text| time::rfc3339(&text));
        let now = i64::try_from(ambient::unix_time_ms() / 1000).unwrap_or(i64::MAX);
        let age = issued.map_or(0, |issued| now.saturating_sub(issued)).max(0);
        let left = if age < said { said - age } else { said };
        u32::try_from(left).unwrap_or(u32::MAX).max(MIN_LIFETIME_S)
    }

    fn grant(&self, token: crate::Secret, scopes: &[Scope], credential: Option<&Credential>) -> Grant {
        let grant = Grant::bearer(token).scopes(scopes).reuse(self.reuse).extra("source", "token endpoint");
        match credential.map(Credential::username).filter(|username| !username.is_empty()) {
            Some(username) => grant.extra("account", username),
            None => grant,
        }
    }

    fn refused_again(&self, challenges: &[Challenge], scopes: &[Scope]) -> Error {
        let registry = invocation::registry();
        let Some(credential) = invocation::credential(&self.slot) else {
            return not_logged_in();
        };
        let source = credential.source();
        let bearer = challenges.iter().find(|challenge| challenge.is("bearer"));
        if bearer.is_none() && challenges.iter().any(|challenge| challenge.is("basic")) {
            return bad_credentials(&credential);
        }
        let code =
            bearer.and_then(|challenge| challenge.param("error")).unwrap_or("insufficient_scope").to_owned();
        let who = match credential.username() {
            "" => "this account".to_owned(),
            username => format!("`{username}`"),
        };
        let what = if scopes.is_empty() { "do this".to_owned() } else { scope::in_words(scopes) };
        Error::denied(format!(
            "{registry} accepted the credentials from {source} and refused the token it gave for them: {who} may not {what}"
        ))
        .code(code)
    }
}

fn captures(request: Request<'_>) -> Request<'_> {
    request.capture("token", json("/token")).capture("access_token", json("/access_token"))
}

/// The registry wants credentials and there are none.
pub fn not_logged_in() -> Error {
    let registry = invocation::registry();
    Error::unauthenticated(format!(
        "{registry} wants credentials and there are none; run `idp login {registry}`"
    ))
    .code("not-logged-in")
}

/// The registry does not accept these credentials.
pub fn bad_credentials(credential: &Credential) -> Error {
    let registry = invocation::registry();
    let who = match credential.username() {
        "" => String::new(),
        username => format!(" of `{username}`"),
    };
    Error::unauthenticated(format!(
        "{registry} does not accept the credentials{who} from {}; `idp login {registry}` stores others",
        credential.source()
    ))
    .code("bad-credentials")
}

fn token_refused(answer: &Response, credential: Option<&Credential>) -> Error {
    let status = answer.status();
    let endpoint = crate::link::origin(&answer.url()).to_owned();
    let error = match status {
        401 => credential.map_or_else(not_logged_in, bad_credentials),
        403 => Error::denied(format!("the token endpoint {endpoint} refused to give a token (403)"))
            .code("token-denied"),
        429 => Error::rate_limited(format!("the token endpoint {endpoint} has had too many requests (429)")),
        408 | 500.. => {
            Error::unavailable(format!("the token endpoint {endpoint} failed with status {status}"))
        }
        _ => Error::other(format!("the token endpoint {endpoint} answered {status} instead of a token"))
            .code("token-refused"),
    };
    // A sealed answer says why as far as the manifest opens it.
    let error = match answer.json_scalar("/errors/0/message").filter(|said| !said.trim().is_empty()) {
        Some(said) => Error { message: format!("{} (it says: {})", error.message, said.trim()), ..error },
        None => error,
    };
    let error = error.status(status);
    match answer.retry_after_s() {
        Some(seconds) => error.retry_after_s(seconds),
        None => error,
    }
}
