//! Copy: from one registry to another or to several, without the disk; one reference, or all tags of a repository.

use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use idp_oci::client::{Access, ClientError, Kind};
use idp_oci::manifest::Platform;
use idp_oci::name::{Reference, Repository, Tag, Target};
use idp_oci::pipeline::{self, CopyOptions, Destination};

use super::push::{Outcome, as_pushed, check, planned, shown, tags};
use super::room;
use super::session::{self, Session, Subject};
use super::{Context, Error};

/// Tags that are looked at at once.
const AT_ONCE: usize = 8;

/// What is copied and where to.
#[derive(Debug, Clone)]
pub struct Request {
    /// A reference; a repository with `all_tags`.
    pub source: String,
    /// References; without a tag they take the source's.
    pub destinations: Vec<String>,
    /// Only this platform.
    pub platform: Option<Platform>,
    /// What refers to it as well.
    pub referrers: bool,
    /// Every tag of the repository.
    pub all_tags: bool,
    /// Only say which requests would go.
    pub plan: bool,
    /// Layers that are not to be distributed are got from where they are, and copied.
    pub include_foreign: bool,
    /// Repositories of the destination's registry that may have the blobs.
    pub mount_from: Vec<Repository>,
}

/// What became of it.
#[derive(Debug)]
pub struct Copied {
    /// What arrived or would, and what did not.
    pub outcome: Outcome,
    /// Tags that were the same on both sides.
    pub unchanged: usize,
}

/// A destination as it was written, with its session.
struct To {
    reference: Reference,
    session: Arc<Session>,
}

/// Copies. The credentials of flags are the destination's.
pub async fn copy(context: &Context, request: Request) -> Result<Copied, Error> {
    if !context.registries.oci_push.enabled {
        return Err(Error::PushDisabled(context.registries.file().map(Path::to_owned).unwrap_or_default()));
    }
    let names: Vec<&str> = request.destinations.iter().chain([&request.source]).map(String::as_str).collect();
    context.find_registry(&names, super::context::To::Write).await?;
    let source = context.reference(&request.source)?;
    let context_of_source = context.without_flags();
    let from = session::open(&context_of_source, Subject::from(&source)).await?;
    let mut to = Vec::new();
    for text in &request.destinations {
        let mut reference = context.reference(text)?;
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag.clone_from(&source.tag);
            reference.digest.clone_from(&source.digest.clone().filter(|_| source.tag.is_none()));
        }
        if reference == source {
            return Err(Error::Usage(format!("`{source}` would be copied to itself")));
        }
        let session = Arc::new(session::open(context, Subject::from(&reference)).await?);
        room::check(context, &session, &reference).await?;
        to.push(To { reference, session });
    }
    let mut copied = Copied { outcome: Outcome { pushed: Vec::new(), failed: Vec::new() }, unchanged: 0 };
    if !request.all_tags {
        one(context, &from, &source, &to, &request, &mut copied.outcome).await?;
        return Ok(copied);
    }
    if source.tag.is_some() || source.digest.is_some() {
        return Err(Error::Usage(format!("`{source}` is one tag, and --all-tags wants a repository")));
    }
    let repository = from.on_wire(&source.repository);
    let tags = from.client.tags(repository).await.map_err(|error| from.failed(error))?;
    let changed = changed(&from, repository, tags, &to, &mut copied.unchanged).await?;
    for tag in changed {
        let source = Reference { tag: Some(tag.clone()), ..source.clone() };
        let to: Vec<To> = to
            .iter()
            .map(|to| To {
                reference: Reference { tag: Some(tag.clone()), digest: None, ..to.reference.clone() },
                session: Arc::clone(&to.session),
            })
            .collect();
        match one(context, &from, &source, &to, &request, &mut copied.outcome).await {
            Ok(()) => {}
            Err(Error::Registry { error, .. }) if matches!(*error, ClientError::Interrupted) => {
                return Err(from.failed(*error));
            }
            // The tags that arrived are told of, and the others get their turn; unless nothing can be had from the source any more.
            Err(error) => {
                let ended =
                    matches!(&error, Error::Registry { error, .. } if error.kind() == Kind::Transient);
                copied.outcome.failed.push((shown(&source), error));
                if ended {
                    break;
                }
            }
        }
    }
    Ok(copied)
}

