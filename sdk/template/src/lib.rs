//! A provider for a registry whose token endpoint is not where the specification has it: `GET /oddauth` with Basic
//! credentials answers `{"data":{"jwt":"…","ttl":300}}`. Everything else about the registry is standard, so that `auth` is all this
//! provider exports.

use idp_provider_sdk::prelude::*;

/// The provider.
#[derive(Debug)]
pub struct Odd;

impl Auth for Odd {
    fn authorize(scopes: Vec<Scope>) -> Result<Grant> {
        let registry = invocation::registry();
        if invocation::attempt() > 1 {
            return Err(Error::denied(format!(
                "{registry} refused the token it gave: the account lacks a permission"
            )));
        }
        let credential = invocation::credential("registry").ok_or_else(bearer::not_logged_in)?;
        let password = credential.secret("password").ok_or_else(bearer::not_logged_in)?;

        let mut request = Request::get(Client::url("/oddauth")).basic(credential.username(), password);
        for scope in &scopes {
            request = request.query("want", &scope.wire());
        }
        // The token is cut out of the answer by the host; this code has a handle to it and never sees it.
        let answer = request.capture("jwt", json("/data/jwt")).send()?;

        match (answer.status(), answer.captured("jwt")) {
            (200, Some(token)) => {
                let ttl = answer.json_scalar("/data/ttl").and_then(|ttl| ttl.parse().ok()).unwrap_or(60);
                Ok(Grant::bearer(token).scopes(&scopes).expires_in_s(ttl))
            }
            (401, _) => Err(bearer::bad_credentials(&credential).status(401)),
            (status, _) => {
                Err(Error::unavailable(format!("{registry} answered {status} instead of a token"))
                    .status(status))
            }
        }
    }

    fn verify() -> Result<Pairs> {
        let grant = Self::authorize(Vec::new())?;
        let answer = Request::get(Client::url("/v2/")).authorized(&grant.authorization).send()?;
        if answer.is_success() { Ok(pairs([("kind", "user")])) } else { Err(bearer::not_logged_in()) }
    }
}

// The line that makes it a component: what is not named here is not exported, and the host does the standard thing.
idp_provider_sdk::export!(Odd, manifest = "provider.toml", interfaces = [auth]);

#[cfg(test)]
mod tests {
    use idp_provider_sdk::testing::{Exchange, Host, cases};

    use super::*;

    /// Recorded conversations: `cases/*.toml`.
    #[test]
    fn recorded_conversations() {
        cases::run::<Odd>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    /// The same in code, where that reads better.
    #[test]
    fn a_wrong_password_is_said_to_be_one() {
        let refused =
            Exchange::get("https://registry.example/oddauth").basic("alice", "wrong").reply(401, "");
        let host =
            Host::new("registry.example").manifest(Odd::MANIFEST).basic("alice", "wrong").exchange(refused);
        let error = host.run(|| Odd::authorize(Vec::new())).expect_err("401");
        assert_eq!(error.code, "bad-credentials");
    }
}
