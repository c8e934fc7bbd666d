//! Requests to the registry's own API: sent, challenged, authorized, sent again. What the pipeline does for blobs, for the
//! questions that a provider answers by asking the registry itself.

use crate::bearer::Flow;
use crate::contract::{Authorization, Grant, Result, Scope};
use crate::http::{Request, Response};
use crate::{Challenge, invocation, link};

/// Answers challenges in a registry's own way.
pub type Authorize = fn(&[Challenge], &[Scope]) -> Result<Grant>;

/// A client of the registry that this call is about.
#[derive(Debug, Clone, Default)]
pub struct Client {
    flow: Flow,
    own: Option<Authorize>,
}

impl Client {
    /// A client that answers challenges with this flow.
    pub fn new(flow: Flow) -> Self {
        Self { flow, own: None }
    }

    /// A client for registries where the flow of the specification does not do: this answers the challenges.
    pub fn answering(own: Authorize) -> Self {
        Self { flow: Flow::new(), own: Some(own) }
    }

    fn answer(&self, challenges: &[Challenge], scopes: &[Scope]) -> Result<Grant> {
        match self.own {
            Some(own) => own(challenges, scopes),
            None => self.flow.answer(challenges, scopes),
        }
    }

    /// The URL of a path on the registry.
    pub fn url(path: &str) -> String {
        link::resolve(&invocation::origin(), path)
    }

    /// Sends a request, answering at most one challenge; the request is built anew for the next try. Tokens are remembered
    /// for the scopes, so that the next page does not ask again. One that is refused is replaced: it may be of an earlier command,
    /// and say less than what its account may do by now.
    ///
    /// # Errors
    /// What sending or the flow fails with. A refusal by status is an answer, not an error.
    pub fn send<'a>(&self, scopes: &[Scope], request: impl Fn() -> Request<'a>) -> Result<Response> {
        let key = format!("token:{}", scopes.iter().map(Scope::wire).collect::<Vec<_>>().join(" "));
        let first = match invocation::remembered(&key) {
            Some(token) => {
                let kept = request().bearer(&token).send()?;
                if kept.status() != 403 {
                    kept
                } else {
                    // A 403 has no challenge in it.
                    let bare = request().send()?;
                    if bare.status() != 401 {
                        return Ok(kept);
                    }
                    bare
                }
            }
            None => request().send()?,
        };
        if first.status() != 401 {
            return Ok(first);
        }
        let grant = self.answer(&challenges(&first), scopes)?;
        if let (Authorization::Bearer(token), Some(seconds)) = (&grant.authorization, grant.expires_in_s) {
            invocation::remember(&key, token, seconds);
        }
        request().authorized(&grant.authorization).send()
    }

    /// Who the credentials speak for: challenges the registry once, answers, and asks again. The grant comes with the
    /// answer to `GET /v2/` that it got.
    ///
    /// # Errors
    /// What sending or the flow fails with.
    pub fn login(&self) -> Result<(Grant, Response)> {
        let url = Self::url("/v2/");
        let first = Request::get(&*url).send()?;
        let offered = challenges(&first);
        // zot answers 200 with a challenge when anonymous reading is allowed; with credentials it is to be answered.
        let optional =
            first.is_success() && (offered.is_empty() || invocation::credential("registry").is_none());
        if optional {
            return Ok((Grant::anonymous(), first));
        }
        if first.status() != 401 && !first.is_success() {
            return Err(crate::refusal::error(&first, "reach the registry"));
        }
        let grant = self.answer(&offered, &[])?;
        let answer = Request::get(&*url).authorized(&grant.authorization).send()?;
        Ok((grant, answer))
    }
}

/// The challenges of an answer.
pub fn challenges(answer: &Response) -> Vec<Challenge> {
    answer.headers("www-authenticate").iter().flat_map(|value| Challenge::parse(value)).collect()
}
