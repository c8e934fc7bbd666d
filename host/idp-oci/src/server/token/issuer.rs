//! Our own tokens: made and checked by this registry, or by several that share their keys.
//!
//! Two kinds, told apart by the header's `typ`: those that let in, for minutes, and those that a next one is had with, for
//! weeks, which end when the user's password changes. Neither is kept anywhere.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::jws::{Claims, Header, LEEWAY, TokenError, Unverified, now, sign};
use super::keys::{Keys, KeysError};
use crate::secret::Secret;
use crate::server::scope::Scope;

const ACCESS: &str = "JWT";
const REFRESH: &str = "refresh+jwt";
const ALGORITHM: &str = "EdDSA";

/// Makes and checks tokens.
#[derive(Debug)]
pub(crate) struct OwnTokens {
    pub(crate) service: String,
    issuer: String,
    /// How long a token is good.
    pub(crate) lifetime: Duration,
    /// How long a refresh token is good; without, there are none.
    pub(crate) refresh_lifetime: Option<Duration>,
    keys: Arc<Keys>,
}

impl OwnTokens {
    pub(crate) fn open(
        service: String,
        issuer: String,
        lifetime: Duration,
        refresh_lifetime: Option<Duration>,
        keys: PathBuf,
        rotation: Option<Duration>,
    ) -> Result<Self, KeysError> {
        let longest = lifetime.max(refresh_lifetime.unwrap_or_default()) + LEEWAY;
        let keys = Arc::new(Keys::open(keys, rotation, longest)?);
        Ok(Self { service, issuer, lifetime, refresh_lifetime, keys })
    }

    /// A token that lets this user (or nobody in particular) do this.
    pub(crate) fn access(&self, user: Option<&str>, scopes: Vec<Scope>) -> Secret {
        let claims = Claims { access: scopes, ..self.claims(user, self.lifetime) };
        self.signed(ACCESS, &claims)
    }

    /// A token that a next one is had with, as long as `fingerprint` is that of the user's password.
    pub(crate) fn refresh(&self, user: &str, fingerprint: String, lifetime: Duration) -> Secret {
        let claims = Claims { pwd: Some(fingerprint), ..self.claims(Some(user), lifetime) };
        self.signed(REFRESH, &claims)
    }

    /// The claims of a good token that lets in.
    pub(crate) fn verify_access(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify(token, ACCESS)
    }

    /// The claims of a good refresh token.
    pub(crate) fn verify_refresh(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify(token, REFRESH)
    }

    fn verify(&self, token: &str, kind: &str) -> Result<Claims, TokenError> {
        let token = Unverified::parse(token)?;
        let id = token.header.kid.as_deref().ok_or(TokenError::Signature)?;
        let key = self.keys.find(id).ok_or(TokenError::Signature)?;
        let claims = token.verify([&key.public])?;
        if token.header.typ.as_deref() != Some(kind) {
            return Err(TokenError::Kind);
        }
        claims.check(&self.issuer, &self.service)?;
        Ok(claims)
    }

    fn claims(&self, user: Option<&str>, lifetime: Duration) -> Claims {
        // Whole seconds, as everybody writes them.
        let now = now().floor();
        Claims {
            iss: self.issuer.clone(),
            sub: user.unwrap_or_default().to_owned(),
            aud: vec![self.service.clone()],
            exp: now + lifetime.as_secs_f64(),
            nbf: Some(now),
            iat: Some(now),
            jti: random_id(),
            ..Claims::default()
        }
    }

    fn signed(&self, kind: &str, claims: &Claims) -> Secret {
        let key = self.keys.signer();
        let header = Header {
            alg: ALGORITHM.to_owned(),
            typ: Some(kind.to_owned()),
            kid: key.id().map(str::to_owned),
            ..Header::default()
        };
        Secret::new(sign(&header, claims, |message| key.sign(message)))
    }
}

/// No two tokens are the same. Nothing rests on its being unguessable.
fn random_id() -> String {
    let mut bytes = [0; 12];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::OwnTokens;
    use crate::server::scope::Scope;
    use crate::server::token::jws::TokenError;

    const MINUTE: Duration = Duration::from_secs(60);

    fn tokens(home: &std::path::Path, service: &str, lifetime: Duration) -> OwnTokens {
        let (service, issuer) = (service.to_owned(), "issuer".to_owned());
        OwnTokens::open(service, issuer, lifetime, Some(MINUTE), home.join("keys"), None).expect("keys")
    }

    #[test]
    fn one_kind_is_not_the_other() {
        let home = tempfile::tempdir().expect("a directory");
        let own = tokens(home.path(), "service", MINUTE);
        let scope = Scope::parse("repository:a:pull").expect("a scope");
        let access = own.access(Some("alice"), vec![scope.clone()]);
        let claims = own.verify_access(access.expose()).expect("good");
        assert_eq!((claims.sub.as_str(), claims.access.as_slice()), ("alice", [scope].as_slice()));
        assert_eq!(own.verify_refresh(access.expose()), Err(TokenError::Kind));
        let refresh = own.refresh("alice", "print".to_owned(), MINUTE);
        assert_eq!(own.verify_access(refresh.expose()), Err(TokenError::Kind));
        assert_eq!(own.verify_refresh(refresh.expose()).expect("good").pwd.as_deref(), Some("print"));
        let again = own.access(Some("alice"), vec![]);
        assert_ne!(claims.jti, own.verify_access(again.expose()).expect("good").jti);
    }

    #[test]
    fn what_another_made_or_is_past_is_not_accepted() {
        let (home, other) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let own = tokens(home.path(), "service", MINUTE);
        let theirs = tokens(other.path(), "service", MINUTE).access(Some("root"), vec![]);
        assert_eq!(own.verify_access(theirs.expose()), Err(TokenError::Signature));
        let for_another = tokens(home.path(), "other", MINUTE).access(None, vec![]);
        assert_eq!(own.verify_access(for_another.expose()), Err(TokenError::Audience));
        let twin = tokens(home.path(), "service", MINUTE).access(None, vec![]);
        assert!(own.verify_access(twin.expose()).is_ok(), "two registries with the same keys");
    }
}
