//! Repositories by the API. They are made before the first push; at ECR Public only in the registry of one's own account, whose
//! alias the name must begin with.

use idp_provider_sdk::pairs as list;
use idp_provider_sdk::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Api, PAGE_MAX};
use crate::{date, naming};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Described {
    repository_name: String,
    repository_uri: String,
    created_at: Option<f64>,
    image_tag_mutability: String,
    encryption_configuration: Encryption,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Encryption {
    encryption_type: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    repositories: Vec<Described>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    repository: Described,
}

fn read<T: serde::de::DeserializeOwned>(value: Value, operation: &str) -> Result<T> {
    serde_json::from_value(value).map_err(|error| {
        Error::unavailable(format!("the answer of {operation} is not what it should be: {error}"))
            .code("unexpected-body")
    })
}

/// The name as references have it: at ECR Public with the alias.
fn full_name(api: &Api, described: &Described) -> String {
    let uri = described.repository_uri.split_once('/').map(|(_, rest)| rest);
    match uri {
        Some(name) if api.place.is_public() => name.to_owned(),
        _ => described.repository_name.clone(),
    }
}

fn repository(api: &Api, described: &Described, state: &str) -> Repository {
    let mut extra = pairs([("state", state)]);
    extra.extend(pairs([("visibility", if api.place.is_public() { "public" } else { "private" })]));
    extra.extend(described.created_at.and_then(date::rfc3339).map(|at| ("created-at".to_owned(), at)));
    if !described.image_tag_mutability.is_empty() {
        let immutable = described.image_tag_mutability.starts_with("IMMUTABLE");
        extra.extend(pairs([("immutable", immutable.to_string())]));
    }
    let encryption = &described.encryption_configuration.encryption_type;
    if !encryption.is_empty() {
        extra.extend(pairs([("encryption", encryption.as_str())]));
    }
    Repository { name: full_name(api, described), extra }
}

/// One repository by its name.
fn describe(api: &Api, name: &str, doing: &str) -> Result<Described> {
    let mut body = api.registry();
    body["repositoryNames"] = json!([naming::in_api(&api.place, name)?]);
    let page: Page = read(api.ask("DescribeRepositories", &body, doing)?, "DescribeRepositories")?;
    let found = page.repositories.into_iter().next();
    let found = found.filter(|found| !api.place.is_public() || full_name(api, found) == name);
    found.ok_or_else(|| {
        Error::not_found(format!("could not {doing}: {} has no repository {name}", invocation::registry()))
            .code("RepositoryNotFoundException")
            .extra("missing", "repository")
            .extra("name", name)
    })
}

/// The aliases of the account's own public registry.
fn aliases(api: &Api, doing: &str) -> Result<Vec<String>> {
    #[derive(Debug, Deserialize)]
    struct Registries {
        registries: Vec<Registry>,
    }
    #[derive(Debug, Deserialize)]
    struct Registry {
        #[serde(rename = "registryUri", default)]
        uri: String,
        #[serde(default)]
        aliases: Vec<Alias>,
    }
    #[derive(Debug, Deserialize)]
    struct Alias {
        name: String,
    }
    let found: Registries = read(api.ask("DescribeRegistries", &json!({}), doing)?, "DescribeRegistries")?;
    let mut names = Vec::new();
    for registry in found.registries {
        names.extend(registry.uri.split_once('/').map(|(_, alias)| alias.to_owned()));
        names.extend(registry.aliases.into_iter().map(|alias| alias.name));
    }
    Ok(names)
}

/// The API of ECR Public knows one's own registry only: an alias of somebody else's must not be taken for it.
pub(crate) fn own_alias(api: &Api, name: &str, doing: &str) -> Result<()> {
    let Some((alias, _)) = naming::split(name).filter(|_| api.place.is_public()) else { return Ok(()) };
    let own = aliases(api, doing)?;
    if own.iter().any(|mine| mine == alias) {
        return Ok(());
    }
    Err(Error::denied(format!(
        "could not {doing}: the alias `{alias}` is not one of the account that the AWS credentials from {} are of (its own: {})",
        api.credential().source(),
        own.join(", ")
    ))
    .code("foreign-alias"))
}

/// Makes a repository that a push did not find. Somebody else may have been faster.
pub(crate) fn ensure(name: &str, options: &Pairs) -> Result<Repository> {
    let doing = format!("create the repository {name}");
    let api = Api::open(&doing)?;
    if !api.place.is_public() && list::get(options, "visibility") == Some("public") {
        return Err(Error::invalid(format!(
            "could not {doing}: repositories of {} are private; public ones are at public.ecr.aws",
            invocation::registry()
        ))
        .code("visibility"));
    }
    own_alias(&api, name, &doing)?;
    if invocation::dry_run() {
        let look = format!("look for the repository {name}");
        return match describe(&api, name, &look) {
            Ok(found) => Ok(repository(&api, &found, "exists")),
            Err(error) if error.kind == ErrorKind::NotFound => {
                Ok(Repository { name: name.to_owned(), extra: pairs([("state", "created")]) })
            }
            Err(error) => Err(error),
        };
    }
    let body = creation(&api, name, options)?;
    match api.ask("CreateRepository", &body, &doing) {
        Ok(answer) => {
            let made: Made = read(answer, "CreateRepository")?;
            Ok(repository(&api, &made.repository, "created"))
        }
        Err(error) if error.code == "RepositoryAlreadyExistsException" => {
            Ok(Repository { name: name.to_owned(), extra: pairs([("state", "exists")]) })
        }
        Err(error) => Err(error),
    }
}

fn creation(api: &Api, name: &str, options: &Pairs) -> Result<Value> {
    let mut body = api.repository(naming::in_api(&api.place, name)?);
    if api.place.is_public() {
        if let Some(description) = list::get(options, "description") {
            body["catalogData"] = json!({ "description": description });
        }
        return Ok(body);
    }
    match invocation::setting("tag-mutability").as_deref() {
        None => {}
        Some(value @ ("MUTABLE" | "IMMUTABLE")) => body["imageTagMutability"] = value.into(),
        Some(other) => {
            return Err(Error::invalid(format!(
                "the setting `tag-mutability` is MUTABLE or IMMUTABLE, not `{other}` (exclusions need filters, which a repository \
                 creation template has)"
            ))
            .code("setting"));
        }
    }
    match invocation::setting("encryption").as_deref() {
        None => {}
        Some(kind @ ("AES256" | "KMS" | "KMS_DSSE")) => {
            body["encryptionConfiguration"] = json!({ "encryptionType": kind })
        }
        Some(key) => body["encryptionConfiguration"] = json!({ "encryptionType": "KMS", "kmsKey": key }),
    }
    if invocation::setting("scan-on-push").as_deref() == Some("true") {
        body["imageScanningConfiguration"] = json!({ "scanOnPush": true });
    }
    Ok(body)
}

/// What the API tells of a repository.
pub(crate) fn info(name: &str) -> Result<Repository> {
    let doing = format!("look at {name}");
    let api = Api::open(&doing)?;
    Ok(repository(&api, &describe(&api, name, &doing)?, "exists"))
}

/// A page of the registry's repositories; at ECR Public of one's own.
pub(crate) fn list_page(filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    let doing = "list the repositories";
    let api = Api::open(doing)?;
    let mut body = api.registry();
    body["maxResults"] = limit.clamp(1, PAGE_MAX).into();
    if let Some(cursor) = cursor {
        body["nextToken"] = cursor.into();
    }
    let page: Page = read(api.ask("DescribeRepositories", &body, doing)?, "DescribeRepositories")?;
    let namespace =
        list::get(filter, "namespace").map(|namespace| format!("{}/", namespace.trim_end_matches('/')));
    let wanted = |repository: &Repository| {
        namespace.as_ref().is_none_or(|prefix| repository.name.starts_with(prefix.as_str()))
            && list::get(filter, "query").is_none_or(|query| repository.name.contains(query))
    };
    let items = page.repositories.iter().map(|described| {
        let mut item = repository(&api, described, "exists");
        item.extra.retain(|(key, _)| key != "state");
        item
    });
    Ok(RepositoryPage { items: items.filter(wanted).collect(), next: page.next_token, extra: Vec::new() })
}

/// Deletes a repository; its images only with `force`.
pub(crate) fn delete(api: &Api, name: &str, force: bool) -> Result<()> {
    let doing = format!("delete the repository {name}");
    own_alias(api, name, &doing)?;
    let mut body = api.repository(naming::in_api(&api.place, name)?);
    if invocation::dry_run() {
        describe(api, name, &doing)?;
        body["maxResults"] = 1.into();
        let images = api.ask("DescribeImages", &body, &doing)?;
        let empty = images["imageDetails"].as_array().is_none_or(Vec::is_empty);
        if !empty && !force {
            return Err(Error::conflict(format!(
                "could not {doing}: it has images; --force deletes them too"
            ))
            .code("RepositoryNotEmptyException"));
        }
        return Ok(());
    }
    body["force"] = force.into();
    api.ask("DeleteRepository", &body, &doing).map(|_| ())
}
