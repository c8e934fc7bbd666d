//! What a registry is and whom it takes us for: the product with its evidence, the credential, the account, what is left of rate limits.

use idp_oci::client::Kind;
use idp_oci::client::dialect::ErrorKind;

use super::{Check, Diagnosis, Origin, Status, kind};
use crate::ops::session::Session;
use crate::provider::{Evidence, Selection};

/// Which product, and how that is known.
pub(super) fn product(found: &mut Diagnosis, selection: &Selection) {
    let manifest = &selection.provider.manifest;
    let identified = selection.evidence.iter().rev().find_map(|evidence| match evidence {
        Evidence::Identified { product, .. } if !product.is_empty() => Some(product.clone()),
        _ => None,
    });
    let known = manifest.display_name.clone().unwrap_or_else(|| manifest.name.clone());
    let product = identified.unwrap_or(known);
    let evidence: Vec<String> = selection.evidence.iter().map(ToString::to_string).collect();
    let said = format!("{product}, through provider {} ({})", manifest.label(), selection.provider.source);
    found.add(Check::ok("product", [vec![said], evidence].concat().join("\n")).value(product));
    for (grant, allowed) in selection.grants.lines() {
        if !allowed {
            let check = Check::new(
                "grant",
                Status::Warn,
                Origin::Configuration,
                format!("the provider may not: {grant}"),
            );
            found.add(
                check.next(format!("allow it with --grant '{grant}', if you trust the provider with it")),
            );
        }
    }
}

/// Where the credential comes from.
pub(super) fn credential(found: &mut Diagnosis, session: &Session) {
    let check = match session.credential_source() {
        Some(source) => Check::ok("credential", format!("from {source}")).value(source.as_str()),
        None => Check::ok("credential", "none: anonymous"),
    };
    found.add(check.origin(Origin::Configuration));
}

/// Whom the registry takes us for; whether it let us in.
pub(super) async fn account(found: &mut Diagnosis, session: &Session) -> bool {
    const NAME: &str = "account";
    let answer = session.whoami().await;
    // Some credentials are looked for when they are asked for, and not before.
    credential(found, session);
    let anonymous = session.credential_source().is_none();
    let login = format!("idp login {}", found.registry);
    match answer {
        Ok(facts) => {
            let account = facts.get("account").cloned();
            let mut said = match (&account, anonymous) {
                (Some(account), _) => account.clone(),
                (None, true) => "nobody in particular: the registry lets everybody in".to_owned(),
                (None, false) => {
                    "the registry accepts the credential, and does not say whose it is".to_owned()
                }
            };
            for (key, words) in [("kind", "a"), ("expires-at", "until"), ("scopes", "with the scopes")] {
                if let Some(value) = facts.get(key) {
                    said.push_str(&format!(", {words} {value}"));
                }
            }
            let check = Check::ok(NAME, said);
            found.add(match account {
                Some(account) => check.value(account),
                None => check,
            });
            if let Some(warning) = facts.get("warning") {
                let check = Check::new("advice", Status::Warn, Origin::Provider, warning.clone());
                found.add(check);
            }
            true
        }
        Err(error) if anonymous && kind(&error) == Kind::Auth => {
            let said = "nobody: the registry asks for a login, and there is no credential for it";
            found.add(Check::warn(NAME, said, login));
            false
        }
        Err(error) => {
            let text = error.to_string();
            let check = Check::fail(NAME, kind(&error), text.lines().next().unwrap_or_default());
            let next = match kind(&error) {
                Kind::Auth => {
                    format!("the credential is from {}; give another one: {login}", source(session))
                }
                Kind::Transient => "the registry may be better a moment later; its log knows more".to_owned(),
                _ => "--log-level debug shows every request".to_owned(),
            };
            found.add(check.next(next));
            false
        }
    }
}

fn source(session: &Session) -> String {
    session.credential_source().unwrap_or_else(|| "nowhere".to_owned())
}

/// What is left of what the registry lets us ask.
pub(super) async fn limits(found: &mut Diagnosis, session: &Session) {
    const NAME: &str = "rate-limit";
    let limits = match session.limits().await {
        Ok(limits) => limits,
        Err(error) if error.kind == ErrorKind::Unsupported => return,
        Err(error) => {
            found.add(Check::unknown(NAME, error.message));
            return;
        }
    };
    for limit in limits {
        let get = |key: &str| limit.get(key).map(String::as_str);
        let name = get("name").unwrap_or("requests");
        let mut said = match (get("remaining"), get("limit")) {
            (Some(left), Some(limit)) => format!("{name}: {left} of {limit} left"),
            (Some(left), None) => format!("{name}: {left} left"),
            (None, Some(limit)) => format!("{name}: {limit}"),
            (None, None) => format!("{name}: none that it tells of"),
        };
        if let Some(reset) = get("reset-s") {
            said.push_str(&format!(", full again in {reset} s"));
        }
        let number = |key: &str| get(key).and_then(|text| text.parse::<u64>().ok());
        let check = match (number("remaining"), number("limit")) {
            (Some(0), _) => {
                Check::fail(NAME, Kind::Transient, said).next("wait, or log in for a higher limit")
            }
            (Some(left), Some(limit)) if left < limit / 10 => {
                Check::warn(NAME, said, "pull less, log in for a higher limit, or put a mirror in between")
            }
            _ => Check::ok(NAME, said),
        };
        found.add(match get("remaining") {
            Some(left) => check.value(left),
            None => check,
        });
    }
}
