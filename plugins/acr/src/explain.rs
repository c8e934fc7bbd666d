//! What the registry's refusals mean: rights in two modes, closed networks, locked items, throttling, and Entra ID's own codes.

use idp_provider_sdk::invocation::Answer;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::refusal;
use idp_provider_sdk::standard::{self, explanation};

use crate::{api, login, naming};

/// Explains by Azure's table first, by the specification's after it.
pub(crate) fn explain() -> Result<Explanation> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is nothing to explain"))?;
    entra(&subject.body)
        .or_else(|| azure(&subject))
        .or_else(|| standard::explain(&subject))
        .ok_or_else(|| Error::unsupported("the registry's own text says it best"))
}

fn azure(answer: &Answer) -> Option<Explanation> {
    let registry = invocation::registry();
    let short = naming::short(&registry);
    let name = standard::repository(answer.path()).unwrap_or("the registry");
    let body = answer.body.as_str();
    let code = refusal::parse(body).into_iter().next().unwrap_or_default().code;
    let writes = !matches!(answer.method.as_str(), "GET" | "HEAD");
    Some(match (answer.status, code.as_str()) {
        (403, _) if body.contains("is not allowed access") || body.contains("aka.ms/acr/firewall") => {
            let address = address(body);
            explanation(
                "policy-blocked",
                match &address {
                    Some(address) => format!("{registry} lets nobody in from {address}"),
                    None => format!("{registry} lets nobody in from this network"),
                },
                "its network rules, or a private endpoint, close it to other addresses; logging in does not change that",
                &[
                    &format!(
                        "allow the address: `az acr network-rule add --name {short} --ip-address {}`",
                        address.as_deref().unwrap_or("ADDRESS")
                    ),
                    "run this where the registry can be reached: in its virtual network, or by its private endpoint",
                ],
            )
        }
        (403 | 405, _) if api::is_locked(body) => explanation(
            "immutable",
            format!("{name} is locked"),
            "writing or deleting is switched off for the repository, the tag or the manifest, or the registry is read-only (a cache or a \
             replica that is being made)",
            &[
                &api::unlock(standard::repository(answer.path()).unwrap_or("REPOSITORY")),
                &format!("see what is locked: `az acr repository show --name {short} --repository {name}`"),
                "push under another tag",
            ],
        ),
        (401, _) if invocation::credential("registry").is_none() => explanation(
            "not-logged-in",
            format!("{registry} does not know who is asking"),
            "there are no credentials for it, and anonymous pulls are switched off (or this is no pull)",
            &[
                &format!("run `az acr login --name {short}`, or `idp login {registry}`"),
                &format!(
                    "allow anonymous pulls (Standard and Premium): `az acr update --name {short} --anonymous-pull-enabled`"
                ),
            ],
        ),
        (401, _) if invocation::granted().is_empty() => explanation(
            "bad-credentials",
            format!("{registry} does not accept the credentials"),
            "they are wrong, have ended, or were switched off",
            &[
                &format!("run `az acr login --name {short}` again; what it stores ends within a few hours"),
                &format!(
                    "the admin user must be switched on: `az acr update --name {short} --admin-enabled true`"
                ),
                "a service principal's secret ends: make another with `az ad sp credential reset`",
            ],
        ),
        (401, _) | (403, "DENIED" | "UNAUTHORIZED" | "FORBIDDEN" | "") => explanation(
            "no-permission",
            format!("The account may not {} {name}", if writes { "write to" } else { "read" }),
            login::missing_role(writes),
            &[
                &format!(
                    "assign it: `az role assignment create --assignee ACCOUNT --role {} --scope $(az acr show --name {short} --query id --output tsv)`",
                    if writes { "AcrPush" } else { "AcrPull" }
                ),
                &format!("see the registry's mode: `az acr show --name {short} --query roleAssignmentMode`"),
                "a token for single repositories needs this one in its scope map",
            ],
        ),
        (404, "NAME_UNKNOWN") => explanation(
            "missing-repository",
            format!("{registry} has no repository {name}"),
            "it appears with the first push; an account without rights on it may be told the same",
            &["check the name with `idp list`", "push to it first"],
        ),
        (413, _) => explanation(
            "too-large",
            "The registry does not take something of this size",
            "a layer may have 200 GiB, a manifest 4 MiB",
            &["push with smaller layers"],
        ),
        (429, _) => {
            let wait = answer
                .header("retry-after")
                .map_or_else(String::new, |wait| format!("; it says to wait {wait} s"));
            let mut it = explanation(
                "throttled",
                format!("{registry} has had too many requests"),
                format!("operations a minute are limited by its tier (Basic least, Premium most){wait}"),
                &[
                    "try again later, with fewer jobs at a time",
                    &format!("take a larger tier: `az acr update --name {short} --sku Premium`"),
                ],
            );
            it.retryable = Some(true);
            it
        }
        _ => return None,
    })
}

