//! The API of ECR and of ECR Public: JSON 1.1 (`POST /`, the operation in a header), signed. Refusals become errors that say what
//! to do about them.

use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use serde_json::Value;

use crate::date;
use crate::explain::PUSH;
use crate::place::Place;
use crate::sigv4::{self, Keys};

const JSON: &str = "application/x-amz-json-1.1";

/// Signatures are good for five minutes around the server's time; less is no reason.
const SKEW_S: u64 = 240;

/// The most that one page holds.
pub(crate) const PAGE_MAX: u32 = 1000;

/// The API of one registry, with the keys to ask it.
#[derive(Debug)]
pub(crate) struct Api {
    /// Whose.
    pub(crate) place: Place,
    credential: Credential,
}

impl Api {
    /// The API of this call's registry. `doing` is what needs it, for the error when there is nothing to sign with.
    pub(crate) fn open(doing: &str) -> Result<Self> {
        let place = Place::here()?;
        let registry = invocation::registry();
        let service = if place.is_public() { "ECR Public" } else { "ECR" };
        let keys = "AWS credentials are needed for that (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, `aws sso login`, a role)";
        let credential = match invocation::credential("registry") {
            Some(credential) if Keys::of(&credential).is_some() => credential,
            Some(other) => {
                return Err(Error::unauthenticated(format!(
                    "could not {doing}: it is asked of the API of {service}, and the credential of {registry} from {} only opens the \
                     registry for pushing and pulling; {keys}, and they are looked for when `idp logout {registry}` has removed the other",
                    other.source()
                ))
                .code("no-aws-keys"));
            }
            None => {
                return Err(Error::unauthenticated(format!(
                    "could not {doing}: it is asked of the API of {service}, and there are no AWS credentials; {keys}"
                ))
                .code("no-aws-keys"));
            }
        };
        if place.api.is_empty() {
            return Err(Error::invalid(format!(
                "could not {doing}: {registry} is a name of your own for {}, and the API is not behind it; set `endpoint: \
                 https://api.ecr.{}.amazonaws.com` under `settings` of {registry} in registries.yaml",
                place.words(),
                place.region
            ))
            .code("no-endpoint"));
        }
        Ok(Self { place, credential })
    }

    /// The credential whose keys sign.
    pub(crate) fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Asks for an operation; a refusal is an answer.
    pub(crate) fn send(&self, operation: &str, body: &Value, capture: Option<&str>) -> Result<Response> {
        let prefix = if self.place.is_public() {
            "SpencerFrontendService"
        } else {
            "AmazonEC2ContainerRegistry_V20150921"
        };
        let target = format!("{prefix}.{operation}");
        let call = sigv4::Call {
            endpoint: &self.place.api,
            region: &self.place.region,
            service: self.place.service,
            content_type: JSON,
            target: Some(&target),
            body: body.to_string(),
        };
        let Some(keys) = Keys::of(&self.credential) else {
            return Err(Error::unauthenticated("there are no AWS keys to sign with").code("no-aws-keys"));
        };
        let request = sigv4::sign(&call, &keys)?;
        match capture {
            Some(pointer) => request.capture("token", json(pointer)).send(),
            None => request.send(),
        }
    }

    /// Asks for an operation. `doing` completes "could not …".
    pub(crate) fn ask(&self, operation: &str, body: &Value, doing: &str) -> Result<Value> {
        let answer = self.send(operation, body, None)?;
        if answer.is_success() { answer.json() } else { Err(self.refused(&answer, operation, doing)) }
    }

    /// `{"registryId": …, "repositoryName": …}`. ECR Public's registry is that of the keys.
    pub(crate) fn repository(&self, name: &str) -> Value {
        let mut body = self.registry();
        body["repositoryName"] = name.into();
        body
    }

    /// `{"registryId": …}`: another account's when the name says so.
    pub(crate) fn registry(&self) -> Value {
        if self.place.is_public() {
            serde_json::json!({})
        } else {
            serde_json::json!({ "registryId": self.place.account })
        }
    }

