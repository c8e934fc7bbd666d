//! What a provider answers beyond the pipeline's questions: who it is, whose a login is, what lies where, and removing it.

use std::collections::{BTreeMap, HashSet};

use idp_oci::client::dialect::{Answer, DialectError, ErrorKind};
use idp_oci::digest::Digest;
use idp_oci::name::{Registry, Repository, Tag};

use super::call::Budget;
use super::dialect::ProviderDialect;
use super::scrub::printable;
use super::state::Question;
use super::v0_1::exports::idp::registry_provider as v0_1;
use v0_1::artifacts::Target;

/// Pages of one list.
const PAGES_MAX: usize = 10_000;

/// `provider.describe`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// As in the manifest.
    pub id: String,
    /// Its own.
    pub version: String,
    /// For people.
    pub display_name: String,
    /// The exported interfaces, as the host found them.
    pub interfaces: Vec<String>,
}

/// `identity.identify`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identification {
    /// 0 to 100.
    pub certainty: u8,
    /// Name of the product.
    pub product: String,
    /// Its version.
    pub version: Option<String>,
    /// Derived settings.
    pub settings: BTreeMap<String, String>,
}

/// `naming.normalize`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireName {
    /// Where to connect.
    pub host: String,
    /// On the wire.
    pub repository: String,
    /// As users of this registry write it.
    pub display: String,
    /// Keys of credential files, in order.
    pub credential_keys: Vec<String>,
    /// For the user.
    pub warnings: Vec<String>,
}

/// An entry of a list: a repository, or a tag with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the repository or tag.
    pub name: String,
    /// Digest of a tag's manifest, where known.
    pub digest: Option<String>,
    /// Keys of `wit/README.md`.
    pub extra: BTreeMap<String, String>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub items: Vec<Entry>,
    /// Where the next page starts.
    pub next: Option<String>,
    /// How many entries there are in all, where the product says.
    pub total: Option<u64>,
    /// Keys of the filter that the provider left to the host.
    pub unfiltered: Vec<String>,
}

impl Page {
    fn new(items: Vec<Entry>, next: Option<String>, extra: Pairs) -> Self {
        let extra = map(extra);
        let unfiltered = extra.get("unfiltered").map(String::as_str).unwrap_or_default();
        Self {
            items,
            next,
            total: extra.get("total").and_then(|total| total.parse().ok()),
            unfiltered: unfiltered.split(',').map(|key| key.trim().to_owned()).collect(),
        }
    }
}

/// What is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removable {
    /// One tag.
    Tag(Tag),
    /// One manifest.
    Digest(Digest),
    /// The repository.
    Everything,
}

/// `artifacts.remove`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// What was asked for.
    pub removed: Vec<String>,
    /// Tags that went with it.
    pub also_removed: Vec<String>,
    /// The registry finishes later.
    pub asynchronous: bool,
    /// For people.
    pub note: Option<String>,
}

type Pairs = Vec<(String, String)>;

pub(super) fn map(pairs: Pairs) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (printable(&key, 128), printable(&value, 4096))).collect()
}

/// One export: `$self.ask!(interface, "interface.function", budget, question, call_function(arguments), |answer| conversion)`.
macro_rules! ask {
    ($this:ident, $interface:ident, $export:literal, $budget:expr, $question:expr,
     $call:ident($($argument:expr),*), $read:expr) => {{
        let Some(indices) = $this.linked.exports.$interface.clone() else {
            return Err($this.unsupported($export));
        };
        let asked = $this.asked($export, $budget, $question);
        $this
            .linked
            .call(
                &$this.shared,
                asked,
                |store, instance| {
                    Box::pin(async move {
                        indices.load(&mut *store, instance)?.$call(&mut *store $(, $argument)*).await
                    })
                },
                |_, answer| Ok($read(answer)),
            )
            .await?
            .map_err(|error| $this.refused(error))
    }};
}

impl ProviderDialect {
    /// Who it says it is, with the interfaces that it really exports.
    pub async fn describe(&self) -> Result<Description, DialectError> {
        let indices = self.linked.exports.provider.clone();
        let asked = self.asked("provider.describe", Budget::DESCRIBE, Question::default());
        let interfaces = self.linked.exports.names().into_iter().map(str::to_owned).collect();
        self.linked
            .call(
                &self.shared,
                asked,
                |store, instance| {
                    Box::pin(
                        async move { indices.load(&mut *store, instance)?.call_describe(&mut *store).await },
                    )
                },
                |_, answer| {
                    Ok(Description {
                        id: printable(&answer.id, 64),
                        version: printable(&answer.version, 64),
                        display_name: printable(&answer.display_name, 200),
                        interfaces,
                    })
                },
            )
            .await?
            .map_err(|error| self.refused(error))
    }

