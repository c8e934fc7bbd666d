//! AWS Signature Version 4 over handles: the secret key goes through a chain of HMACs in the host, and no byte of it, of the
//! signature or of a session token comes here. Canonical request, string to sign and key are those of AWS's documentation
//! ("Create a signed AWS API request").

use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::link;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::secret::Encoding;

use crate::date;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const MAC: &str = "hmac-sha256";

/// Long-lived or temporary keys.
#[derive(Debug)]
pub(crate) struct Keys<'a> {
    id: &'a Secret,
    secret: &'a Secret,
    session_token: Option<&'a Secret>,
}

impl<'a> Keys<'a> {
    /// The keys of a credential of kind `aws-keys`.
    pub(crate) fn of(credential: &'a Credential) -> Option<Self> {
        (credential.kind == "aws-keys").then_some(())?;
        Some(Self {
            id: credential.secret("access-key-id")?,
            secret: credential.secret("secret-access-key")?,
            session_token: credential.secret("session-token"),
        })
    }
}

/// What is sent to a service.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// Of the service, without a path: all is `POST /` there; a path of the user's stands before it.
    pub(crate) endpoint: &'a str,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
    pub(crate) content_type: &'a str,
    /// `x-amz-target`, which the query protocol does not have.
    pub(crate) target: Option<&'a str>,
    pub(crate) body: String,
}

/// The signed request, at the time of the call.
pub(crate) fn sign<'a>(call: &Call<'a>, keys: &Keys<'a>) -> Result<Request<'a>> {
    let now = date::basic(ambient::unix_time_ms() / 1000);
    let day = &now[..8];
    let url = format!("{}/", call.endpoint);
    let scope = format!("{day}/{}/{}/aws4_request", call.region, call.service);

    // In the order of their names, as the canonical request wants them.
    let mut signed = vec!["content-type", "host", "x-amz-date"];
    signed.extend(keys.session_token.map(|_| "x-amz-security-token"));
    signed.extend(call.target.map(|_| "x-amz-target"));
    let signed = signed.join(";");

    let payload = hex_digest([text(&*call.body)])?;
    let mut canonical = vec![text(format!(
        "POST\n{}\n\ncontent-type:{}\nhost:{}\nx-amz-date:{now}\n",
        link::path(&url),
        call.content_type,
        host(&url)
    ))];
    if let Some(token) = keys.session_token {
        canonical.extend([text("x-amz-security-token:"), secret(token), text("\n")]);
    }
    if let Some(target) = call.target {
        canonical.push(text(format!("x-amz-target:{target}\n")));
    }
    canonical.extend([text(format!("\n{signed}\n")), secret(&payload)]);
    let canonical = hex_digest(canonical)?;

    let key = Secret::assemble([text("AWS4"), secret(keys.secret)]);
    let key = [day, call.region, call.service, "aws4_request"]
        .into_iter()
        .try_fold(key, |key, part| key.mac(MAC, [text(part)]))?;
    let to_sign = [text(format!("{ALGORITHM}\n{now}\n{scope}\n")), secret(&canonical)];
    let signature = key.mac(MAC, to_sign)?.encode(Encoding::Hex)?;

    let mut request = Request::post(url).header("content-type", call.content_type).header("x-amz-date", now);
    if let Some(token) = keys.session_token {
        request = request.header_segments("x-amz-security-token", [secret(token)]);
    }
    if let Some(target) = call.target {
        request = request.header("x-amz-target", target);
    }
    let authorization = [
        text(format!("{ALGORITHM} Credential=")),
        secret(keys.id),
        text(format!("/{scope}, SignedHeaders={signed}, Signature=")),
        Segment::Owned(signature),
    ];
    Ok(request.header_segments("authorization", authorization).body(call.body.clone()))
}

fn hex_digest<'s>(data: impl IntoIterator<Item = Segment<'s>>) -> Result<Secret> {
    Secret::digest("sha256", data)?.encode(Encoding::Hex)
}

/// Host and port as the `Host` header has them: without the scheme's own port.
fn host(url: &str) -> String {
    let origin = link::origin(url).to_ascii_lowercase();
    let (scheme, host) = origin.split_once("://").unwrap_or(("https", &origin));
    let default = if scheme == "http" { ":80" } else { ":443" };
    host.strip_suffix(default).unwrap_or(host).to_owned()
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn the_port_is_signed_only_when_it_is_sent() {
        for (url, expected) in [
            ("https://api.ecr.eu-west-1.amazonaws.com/", "api.ecr.eu-west-1.amazonaws.com"),
            ("https://API.example:443/", "api.example"),
            ("http://127.0.0.1:5000/", "127.0.0.1:5000"),
            ("http://127.0.0.1:80/x", "127.0.0.1"),
            ("https://api.example:80/", "api.example:80"),
        ] {
            assert_eq!(host(url), expected, "{url}");
        }
    }
}
