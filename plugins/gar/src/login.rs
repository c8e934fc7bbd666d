//! How to be let in. At the registry: a token for Basic credentials, whose user name says what the password is. At the API: an access
//! token, or, from the key of a service account, a token that is signed here and needs no exchange.

use idp_provider_sdk::bearer::Flow;
use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::secret::Encoding;
use idp_provider_sdk::{pairs as list, scope};

/// Google's tokens live an hour at most; an answer that does not say is trusted for less.
const LIFETIME_S: u32 = 900;
/// The password is an access token of Google's.
const ACCESS_TOKEN: &str = "oauth2accesstoken";
const KEY: &str = "_json_key";
const KEY_BASE64: &str = "_json_key_base64";

/// The name that the API has in tokens signed for it.
const API: &str = "https://artifactregistry.googleapis.com/";

/// A client for the registry.
pub(crate) fn client() -> Client {
    Client::answering(answer)
}

fn flow() -> Flow {
    // Deleting is part of writing here (go-containerregistry).
    Flow::new().default_lifetime_s(LIFETIME_S).scopes_as(|scopes| {
        let writes = |action: &String| action == "delete" || action == "*";
        let mut asked = scopes.to_vec();
        for scope in &mut asked {
            if scope.kind == "repository" && scope.actions.iter().any(writes) {
                scope.actions = vec!["pull".to_owned(), "push".to_owned()];
            }
        }
        asked
    })
}

/// A grant for the pipeline.
pub(crate) fn authorize(scopes: &[Scope]) -> Result<Grant> {
    if invocation::attempt() > 1 {
        return Err(match invocation::credential("registry") {
            // A token that was sent as it is has not been looked at before.
            Some(credential) if credential.kind == "bearer" && as_it_is(&credential) => refused(&credential),
            Some(credential) => denied(&credential, scopes),
            None => not_logged_in(),
        });
    }
    answer(&invocation::challenges(), scopes)
}

fn answer(challenges: &[Challenge], scopes: &[Scope]) -> Result<Grant> {
    let bearer = challenges.iter().find(|challenge| challenge.is("bearer"));
    let realm = bearer.and_then(|challenge| challenge.realm_url(&invocation::origin()));
    let realm = realm.unwrap_or_else(|| Client::url("/v2/token"));
    let service = bearer.and_then(|challenge| challenge.param("service")).map(str::to_owned);
    let service = service.unwrap_or_else(invocation::registry);
    let credential = invocation::credential("registry").map(as_basic);
    if let Some(credential) = &credential {
        check(credential)?;
    }
    flow().exchange(&realm, Some(&service), credential.as_ref(), scopes).map_err(|error| {
        match (error.http_status, &credential) {
            (Some(401 | 403), None) => not_logged_in().status(error.http_status.unwrap_or(401)),
            (Some(401), Some(credential)) => refused(credential).status(401),
            _ => error,
        }
    })
}

/// An access token of Google's is a password for the token endpoint. Any other bearer token (`--token`) goes as it is: the
/// registry takes its own and Google's.
fn as_basic(mut credential: Credential) -> Credential {
    if !as_it_is(&credential) {
        "basic".clone_into(&mut credential.kind);
        credential.public.retain(|(key, _)| key != "username");
        credential.public.push(("username".to_owned(), ACCESS_TOKEN.to_owned()));
        for (name, _) in &mut credential.secrets {
            "password".clone_into(name);
        }
    }
    credential
}

fn as_it_is(credential: &Credential) -> bool {
    credential.kind != "bearer" || list::get(&credential.public, "issuer") != Some("google")
}

/// The key of a service account is a whole JSON document; a path to it, or a part of it, is the common mistake.
fn check(credential: &Credential) -> Result<()> {
    let Some(password) = credential.secret("password").filter(|_| credential.username() == KEY) else {
        return Ok(());
    };
    if password.json_field("/private_key").is_some() {
        return Ok(());
    }
    let registry = invocation::registry();
    Err(Error::unauthenticated(format!(
        "the password of `{KEY}` from {} is not the key of a service account, which is a JSON document; log in with its content: `idp \
         login {registry} --username {KEY} --password-stdin < key.json`",
        credential.source()
    ))
    .code("not-a-key"))
}

/// What the API is asked with; none for anonymous use.
pub(crate) fn api_token() -> Result<Option<Secret>> {
    let Some(credential) = invocation::credential("registry") else { return Ok(None) };
    if let Some(token) = credential.secret("token") {
        return Ok(Some(token.duplicate()));
    }
    let Some(password) = credential.secret("password") else { return Ok(None) };
    match credential.username() {
        KEY => {
            check(&credential)?;
            signed(password).map(Some)
        }
        KEY_BASE64 => signed(&password.decode(Encoding::Base64)?).map(Some),
        // `oauth2accesstoken`, and what the helpers of gcloud write: an access token.
        _ => Ok(Some(password.duplicate())),
    }
}

