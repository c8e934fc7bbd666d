//! What one may do and what a registry can. Reading finds out most of it. What writing would tell is asked only where that was allowed, and
//! with requests that leave nothing: sessions that are cancelled, a blob under a digest that is not its own, a manifest that is not there.

use bytes::Bytes;
use http::{Method, StatusCode};
use idp_oci::client::dialect::{Hints, Mount, Scope, UploadMode};
use idp_oci::client::probe::{Probe, Probed};
use idp_oci::client::{Access, Client, ClientError, Kind};
use idp_oci::manifest::Descriptor;
use idp_oci::name::{Repository, Target};
use serde_json::Value;

use super::{Check, Diagnosis, Origin, Status, line};
use crate::ops::session::Session;

/// A digest that nothing has.
const NOTHING: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A feature; what a registry cannot do is no failure.
fn feature(name: &'static str, value: &str, origin: Origin, words: impl Into<String>) -> Check {
    let status = if origin == Origin::Unknown { Status::Unknown } else { Status::Ok };
    Check::new(name, status, origin, words).value(value)
}

/// What a status says about a right: allowed, not allowed, or something else.
fn denied(answer: &Result<Probed, ClientError>) -> bool {
    match answer {
        Ok(answer) => matches!(answer.status.as_u16(), 401 | 403),
        Err(error) => error.kind() == Kind::Auth,
    }
}

/// An answer in words.
fn words(answer: &Result<Probed, ClientError>) -> String {
    match answer {
        Ok(answer) => format!("the registry answers {}", answer.status),
        Err(error) => line(error),
    }
}

/// Features of the whole registry.
pub(super) async fn registry(found: &mut Diagnosis, session: &Session, let_in: bool) {
    const NAME: &str = "catalogue";
    let what = "looking for the list of all repositories";
    let probe = Probe::new(Method::GET, "/v2/_catalog?n=1", vec![Scope::catalog()], what);
    let answer = session.client.probe(probe).await;
    let status = answer.as_ref().map(|answer| answer.status.as_u16());
    found.add(match status {
        Ok(200) => feature(NAME, "yes", Origin::Probed, "all repositories can be listed"),
        Ok(404 | 405 | 501) => feature(
            NAME,
            "no",
            Origin::Probed,
            format!("there is no list of all repositories: {}", words(&answer)),
        ),
        _ if denied(&answer) => {
            let who = if let_in { "with this account" } else { "without a login" };
            feature(NAME, "denied", Origin::Probed, format!("not {who}"))
        }
        _ => feature(NAME, "unknown", Origin::Unknown, words(&answer)),
    });
}

/// Rights in a repository, and features that take one to find out.
pub(super) async fn repository(found: &mut Diagnosis, session: &Session, name: &Repository, write: bool) {
    let client = &session.client;
    let hints = client.hints(name).await;
    let what = format!("tags of {}/{name}", client.registry());
    let scopes = Access::Pull.scopes(name);
    let tags =
        client.probe(Probe::new(Method::GET, format!("/v2/{name}/tags/list?n=1"), scopes, &what)).await;
    let first = tags.as_ref().ok().and_then(first_tag);
    pull(found, &tags, name, first.is_some());
    paging(found, tags.as_ref().ok());
    let (manifest, blob) = match &first {
        Some(tag) => content(client, name, tag).await,
        None => (None, None),
    };
    referrers(found, client, name, manifest.as_deref(), &hints).await;
    ranges(found, client, name, blob.as_ref()).await;
    sha512(found, client, name, &hints).await;
    // Where there is nothing, asking to write may make the repository; and some list no tags of one that is not there.
    if write && first.is_some() {
        uploads(found, client, name, blob.as_ref(), &hints).await;
        deletion(found, client, name).await;
    } else {
        from_hints(found, &hints, write);
    }
}

