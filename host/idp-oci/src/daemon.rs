//! The Docker daemon's API, as much of it as moving images takes: one request on one connection to its socket.
//!
//! In: a method, a path, a streamed body. Out: the answer, its body streamed. Knows nothing of images.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

/// Where the daemon listens unless `DOCKER_HOST` says otherwise.
const DEFAULT: &str = "unix:///var/run/docker.sock";
/// Answers that are read as a whole.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// A request's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Why the daemon did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// `DOCKER_HOST` cannot be used.
    #[error("{0}")]
    Endpoint(String),
    /// Nobody answers.
    #[error("cannot reach the Docker daemon at {endpoint}: {error}{}", hint(.error))]
    Unreachable {
        /// The address.
        endpoint: String,
        /// Why not.
        error: io::Error,
    },
    /// 404.
    #[error("the Docker daemon says: {0}")]
    NotFound(String),
    /// Any other answer that is not a success.
    #[error("the Docker daemon answered {status}: {message}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it says.
        message: String,
    },
    /// The connection broke or carried nonsense.
    #[error("talking to the Docker daemon: {0}")]
    Broken(io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "; is it running? DOCKER_HOST says where, if elsewhere"
        }
        io::ErrorKind::PermissionDenied => "; the socket belongs to root and the group `docker`, as a rule",
        _ => "",
    }
}

/// Where a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// A socket in the file system.
    Unix(PathBuf),
    /// `host:port`, unencrypted.
    Tcp(String),
}

impl Daemon {
    /// What `DOCKER_HOST` says, or the default.
    pub(crate) fn from_env() -> Result<Self, DaemonError> {
        let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let tls = std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
        Self::parse(host.as_deref().unwrap_or(DEFAULT), tls)
    }

    /// Parses an address as `DOCKER_HOST` holds it.
    pub(crate) fn parse(text: &str, tls: bool) -> Result<Self, DaemonError> {
        let refuse =
            |why: &str| Err(DaemonError::Endpoint(format!("the Docker daemon's address `{text}` {why}")));
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp" | "http", _)) if tls => refuse(
                "is to be used with TLS, which is not supported: save the image to a file, or use the socket",
            ),
            Some(("tcp" | "http", rest)) => {
                let rest = rest.trim_end_matches('/');
                match rest.rsplit_once(':') {
                    Some((host, port))
                        if !host.is_empty() && port.parse::<u16>().is_ok() && !rest.contains(['/', '@']) =>
                    {
                        Ok(Self::Tcp(rest.to_owned()))
                    }
                    _ => refuse("is not tcp://host:port"),
                }
            }
            _ => refuse("is neither unix:///path nor tcp://host:port"),
        }
    }

    /// The address, for messages.
    pub(crate) fn endpoint(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix://{}", path.display()),
            Self::Tcp(address) => format!("tcp://{address}"),
        }
    }

    /// Sends one request on a connection of its own. An answer that is not a success is an error with its message.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Body,
    ) -> Result<Response<Incoming>, DaemonError> {
        let unreachable = |error| DaemonError::Unreachable { endpoint: self.endpoint(), error };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "docker");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(body).map_err(|error| DaemonError::Broken(io::Error::other(error)))?;
        let answer = match self {
            Self::Unix(path) => {
                send(tokio::net::UnixStream::connect(path).await.map_err(unreachable)?, request).await
            }
            Self::Tcp(address) => {
                send(tokio::net::TcpStream::connect(address).await.map_err(unreachable)?, request).await
            }
        };
        let answer = answer.map_err(|error| DaemonError::Broken(io::Error::other(error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = whole(answer).await.unwrap_or_default();
        let message = message(&text);
        if status == StatusCode::NOT_FOUND {
            Err(DaemonError::NotFound(message))
        } else {
            Err(DaemonError::Refused { status, message })
        }
    }
}

async fn send<S>(stream: S, request: Request<Body>) -> Result<Response<Incoming>, hyper::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer's body: dropping that closes the connection.
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// A small answer as a whole.
pub(crate) async fn whole(answer: Response<Incoming>) -> Result<Bytes, DaemonError> {
    match Limited::new(answer.into_body(), MAX_ANSWER).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(DaemonError::Broken(io::Error::other(format!("its answer has more than {MAX_ANSWER} bytes"))))
        }
        Err(error) => Err(DaemonError::Broken(io::Error::other(error))),
    }
}

/// `{"message":"…"}`, or the text itself; bounded.
fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let text = serde_json::from_slice::<Message>(body).map(|parsed| parsed.message);
    let text = text.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned());
    text.trim().chars().filter(|char| !char.is_control()).take(500).collect()
}

/// An image's name as a part of a path, or why it cannot be one.
pub(crate) fn path_of_name(name: &str) -> Result<&str, DaemonError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    let refused = name.is_empty()
        || name.len() > 512
        || !name.bytes().all(good)
        || name.split('/').any(|part| matches!(part, "" | "." | ".."));
    if refused {
        let shown: String = name.chars().take(200).collect();
        return Err(DaemonError::NotFound(format!("`{shown}` is not the name of an image")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::{Daemon, message, path_of_name};

    #[test]
    fn addresses() {
        assert_eq!(
            Daemon::parse("unix:///run/d.sock", true).expect("a socket"),
            Daemon::Unix("/run/d.sock".into())
        );
        assert_eq!(
            Daemon::parse("tcp://127.0.0.1:2375/", false).expect("an address"),
            Daemon::Tcp("127.0.0.1:2375".to_owned())
        );
        for (bad, tls, expect) in [
            ("tcp://127.0.0.1:2376", true, "TLS"),
            ("tcp://127.0.0.1", false, "not tcp://host:port"),
            ("tcp://user@127.0.0.1:1", false, "not tcp://host:port"),
            ("ssh://host", false, "neither"),
            ("unix://relative", false, "neither"),
            ("", false, "neither"),
        ] {
            let error = Daemon::parse(bad, tls).expect_err(bad).to_string();
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn names_stay_in_their_part_of_the_path() {
        for good in ["app", "r.example:5000/team/app:1", "sha256:00", "app@sha256:00"] {
            assert_eq!(path_of_name(good).ok(), Some(good));
        }
        for bad in ["", "a b", "../info", "a/../../b", "/a", "a?x=1", "a%2f", "ä", "a\r\nb"] {
            assert!(path_of_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_are_bounded_text() {
        assert_eq!(message(br#"{"message":"no such image"}"#), "no such image");
        assert_eq!(message(b"plain\x1b[31m\n"), "plain[31m");
        assert_eq!(message(&[b'x'; 9000]).len(), 500);
    }
}