    /// Whether a registry, by its answer to an unauthenticated `GET /v2/`, is of this product.
    pub async fn identify(&self, answer: &Answer) -> Result<Identification, DialectError> {
        let question = Question { subject: Some(answer.clone()), ..Question::default() };
        ask!(
            self,
            identity,
            "identity.identify",
            Budget::IDENTIFY,
            question,
            call_identify(),
            |answer: v0_1::identity::Identification| {
                Identification {
                    certainty: answer.certainty.min(100),
                    product: printable(&answer.product, 200),
                    version: answer.version.map(|version| printable(&version, 200)),
                    settings: map(answer.settings),
                }
            }
        )
    }

    /// From what the user wrote to what goes on the wire. A host other than the registry's is taken only from a built-in provider or
    /// when requests there are granted; and only then are keys of credentials looked up for it.
    pub async fn normalize(&self, repository: &str, tag: Option<&str>) -> Result<WireName, DialectError> {
        let (asked, tag) = (repository.to_owned(), tag.map(str::to_owned));
        let question = Question::default();
        let name: WireName = ask!(
            self,
            naming,
            "naming.normalize",
            Budget::USUAL,
            question,
            call_normalize(&asked, tag.as_deref()),
            |name: v0_1::naming::WireName| {
                WireName {
                    host: name.host,
                    repository: name.repository,
                    display: printable(&name.display, 1000),
                    credential_keys: name.credential_keys,
                    warnings: name.warnings.iter().map(|text| printable(text, 1000)).collect(),
                }
            }
        )?;
        self.check_name(name)
    }

    fn check_name(&self, mut name: WireName) -> Result<WireName, DialectError> {
        let refuse = |why: String| {
            let text = format!("provider {}: naming.normalize: {why}", self.linked.label());
            DialectError { code: "naming".to_owned(), ..DialectError::new(ErrorKind::ProviderFailed, text) }
        };
        let context = &self.shared.context;
        let host: Registry = name.host.parse().map_err(|error| refuse(format!("{error}")))?;
        name.repository.parse::<Repository>().map_err(|error| refuse(format!("{error}")))?;
        let elsewhere = host != context.registry;
        if !self.trusted() {
            if elsewhere && !self.may_reach(&host) {
                let host = host.as_str();
                return Err(refuse(format!(
                    "it names another registry, {host}; allow it with --grant 'egress=https://{host} GET /v2/'"
                )));
            }
            name.credential_keys.retain(|key| *key == host.as_str() || *key == context.registry.as_str());
        }
        Ok(name)
    }

    /// Who the credentials speak for, or why they do not; [`ErrorKind::Unsupported`] when the provider leaves it to
    /// authorizing and `GET /v2/`.
    pub async fn verify(&self) -> Result<BTreeMap<String, String>, DialectError> {
        ask!(self, auth, "auth.verify", Budget::USUAL, Question::default(), call_verify(), map)
    }

    /// Limits that the registry tells.
    pub async fn limits(&self) -> Result<Vec<BTreeMap<String, String>>, DialectError> {
        ask!(
            self,
            transport,
            "transport.limits",
            Budget::USUAL,
            Question::default(),
            call_limits(),
            |limits: Vec<Pairs>| { limits.into_iter().map(map).collect() }
        )
    }

    /// What is known of a repository.
    pub async fn info(&self, repository: &Repository) -> Result<Entry, DialectError> {
        let name = repository.to_string();
        ask!(
            self,
            repositories,
            "repositories.info",
            Budget::USUAL,
            Question::default(),
            call_info(&name),
            |answer: v0_1::repositories::Repository| {
                Entry { name: printable(&answer.name, 1000), digest: None, extra: map(answer.extra) }
            }
        )
    }

