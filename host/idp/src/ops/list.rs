//! The repositories of a registry, or the tags of a repository, as far as they are wanted.

use idp_oci::name::{NameError, Registry, Repository};
use serde::Serialize;

use super::context::To;
use super::entry::Entry;
use super::pages::{Filter, Pages};
use super::session::{self, Subject};
use super::{Context, Error};

/// What is listed.
#[derive(Debug, Clone)]
pub struct Request {
    /// `host[:port]`, a URL, a repository, or the default registry.
    pub place: Option<String>,
    /// Which entries.
    pub filter: Filter,
    /// No more than so many.
    pub limit: usize,
}

/// A list.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct List {
    /// Which registry.
    pub registry: String,
    /// Which repository, where tags are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// In the registry's order.
    pub entries: Vec<Entry>,
    /// There is more than was asked for.
    pub more: bool,
    /// How many there are in all, where the product says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The provider's name and version.
    pub provider: String,
}

/// Lists. `page` is called with entries as they come, and says whether to go on.
pub async fn list(
    context: &Context,
    request: Request,
    mut page: impl FnMut(&[Entry]) -> bool,
) -> Result<List, Error> {
    find_for(context, request.place.as_deref()).await?;
    let (registry, repository) = place_of(context, request.place.as_deref())?;
    if repository.is_some() && request.filter.namespace.is_some() {
        return Err(Error::Usage(
            "--namespace is for repositories, and the tags of one are listed".to_owned(),
        ));
    }
    let subject = Subject { registry: &registry, repository: repository.as_ref(), tag: None };
    let session = session::open(context, subject).await?;
    let wire = repository.as_ref().map(|repository| session.on_wire(repository));
    let mut pages = Pages::new(&session, wire, request.filter, request.limit);
    let (mut entries, mut total) = (Vec::new(), None);
    let more = loop {
        let Some(mut next) = pages.next().await? else { break false };
        total = next.total.or(total);
        let room = request.limit - entries.len();
        let cut = next.entries.len() > room;
        next.entries.truncate(room);
        let go_on = next.entries.is_empty() || page(&next.entries);
        entries.extend(next.entries);
        if !go_on || cut {
            break true;
        }
        if entries.len() >= request.limit {
            break pages.has_more();
        }
    };
    Ok(List {
        registry: registry.to_string(),
        repository: repository.as_ref().map(ToString::to_string),
        entries,
        more,
        total,
        provider: session.provider,
    })
}

/// Finds a registry where the place names none and none is configured.
pub(super) async fn find_for(context: &Context, place: Option<&str>) -> Result<(), Error> {
    match place {
        None => context.find_registry(&[], To::Read).await,
        Some(place) if is_host(bare(place)) => Ok(()),
        Some(place) => context.find_registry(&[bare(place)], To::Read).await,
    }
}

/// Without its scheme.
fn bare(place: &str) -> &str {
    let plain = ["https://", "http://", "oci://"].iter().find_map(|scheme| place.strip_prefix(scheme));
    plain.unwrap_or(place).trim_end_matches('/')
}

fn is_host(plain: &str) -> bool {
    !plain.contains('/') && (plain.contains(['.', ':']) || plain == "localhost")
}

/// A registry, or a repository, as people write it.
pub(super) fn place_of(
    context: &Context,
    place: Option<&str>,
) -> Result<(Registry, Option<Repository>), Error> {
    let Some(place) = place else {
        let (address, _) = context.default_registry()?.ok_or(Error::NoRegistry)?;
        return Ok((address.registry, None));
    };
    let plain = bare(place);
    if is_host(plain) {
        return Ok((plain.parse::<Registry>()?, None));
    }
    let reference = context.reference(plain)?;
    if reference.tag.is_some() || reference.digest.is_some() {
        return Err(NameError::Repository(place.to_owned()).into());
    }
    Ok((reference.registry, Some(reference.repository)))
}