    /// The error for a refusal of the API.
    pub(crate) fn refused(&self, answer: &Response, operation: &str, doing: &str) -> Error {
        let refusal = Refusal::of(answer);
        let status = answer.status();
        let place = &self.place;
        let said = if refusal.message.is_empty() { String::new() } else { format!(": {}", refusal.message) };
        let what = format!("could not {doing}");
        let keys = self.credential.source();
        let error = match refusal.kind.as_str() {
            "RepositoryNotFoundException" => {
                Error::not_found(format!("{what}{said}")).extra("missing", "repository")
            }
            "ImageNotFoundException"
            | "LifecyclePolicyNotFoundException"
            | "RegistryPolicyNotFoundException" => Error::not_found(format!("{what}{said}")),
            "AccessDeniedException" | "AccessDenied" | "UnauthorizedException" => {
                Error::denied(format!("{what}{said}; {}", permission(place, operation, &refusal.message)))
            }
            "ExpiredTokenException" | "ExpiredToken" => Error::unauthenticated(format!(
                "{what}: the AWS credentials from {keys} have expired{said}; get new ones (`aws sso login`, or the role again)"
            )),
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "MissingAuthenticationTokenException"
            | "MissingAuthenticationToken"
            | "IncompleteSignature"
            | "NotAuthorized" => Error::unauthenticated(format!(
                "{what}: AWS does not know the credentials from {keys}{said}; check the access key, and that they are of the \
                     partition that {} is in",
                place.region
            )),
            "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "RequestExpired"
            | "RequestExpiredException" => signature(answer, &refusal, &what, keys),
            "OptInRequired" => Error::denied(format!(
                "{what}: the account has not switched on the region {}{said}",
                place.region
            )),
            "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
                Error::rate_limited(format!("{what}: AWS limits how often this may be asked{said}"))
            }
            "ServerException" | "InternalFailure" | "ServiceUnavailable" | "InternalServerError" => {
                Error::unavailable(format!("{what}{said}"))
            }
            "LimitExceededException" => Error::invalid(format!(
                "{what}{said}; delete what is not needed, or ask for a higher quota (Service Quotas, Amazon ECR)"
            )),
            "KmsException" => Error::denied(format!("{what}{said}; {KMS}")),
            "UnsupportedCommandException" => Error::invalid(format!(
                "{what}{said}; the API of ECR Public answers in us-east-1 only, check the setting `endpoint-public`"
            )),
            "RepositoryNotEmptyException" => {
                Error::conflict(format!("{what}{said}; --force deletes its images too"))
            }
            "RepositoryAlreadyExistsException"
            | "ImageAlreadyExistsException"
            | "ImageTagAlreadyExistsException" => Error::conflict(format!("{what}{said}")),
            "InvalidParameterException"
            | "InvalidTagParameterException"
            | "ValidationException"
            | "SerializationException" => Error::invalid(format!("{what}{said}")),
            // No answer of AWS's.
            "" => return idp_provider_sdk::refusal::error(answer, doing),
            other => {
                let said = if said.is_empty() { format!(": {other}") } else { format!(": {other}{said}") };
                Error::new(idp_provider_sdk::refusal::kind(status), format!("{what}{said}"))
            }
        };
        let code = if error.code.is_empty() { refusal.kind } else { error.code.clone() };
        let error = error.code(code).status(status);
        match answer.retry_after_s() {
            Some(seconds) => error.retry_after_s(seconds),
            None => error,
        }
    }
}

/// What to grant for a customer's key.
pub(crate) const KMS: &str = "the repository is encrypted with a KMS key: grant kms:Decrypt, kms:GenerateDataKey and kms:DescribeKey on it, and see that it is enabled";

/// What an error body says: the type without its prefix, and the message.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    pub(crate) kind: String,
    pub(crate) message: String,
}

impl Refusal {
    fn of(answer: &Response) -> Self {
        Self::parse(&answer.text())
    }

    /// `{"__type":"com.amazonaws…#X","message":…}`; some services write `Message`, the query protocol `{"Error":{"Code","Message"}}`.
    pub(crate) fn parse(body: &str) -> Self {
        let document: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |keys: &[&str]| {
            let mut found = keys.iter().filter_map(|key| document.pointer(key)?.as_str());
            found.next().unwrap_or_default().to_owned()
        };
        let kind = text(&["/__type", "/Error/Code"]);
        let kind =
            kind.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
        Self { kind, message: text(&["/message", "/Message", "/Error/Message"]) }
    }
}

/// What an identity needs. The message names one action; who pushes needs them all.
fn permission(place: &Place, operation: &str, message: &str) -> String {
    let named = message.split_once("perform: ").and_then(|(_, rest)| rest.split_whitespace().next());
    let wanted = match named {
        // It takes both, and the message names one.
        _ if place.is_public() && operation == "GetAuthorizationToken" => {
            "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken".to_owned()
        }
        Some(action) => action.to_owned(),
        None => format!("{}:{operation}", place.service),
    };
    let resource = if operation == "GetAuthorizationToken" { " on resource *" } else { "" };
    let push = if invocation::operation() == "push" {
        format!("; a push needs {} on the repository as well", place.actions(PUSH))
    } else {
        String::new()
    };
    format!("allow {wanted}{resource} in the identity's policy{push}")
}

/// A signature that AWS does not accept: the clock, or the secret key.
fn signature(answer: &Response, refusal: &Refusal, what: &str, keys: &str) -> Error {
    let now = ambient::unix_time_ms() / 1000;
    let theirs = answer.header("date").as_deref().and_then(date::http);
    let apart = theirs.map(|theirs| theirs.abs_diff(now));
    let expired = refusal.message.contains("expired")
        || refusal.message.contains("not yet current")
        || refusal.kind.starts_with("RequestExpired");
    if expired || apart.is_some_and(|apart| apart > SKEW_S) {
        let by = apart
            .filter(|apart| *apart > SKEW_S)
            .map_or_else(String::new, |apart| format!(" (it is {} minutes away from AWS's)", apart / 60));
        return Error::unauthenticated(format!(
            "{what}: AWS takes the request for one of another time; check this machine's clock{by}: {}",
            refusal.message
        ))
        .code("clock-skew");
    }
    Error::unauthenticated(format!(
        "{what}: AWS does not accept the signature, so the secret access key from {keys} does not belong to its access key id: {}",
        refusal.message
    ))
}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn types_in_every_spelling() {
        for (body, kind, message) in [
            (r#"{"__type":"RepositoryNotFoundException","message":"m"}"#, "RepositoryNotFoundException", "m"),
            (
                r#"{"__type":"com.amazonaws.ecr#ThrottlingException","Message":"Rate exceeded"}"#,
                "ThrottlingException",
                "Rate exceeded",
            ),
            (r#"{"Error":{"Code":"ExpiredToken","Message":"m"}}"#, "ExpiredToken", "m"),
            (r#"{"__type":"KmsException:http://internal.amazon.com/"}"#, "KmsException", ""),
            ("<html>", "", ""),
            ("", "", ""),
        ] {
            let refusal = Refusal::parse(body);
            assert_eq!((refusal.kind.as_str(), refusal.message.as_str()), (kind, message), "{body}");
        }
    }
}