/// The tags that are not the same everywhere. What this machine copied there before is asked for at the source only: one request a
/// tag, and one list at each destination, which shows that the tag is still there.
async fn changed(
    from: &Session,
    repository: &Repository,
    tags: Vec<Tag>,
    to: &[To],
    unchanged: &mut usize,
) -> Result<Vec<Tag>, Error> {
    let mut listed = Vec::new();
    for to in to {
        let there = to.session.on_wire(&to.reference.repository);
        let tags = match to.session.client.tags(there).await {
            Ok(tags) => tags,
            Err(error) if error.kind() == Kind::NotFound => Vec::new(),
            Err(error) => return Err(to.session.failed(error)),
        };
        listed.push(tags.into_iter().collect::<std::collections::HashSet<Tag>>());
    }
    let listed = &listed;
    let answers: Vec<Result<Option<Tag>, Error>> = stream::iter(tags)
        .map(|tag| async move {
            let target = Target::Tag(tag.clone());
            let head = from.client.head_manifest(repository, &target, Access::Pull).await;
            let Some(ours) = head.map_err(|error| from.failed(error))? else { return Ok(None) };
            for (to, listed) in to.iter().zip(listed) {
                let there = to.session.on_wire(&to.reference.repository);
                let learned = to.session.client.learned();
                if !listed.contains(&tag) {
                    return Ok(Some(tag));
                }
                if learned.has_seen_tag(there, &tag, &ours.digest) {
                    continue;
                }
                let theirs = to.session.client.head_manifest(there, &target, Access::Pull).await;
                let theirs = theirs.map_err(|error| to.session.failed(error))?;
                if theirs.is_none_or(|theirs| theirs.digest != ours.digest) {
                    return Ok(Some(tag));
                }
                learned.learn_tag(there, &tag, &ours.digest);
            }
            Ok(None)
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut changed = Vec::new();
    for answer in answers {
        match answer? {
            Some(tag) => changed.push(tag),
            None => *unchanged += 1,
        }
    }
    Ok(changed)
}

async fn one(
    context: &Context,
    from: &Session,
    source: &Reference,
    to: &[To],
    request: &Request,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let origin = pipeline::From {
        client: from.client.clone(),
        repository: from.on_wire(&source.repository).clone(),
        target: source.target(),
    };
    let options =
        CopyOptions { platform: request.platform.clone(), jobs: None, referrers: request.referrers };
    let mounts = |to: &To| {
        let mut mounts = request.mount_from.clone();
        if to.session.client.registry() == from.client.registry() {
            mounts.insert(0, origin.repository.clone());
        }
        mounts
    };
    if request.plan {
        let survey =
            pipeline::survey(&origin, &options).await.map_err(|error| from.pipeline_failed(error))?;
        for to in to {
            outcome.pushed.push(planned(&survey, &to.reference, &to.session, &mounts(to)).await?);
        }
        return Ok(());
    }
    let destinations = to.iter().map(|to| Destination {
        client: to.session.client.clone(),
        repository: to.session.on_wire(&to.reference.repository).clone(),
        tags: tags(&to.reference),
        mount_from: mounts(to),
        include_foreign: request.include_foreign,
    });
    let all = pipeline::copy(&origin, destinations.collect(), &options, &context.cancel).await;
    let all = all.map_err(|error| from.pipeline_failed(error))?;
    for (to, pushed) in to.iter().zip(all) {
        let pushed = pushed
            .map_err(|error| to.session.pipeline_failed(error))
            .and_then(|pushed| check(&to.reference, &pushed.digest).map(|()| pushed));
        match pushed {
            Ok(pushed) => {
                let there = to.session.on_wire(&to.reference.repository);
                for tag in tags(&to.reference) {
                    to.session.client.learned().learn_tag(there, &tag, &pushed.digest);
                }
                outcome.pushed.push(as_pushed(&source.to_string(), &to.reference, &to.session, pushed));
            }
            Err(Error::Registry { error, .. }) if matches!(*error, ClientError::Interrupted) => {
                return Err(to.session.failed(*error));
            }
            Err(error) => outcome.failed.push((shown(&to.reference), error)),
        }
    }
    Ok(())
}
