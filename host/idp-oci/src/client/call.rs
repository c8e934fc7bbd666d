//! One request with everything that belongs to it: authorization, retry, the registry's warnings, and errors that say what was
//! wanted. The verbs are written on top of it.

use std::sync::PoisonError;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::Url;

use super::dialect::{Answer, Challenge, DialectError, ErrorKind, Scope};
use super::error::{ClientError, Refusal, RegistryError};
use super::http::{Body, ERROR_BODY, Http, HttpError, Request, Response, Whole, authority};
use super::outage::Next;
use super::progress::Event;
use super::rate::RateLimit;
use super::redirect::same_origin;
use super::retry::Waits;
use super::scheme::Scheme;
use super::{Client, base_url, redact, retry};
use crate::name::Registry;

/// Warnings are not to flood a terminal (distribution-spec, "Warnings").
const MOST_WARNING: usize = 4096;

/// `GET /v2/` without a credential, as it comes: what tells registry products apart.
pub async fn ping(http: &Http, registry: &Registry, scheme: Scheme) -> Result<Whole, ClientError> {
    let url = base_url(registry, scheme)?;
    let request = Request::new(Method::GET, url);
    http.send_once(&request, ERROR_BODY).await.map_err(|error| ClientError::Network {
        what: format!("reaching registry {registry}"),
        request: format!("GET {}", redact::url(&request.url)),
        attempts: 1,
        error,
    })
}

/// A request to the registry, or to where it sent us.
#[derive(Debug)]
pub(super) struct Call {
    /// What is wanted, for errors.
    pub(super) what: String,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) scopes: Vec<Scope>,
    /// Whether it is tried again here; uploads do that themselves.
    pub(super) retry: bool,
    /// The body of a good answer, up to this size, belongs to it: one that breaks off is asked for again.
    pub(super) read: Option<u64>,
}

impl Call {
    pub(super) fn new(method: Method, url: Url, scopes: Vec<Scope>, what: String) -> Self {
        Self {
            what,
            method,
            url,
            headers: HeaderMap::new(),
            body: Body::Empty,
            scopes,
            retry: true,
            read: None,
        }
    }

    pub(super) fn once(mut self) -> Self {
        self.retry = false;
        self
    }

    pub(super) fn read(mut self, cap: u64) -> Self {
        self.read = Some(cap);
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // Every value is made of digests, media types and numbers; one that cannot be sent is left to the registry to miss.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Whether a refusal holds for every request with the same scopes. Not that of cleaning up: registries want the right to delete for
    /// it, which who pushes need not have.
    fn speaks_for_others(&self) -> bool {
        self.method != Method::DELETE
            || self.scopes.iter().any(|scope| scope.actions.iter().any(|action| action == "delete"))
    }

    fn shown(&self) -> String {
        format!("{} {}", self.method, redact::url(&self.url))
    }
}

/// An answer, and how many tries it took.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response,
    pub(super) attempts: usize,
}

impl Client {
    /// Sends a call until there is an answer that is not a passing failure, or no try is left. Any status is an answer, but 401:
    /// that one is final here.
    pub(super) async fn call(&self, call: &Call) -> Result<Answered, ClientError> {
        let mut waits = self.shared.options.retry.waits();
        loop {
            let attempts = waits.failures() + 1;
            let (cause, asked, outcome) = match self.authorized(call, attempts).await {
                // Too many requests may be for seconds or for hours: the dialect knows, and what lasts is not waited for.
                Ok(response) if call.retry && response.status == StatusCode::TOO_MANY_REQUESTS => {
                    let (status, asked) = (response.status, retry::retry_after(&response.headers));
                    let refusal = self.refusal(call, Answered { response, attempts }, None).await;
                    if !is_passing(&refusal) {
                        return Err(refusal);
                    }
                    (format!("the registry answered {status}"), asked, Err(refusal))
                }
                Ok(response) if call.retry && retry::is_transient(response.status) => {
                    let cause = format!("the registry answered {}", response.status);
                    (cause, retry::retry_after(&response.headers), Ok(Answered { response, attempts }))
                }
                Err(error) if call.retry && is_passing(&error) => {
                    let asked = match &error {
                        ClientError::Dialect { error, .. } => error.retry_after,
                        _ => None,
                    };
                    (error.cause(), asked, Err(error))
                }
                Ok(response) => return Ok(Answered { response, attempts }),
                Err(error) => return Err(error),
            };
            let Some(wait) = waits.after_failure(asked) else { return outcome };
            // A registry that has too much to do has it from all of us, whether it says for how long or not.
            let busy = match &outcome {
                Ok(answered) => Some(answered.response.status.as_u16()),
                Err(error) => error.status(),
            };
            let everybody = asked.is_some() || matches!(busy, Some(429 | 503));
            self.wait(&call.what, &waits, wait, everybody, cause).await;
        }
    }