fn pull(found: &mut Diagnosis, answer: &Result<Probed, ClientError>, name: &Repository, tags: bool) {
    const NAME: &str = "pull";
    let status = answer.as_ref().map(|answer| answer.status.as_u16());
    found.add(match status {
        Ok(200) if tags => Check::ok(NAME, format!("{name} can be read")).value("yes"),
        Ok(200) => {
            Check::ok(NAME, format!("{name} can be read, and has no tags or is not there")).value("yes")
        }
        Ok(404) => {
            Check::fail(NAME, Kind::NotFound, format!("{name} is not there, or hidden from this account"))
                .next("check the name; the first push makes it where the product allows that")
                .value("no")
        }
        _ if denied(answer) => Check::fail(NAME, Kind::Auth, words(answer))
            .next("ask the owner for read access, or log in as somebody who has it")
            .value("no"),
        Ok(status) if status >= 500 => Check::fail(NAME, Kind::Transient, words(answer)),
        Ok(_) => Check::fail(NAME, Kind::Other, words(answer)),
        Err(error) => Check::fail(NAME, error.kind(), words(answer)),
    });
}

fn json(answer: &Probed) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok()
}

fn first_tag(answer: &Probed) -> Option<String> {
    json(answer)?.get("tags")?.get(0)?.as_str().map(str::to_owned)
}

fn paging(found: &mut Diagnosis, answer: Option<&Probed>) {
    const NAME: &str = "tag-pages";
    let Some(answer) = answer.filter(|answer| answer.status == StatusCode::OK) else { return };
    let document = json(answer);
    let tags = document.as_ref().and_then(|document| document.get("tags")?.as_array()).map_or(0, Vec::len);
    found.add(match (answer.headers.contains_key("link"), tags) {
        (true, _) => feature(NAME, "yes", Origin::Probed, "the list of tags comes in pages"),
        (false, 2..) => {
            feature(NAME, "no", Origin::Probed, "the list of tags comes whole, whatever is asked for")
        }
        (false, _) => feature(
            NAME,
            "unknown",
            Origin::Unknown,
            "there are too few tags to tell whether their list has pages",
        ),
    });
}

/// The digest of the manifest behind a tag, and a blob that lies in the repository.
async fn content(client: &Client, name: &Repository, tag: &str) -> (Option<String>, Option<Descriptor>) {
    let Ok(tag) = tag.parse() else { return (None, None) };
    let Ok(manifest) = client.manifest(name, &Target::Tag(tag), None).await else { return (None, None) };
    let digest = manifest.descriptor().digest.to_string();
    let document: Value = serde_json::from_slice(manifest.bytes()).unwrap_or_default();
    let child = document
        .pointer("/manifests/0/digest")
        .and_then(Value::as_str)
        .and_then(|digest| digest.parse().ok());
    let document = match child {
        Some(child) => match client.manifest(name, &Target::Digest(child), None).await {
            Ok(child) => serde_json::from_slice(child.bytes()).unwrap_or_default(),
            Err(_) => return (Some(digest), None),
        },
        None => document,
    };
    let blob = document.get("config").and_then(|config| {
        let digest = config.get("digest")?.as_str()?.parse().ok()?;
        Some(Descriptor::new(config.get("mediaType")?.as_str()?, digest, config.get("size")?.as_u64()?))
    });
    (Some(digest), blob)
}

