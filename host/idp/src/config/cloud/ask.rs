//! Requests and helper programs, and how they fail. What goes out and comes back may hold secrets: nothing of it is logged but status and
//! origin, and every secret that is taken out of an answer is blanked in all output from then on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use idp_oci::client::http::{Body, Http, HttpError, HttpOptions, Request};
use idp_oci::secret::Secret;
use url::{Host, Url};

use crate::config::env::{self, Environment};
use crate::config::helper;
use crate::config::known::Known;

/// Bytes of the largest answer.
const ANSWER_MAX: u64 = 1024 * 1024;
/// For a whole exchange with a service of the cloud.
const PATIENCE: Duration = Duration::from_secs(20);
/// For a connection to a service of this machine: where there is none, nobody refuses it.
const NEAR_CONNECT: Duration = Duration::from_millis(1000);
/// For an exchange with a service of this machine.
const NEAR_PATIENCE: Duration = Duration::from_secs(5);
/// A helper program may ask a person something.
const HELPER_PATIENCE: Duration = Duration::from_secs(60);

/// Why a source of credentials that is configured gives none. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// A file that is named somewhere.
    #[error("cannot read `{}`, which {named} names: {why}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What names it.
        named: String,
        /// Why not.
        why: String,
    },
    /// A profile, or another entry of a configuration file.
    #[error("{entry} {problem}; {fix}")]
    Entry {
        /// `AWS profile `x``.
        entry: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        fix: String,
    },
    /// A session of a person is over.
    #[error("{what}; run `{command}`")]
    LogIn {
        /// What is over, or not there.
        what: String,
        /// The command that starts a new one.
        command: String,
    },
    /// A program.
    #[error("{what} {problem}; {fix}")]
    Helper {
        /// Which program, and who names it.
        what: String,
        /// What it did.
        problem: String,
        /// What to do.
        fix: String,
    },
    /// A service that said no.
    #[error("{service} answered {status} ({said}); {fix}")]
    Refused {
        /// Which service.
        service: String,
        /// Status code.
        status: u16,
        /// Its own words, the code of its error.
        said: String,
        /// What to do.
        fix: String,
    },
    /// A service that is not there, and should be.
    #[error("{service} cannot be asked: {why}; {fix}")]
    Unreachable {
        /// Which service.
        service: String,
        /// Why not.
        why: String,
        /// What to do.
        fix: String,
    },
    /// An answer without credentials in it.
    #[error("{service} answered with something that holds no credential")]
    Garbage {
        /// Which service or program.
        service: String,
    },
}

/// One request.
#[derive(Clone)]
pub(super) struct Ask {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: String,
    /// A service of this machine: no proxy, no patience.
    near: bool,
}

/// A URL that is put together here from names that may be wrong.
pub(super) fn url(service: &str, text: &str) -> Result<Url, CloudError> {
    text.parse().map_err(|_| CloudError::Unreachable {
        service: service.to_owned(),
        why: format!("`{text}` is not a URL"),
        fix: "look where it is configured".to_owned(),
    })
}