    /// Waits before the next try, and says so. A wait for a registry that has too much to do holds for all who talk to it.
    pub(super) async fn wait(
        &self,
        what: &str,
        waits: &Waits,
        wait: Duration,
        everybody: bool,
        cause: String,
    ) {
        let first = !everybody || self.shared.gate.hold(wait);
        self.tell(first, what, wait, cause, (waits.failures() + 1, waits.attempts()));
        if everybody {
            self.shared.gate.pass().await;
        } else {
            tokio::time::sleep(wait).await;
        }
    }

    /// The waits of something that is tried here or elsewhere.
    pub(crate) fn waits(&self) -> Waits {
        self.shared.options.retry.waits()
    }

    /// Waits before something is tried again that is not tried here, and says so.
    pub(crate) async fn told_wait(&self, what: &str, waits: &Waits, wait: Duration, cause: String) {
        self.wait(what, waits, wait, false, cause).await;
    }

    /// Says that something is tried again; to people only once where many wait for the same.
    fn tell(
        &self,
        first: bool,
        what: &str,
        wait: Duration,
        cause: String,
        (attempt, attempts): (usize, usize),
    ) {
        let after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(target: "idp::retry", what, after_ms, cause, attempt, attempts);
        if first {
            let what = what.to_owned();
            self.progress().event(Event::Retrying { what, after_ms, cause, attempt, attempts });
        }
    }

