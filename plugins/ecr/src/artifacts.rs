//! Images and tags by the API: the distribution API's DELETE is not dependable at ECR. Deleting a tag leaves the image its other tags;
//! deleting a digest takes them all.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, pairs as list};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Api, PAGE_MAX};
use crate::sigv4::Keys;
use crate::{date, naming, repositories};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    image_digest: String,
    image_tags: Vec<String>,
    image_size_in_bytes: Option<u64>,
    image_pushed_at: Option<f64>,
    last_recorded_pull_time: Option<f64>,
    image_manifest_media_type: String,
    artifact_media_type: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Images {
    #[serde(default)]
    image_details: Vec<Image>,
    next_token: Option<String>,
}

/// ECR Public lists by tag.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageTags {
    #[serde(default)]
    image_tag_details: Vec<TagDetail>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TagDetail {
    image_tag: String,
    #[serde(default)]
    image_detail: Image,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    #[serde(default)]
    failures: Vec<Failure>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    #[serde(default)]
    failure_code: String,
    #[serde(default)]
    failure_reason: String,
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| {
        Error::unavailable(format!("the API's answer is not what it should be: {error}"))
            .code("unexpected-body")
    })
}

fn tag(name: String, image: &Image) -> Tag {
    let mut extra = pairs([("source", "api")]);
    let texts = [
        ("size", image.image_size_in_bytes.map(|size| size.to_string())),
        ("media-type", Some(image.image_manifest_media_type.clone()).filter(|text| !text.is_empty())),
        ("artifact-type", Some(image.artifact_media_type.clone()).filter(|text| !text.is_empty())),
        ("pushed-at", image.image_pushed_at.and_then(date::rfc3339)),
        ("pulled-at", image.last_recorded_pull_time.and_then(date::rfc3339)),
    ];
    extra.extend(texts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    let digest = Some(image.image_digest.clone()).filter(|digest| !digest.is_empty());
    Tag { name, digest, extra }
}

/// A page of tags. Without AWS keys, and for repositories of others at ECR Public, the registry's own list is what there is.
pub(crate) fn list_page(
    repository: &str,
    filter: &Pairs,
    limit: u32,
    cursor: Option<&str>,
) -> Result<TagPage> {
    let keys = invocation::credential("registry").is_some_and(|credential| Keys::of(&credential).is_some());
    if !keys {
        return Err(
            Error::unsupported("the registry's own list of tags needs no AWS keys").code("no-aws-keys")
        );
    }
    let doing = format!("list the tags of {repository}");
    let api = Api::open(&doing)?;
    let public = api.place.is_public();
    if public && cursor.is_none() && repositories::own_alias(&api, repository, &doing).is_err() {
        return Err(Error::unsupported("the API knows the repositories of one's own account only")
            .code("foreign-alias"));
    }
    let mut body = api.repository(naming::in_api(&api.place, repository)?);
    body["maxResults"] = limit.clamp(1, PAGE_MAX).into();
    if let Some(cursor) = cursor {
        body["nextToken"] = cursor.into();
    }
    let wanted = |tag: &Tag| list::get(filter, "query").is_none_or(|query| tag.name.contains(query));
    let (items, next): (Vec<Tag>, _) = if public {
        let page: ImageTags = read(api.ask("DescribeImageTags", &body, &doing)?)?;
        let tags = page.image_tag_details.into_iter();
        (tags.map(|detail| tag(detail.image_tag, &detail.image_detail)).collect(), page.next_token)
    } else {
        body["filter"] = json!({ "tagStatus": "TAGGED" });
        let page: Images = read(api.ask("DescribeImages", &body, &doing)?)?;
        let of =
            |image: &Image| image.image_tags.iter().map(|name| tag(name.clone(), image)).collect::<Vec<_>>();
        (page.image_details.iter().flat_map(of).collect(), page.next_token)
    };
    Ok(TagPage { items: items.into_iter().filter(wanted).collect(), next, extra: Vec::new() })
}

/// Removes a tag, an image with all of its tags, or the repository.
pub(crate) fn remove(repository: &str, target: &Target, options: &Pairs) -> Result<Removal> {
    let api = Api::open(&format!("delete from {repository}"))?;
    match target {
        Target::Tag(tag) => remove_tag(&api, repository, tag),
        Target::Digest(digest) => remove_digest(&api, repository, digest, options),
        Target::Everything => {
            repositories::delete(&api, repository, list::flag(options, "force"))?;
            Ok(removal(repository.to_owned(), Vec::new()))
        }
    }
}

fn remove_tag(api: &Api, repository: &str, tag: &str) -> Result<Removal> {
    let doing = format!("delete {repository}:{tag}");
    let id = json!({ "imageTag": tag });
    let image = find(api, repository, &id, &doing)?;
    if !invocation::dry_run() {
        delete(api, repository, &id, &doing)?;
    }
    let mut removal = removal(tag.to_owned(), Vec::new());
    if image.image_tags.iter().all(|other| other == tag) {
        let note = format!(
            "it was the last tag of {}, and ECR deletes an image with its last tag",
            image.image_digest
        );
        removal.extra.push(("note".to_owned(), note));
    }
    Ok(removal)
}

fn remove_digest(api: &Api, repository: &str, digest: &str, options: &Pairs) -> Result<Removal> {
    let doing = format!("delete {repository}@{digest}");
    let id = json!({ "imageDigest": digest });
    let image = find(api, repository, &id, &doing)?;
    distribution::spare_siblings(repository, digest, &image.image_tags, options)?;
    if !invocation::dry_run() {
        delete(api, repository, &id, &doing)?;
    }
    Ok(removal(digest.to_owned(), image.image_tags))
}

/// The image behind a tag or a digest, with all of its tags.
fn find(api: &Api, repository: &str, id: &Value, doing: &str) -> Result<Image> {
    repositories::own_alias(api, repository, doing)?;
    let mut body = api.repository(naming::in_api(&api.place, repository)?);
    body["imageIds"] = json!([id]);
    let found: Images = read(api.ask("DescribeImages", &body, doing)?)?;
    found.image_details.into_iter().next().ok_or_else(|| {
        Error::not_found(format!("could not {doing}: there is no such image")).code("ImageNotFoundException")
    })
}

/// Deletes one; a refusal comes with status 200, in `failures`.
fn delete(api: &Api, repository: &str, id: &Value, doing: &str) -> Result<()> {
    let mut body = api.repository(naming::in_api(&api.place, repository)?);
    body["imageIds"] = json!([id]);
    let deleted: Deleted = read(api.ask("BatchDeleteImage", &body, doing)?)?;
    let Some(failure) = deleted.failures.into_iter().next() else { return Ok(()) };
    let said = format!("could not {doing}: {}", failure.failure_reason);
    let error = match failure.failure_code.as_str() {
        "ImageNotFound" => Error::not_found(said),
        "ImageReferencedByManifestList" => {
            Error::conflict(format!("{said}; an index refers to it: delete the index first"))
        }
        "KmsError" => Error::denied(format!("{said}; {}", crate::api::KMS)),
        "InvalidImageDigest" | "InvalidImageTag" | "ImageTagDoesNotMatchDigest" | "MissingDigestAndTag" => {
            Error::invalid(said)
        }
        code if code.starts_with("Upstream") => Error::unavailable(said),
        _ => Error::other(said),
    };
    Err(error.code(failure.failure_code).status(200))
}

fn removal(removed: String, also_removed: Vec<String>) -> Removal {
    Removal { removed: vec![removed], also_removed, asynchronous: false, extra: Vec::new() }
}