impl Ask {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: String::new(), near: false }
    }

    pub(super) fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    pub(super) fn post(url: Url) -> Self {
        Self::new(Method::POST, url)
    }

    /// A service of this machine.
    pub(super) fn near(mut self) -> Self {
        self.near = true;
        self
    }

    /// A header; its value is shown nowhere. One that cannot be sent is left out, and missed by who is asked.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// A header that a file names.
    pub(super) fn named_header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(mut value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn form(self, pairs: &[(&str, &str)]) -> Self {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(pairs);
        let body = body.finish();
        Self { body, ..self }.header("content-type", "application/x-www-form-urlencoded")
    }

    pub(super) fn json(self, value: &serde_json::Value) -> Self {
        Self { body: value.to_string(), ..self }.header("content-type", "application/json")
    }

    #[cfg(test)]
    pub(super) fn sent_header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn body(&self) -> &str {
        &self.body
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: zeroize::Zeroizing<Vec<u8>>,
}

impl Reply {
    pub(super) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A refusal in the service's own words. `said` was taken out of the answer: codes and sentences, no secrets.
    pub(super) fn refused(&self, service: &str, said: Option<&str>, fix: impl Into<String>) -> CloudError {
        let said = said.unwrap_or("no reason given");
        let said =
            said.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(300).collect();
        CloudError::Refused { service: service.to_owned(), status: self.status, said, fix: fix.into() }
    }
}

/// What a search may use. Cheap to clone; connects to nothing by itself.
#[derive(Debug, Clone)]
pub struct Tools {
    pub(super) env: Environment,
    known: Known,
    far: Http,
    near: Http,
}

impl Tools {
    /// `known` learns every secret that is found on the way.
    pub fn new(env: Environment, known: Known) -> Self {
        // The clouds' own services are never spoken to without TLS that verifies, whatever is allowed for a registry.
        let far = Http::new(HttpOptions { idle_timeout: PATIENCE, ..HttpOptions::default() });
        let near = Http::new(HttpOptions {
            connect_timeout: NEAR_CONNECT,
            idle_timeout: NEAR_PATIENCE,
            proxy_from_env: false,
            ..HttpOptions::default()
        });
        Self { env, known, far, near }
    }

    /// A secret out of an answer or a file.
    pub(super) fn secret(&self, value: &str) -> Secret {
        let secret = Secret::new(value);
        self.known.add(&secret);
        secret
    }

    /// One exchange; any status is an answer.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Reply, String> {
        let mut request = Request::new(ask.method.clone(), ask.url.clone());
        request.credentials.clone_from(&ask.headers);
        if !ask.body.is_empty() {
            request.body = Body::Bytes(ask.body.clone().into());
        }
        let (http, patience) = if ask.near { (&self.near, NEAR_PATIENCE) } else { (&self.far, PATIENCE) };
        let answer = tokio::time::timeout(patience, http.send_once(&request, ANSWER_MAX)).await;
        match answer {
            Ok(Ok(whole)) => Ok(Reply { status: whole.status.as_u16(), body: whole.body.to_vec().into() }),
            Ok(Err(HttpError::Connect { host, why })) => Err(format!("{host}: {why}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
        }
    }

    /// [`Self::send`] to a service that should be there.
    pub(super) async fn ask(&self, service: &str, ask: &Ask) -> Result<Reply, CloudError> {
        self.send(ask).await.map_err(|why| CloudError::Unreachable {
            service: service.to_owned(),
            why,
            fix: "check the network, VPN and proxy".to_owned(),
        })
    }

    /// The text of a file that something names.
    pub(super) fn read(&self, file: &Path, named: &str) -> Result<String, CloudError> {
        fs_err::read_to_string(file).map_err(|error| CloudError::Read {
            file: file.to_owned(),
            named: named.to_owned(),
            why: match error.kind() {
                std::io::ErrorKind::NotFound => "it is not there".to_owned(),
                std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
                kind => kind.to_string(),
            },
        })
    }

    /// Where a program of the vendor's is; `None` when it is not installed.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        helper::on_path(name, &self.env.get(env::PATH)?)
    }

    /// What a program prints. `what` names it, `fix` says what to do when it fails.
    pub(super) async fn output(
        &self,
        program: &Path,
        arguments: &[&str],
        what: &str,
        fix: &str,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, CloudError> {
        let failed =
            |problem: String| CloudError::Helper { what: what.to_owned(), problem, fix: fix.to_owned() };
        let ran = tokio::time::timeout(HELPER_PATIENCE, helper::run(program, arguments, b"")).await;
        let output = ran
            .map_err(|_| failed(format!("did not answer within {} s", HELPER_PATIENCE.as_secs())))?
            .map_err(|error| failed(format!("cannot be run ({})", error.kind())))?;
        match &output.failure {
            None => Ok(output.stdout),
            Some(status) => {
                let said = output.shown(None);
                let said = if said.is_empty() { String::new() } else { format!(": {said}") };
                Err(failed(format!("failed ({status}){said}")))
            }
        }
    }
}

/// Whether a URL that a variable names is one of this machine or its platform: plain http, with a token in a header, goes nowhere else.
pub(super) fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_link_local(),
        Some(Host::Ipv6(address)) => {
            // fd00:ec2::23 and fd00:ec2::254 are EKS's and EC2's.
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.segments()[..2] == [0xfd00, 0x0ec2]
        }
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_near;

    #[test]
    fn services_of_this_machine() {
        for (text, expect) in [
            ("http://169.254.170.2/creds", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://127.0.0.1:51679/creds", true),
            ("http://localhost:8080/creds", true),
            ("http://10.0.0.1/creds", false),
            ("http://creds.example/creds", false),
            ("http://[fd00::1]/creds", false),
        ] {
            assert_eq!(is_near(&text.parse().expect(text)), expect, "{text}");
        }
    }
}