    /// One exchange, let in. Credentials go to the registry's own origin only (case 4).
    async fn authorized(&self, call: &Call, attempts: usize) -> Result<Response, ClientError> {
        if !same_origin(&self.shared.base, &call.url) {
            return self.send(call, None, attempts).await;
        }
        let session = &self.shared.session;
        let _turn = session.turn().await;
        if let Some(error) = session.refused(&call.scopes) {
            return Err(error);
        }
        // What stays is asked once, and not once a worker.
        let dialect = |error: DialectError| {
            let error = ClientError::Dialect { what: call.what.clone(), error };
            if !is_passing(&error) && call.speaks_for_others() {
                session.refuse(&call.scopes, &error);
            }
            error
        };
        let mut pass = session.cached(&call.scopes);
        // How many grants were made for this request.
        let mut fresh = 0;
        let known = session.challenges();
        let mut guessed = pass.is_none() && session.is_remembered();
        let mut turned_away = None;
        if pass.is_none() && !known.is_empty() {
            match session.authorize(&call.scopes, &known, 1, None).await {
                Ok(granted) => (pass, fresh) = (Some(granted), 1),
                // Without a credential, what is public may still be had.
                Err(error) if error.kind == ErrorKind::Unauthenticated && error.http_status.is_none() => {}
                Err(error) if session.forget_remembered() => {
                    self.shared.learned.forget_challenges();
                    // The registry may ask for something else by now. If it does not, nobody is sent where they were refused (case 31).
                    if matches!(error.kind, ErrorKind::Unauthenticated | ErrorKind::Denied) {
                        turned_away = Some(error);
                    }
                }
                Err(error) => return Err(dialect(error)),
            }
        }
        loop {
            let headers = pass.as_ref().map(|pass| &pass.headers);
            let response = self.send(call, headers, attempts).await?;
            // Where a redirect led to is not the registry: what it asks for is nobody's business, and its refusal is about this URL only.
            if !same_origin(&self.shared.base, &response.url) {
                session.answered();
                return Ok(response);
            }
            let challenges = session.learn(&response.headers);
            if !challenges.is_empty() {
                let raw: Vec<String> = challenges.iter().map(|challenge| challenge.raw.clone()).collect();
                self.shared.learned.learn_challenges(&raw);
            }
            if response.status != StatusCode::UNAUTHORIZED {
                session.answered();
                return Ok(response);
            }
            let challenges = self.challenges_for(challenges).await;
            if let Some(error) = turned_away.take().filter(|_| doors(&challenges) == doors(&known)) {
                return Err(self.final_401(call, response, attempts, Some(error.message)).await);
            }
            // What was granted for a door that is no longer there says nothing about this one.
            if std::mem::take(&mut guessed) && doors(&challenges) != doors(&known) {
                fresh = 0;
            }
            // What was refused is not sent again: a grant that is the same once more counts as a fresh one that was refused, so that
            // the dialect is asked for its verdict whoever of several requests came first.
            let mut next = None;
            while fresh < 2 && next.is_none() {
                fresh += 1;
                match session.authorize(&call.scopes, &challenges, fresh, pass.as_ref()).await {
                    Ok(same) if pass.as_ref().is_some_and(|pass| pass.headers == same.headers) => {
                        pass = Some(same);
                    }
                    Ok(other) => next = Some(other),
                    Err(error) if matches!(error.kind, ErrorKind::Unauthenticated | ErrorKind::Denied) => {
                        let refusal = self.final_401(call, response, attempts, Some(error.message)).await;
                        return Err(refusal);
                    }
                    Err(error) => return Err(dialect(error)),
                }
            }
            let Some(next) = next else {
                return Err(self.final_401(call, response, attempts, None).await);
            };
            pass = Some(next);
        }
    }

    /// The challenges of a 401, or those known before; a registry that sent none on a real request may on `/v2/` (case 22).
    async fn challenges_for(&self, sent: Vec<Challenge>) -> Vec<Challenge> {
        if !sent.is_empty() {
            return sent;
        }
        let known = self.shared.session.challenges();
        if !known.is_empty() {
            return known;
        }
        let request = Request::new(Method::GET, self.shared.base.clone());
        match self.shared.http.send_once(&request, ERROR_BODY).await {
            Ok(answer) => self.shared.session.learn(&answer.headers),
            Err(_) => Vec::new(),
        }
    }

    async fn final_401(
        &self,
        call: &Call,
        response: Response,
        attempts: usize,
        note: Option<String>,
    ) -> ClientError {
        let error = self.refusal(call, Answered { response, attempts }, note).await;
        if call.speaks_for_others() {
            self.shared.session.refuse(&call.scopes, &error);
        }
        self.shared.session.answered();
        error
    }

