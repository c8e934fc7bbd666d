//! The import `http`: renders a guest's request, hands it to [`super::egress`], and answers from what came back. Holds no policy.

use std::time::Duration;

use wasmtime::component::Resource;

use super::answer::{Answered, Capture, Source};
use super::egress::{Outgoing, Refused};
use super::error::{Limit, LimitHit};
use super::host_secrets::refuse;
use super::scrub::percent;
use super::secrets::{Held, Rendered, SecretError, as_is};
use super::state::State;
use super::transport::TransportError;
use super::v0_1::idp::registry_provider::http::{Body, Host, HostResponse, Request};
use super::v0_1::idp::registry_provider::types::{Error, ErrorKind};

impl State {
    fn outgoing(&self, request: Request) -> wasmtime::Result<Result<Outgoing, Error>> {
        let large =
            |_: SecretError| refuse(ErrorKind::Invalid, "too-large", "the request is larger than 1 MiB");
        let wrong = |code: &str, message: String| Ok(Err(refuse(ErrorKind::Invalid, code, message)));
        let mut headers = Vec::with_capacity(request.headers.len());
        for header in request.headers {
            match Rendered::join(&self.parts(header.value)?, as_is) {
                Ok(value) => headers.push((header.name, value)),
                Err(error) => return Ok(Err(large(error))),
            }
        }
        let body = match request.body {
            Body::Empty => Ok(Rendered::default()),
            Body::Bytes(bytes) => {
                let mut rendered = Rendered::default();
                rendered.append(&bytes).map(|()| rendered)
            }
            Body::Text(segments) => Rendered::join(&self.parts(segments)?, as_is),
            Body::Form(fields) => {
                let typed = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
                if !typed {
                    let mut value = Rendered::default();
                    if let Err(error) = value.append(b"application/x-www-form-urlencoded") {
                        return Ok(Err(large(error)));
                    }
                    headers.push(("content-type".to_owned(), value));
                }
                let mut form = Rendered::default();
                for (name, value) in fields {
                    let encode = |bytes: &[u8]| percent(bytes).into_bytes().into();
                    let field = Rendered::join(&self.parts(value)?, encode).and_then(|field| {
                        let start = if form.bytes.is_empty() { "" } else { "&" };
                        form.append(format!("{start}{}=", percent(name.as_bytes())).as_bytes())?;
                        form.append(&field.bytes)?;
                        form.secrets.extend(field.secrets);
                        Ok(())
                    });
                    if let Err(error) = field {
                        return Ok(Err(large(error)));
                    }
                }
                Ok(form)
            }
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => return Ok(Err(large(error))),
        };
        if request.captures.len() > 16 {
            return wrong("captures", "more than 16 captures".to_owned());
        }
        let mut captures = Vec::with_capacity(request.captures.len());
        for capture in request.captures {
            let source = match capture.source.as_str() {
                "json-pointer" => Source::Pointer(capture.selector),
                "header" => Source::Header(capture.selector),
                "body" => Source::Body,
                other => {
                    let message = format!("`{}` is no source of a capture", other.escape_debug());
                    return Ok(Err(refuse(ErrorKind::Unsupported, "captures", message)));
                }
            };
            captures.push(Capture { name: capture.name, source });
        }
        Ok(Ok(Outgoing {
            method: request.method,
            url: request.url,
            headers,
            body,
            captures,
            max_redirects: request.max_redirects,
            timeout: request.timeout_ms.map(|ms| Duration::from_millis(u64::from(ms.max(1)))),
        }))
    }

    fn explain(&self, refused: &Refused) -> Error {
        let mut message = refused.to_string();
        self.scrub.text(&mut message);
        match refused {
            Refused::Denied { code, .. } => {
                tracing::debug!(target: "idp::provider", code, "{message}");
                refuse(ErrorKind::EgressDenied, code, message)
            }
            Refused::Limit(_) | Refused::Invalid(_) => refuse(ErrorKind::Invalid, "request", message),
            Refused::Transport { error, .. } => {
                let (kind, code, sent) = match error {
                    TransportError::Connect(_) => (ErrorKind::Unavailable, "connect", false),
                    TransportError::Untrusted(_) => (ErrorKind::Invalid, "tls", false),
                    TransportError::Broken(_) => (ErrorKind::Unavailable, "broken", true),
                    TransportError::Timeout(_) => (ErrorKind::Unavailable, "timeout", true),
                    TransportError::TooLarge(_) => (ErrorKind::Other, "too-large", true),
                    TransportError::Invalid(_) => (ErrorKind::Invalid, "request", false),
                };
                Error { sent, ..refuse(kind, code, message) }
            }
        }
    }
}

impl Host for State {
    async fn send(&mut self, request: Request) -> wasmtime::Result<Result<Resource<Answered>, Error>> {
        let outgoing = match self.outgoing(request)? {
            Ok(outgoing) => outgoing,
            Err(error) => return Ok(Err(error)),
        };
        match self.gate.send(outgoing, &self.scrub).await {
            Ok(answered) => Ok(Ok(self.table.push(answered).map_err(|_| LimitHit(Limit::Handles))?)),
            Err(Refused::Limit(hit)) => Err(hit.into()),
            Err(refused) => Ok(Err(self.explain(&refused))),
        }
    }
}

impl HostResponse for State {
    async fn status(&mut self, this: Resource<Answered>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&this)?.status())
    }

    async fn headers(&mut self, this: Resource<Answered>, name: String) -> wasmtime::Result<Vec<String>> {
        Ok(self.table.get(&this)?.headers(&name))
    }

    async fn body(&mut self, this: Resource<Answered>) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        let sealed = || {
            refuse(
                ErrorKind::Denied,
                "sealed",
                "the answer is sealed: capture what is secret, or list pointers as [[public]]",
            )
        };
        Ok(self.table.get(&this)?.body().ok_or_else(sealed))
    }

    async fn json_scalar(
        &mut self,
        this: Resource<Answered>,
        pointer: String,
    ) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&this)?.json_scalar(&pointer, &self.scrub))
    }

    async fn captured(
        &mut self,
        this: Resource<Answered>,
        name: String,
    ) -> wasmtime::Result<Option<Resource<Held>>> {
        match self.table.get(&this)?.captured(&name) {
            Some(held) => Ok(Some(self.lend(held)?)),
            None => Ok(None),
        }
    }

    async fn sealed(&mut self, this: Resource<Answered>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&this)?.sealed())
    }

    async fn url(&mut self, this: Resource<Answered>) -> wasmtime::Result<String> {
        Ok(self.table.get(&this)?.url())
    }

    async fn drop(&mut self, this: Resource<Answered>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
