//! Repositories by the Hub's API: what one is, those of a namespace, and one made on purpose. The registry itself makes a repository
//! with its first push, as public or private as the account's default privacy says, and that is public unless somebody changed it.

use idp_provider_sdk::pairs as list;
use idp_provider_sdk::prelude::*;
use serde::Deserialize;
use serde_json::json;

use crate::hub::{self, At, Page};
use crate::{login, naming};

/// As the API has it; it leaves out and nulls what it likes.
#[derive(Debug, Default, Deserialize)]
struct Known {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    is_private: Option<bool>,
    #[serde(default)]
    pull_count: Option<u64>,
    #[serde(default)]
    storage_size: Option<u64>,
    #[serde(default)]
    last_updated: Option<String>,
    #[serde(default)]
    date_registered: Option<String>,
}

impl Known {
    fn visibility(&self) -> Option<&'static str> {
        self.is_private.map(|private| if private { "private" } else { "public" })
    }

    fn repository(self, namespace: &str) -> Repository {
        let namespace = self.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or(namespace);
        let name = format!("{namespace}/{}", self.name);
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let web = match name.strip_prefix("library/") {
            Some(official) => format!("https://hub.docker.com/_/{official}"),
            None => format!("https://hub.docker.com/r/{name}"),
        };
        let found = [
            ("state", Some("exists".to_owned())),
            ("visibility", self.visibility().map(str::to_owned)),
            ("description", self.description),
            ("pulls", number(self.pull_count)),
            ("size", number(self.storage_size)),
            ("updated-at", self.last_updated),
            ("created-at", self.date_registered),
            ("url", Some(web)),
        ];
        let extra =
            found.into_iter().filter_map(|(key, value)| Some((key, value.filter(|text| !text.is_empty())?)));
        Repository { extra: pairs(extra), name }
    }
}

/// The two parts of a name, without which the API has no answer.
pub(crate) fn two_parts(name: &str) -> Result<(&str, &str)> {
    naming::split(name).ok_or_else(|| {
        Error::invalid(format!(
            "Docker Hub has repositories of two parts, NAMESPACE/REPOSITORY; `{name}` is not one"
        ))
        .code("NAME_INVALID")
    })
}

/// What the API knows of a repository; `None` for 404, which is also its answer to who may not see it.
fn look(name: &str) -> Result<Option<Known>> {
    let (namespace, repository) = two_parts(name)?;
    let url = hub::repository_url(namespace, repository);
    let answer = hub::send(|| Request::get(&*url))?;
    match answer.status() {
        404 => Ok(None),
        200..=299 => answer.json::<Known>().map(Some),
        _ => Err(hub::error(&answer, &format!("look at {}", naming::shown(name)))),
    }
}

/// Visibility, size, pulls, and where to look at it.
pub(crate) fn info(name: &str) -> Result<Repository> {
    if let Some(known) = look(name)? {
        return Ok(known.repository(naming::namespace(name)));
    }
    let shown = naming::shown(name);
    let why = match invocation::credential("registry") {
        Some(_) => "or these credentials may not see it",
        None => "or it is private and you are not logged in",
    };
    Err(Error::not_found(format!("{shown} does not exist, {why}"))
        .code("NAME_UNKNOWN")
        .status(404)
        .extra("missing", "repository")
        .extra("name", name))
}

