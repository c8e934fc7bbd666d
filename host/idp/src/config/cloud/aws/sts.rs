//! Roles: requests to AWS STS, signed (AssumeRole) or with a token of another identity provider (AssumeRoleWithWebIdentity).

use ring::{digest, hmac};

use super::super::ask::{Ask, Reply, url};
use super::super::{CloudError, Tools, stamp};
use super::keys::Keys;

const STS: &str = "AWS STS";

/// A role to take on.
#[derive(Debug, Clone, Default)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) seconds: Option<String>,
}

impl Role {
    fn session(&self) -> &str {
        self.session.as_deref().unwrap_or("idp")
    }

    /// `arn:aws:iam::123456789012:role/x`
    fn account(&self) -> Option<String> {
        self.arn.split(':').nth(4).filter(|account| !account.is_empty()).map(str::to_owned)
    }
}

/// The suffix of AWS's names in the partition of a region.
pub(super) fn suffix(region: &str) -> &'static str {
    for (prefix, suffix) in [
        ("cn-", "amazonaws.com.cn"),
        ("us-isob-", "sc2s.sgov.gov"),
        ("us-isof-", "csp.hci.ic.gov"),
        ("eu-isoe-", "cloud.adc-e.uk"),
        ("us-iso-", "c2s.ic.gov"),
        ("eusc-", "amazonaws.eu"),
    ] {
        if region.starts_with(prefix) {
            return suffix;
        }
    }
    "amazonaws.com"
}

/// What the vendor's variables say instead of a service's usual address.
pub(super) fn override_of(tools: &Tools, service: &str) -> Option<String> {
    tools.env.named(&format!("AWS_ENDPOINT_URL_{service}")).or_else(|| tools.env.named("AWS_ENDPOINT_URL"))
}

fn endpoint(tools: &Tools, region: Option<&str>) -> String {
    override_of(tools, "STS").unwrap_or_else(|| match region {
        Some(region) => format!("https://sts.{region}.{}", suffix(region)),
        None => "https://sts.amazonaws.com".to_owned(),
    })
}

/// Takes a role with the token of another identity provider. Not signed: the token says who we are.
pub(super) async fn with_web_identity(
    tools: &Tools,
    role: &Role,
    token_file: &str,
    named: &str,
    region: Option<&str>,
) -> Result<Keys, CloudError> {
    let token = tools.read(token_file.as_ref(), named)?;
    let token = tools.secret(token.trim());
    let ask = Ask::post(url(STS, &endpoint(tools, region))?).form(&[
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", &role.arn),
        ("RoleSessionName", role.session()),
        ("WebIdentityToken", token.expose()),
    ]);
    let reply = tools.ask(STS, &ask).await?;
    let fix =
        format!("the role `{}` must trust the issuer and subject of the token in `{token_file}`", role.arn);
    Ok(keys(tools, role, &reply, fix)?.from(format!("AWS role {} by {named}", role.arn)))
}

/// Takes a role with keys.
pub(super) async fn assume(
    tools: &Tools,
    role: &Role,
    keys_of_source: &Keys,
    region: Option<&str>,
) -> Result<Keys, CloudError> {
    let mut form = vec![
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", role.arn.as_str()),
        ("RoleSessionName", role.session()),
    ];
    form.extend(role.external_id.as_deref().map(|id| ("ExternalId", id)));
    form.extend(role.seconds.as_deref().map(|seconds| ("DurationSeconds", seconds)));
    let ask = Ask::post(url(STS, &endpoint(tools, region))?).form(&form);
    let ask = sign(ask, keys_of_source, region.unwrap_or("us-east-1"), stamp::now());
    let reply = tools.ask(STS, &ask).await?;
    let fix = format!(
        "the identity from {} needs sts:AssumeRole on `{}`, and the role must trust it",
        keys_of_source.source, role.arn
    );
    Ok(keys(tools, role, &reply, fix)?.from(format!("AWS role {}", role.arn)))
}