/// A token that a service account signs for one API (AIP-4111): header, claims and signature, put together where nobody sees them.
fn signed(key: &Secret) -> Result<Secret> {
    let field = |pointer: &str| {
        key.json_field(pointer).ok_or_else(|| {
            Error::unauthenticated(format!("the key of the service account has no `{}`", &pointer[1..]))
                .code("not-a-key")
        })
    };
    let (email, id, pem) = (field("/client_email")?, field("/private_key_id")?, field("/private_key")?);
    let now = ambient::unix_time_ms() / 1000;
    let header =
        Secret::assemble([text(r#"{"alg":"RS256","typ":"JWT","kid":""#), secret(&id), text(r#""}"#)])
            .encode(Encoding::Base64UrlNoPad)?;
    let claims = Secret::assemble([
        text(r#"{"iss":""#),
        secret(&email),
        text(r#"","sub":""#),
        secret(&email),
        text(format!(r#"","aud":"{API}","iat":{now},"exp":{}}}"#, now + 3600)),
    ])
    .encode(Encoding::Base64UrlNoPad)?;
    let signature = pem.sign("rs256", [secret(&header), text("."), secret(&claims)]).map_err(|error| {
        let message = format!("the private key of the service account cannot sign: {}", error.message);
        Error { message, ..error }
    })?;
    let signature = signature.encode(Encoding::Base64UrlNoPad)?;
    Ok(Secret::assemble([secret(&header), text("."), secret(&claims), text("."), secret(&signature)]))
}

/// There are no credentials, and the repository is not public.
pub(crate) fn not_logged_in() -> Error {
    let registry = invocation::registry();
    Error::unauthenticated(format!(
        "{registry} wants credentials and there are none; run `gcloud auth configure-docker {registry}`, or `gcloud auth \
         print-access-token | idp login {registry} --username {ACCESS_TOKEN} --password-stdin`"
    ))
    .code("not-logged-in")
}

fn refused(credential: &Credential) -> Error {
    let registry = invocation::registry();
    let source = credential.source();
    match credential.username() {
        KEY | KEY_BASE64 => Error::unauthenticated(format!(
            "{registry} does not accept the key of the service account from {source}: it may be deleted or disabled, or cut short; see \
             `gcloud iam service-accounts keys list`"
        ))
        .code("bad-credentials"),
        _ => Error::unauthenticated(format!(
            "{registry} does not accept the access token from {source}: it lives an hour at most; get another with `gcloud auth \
             print-access-token`, or let `gcloud auth configure-docker {registry}` do it"
        ))
        .code("credentials-expired"),
    }
}

fn denied(credential: &Credential, scopes: &[Scope]) -> Error {
    let writes = scopes.iter().any(|scope| scope.actions.iter().any(|action| action != "pull"));
    let role = if writes { "roles/artifactregistry.writer" } else { "roles/artifactregistry.reader" };
    let what = if scopes.is_empty() { "do this".to_owned() } else { scope::in_words(scopes) };
    Error::denied(format!(
        "{} accepted the credentials from {}, and they may not {what}; the account needs {role} on the repository",
        invocation::registry(),
        credential.source()
    ))
    .code("no-permission")
}

/// Asks for a token, then whether the registry takes it.
pub(crate) fn verify() -> Result<Pairs> {
    let (_, answer) = client().login()?;
    let credential = invocation::credential("registry");
    if !answer.is_success() {
        return Err(match &credential {
            Some(credential) if answer.status() == 401 => refused(credential).status(401),
            None if answer.status() == 401 => not_logged_in().status(401),
            _ => idp_provider_sdk::refusal::error(&answer, "check the credentials"),
        });
    }
    let Some(credential) = credential else { return Ok(pairs([("kind", "anonymous")])) };
    let mut found = match credential.username() {
        KEY | KEY_BASE64 => pairs([("account", "a service account"), ("kind", "robot")]),
        _ => pairs([("account", "the holder of an access token"), ("kind", "token")]),
    };
    if let Some(account) = list::get(&credential.public, "account") {
        found[0].1 = account.to_owned();
    }
    if let Some(ends) = list::get(&credential.public, "expires-at") {
        found.push(("expires-at".to_owned(), ends.to_owned()));
    } else if credential.kind == "basic" && !credential.username().starts_with(KEY) {
        let text = "an access token ends within the hour, and this one is kept as it is; `gcloud auth configure-docker` renews it";
        found.push(("warning".to_owned(), text.to_owned()));
    }
    Ok(found)
}