    /// A page of repositories. `filter`: `namespace`, `query`.
    pub async fn repositories_page(
        &self,
        filter: &[(String, String)],
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page, DialectError> {
        let (filter, cursor) = (filter.to_vec(), cursor.map(str::to_owned));
        ask!(
            self,
            repositories,
            "repositories.list-page",
            Budget::USUAL,
            Question::default(),
            call_list_page(&filter, limit, cursor.as_deref()),
            |page: v0_1::repositories::Page| {
                let items = page.items.into_iter();
                let items = items.map(|item| Entry {
                    name: printable(&item.name, 1000),
                    digest: None,
                    extra: map(item.extra),
                });
                Page::new(items.collect(), page.next, page.extra)
            }
        )
    }

    /// A page of a repository's tags.
    pub async fn tags_page(
        &self,
        repository: &Repository,
        filter: &[(String, String)],
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page, DialectError> {
        let (name, filter, cursor) = (repository.to_string(), filter.to_vec(), cursor.map(str::to_owned));
        ask!(
            self,
            artifacts,
            "artifacts.list-page",
            Budget::USUAL,
            Question::default(),
            call_list_page(&name, &filter, limit, cursor.as_deref()),
            |page: v0_1::artifacts::Page| {
                let items = page.items.into_iter();
                let items = items.map(|item| Entry {
                    name: printable(&item.name, 1000),
                    digest: item.digest.map(|digest| printable(&digest, 200)),
                    extra: map(item.extra),
                });
                Page::new(items.collect(), page.next, page.extra)
            }
        )
    }

    /// The next page of repositories; `None` after the last one.
    pub async fn next_repositories(
        &self,
        cursor: &mut Cursor,
        filter: &[(String, String)],
        limit: u32,
    ) -> Result<Option<Page>, DialectError> {
        if cursor.is_at_end() {
            return Ok(None);
        }
        let page = self.repositories_page(filter, limit, cursor.at()).await?;
        cursor.advance(page.next.as_deref()).map_err(|why| self.stuck("repositories.list-page", why))?;
        Ok(Some(page))
    }

    /// The next page of a repository's tags; `None` after the last one.
    pub async fn next_tags(
        &self,
        repository: &Repository,
        cursor: &mut Cursor,
        filter: &[(String, String)],
        limit: u32,
    ) -> Result<Option<Page>, DialectError> {
        if cursor.is_at_end() {
            return Ok(None);
        }
        let page = self.tags_page(repository, filter, limit, cursor.at()).await?;
        cursor.advance(page.next.as_deref()).map_err(|why| self.stuck("artifacts.list-page", why))?;
        Ok(Some(page))
    }

    /// All tags of a repository, up to `most`.
    pub async fn tags(
        &self,
        repository: &Repository,
        filter: &[(String, String)],
        most: usize,
    ) -> Result<Vec<Entry>, DialectError> {
        let (mut cursor, mut all) = (Cursor::default(), Vec::new());
        while all.len() < most
            && let Some(page) = self.next_tags(repository, &mut cursor, filter, 100).await?
        {
            all.extend(page.items);
        }
        all.truncate(most);
        Ok(all)
    }

    fn stuck(&self, export: &str, why: &str) -> DialectError {
        let text = format!("provider {}: {export}: {why}", self.linked.label());
        DialectError { code: "cursor".to_owned(), ..DialectError::new(ErrorKind::ProviderFailed, text) }
    }

    /// Removes a tag, a manifest or a whole repository.
    pub async fn remove(
        &self,
        repository: &Repository,
        what: &Removable,
        options: &[(String, String)],
    ) -> Result<Removal, DialectError> {
        let (name, options) = (repository.to_string(), options.to_vec());
        let target = match what {
            Removable::Tag(tag) => Target::Tag(tag.to_string()),
            Removable::Digest(digest) => Target::Digest(digest.to_string()),
            Removable::Everything => Target::Everything,
        };
        ask!(
            self,
            artifacts,
            "artifacts.remove",
            Budget::USUAL,
            Question::default(),
            call_remove(&name, &target, &options),
            |answer: v0_1::artifacts::Removal| {
                Removal {
                    removed: answer.removed.iter().map(|name| printable(name, 1000)).collect(),
                    also_removed: answer.also_removed.iter().map(|name| printable(name, 1000)).collect(),
                    asynchronous: answer.asynchronous,
                    note: map(answer.extra).remove("note"),
                }
            }
        )
    }
}

/// Where a list stands: stops at its end, at a cursor that was there before, and at too many pages.
#[derive(Debug, Default)]
pub struct Cursor {
    at: Option<String>,
    seen: HashSet<String>,
    pages: usize,
}

impl Cursor {
    /// Nothing comes after the last page.
    pub fn is_at_end(&self) -> bool {
        self.pages > 0 && self.at.is_none()
    }

    fn at(&self) -> Option<&str> {
        self.at.as_deref()
    }

    fn advance(&mut self, next: Option<&str>) -> Result<(), &'static str> {
        self.pages += 1;
        if self.pages > PAGES_MAX {
            return Err("more than 10 000 pages");
        }
        self.at = next.map(str::to_owned);
        match &self.at {
            Some(cursor) if !self.seen.insert(cursor.clone()) => {
                Err("the list does not advance: it repeats a cursor")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn lists_end() {
        let mut cursor = Cursor::default();
        assert!(!cursor.is_at_end());
        cursor.advance(Some("1")).expect("a page");
        assert_eq!((cursor.is_at_end(), cursor.at()), (false, Some("1")));
        cursor.advance(None).expect("a page");
        assert!(cursor.is_at_end());
    }

    #[test]
    fn a_cursor_that_comes_back_is_an_error() {
        let mut cursor = Cursor::default();
        cursor.advance(Some("1")).expect("a page");
        cursor.advance(Some("2")).expect("a page");
        assert!(cursor.advance(Some("1")).is_err());
    }
}