/// Before a push. Nothing is asked and nothing made unless somebody wants a visibility or a description: the push makes the
/// repository by itself. A rehearsal looks, because that is the time to hear that it would be public.
pub(crate) fn ensure(name: &str, options: &Pairs) -> Result<Repository> {
    let visibility = list::get(options, "visibility");
    let wanted = visibility.is_some() || list::get(options, "description").is_some();
    let shown = naming::shown(name);
    if naming::split(name).is_none() || !(wanted || invocation::dry_run()) {
        log::info(&format!("{shown}: {DEFAULT_PRIVACY}"));
        return Ok(state(name, "implicit", &[("note", DEFAULT_PRIVACY)]));
    }
    if wanted && invocation::credential("registry").is_none() {
        return Err(login::not_logged_in(&format!("create {shown}")));
    }
    if let Some(known) = look(name)? {
        let found = known.visibility().unwrap_or_default();
        if let Some(asked) = visibility.filter(|asked| !found.is_empty() && *asked != found) {
            log::warn(&format!(
                "{shown} is there already and is {found}; --visibility {asked} does not change it (its settings at \
                 https://hub.docker.com/r/{name} do)"
            ));
        }
        return Ok(known.repository(naming::namespace(name)));
    }
    if !wanted {
        log::warn(&format!("{shown} does not exist, or may not be seen; {DEFAULT_PRIVACY}"));
        return Ok(state(name, "implicit", &[("note", DEFAULT_PRIVACY)]));
    }
    // A description without a visibility: what nobody wanted to be public is not.
    let visibility = visibility.unwrap_or("private");
    let made = state(name, "created", &[("visibility", visibility)]);
    if invocation::dry_run() {
        return Ok(made);
    }
    create(name, visibility, list::get(options, "description").unwrap_or_default())?;
    Ok(made)
}

/// Said where a repository may come into being by a push.
const DEFAULT_PRIVACY: &str = "a repository that a push makes follows the default privacy of its account, which is public \
     unless it was changed; --visibility private makes it private before anything is pushed";

fn state(name: &str, state: &str, more: &[(&str, &str)]) -> Repository {
    let extra = [("state", state)].into_iter().chain(more.iter().copied());
    Repository { name: name.to_owned(), extra: pairs(extra) }
}

fn create(name: &str, visibility: &str, description: &str) -> Result<()> {
    let (namespace, repository) = two_parts(name)?;
    let url =
        hub::url(&format!("/v2/namespaces/{}/repositories", idp_provider_sdk::link::percent(namespace)));
    let body = json!({
        "name": repository,
        "namespace": namespace,
        "description": description,
        "full_description": "",
        "registry": "docker.io",
        "is_private": visibility == "private",
    });
    let answer = hub::send(|| Request::post(&*url).json(&body))?;
    let status = answer.status();
    if answer.is_success() {
        return Ok(());
    }
    let shown = naming::shown(name);
    let said = hub::words(&answer);
    let lower = said.to_ascii_lowercase();
    // Somebody was faster.
    if matches!(status, 400 | 409) && look(name)?.is_some() {
        return Ok(());
    }
    let because = if said.is_empty() { String::new() } else { format!(" (it says: {said})") };
    Err(match status {
        _ if lower.contains("private") && lower.contains("limit") => Error::denied(format!(
            "{namespace} has as many private repositories as its plan allows{because}; make {shown} public with --visibility \
             public, or change the plan"
        ))
        .code("private-repository-limit")
        .status(status),
        401 | 403 => Error::denied(format!(
            "{who} may not create repositories in `{namespace}` at Docker Hub{because}; push below your own name, or let an owner \
             of the organisation create {shown}; an access token needs Read & Write",
            who = who()
        ))
        .code("may-not-create")
        .status(status)
        .extra("name", namespace),
        404 => Error::not_found(format!("Docker Hub has neither a user nor an organisation `{namespace}`{because}"))
            .code("namespace-missing")
            .status(status)
            .extra("missing", "organisation")
            .extra("name", namespace),
        _ => hub::error(&answer, &format!("create {shown}")),
    })
}

/// The account, for messages.
pub(crate) fn who() -> String {
    match invocation::credential("registry") {
        Some(credential) if !credential.username().is_empty() => format!("`{}`", credential.username()),
        Some(_) => "this account".to_owned(),
        None => "an anonymous user".to_owned(),
    }
}