/// `client with IP '1.2.3.4' is not allowed access`
fn address(body: &str) -> Option<String> {
    let (_, rest) = body.split_once("client with IP ")?;
    let text: String = rest
        .trim_start_matches(['\'', '"', '\\'])
        .chars()
        .take_while(|c| c.is_ascii_hexdigit() || matches!(c, '.' | ':'))
        .collect();
    (!text.is_empty()).then_some(text)
}

/// Entra ID's codes, wherever they are quoted.
fn entra(body: &str) -> Option<Explanation> {
    let at = body.find("AADSTS")?;
    let number: String = body[at + 6..].chars().take_while(char::is_ascii_digit).collect();
    let login = "run `az login` again, with `--tenant TENANT` where the account is of several";
    let (class, cause, fix) = match number.as_str() {
        "50034" | "50126" => ("bad-credentials", "there is no such user, or the password is wrong", login),
        "50053" => (
            "bad-credentials",
            "the account is locked after too many attempts",
            "wait, or ask the administrator of the tenant",
        ),
        "50057" => ("bad-credentials", "the account is disabled", "ask the administrator of the tenant"),
        "50076" | "50079" | "50158" => (
            "credentials-expired",
            "it wants a second factor, which only an interactive login can give",
            login,
        ),
        "50173" | "70008" | "70043" | "700082" | "700084" => {
            ("credentials-expired", "the login is too old", login)
        }
        "53003" | "530003" => (
            "policy-blocked",
            "a policy for conditional access forbids it from here",
            "use a device and a network that the tenant allows",
        ),
        "65001" => (
            "no-permission",
            "nobody has agreed that this application acts for the user",
            "have an administrator consent",
        ),
        "90002" => (
            "bad-credentials",
            "there is no such tenant",
            "check AZURE_TENANT_ID, and the cloud (`az cloud show`)",
        ),
        "700016" => (
            "bad-credentials",
            "the application is not of this tenant",
            "check AZURE_CLIENT_ID and AZURE_TENANT_ID",
        ),
        "7000215" => (
            "bad-credentials",
            "the client secret is wrong (its value is wanted, not its ID)",
            "check AZURE_CLIENT_SECRET",
        ),
        "7000222" => (
            "credentials-expired",
            "the client secret has ended",
            "make another with `az ad sp credential reset`",
        ),
        "700024" | "700027" => (
            "bad-credentials",
            "the assertion or its certificate is not valid now",
            "check the clock and the certificate",
        ),
        "70021" | "700211" | "700212" | "700213" => (
            "bad-credentials",
            "no federated credential fits the workload's issuer, subject and audience",
            "compare them with `az identity federated-credential list`",
        ),
        "500011" => (
            "bad-credentials",
            "the tenant does not know container registries under this name",
            "check the cloud (`az cloud show`)",
        ),
        _ => ("bad-credentials", "Entra ID gives no token", login),
    };
    Some(explanation(
        class,
        format!("Entra ID refused: AADSTS{number}"),
        cause,
        &[fix, &format!("look the code up at https://login.microsoftonline.com/error?code={number}")],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (body, expected) in [
            ("client with IP '203.0.113.7' is not allowed access", Some("203.0.113.7")),
            (r#"{"message":"denied: client with IP \"2001:db8::1\" is not allowed"}"#, Some("2001:db8::1")),
            ("client with IP  is not", None),
            ("nothing", None),
        ] {
            assert_eq!(address(body).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn codes_of_entra() {
        for (body, class) in [
            ("AADSTS7000215: Invalid client secret provided.", "bad-credentials"),
            ("x AADSTS50076: Due to a configuration change", "credentials-expired"),
            ("AADSTS53003: Access has been blocked", "policy-blocked"),
            ("AADSTS1: new", "bad-credentials"),
        ] {
            assert_eq!(entra(body).map(|it| it.class).as_deref(), Some(class), "{body}");
        }
        assert!(entra("nothing of that").is_none());
    }
}
