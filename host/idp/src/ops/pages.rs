//! Lists of repositories and tags, page by page: by the provider, else by the specification (`_catalog`, `tags/list`). A page is
//! fetched when it is asked for, and filtered here where nobody else did.

use idp_oci::client::dialect::{DialectError, ErrorKind};
use idp_oci::client::{ClientError, Names};
use idp_oci::name::Repository;

use super::Error;
use super::entry::Entry;
use super::session::{Session, nobody_to_ask};
use crate::provider::{Cursor, NOT_EXPORTED};

/// Entries of one page of a provider. Some spend a request on each of them.
const PAGE: u32 = 100;

/// What is wanted of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Repositories below this name.
    pub namespace: Option<String>,
    /// Names with this text in them; what a product searches is its own choice.
    pub query: Option<String>,
}

impl Filter {
    fn pairs(&self) -> Vec<(String, String)> {
        let pair = |key: &str, value: &Option<String>| Some((key.to_owned(), value.clone()?));
        [pair("namespace", &self.namespace), pair("query", &self.query)].into_iter().flatten().collect()
    }

    /// The part of it that has these keys.
    fn only(&self, keys: &[String]) -> Self {
        let keep = |key: &str, value: &Option<String>| {
            value.clone().filter(|_| keys.iter().any(|wanted| wanted == key))
        };
        Self { namespace: keep("namespace", &self.namespace), query: keep("query", &self.query) }
    }

    fn fits(&self, name: &str) -> bool {
        let below = |namespace: &String| {
            name.strip_prefix(namespace.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
        };
        self.namespace.as_ref().is_none_or(below)
            && self.query.as_ref().is_none_or(|query| name.to_lowercase().contains(&query.to_lowercase()))
    }
}

/// Some of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// In the registry's order.
    pub entries: Vec<Entry>,
    /// How many there are in all, where the product says.
    pub total: Option<u64>,
}

/// A list in the making.
#[derive(Debug)]
pub struct Pages<'a> {
    session: &'a Session,
    repository: Option<&'a Repository>,
    filter: Filter,
    /// No page needs to be longer.
    most: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The provider is asked.
    Provider(Cursor),
    /// The host asks the registry; the provider's reason, where it had one.
    Host(Box<Names>, Option<String>),
}

impl<'a> Pages<'a> {
    /// The repositories of the session's registry, or the tags of a repository (as it goes on the wire). Nothing is sent yet.
    pub fn new(
        session: &'a Session,
        repository: Option<&'a Repository>,
        filter: Filter,
        most: usize,
    ) -> Self {
        let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        Self { session, repository, filter, most, state: State::Provider(Cursor::default()) }
    }

    /// Whether there may be another page.
    pub fn has_more(&self) -> bool {
        match &self.state {
            State::Provider(cursor) => !cursor.is_at_end(),
            State::Host(names, _) => names.has_more(),
        }
    }

    /// The next page, which may be empty; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Page>, Error> {
        if let State::Provider(_) = &self.state {
            match self.ask_provider().await {
                Ok(page) => return Ok(page),
                Err(error) if error.kind == ErrorKind::Unsupported => {
                    let reason = (error.code != NOT_EXPORTED).then_some(error.message);
                    self.state = State::Host(Box::new(self.names().await), reason);
                }
                Err(error) => return Err(self.session.refused(self.what(), error)),
            }
        }
        let State::Host(names, reason) = &mut self.state else { return Ok(None) };
        let page =
            names.next_page().await.map_err(|error| self.session.failed(with_reason(error, reason)))?;
        let Some(page) = page else { return Ok(None) };
        let entries = page.into_iter().filter(|name| self.filter.fits(name)).map(Entry::named).collect();
        Ok(Some(Page { entries, total: None }))
    }

    async fn ask_provider(&mut self) -> Result<Option<Page>, DialectError> {
        let State::Provider(cursor) = &mut self.state else { return Ok(None) };
        let Some(dialect) = &self.session.dialect else { return Err(nobody_to_ask()) };
        let (filter, limit) = (self.filter.pairs(), self.most.min(PAGE));
        let page = match self.repository {
            Some(repository) => dialect.next_tags(repository, cursor, &filter, limit).await?,
            None => dialect.next_repositories(cursor, &filter, limit).await?,
        };
        let Some(page) = page else { return Ok(None) };
        let left = self.filter.only(&page.unfiltered);
        let entries =
            page.items.into_iter().filter(|entry| left.fits(&entry.name)).map(Entry::from).collect();
        // A number of all entries says nothing about those that are left.
        let total = page.total.filter(|_| left == Filter::default());
        Ok(Some(Page { entries, total }))
    }

    async fn names(&self) -> Names {
        // What is filtered here may have any number of pages before its first entry.
        let most = Some(self.most).filter(|_| self.filter == Filter::default());
        match self.repository {
            Some(repository) => self.session.client.tag_pages(repository, most).await,
            None => self.session.client.catalog_pages(most),
        }
    }

    fn what(&self) -> String {
        let registry = &self.session.registry;
        match self.repository {
            Some(repository) => format!("tags of {registry}/{repository}"),
            None => format!("repositories of {registry}"),
        }
    }
}

/// Why the provider left it to the specification belongs to what came of that.
fn with_reason(error: ClientError, reason: &Option<String>) -> ClientError {
    match (error, reason) {
        (ClientError::Refused(mut refusal), Some(reason)) => {
            refusal.note.get_or_insert_with(|| reason.clone());
            ClientError::Refused(refusal)
        }
        (error, _) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;

    #[test]
    fn filters() {
        let filter = |namespace: Option<&str>, query: Option<&str>| Filter {
            namespace: namespace.map(str::to_owned),
            query: query.map(str::to_owned),
        };
        for (filter, name, expect) in [
            (filter(None, None), "a", true),
            (filter(Some("team"), None), "team/app", true),
            (filter(Some("team/"), None), "team/app", true),
            (filter(Some("team"), None), "teams/app", false),
            (filter(Some("team"), None), "team", false),
            (filter(None, Some("PP")), "team/app", true),
            (filter(Some("team"), Some("x")), "team/app", false),
        ] {
            assert_eq!(filter.fits(name), expect, "{filter:?} {name}");
        }
        let both = filter(Some("a"), Some("b"));
        assert_eq!(both.only(&["query".to_owned()]), filter(None, Some("b")));
    }
}