    async fn send(
        &self,
        call: &Call,
        credentials: Option<&HeaderMap>,
        attempts: usize,
    ) -> Result<Response, ClientError> {
        let mut request = Request::new(call.method.clone(), call.url.clone());
        request.home = self.shared.home;
        request.headers.clone_from(&call.headers);
        request.credentials = credentials.cloned().unwrap_or_default();
        request.body = call.body.clone();
        let failed = |attempts, error| {
            let (what, request) = (call.what.clone(), call.shown());
            ClientError::Network { what, request, attempts, error }
        };
        let (outages, here) = (&self.shared.outages, authority(&call.url));
        loop {
            let ticket = outages.pass(&self.shared.gate).await;
            if let Some(attempts) = outages.given_up(&here) {
                let why = "it did not answer before".to_owned();
                return Err(failed(attempts, HttpError::Connect { host: here, why }));
            }
            let (host, why) = match self.shared.http.execute(request.clone()).await {
                Ok(mut response) => {
                    outages.reached(&here);
                    outages.reached(&authority(&response.url));
                    if let Some(cap) = call.read.filter(|_| response.status.is_success()) {
                        response.fill(cap).await.map_err(|error| failed(attempts, error))?;
                    }
                    let is_ours = same_origin(&self.shared.base, &response.url);
                    if is_ours {
                        self.show_warnings(&response.headers);
                    }
                    if let Some(limit) = RateLimit::of(&response.headers).filter(|_| is_ours) {
                        let mut last = self.shared.rate_limit.lock().unwrap_or_else(PoisonError::into_inner);
                        *last = Some(limit);
                    }
                    return Ok(response);
                }
                Err(HttpError::Connect { host, why }) => (host, why),
                Err(HttpError::Source(problem)) => {
                    return Err(ClientError::Source { what: call.what.clone(), problem });
                }
                Err(HttpError::Redirect(text)) => {
                    outages.reached(&here);
                    return Err(failed(attempts, HttpError::Redirect(self.scrub(&text))));
                }
                Err(error) => {
                    outages.reached(&here);
                    return Err(failed(attempts, error));
                }
            };
            // Nothing was sent, so this holds for uploads, too.
            match outages.unreachable(&host, ticket, &self.shared.options.retry, &self.shared.gate) {
                Next::Join => {}
                Next::Wait { wait, attempt, attempts } => {
                    self.tell(true, &host, wait, why, (attempt, attempts));
                }
                Next::GiveUp { attempts } => return Err(failed(attempts, HttpError::Connect { host, why })),
            }
        }
    }

    /// A text without credentials: those of the registry, and those that went to its token service.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.shared.http.without(self.shared.session.scrub(text))
    }

    /// `Warning: 299 - "text"`, each once.
    fn show_warnings(&self, headers: &HeaderMap) {
        for value in headers.get_all(http::header::WARNING) {
            let value = String::from_utf8_lossy(value.as_bytes());
            let Some(text) = value.strip_prefix("299 - ") else { continue };
            let text: String = text
                .trim_matches('"')
                .chars()
                .filter(|character| !character.is_control())
                .take(MOST_WARNING)
                .collect();
            self.warn(format!("{} says: {}", self.registry(), self.scrub(&text)));
        }
    }

    /// An answer as an error: read, scrubbed of credentials, and explained by the provider.
    pub(super) async fn refusal(&self, call: &Call, answered: Answered, note: Option<String>) -> ClientError {
        let Answered { response, attempts } = answered;
        let status = response.status;
        let headers: Vec<(String, String)> = response
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let mut url = response.url.clone();
        url.set_query(None);
        let body = String::from_utf8_lossy(&response.error_body().await).into_owned();
        let body = self.scrub(&body);
        let errors = RegistryError::parse(&body);
        let answer = Answer {
            method: call.method.to_string(),
            url: url.into(),
            status: status.as_u16(),
            headers,
            body,
        };
        let explanation = self.shared.dialect.explain(&answer, &self.shared.options.operation).await;
        let (what, request) = (call.what.clone(), call.shown());
        ClientError::Refused(Box::new(Refusal { what, request, status, errors, attempts, explanation, note }))
    }
}

/// Where challenges want one to go, without what they want it for.
fn doors(challenges: &[Challenge]) -> Vec<(&str, Option<&str>, Option<&str>)> {
    challenges.iter().map(|one| (one.scheme.as_str(), one.param("realm"), one.param("service"))).collect()
}

/// Whether a moment later it may go well.
pub(super) fn is_passing(error: &ClientError) -> bool {
    match error {
        // What cannot be reached has been tried as often as it will be.
        ClientError::Network { error: HttpError::Connect { .. }, .. } => false,
        ClientError::Network { error, .. } => error.is_transient(),
        ClientError::Dialect { error, .. } => {
            matches!(error.kind, ErrorKind::Unavailable | ErrorKind::RateLimited)
        }
        ClientError::Refused(refusal) => {
            let lasts =
                refusal.explanation.as_ref().and_then(|explanation| explanation.retryable) == Some(false);
            retry::is_transient(refusal.status) && !lasts
        }
        _ => false,
    }
}
