//! Errors as the specification has them (distribution-spec, "Error Codes"): a message for the client, the cause for the log.

use std::io;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::Value;

use crate::manifest::ManifestError;
use crate::store::StoreError;
use crate::store::upload::UploadError;

/// A refusal on its way to the client.
#[derive(Debug)]
pub(crate) struct Error {
    status: StatusCode,
    errors: Vec<Code>,
    headers: Box<HeaderMap>,
}

#[derive(Debug, Serialize)]
struct Code {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    detail: Value,
}

#[derive(Serialize)]
struct Envelope<'a> {
    errors: &'a [Code],
}

impl Error {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let error = Code { code, message: message.into(), detail: Value::Null };
        Self { status, errors: vec![error], headers: Box::default() }
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// One error for each of several things, in one answer.
    pub(crate) fn each(
        status: StatusCode,
        code: &'static str,
        errors: impl IntoIterator<Item = (String, Value)>,
    ) -> Self {
        let errors = errors.into_iter().map(|(message, detail)| Code { code, message, detail }).collect();
        Self { status, errors, headers: Box::default() }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What clients are told, in one text.
    pub(crate) fn message(&self) -> String {
        let messages: Vec<&str> = self.errors.iter().map(|error| error.message.as_str()).collect();
        messages.join("; ")
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.get(name)
    }

    /// With another header, also of a name that is there already.
    pub(crate) fn with(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        // What we send in headers was parsed before: names, digests, numbers.
        if let Ok(value) = value.try_into() {
            self.headers.append(name, value);
        }
        self
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::TagImmutable { .. } => {
                return Self::new(StatusCode::CONFLICT, "DENIED", error.to_string());
            }
            StoreError::Quota { .. } => return Self::new(StatusCode::FORBIDDEN, "DENIED", error.to_string()),
            _ => {}
        }
        if is_full(&error) {
            tracing::error!(target: "idp::registry", %error, "a push was refused");
            let message =
                "the registry's disk is full: its operator must make room; nothing that is there was lost";
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", message);
        }
        tracing::error!(target: "idp::registry", %error, "the storage failed");
        let message = "the registry's storage failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message)
    }
}

fn is_full(error: &StoreError) -> bool {
    match error {
        StoreError::Full { .. } => true,
        StoreError::Io(error) => {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        }
        _ => false,
    }
}

impl From<UploadError> for Error {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Unknown => Self::not_found("BLOB_UPLOAD_UNKNOWN", error.to_string()),
            UploadError::TooMany(_) | UploadError::TooManyOfOwner(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", error.to_string())
                    .with(http::header::RETRY_AFTER, HeaderValue::from_static("60"))
            }
            UploadError::DigestMismatch { .. } => Self::bad_request("DIGEST_INVALID", error.to_string()),
            UploadError::Store(error) => error.into(),
        }
    }
}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        let message = error.to_string();
        match error {
            ManifestError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message),
            ManifestError::Digest(_) => Self::bad_request("DIGEST_INVALID", message),
            _ => Self::bad_request("MANIFEST_INVALID", message),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body =
            serde_json::to_vec(&Envelope { errors: &self.errors }).expect("texts can be written as JSON");
        let length = body.len();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = *self.headers;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        response
    }
}