/// The repositories of a namespace, which is the user's own unless told; or a search of everything public.
pub(crate) fn list_page(filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    let query = list::get(filter, "query").filter(|query| !query.is_empty());
    let given = list::get(filter, "namespace").map(|namespace| namespace.trim_matches('/').to_owned());
    let given = given.filter(|namespace| !namespace.is_empty());
    if let (None, Some(query), "search") = (&given, query, invocation::operation().as_str()) {
        return search_page(query, limit, cursor);
    }
    let own = || invocation::credential("registry").map(|credential| credential.username().to_owned());
    let Some(namespace) = given.or_else(own).filter(|namespace| !namespace.is_empty()) else {
        return Err(Error::invalid(format!(
            "Docker Hub lists the repositories of one namespace, and without a login there is no own one: give --namespace (a user, \
             an organisation, or `{}`), or look in all that is public with `idp search`",
            naming::OFFICIAL
        ))
        .code("namespace-needed"));
    };
    let at = At::new(cursor, limit)?;
    let url =
        hub::url(&format!("/v2/namespaces/{}/repositories", idp_provider_sdk::link::percent(&namespace)));
    let answer = hub::send(|| {
        let request = Request::get(&*url)
            .query("page", &at.page.to_string())
            .query("page_size", &at.size.to_string())
            .query("ordering", "name");
        match query {
            Some(query) => request.query("name", query),
            None => request,
        }
    })?;
    let page: Page<Known> = match answer.status() {
        404 if cursor.is_some() => Page::end(),
        404 => {
            return Err(Error::not_found(format!(
                "Docker Hub has neither a user nor an organisation `{namespace}`"
            ))
            .code("namespace-missing")
            .status(404)
            .extra("missing", "organisation")
            .extra("name", namespace));
        }
        200..=299 => answer.json()?,
        _ => return Err(hub::error(&answer, &format!("list the repositories of {namespace}"))),
    };
    let total = page.count.map(|count| ("total".to_owned(), count.to_string()));
    let next = page.cursor(at);
    let items = page.results.into_iter().map(|known| known.repository(&namespace)).collect();
    Ok(RepositoryPage { items, next, extra: total.into_iter().collect() })
}

/// An answer of the public search.
#[derive(Debug, Deserialize)]
struct Found {
    #[serde(default)]
    num_pages: u32,
    #[serde(default)]
    num_results: Option<u64>,
    #[serde(default)]
    results: Vec<Hit>,
}

#[derive(Debug, Deserialize)]
struct Hit {
    name: String,
    #[serde(default)]
    description: Option<String>,
}

/// As `docker search` asks, on the old index host and without credentials.
fn search_page(query: &str, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    let at = At::new(cursor, limit)?;
    let answer = Request::get("https://index.docker.io/v1/search")
        .query("q", query)
        .query("n", &at.size.to_string())
        .query("page", &at.page.to_string())
        .send()?;
    if !answer.is_success() {
        let error = hub::error(&answer, &format!("search Docker Hub for `{query}`"));
        return Err(Error { message: error.message.replace("hub.docker.com", "index.docker.io"), ..error });
    }
    let found: Found = answer.json()?;
    let next = (at.page < found.num_pages && !found.results.is_empty()).then(|| at.next());
    let item = |hit: Hit| {
        let description = hit.description.filter(|text| !text.is_empty());
        let extra = [
            Some(("visibility".to_owned(), "public".to_owned())),
            description.map(|text| ("description".to_owned(), text)),
        ];
        // Official images stand there without their namespace.
        let name =
            if hit.name.contains('/') { hit.name } else { format!("{}/{}", naming::OFFICIAL, hit.name) };
        Repository { name, extra: extra.into_iter().flatten().collect() }
    };
    let total = found.num_results.map(|count| ("total".to_owned(), count.to_string()));
    Ok(RepositoryPage {
        items: found.results.into_iter().map(item).collect(),
        next,
        extra: total.into_iter().collect(),
    })
}
