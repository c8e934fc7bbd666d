//! Names that ECR takes (models of ecr and ecr-public): lower case, separators between letters and digits; ECR Public's begin with
//! an alias.

use idp_provider_sdk::prelude::*;

use crate::place::Place;

/// The allowed shape of a part of a private repository's name, and of a public one's.
pub(crate) const PRIVATE: &str = "[a-z0-9]+((.|_|__|-+)[a-z0-9]+)*";
/// See [`PRIVATE`].
pub(crate) const PUBLIC: &str = "[a-z0-9]+([._-][a-z0-9]+)*";

const PRIVATE_LENGTH: std::ops::RangeInclusive<usize> = 2..=256;
const PUBLIC_LENGTH: std::ops::RangeInclusive<usize> = 2..=205;

/// Whether a part of a path fits; `single` allows one separator between letters and digits only.
fn is_component(part: &str, single: bool) -> bool {
    let bytes = part.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = bytes.split(alphanumeric).skip(1);
    let inner: Vec<&[u8]> = separators.collect();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(first)
        && alphanumeric(last)
        && inner.iter().filter(|separator| !separator.is_empty()).all(|separator| match separator {
            [b'.' | b'_' | b'-'] => true,
            [b'_', b'_'] => !single,
            dashes => !single && dashes.iter().all(|byte| *byte == b'-'),
        })
}

/// The alias and the repository of a name at ECR Public.
pub(crate) fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('/').filter(|(alias, repository)| !alias.is_empty() && !repository.is_empty())
}

/// What the API calls a repository: at ECR Public without the alias.
pub(crate) fn in_api<'a>(place: &Place, name: &'a str) -> Result<&'a str> {
    if !place.is_public() {
        return Ok(name);
    }
    split(name).map(|(_, repository)| repository).ok_or_else(|| no_alias(name))
}

fn no_alias(name: &str) -> Error {
    let registry = invocation::registry();
    Error::invalid(format!(
        "`{name}` names no alias: at {registry} it is {registry}/ALIAS/{name}, with the alias of an account's public registry \
         (`aws ecr-public describe-registries` says yours)"
    ))
    .code("alias-missing")
}

/// Checks what the registry would refuse.
pub(crate) fn normalize(repository: &str) -> Result<WireName> {
    let registry = invocation::registry();
    let place = Place::of(&registry);
    if place.is_none() && registry.contains(".dkr.ecr") && invocation::setting("account").is_none() {
        return Err(Error::invalid(format!(
            "`{registry}` is no registry of ECR: it is ACCOUNT.dkr.ecr.REGION.amazonaws.com, with an account of twelve digits"
        ))
        .code("unknown-registry"));
    }
    let public = place.as_ref().is_some_and(Place::is_public)
        || (place.is_none() && invocation::setting("product").as_deref() == Some("public"));
    let (name, pattern, length) = if public {
        let (_, name) = split(repository).ok_or_else(|| no_alias(repository))?;
        (name, PUBLIC, PUBLIC_LENGTH)
    } else {
        (repository, PRIVATE, PRIVATE_LENGTH)
    };
    let refused = |why: String| {
        Error::invalid(format!("{registry} refuses `{repository}`: {why}")).code("NAME_INVALID")
    };
    if !length.contains(&name.len()) {
        return Err(refused(format!(
            "a repository's name has {} to {} characters",
            length.start(),
            length.end()
        )));
    }
    if let Some(part) = name.split('/').find(|part| !is_component(part, public)) {
        return Err(refused(format!("`{part}` does not fit {pattern}")));
    }
    // A login of one name of a registry opens it by the others too.
    let mut keys = vec![registry.clone()];
    if let Some(classic) = classic(&registry).filter(|classic| *classic != registry) {
        keys.push(classic);
    }
    Ok(WireName {
        display: format!("{registry}/{repository}"),
        credential_keys: keys,
        host: registry,
        repository: repository.to_owned(),
        warnings: Vec::new(),
        extra: Vec::new(),
    })
}

/// The name under which `docker login` usually knows a registry that has several.
fn classic(registry: &str) -> Option<String> {
    if registry == "ecr-public.aws.com" {
        return Some("public.ecr.aws".to_owned());
    }
    let place = Place::of(registry)?;
    let suffix = match registry {
        name if name.ends_with(".on.aws") => "amazonaws.com",
        name if name.ends_with(".on.amazonwebservices.com.cn") => "amazonaws.com.cn",
        _ => return None,
    };
    Some(format!("{}.dkr.ecr.{}.{suffix}", place.account, place.region))
}

#[cfg(test)]
mod tests {
    use super::is_component;

    #[test]
    fn parts_of_a_name() {
        for (part, private, public) in [
            ("app", true, true),
            ("a.b-c_d", true, true),
            ("a__b", true, false),
            ("a---b", true, false),
            ("a..b", false, false),
            ("a___b", false, false),
            ("a_-b", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("App", false, false),
            ("", false, false),
            ("ä", false, false),
        ] {
            assert_eq!(is_component(part, false), private, "{part}");
            assert_eq!(is_component(part, true), public, "{part}");
        }
    }
}