fn keys(tools: &Tools, role: &Role, reply: &Reply, fix: String) -> Result<Keys, CloudError> {
    let text = reply.text();
    if !reply.is_ok() {
        let said = match (element(&text, "Code"), element(&text, "Message")) {
            (Some(code), Some(message)) => Some(format!("{code}: {message}")),
            (code, message) => code.or(message),
        };
        return Err(reply.refused(STS, said.as_deref(), fix));
    }
    let found = || {
        let (id, secret) = (element(&text, "AccessKeyId")?, element(&text, "SecretAccessKey")?);
        let token = element(&text, "SessionToken")?;
        Some(Keys {
            expires_at: element(&text, "Expiration").and_then(|at| stamp::unix(&at)),
            account: role.account(),
            ..Keys::new(tools, &id, &secret, Some(&token))
        })
    };
    found().ok_or_else(|| CloudError::Garbage { service: STS.to_owned() })
}

/// The text of the first element of a name. STS answers with a dozen flat elements that hold ASCII.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    Some(text.replace("&amp;", "&"))
}

/// Signature Version 4 of a POST of a form.
fn sign(ask: Ask, keys: &Keys, region: &str, at: u64) -> Ask {
    let (time, date) = stamp::basic(at);
    let host = &ask.url()[url::Position::BeforeHost..url::Position::AfterPort];
    let path = ask.url().path();
    let (mut headers, mut names) = (
        format!("content-type:application/x-www-form-urlencoded\nhost:{host}\nx-amz-date:{time}\n"),
        "content-type;host;x-amz-date".to_owned(),
    );
    if let Some(token) = &keys.token {
        headers.push_str(&format!("x-amz-security-token:{}\n", token.expose()));
        names.push_str(";x-amz-security-token");
    }
    let canonical = format!("POST\n{path}\n\n{headers}\n{names}\n{}", sha256(ask.body().as_bytes()));
    let scope = format!("{date}/{region}/sts/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let mut key = format!("AWS4{}", keys.secret.expose()).into_bytes();
    for part in [&date, region, "sts", "aws4_request"] {
        key = mac(&key, part);
    }
    let signature = hex(&mac(&key, &to_sign));
    let ask = ask.header("x-amz-date", &time).header(
        "authorization",
        &format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            keys.id
        ),
    );
    match &keys.token {
        Some(token) => ask.header("x-amz-security-token", token.expose()),
        None => ask,
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn sha256(data: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, data).as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Ask, element, sign, suffix};
    use crate::config::cloud::aws::keys::Keys;
    use crate::config::cloud::testing::Setting;

    /// The signatures are botocore's, over the same requests at the same time.
    #[test]
    fn signatures() {
        let tools = Setting::new(&[]).tools();
        for (token, expect) in [
            (None, "b5856a87d4626a698483ef74c68232a1a3c8c0827e2dfb86c1099212075dc793"),
            (Some("token/1+x=="), "64751e7378b783f94e091cf346bf908713c223129511e7d7f9b04bf2584cf353"),
        ] {
            let keys = Keys::new(&tools, "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token);
            let url = "https://sts.eu-west-1.amazonaws.com/".parse().expect("a URL");
            let form =
                [("Action", "AssumeRole"), ("Version", "2011-06-15"), ("RoleArn", "arn:aws:iam::1:role/x")];
            let ask = sign(Ask::post(url).form(&form), &keys, "eu-west-1", 1_795_580_373);
            let sent = ask.sent_header("authorization").expect("signed");
            assert!(sent.ends_with(&format!("Signature={expect}")), "{sent}");
            assert_eq!(ask.sent_header("x-amz-security-token"), token);
        }
    }

    #[test]
    fn answers_and_names() {
        let xml = "<A><Code>x</Code><Message>a &lt;b&gt; &amp;amp;</Message><Code>y</Code></A>";
        assert_eq!(element(xml, "Code").as_deref(), Some("x"));
        assert_eq!(element(xml, "Message").as_deref(), Some("a <b> &amp;"));
        assert_eq!(element(xml, "Other"), None);
        for (region, expect) in [
            ("eu-west-1", "amazonaws.com"),
            ("cn-north-1", "amazonaws.com.cn"),
            ("us-isob-east-1", "sc2s.sgov.gov"),
        ] {
            assert_eq!(suffix(region), expect);
        }
    }
}
