//! Names: the host says most, a regional one is a registry, and one of the blobs is none.

use idp_provider_sdk::prelude::*;

/// The registry's short name, which the tools of Azure want: `team` of `team.azurecr.io`.
pub(crate) fn short(registry: &str) -> &str {
    registry.split('.').next().unwrap_or(registry)
}

/// `team.azurecr.io` of `team.westeurope.data.azurecr.io` and `team.westeurope.geo.azurecr.io`, with the word between.
fn regional(registry: &str) -> Option<(String, &str)> {
    let mut labels = registry.split('.');
    let (name, _region, kind) = (labels.next()?, labels.next()?, labels.next()?);
    let rest: Vec<&str> = labels.collect();
    (matches!(kind, "data" | "geo") && rest.first() == Some(&"azurecr"))
        .then(|| (format!("{name}.{}", rest.join(".")), kind))
}

/// Repositories are as the specification has them; hosts are not all registries.
pub(crate) fn normalize(repository: &str) -> Result<WireName> {
    let registry = invocation::registry();
    let mut keys = vec![registry.clone()];
    match regional(&registry) {
        Some((login_server, "data")) => {
            return Err(Error::invalid(format!(
                "{registry} only sends the blobs of {login_server}; the registry is {login_server}/{repository}"
            ))
            .code("data-endpoint"));
        }
        // What `az acr login` stored is the whole registry's.
        Some((login_server, _)) => keys.push(login_server),
        None => {}
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let message = format!("{registry} refuses upper case in `{repository}`; write it in lower case");
        return Err(Error::invalid(message).code("NAME_INVALID"));
    }
    Ok(WireName {
        display: format!("{registry}/{repository}"),
        host: registry,
        repository: repository.to_owned(),
        credential_keys: keys,
        warnings: Vec::new(),
        extra: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regional_hosts() {
        for (host, expected) in [
            ("team.westeurope.data.azurecr.io", Some(("team.azurecr.io", "data"))),
            ("team.westeurope.geo.azurecr.io", Some(("team.azurecr.io", "geo"))),
            ("team.azurecr.io", None),
            ("team.azurecr.cn", None),
            ("registry.corp.data.example", None),
        ] {
            let found = regional(host);
            assert_eq!(found.as_ref().map(|(server, kind)| (server.as_str(), *kind)), expected, "{host}");
        }
        assert_eq!(short("team.azurecr.io"), "team");
    }
}