async fn referrers(
    found: &mut Diagnosis,
    client: &Client,
    name: &Repository,
    digest: Option<&str>,
    hints: &Hints,
) {
    const NAME: &str = "referrers";
    let target = format!("/v2/{name}/referrers/{}", digest.unwrap_or(NOTHING));
    let answer = client
        .probe(Probe::new(Method::GET, target, Access::Pull.scopes(name), "looking for referrers"))
        .await;
    let is_index = |answer: &Probed| json(answer).is_some_and(|index| index.get("manifests").is_some());
    found.add(match &answer {
        Ok(answer) if answer.status == StatusCode::OK && is_index(answer) => feature(
            NAME,
            "yes",
            Origin::Probed,
            "the referrers API is there: signatures and SBOMs are found by it",
        ),
        Ok(answer) if matches!(answer.status.as_u16(), 404 | 405 | 501) => {
            let said = "no referrers API: what refers to an image is kept under tags (sha256-…)";
            feature(NAME, "no", Origin::Probed, said)
        }
        _ => match hints.referrers {
            Some(there) => feature(NAME, yes(there), Origin::Provider, "the referrers API"),
            None => feature(NAME, "unknown", Origin::Unknown, words(&answer)),
        },
    });
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

async fn ranges(found: &mut Diagnosis, client: &Client, name: &Repository, blob: Option<&Descriptor>) {
    const NAME: &str = "ranges";
    let Some(blob) = blob.filter(|blob| blob.size > 0) else {
        found.add(feature(NAME, "unknown", Origin::Unknown, "there is no blob to read a part of"));
        return;
    };
    let mut probe = Probe::new(
        Method::GET,
        format!("/v2/{name}/blobs/{}", blob.digest),
        Access::Pull.scopes(name),
        "reading a part of a blob",
    );
    probe.headers.push((http::header::RANGE, "bytes=0-0".to_owned()));
    let answer = client.probe(probe).await;
    found.add(match answer.as_ref().map(|answer| answer.status.as_u16()) {
        Ok(206) => feature(NAME, "yes", Origin::Probed, "a download that broke off is taken up again"),
        Ok(200) => feature(
            NAME,
            "no",
            Origin::Probed,
            "parts of blobs cannot be read: a download that broke off starts anew",
        ),
        _ => feature(NAME, "unknown", Origin::Unknown, words(&answer)),
    });
}

async fn sha512(found: &mut Diagnosis, client: &Client, name: &Repository, hints: &Hints) {
    const NAME: &str = "sha512";
    let target = format!("/v2/{name}/blobs/sha512:{}", "0".repeat(128));
    let answer =
        client.probe(Probe::new(Method::HEAD, target, Access::Pull.scopes(name), "looking for a blob")).await;
    let told =
        hints.all.get("digest-algorithms").map(|list| list.split(',').any(|name| name.trim() == "sha512"));
    found.add(match (answer.as_ref().map(|answer| answer.status.as_u16()), told) {
        (Ok(400 | 405 | 415 | 422), _) => {
            feature(NAME, "no", Origin::Probed, "digests of sha512 are refused")
        }
        (_, Some(told)) => feature(NAME, yes(told), Origin::Provider, "digests of sha512"),
        _ => feature(
            NAME,
            "unknown",
            Origin::Unknown,
            "whether digests of sha512 are taken only a push of one tells",
        ),
    });
}

/// What the provider knows of writing.
fn from_hints(found: &mut Diagnosis, hints: &Hints, write: bool) {
    let next = if write {
        "push something first: where there are no tags, asking to write could make the repository"
    } else {
        "--write asks, and leaves nothing behind"
    };
    for (name, words) in [("push", "whether one may push"), ("delete", "whether one may delete")] {
        found.add(Check::unknown(name, format!("{words} was not asked")).value("unknown").next(next));
    }
    if hints.all.contains_key("upload-mode") {
        let single = hints.upload_mode == UploadMode::SinglePost;
        found.add(feature("single-post", yes(single), Origin::Provider, "blobs go up in one request"));
    }
    if hints.all.contains_key("mount") {
        found.add(feature(
            "mount",
            yes(hints.mount != Mount::No),
            Origin::Provider,
            "blobs of other repositories are taken over",
        ));
    }
    chunks(found, hints, None);
}

fn chunks(found: &mut Diagnosis, hints: &Hints, probed: Option<u64>) {
    const NAME: &str = "chunks";
    let bytes = |number: Option<u64>| number.map(|number| format!("{number} bytes"));
    if let Some(least) = probed {
        found.add(feature(
            NAME,
            &least.to_string(),
            Origin::Probed,
            format!("chunks have {least} bytes at least"),
        ));
    } else if let Some(least) = bytes(hints.chunk_min) {
        found.add(feature(NAME, &least, Origin::Provider, format!("chunks have {least} at least")));
    }
    if let Some(most) = bytes(hints.chunk_max) {
        found.add(feature(NAME, &most, Origin::Provider, format!("chunks have {most} at most")));
    }
}

/// Asks to write, in ways that come to nothing.
async fn uploads(
    found: &mut Diagnosis,
    client: &Client,
    name: &Repository,
    blob: Option<&Descriptor>,
    hints: &Hints,
) {
    let post = |query: &str, what: &str| {
        Probe::new(Method::POST, format!("/v2/{name}/blobs/uploads/{query}"), Access::Push.scopes(name), what)
    };
    let answer = client.probe(post("", "opening an upload")).await;
    match &answer {
        Ok(session) if session.status == StatusCode::ACCEPTED => {
            found.add(
                Check::ok("push", format!("an upload to {name} was opened, and cancelled")).value("yes"),
            );
            let least = session.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
            chunks(found, hints, least);
            cancel(found, client, name, session).await;
        }
        _ if denied(&answer) => {
            let check = Check::fail("push", Kind::Auth, words(&answer)).value("no");
            found.add(check.next("ask the owner for write access, or log in as somebody who has it"));
            return;
        }
        _ => {
            let kind = match &answer {
                Ok(answer) if answer.status.is_server_error() => Kind::Transient,
                Ok(_) => Kind::Other,
                Err(error) => error.kind(),
            };
            found.add(Check::fail("push", kind, words(&answer)).value("no"));
            return;
        }
    }
    // Its digest is another one: who takes such requests finds that out and keeps nothing.
    let mut probe = post(&format!("?digest={NOTHING}"), "sending a blob in one request");
    probe.body = Bytes::from_static(b"idp registry doctor");
    probe.headers.push((http::header::CONTENT_TYPE, "application/octet-stream".to_owned()));
    let answer = client.probe(probe).await;
    let single = "single-post";
    match answer.as_ref().map(|answer| answer.status.as_u16()) {
        Ok(400) => found.add(feature(single, "yes", Origin::Probed, "blobs may go up in one request")),
        Ok(202) => {
            found.add(feature(single, "no", Origin::Probed, "blobs take two requests"));
            if let Ok(session) = &answer {
                cancel(found, client, name, session).await;
            }
        }
        Ok(201) => {
            let said =
                "it took a blob under a digest that is not its own: what is pulled from it may be anything";
            found.add(Check::fail(single, Kind::Other, said).next("do not use this registry"));
            let gone = Probe::new(
                Method::DELETE,
                format!("/v2/{name}/blobs/{NOTHING}"),
                Access::Delete.scopes(name),
                "removing a blob",
            );
            let _ = client.probe(gone).await;
        }
        _ => found.add(feature(single, "unknown", Origin::Unknown, words(&answer))),
    }
    let Some(blob) = blob else { return };
    // From the repository to itself: it is there already.
    let answer = client.probe(post(&format!("?mount={}&from={name}", blob.digest), "mounting a blob")).await;
    match &answer {
        Ok(mounted) if mounted.status == StatusCode::CREATED => {
            found.add(feature(
                "mount",
                "yes",
                Origin::Probed,
                "blobs of other repositories are taken over without being sent",
            ));
        }
        Ok(session) if session.status == StatusCode::ACCEPTED => {
            found.add(feature("mount", "no", Origin::Probed, "blobs of other repositories are sent again"));
            cancel(found, client, name, session).await;
        }
        _ => found.add(feature("mount", "unknown", Origin::Unknown, words(&answer))),
    }
}

/// Ends an upload session.
async fn cancel(found: &mut Diagnosis, client: &Client, name: &Repository, session: &Probed) {
    let Some(location) = session.location() else { return };
    let gone = Probe::new(Method::DELETE, location, Access::Push.scopes(name), "cancelling an upload");
    let answer = client.probe(gone).await;
    // 404: it is gone by itself. Who cannot cancel forgets unfinished uploads after a while.
    let done = answer
        .as_ref()
        .is_ok_and(|answer| answer.status.is_success() || answer.status == StatusCode::NOT_FOUND);
    if !done && !found.checks.iter().any(|check| check.name == "cancel") {
        let said =
            format!("uploads cannot be cancelled ({}); the registry forgets them by itself", words(&answer));
        found.add(feature("cancel", "no", Origin::Probed, said));
    }
}

/// Deletes what is not there.
async fn deletion(found: &mut Diagnosis, client: &Client, name: &Repository) {
    const NAME: &str = "delete";
    let target = format!("/v2/{name}/manifests/{NOTHING}");
    let answer = client
        .probe(Probe::new(Method::DELETE, target, Access::Delete.scopes(name), "deleting nothing"))
        .await;
    found.add(match answer.as_ref().map(|answer| answer.status.as_u16()) {
        Ok(202 | 204 | 404) => {
            feature(NAME, "yes", Origin::Probed, "manifests may be deleted (there was none of that digest)")
        }
        Ok(400 | 405 | 501) => feature(
            NAME,
            "no",
            Origin::Probed,
            format!("deletion is switched off or not offered: {}", words(&answer)),
        ),
        _ if denied(&answer) => {
            let said = "this account may not delete";
            Check::warn(NAME, said, "ask the owner for it, where you need it").value("denied")
        }
        _ => feature(NAME, "unknown", Origin::Unknown, words(&answer)),
    });
}
