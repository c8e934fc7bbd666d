//! Keys from the platform that runs us: the endpoint of containers (ECS, EKS Pod Identity) and the metadata service of instances (IMDSv2).

use http::Method;

use super::super::ask::{Ask, is_near, url};
use super::super::{CloudError, Tools};
use super::keys::Keys;

const CONTAINER: &str = "AWS's container credential endpoint";
const INSTANCE: &str = "the EC2 instance metadata service";
/// Where containers of ECS find theirs; EKS names another in full.
const ECS: &str = "http://169.254.170.2";

/// Whether this container was given an endpoint.
pub(super) fn in_container(tools: &Tools) -> bool {
    tools.env.named("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").is_some()
        || tools.env.named("AWS_CONTAINER_CREDENTIALS_FULL_URI").is_some()
}

/// The keys of the task or pod; only when [`in_container`].
pub(super) async fn container(tools: &Tools) -> Result<Keys, CloudError> {
    let (address, named) = match tools.env.named("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        Some(path) => (format!("{ECS}{path}"), "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        None => (
            tools.env.named("AWS_CONTAINER_CREDENTIALS_FULL_URI").unwrap_or_default(),
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ),
    };
    let address = url(CONTAINER, &address)?;
    let near = is_near(&address);
    if !near && address.scheme() != "https" {
        return Err(CloudError::Entry {
            entry: format!("the variable {named}"),
            problem: "names a host that is not of this machine, without TLS".to_owned(),
            fix: "AWS sets it in its containers; elsewhere, unset it".to_owned(),
        });
    }
    let mut ask = Ask::get(address);
    if near {
        ask = ask.near();
    }
    let token = match tools.env.named("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(tools.read(file.as_ref(), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")?),
        None => tools.env.named("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    if let Some(token) = token {
        ask = ask.header("authorization", tools.secret(token.trim()).expose());
    }
    let reply = tools.ask(CONTAINER, &ask).await?;
    if !reply.is_ok() {
        let body = reply.json();
        let said = body["message"].as_str().or(body["code"].as_str());
        return Err(reply.refused(CONTAINER, said, "the task or pod needs a role: look at its definition"));
    }
    let keys = Keys::from_json(tools, &reply.json())
        .ok_or_else(|| CloudError::Garbage { service: CONTAINER.to_owned() })?;
    Ok(keys.from(format!("{CONTAINER} ({named})")))
}

/// The keys of the instance's role. Nothing when there is no instance, or it has no role.
pub(super) async fn instance(tools: &Tools) -> Result<Option<Keys>, CloudError> {
    if tools.env.named("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let base = match tools.env.named("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        Some(base) => base,
        None => match tools.env.named("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE") {
            Some(mode) if mode.eq_ignore_ascii_case("ipv6") => "http://[fd00:ec2::254]".to_owned(),
            _ => "http://169.254.169.254".to_owned(),
        },
    };
    let base = base.trim_end_matches('/');
    let roles = format!("{base}/latest/meta-data/iam/security-credentials/");
    let ask = Ask::new(Method::PUT, url(INSTANCE, &format!("{base}/latest/api/token"))?).near();
    // Nobody there, or something else than EC2: both are usual, outside of it.
    let token = match tools.send(&ask.header("x-aws-ec2-metadata-token-ttl-seconds", "21600")).await {
        Ok(reply) if reply.is_ok() => tools.secret(reply.text().trim()),
        Ok(reply) => {
            tracing::debug!(target: "idp::cloud", status = reply.status, "no token from the metadata service");
            return Ok(None);
        }
        Err(why) => {
            tracing::debug!(target: "idp::cloud", "no metadata service: {why}");
            return Ok(None);
        }
    };
    let get = |text: &str| {
        Ok(Ask::get(url(INSTANCE, text)?).near().header("x-aws-ec2-metadata-token", token.expose()))
    };
    let reply = tools.ask(INSTANCE, &get(&roles)?).await?;
    let role = reply.text().lines().next().unwrap_or_default().trim().to_owned();
    if !reply.is_ok() || role.is_empty() {
        return Ok(None);
    }
    let reply = tools.ask(INSTANCE, &get(&format!("{roles}{role}"))?).await?;
    let body = reply.json();
    let fix = format!("look at the role `{role}` of the instance");
    if !reply.is_ok() {
        return Err(reply.refused(INSTANCE, body["Message"].as_str(), fix));
    }
    if let Some(code) = body["Code"].as_str().filter(|code| *code != "Success") {
        return Err(reply.refused(INSTANCE, Some(code), fix));
    }
    let keys =
        Keys::from_json(tools, &body).ok_or_else(|| CloudError::Garbage { service: INSTANCE.to_owned() })?;
    Ok(Some(keys.from(format!("{INSTANCE} (role {role})"))))
}
