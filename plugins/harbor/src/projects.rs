//! Projects, which must exist before a push, and what is known of a repository in one.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{link, pairs as list, refusal};
use serde::Deserialize;
use serde_json::json;

use crate::{api, login, naming};

#[derive(Debug, Deserialize)]
pub(crate) struct Project {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    registry_id: Option<i64>,
    #[serde(default)]
    metadata: Metadata,
}

/// All values are strings, also those that are true or false.
#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    public: String,
}

#[derive(Debug, Default, Deserialize)]
struct Summary {
    #[serde(default)]
    quota: Quota,
}

#[derive(Debug, Default, Deserialize)]
struct Quota {
    #[serde(default)]
    hard: Storage,
    #[serde(default)]
    used: Storage,
}

#[derive(Debug, Default, Deserialize)]
struct Storage {
    storage: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    tag_selectors: Vec<Selector>,
}

#[derive(Debug, Deserialize)]
struct Selector {
    #[serde(default)]
    decoration: String,
    #[serde(default)]
    pattern: String,
}

/// The request for something of a project. A name of digits only would be read as a number of one.
fn of_project(project: &str, rest: &str) -> Request<'static> {
    let request = Request::get(api::url(&format!("/projects/{}{rest}", link::percent(project))));
    let number = project.bytes().all(|byte| byte.is_ascii_digit());
    if number { request.header("x-is-resource-name", "true") } else { request }
}

/// Whether a project is there: no when Harbor says so, nothing when it does not say.
fn exists(project: &str) -> Result<Option<bool>> {
    let answer = api::ask(Request::head(api::url("/projects")).query("project_name", project))?;
    match answer.status() {
        200 => Ok(Some(true)),
        404 => Ok(Some(false)),
        // A CLI secret is not good for this, and some releases say 403 of what is not there. The list is open to both.
        401 | 403 => {
            let url = api::url("/projects");
            let request = Request::get(url).query("name", project).query("page_size", "100");
            let answer = api::ask(request.query("with_detail", "false"))?;
            let listed = if answer.is_success() { answer.json::<Vec<Project>>()? } else { Vec::new() };
            Ok(listed.iter().any(|one| one.name == project).then_some(true))
        }
        _ => Err(refusal::error(&answer, &format!("look for the project `{project}`"))),
    }
}

/// The project must exist; with `create-parent` it is made. A repository comes with its first push.
pub(crate) fn ensure(name: &str, options: &Pairs) -> Result<Repository> {
    let (project, _) = naming::parts(name)?;
    // Where Harbor does not say, it was the push that was told of no such project.
    if exists(project)? == Some(true) {
        return Ok(repository(name, "implicit"));
    }
    if !list::flag(options, "create-parent") {
        return Err(missing(project));
    }
    let visibility = list::get(options, "visibility").unwrap_or("private");
    let mut made = repository(name, "created");
    made.extra.extend(pairs([("created", "project"), ("created-name", project), ("visibility", visibility)]));
    if invocation::dry_run() {
        return Ok(made);
    }
    // Without a limit of its own it gets the default quota.
    let public = if visibility == "public" { "true" } else { "false" };
    let body = json!({ "project_name": project, "metadata": { "public": public } });
    let answer = api::ask(Request::post(api::url("/projects")).json(&body))?;
    match answer.status() {
        201 => Ok(made),
        // Somebody was faster, or it is there and hidden from this account.
        409 => Ok(repository(name, "implicit")),
        403 => Err(may_not_create(project, &answer)),
        _ => Err(api::refused(&answer, &format!("create the project `{project}`"), "Create Project")),
    }
}

fn repository(name: &str, state: &str) -> Repository {
    Repository { name: name.to_owned(), extra: pairs([("state", state)]) }
}

fn missing(project: &str) -> Error {
    let registry = invocation::registry();
    let restricted = api::system_info().project_creation_restriction.as_deref() == Some("adminonly");
    let way = if restricted {
        "only its administrators may make projects (project_creation_restriction is adminonly): ask one of them, or use a project \
         that is there"
    } else {
        "`idp push --create` makes it, private; or make it there first"
    };
    Error::not_found(format!("{registry} has no project `{project}`: {way}"))
        .code("project-missing")
        .extra("missing", "project")
        .extra("name", project)
}

fn may_not_create(project: &str, answer: &Response) -> Error {
    let registry = invocation::registry();
    let said = answer.text();
    let why = if said.contains("Only system admin") {
        "only administrators of Harbor may make projects (project_creation_restriction is adminonly): ask one of them to make it"
            .to_owned()
    } else if said.contains("Only system level robot") {
        "a robot account of a project cannot make projects, only one of the system can (Administration, Robot Accounts)".to_owned()
    } else {
        refusal::text(&said)
    };
    Error::denied(format!("the account may not create the project `{project}` at {registry}: {why}"))
        .code("may-not-create-project")
        .status(403)
        .extra("missing", "project")
        .extra("name", project)
}

#[derive(Debug, Deserialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    #[serde(default)]
    project_id: Option<i64>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    pull_count: Option<i64>,
    #[serde(default)]
    creation_time: Option<String>,
    #[serde(default)]
    update_time: Option<String>,
}

impl Listed {
    /// In the words of the contract.
    pub(crate) fn into_repository(self) -> Repository {
        let url = self.project_id.zip(naming::split(&self.name)).map(|(id, (_, rest))| {
            format!("{}/harbor/projects/{id}/repositories/{}", invocation::origin(), link::percent(rest))
        });
        let known = [
            ("state", Some("exists".to_owned())),
            ("description", self.description.filter(|text| !text.is_empty())),
            ("pulls", self.pull_count.map(|count| count.to_string())),
            ("created-at", api::time(self.creation_time)),
            ("updated-at", api::time(self.update_time)),
            ("url", url),
        ];
        let extra = known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        Repository { name: self.name, extra }
    }
}

/// What Harbor tells about a repository and its project: who may see it, how much room there is, which tags stay.
pub(crate) fn info(name: &str) -> Result<Repository> {
    let (project, rest) = naming::parts(name)?;
    let doing = format!("look at {name}");
    let answer = api::ask(Request::get(api::url(&api::repository(project, rest))))?;
    if answer.status() == 404 {
        if exists(project)? == Some(false) {
            return Err(missing(project));
        }
        let message = format!("nothing was pushed to {}/{name} yet", invocation::registry());
        return Err(Error::not_found(message)
            .code("NOT_FOUND")
            .extra("missing", "repository")
            .extra("name", name));
    }
    if !answer.is_success() {
        return Err(api::refused(&answer, &doing, "Read Repository"));
    }
    let mut found = answer.json::<Listed>()?.into_repository();
    about_project(project, &mut found.extra);
    Ok(found)
}

/// What an account may know of a project; a right that is missing leaves out its part.
fn about_project(project: &str, extra: &mut Pairs) {
    let get = |rest: &str| api::ask(of_project(project, rest)).ok().filter(Response::is_success);
    if let Some(it) = get("").and_then(|answer| answer.json::<Project>().ok()) {
        let public = it.metadata.public == "true";
        extra.extend(pairs([("visibility", if public { "public" } else { "private" })]));
        if it.registry_id.is_some_and(|id| id > 0) {
            extra.extend(pairs([("note", "a proxy cache of another registry: it cannot be pushed to")]));
        }
    }
    if let Some(it) = get("/summary").and_then(|answer| answer.json::<Summary>().ok()) {
        extra.extend(it.quota.used.storage.map(|bytes| ("quota-used".to_owned(), bytes.to_string())));
        // -1 is no limit.
        let limit = it.quota.hard.storage.filter(|bytes| *bytes >= 0);
        extra.extend(limit.map(|bytes| ("quota-limit".to_owned(), bytes.to_string())));
    }
    if let Some(rules) = get("/immutabletagrules").and_then(|answer| answer.json::<Vec<Rule>>().ok()) {
        let selectors = rules.into_iter().filter(|rule| !rule.disabled).flat_map(|rule| rule.tag_selectors);
        let patterns = selectors.map(|one| match one.decoration.as_str() {
            "excludes" => format!("all but {}", one.pattern),
            _ => one.pattern,
        });
        let patterns: Vec<_> = patterns.collect();
        if !patterns.is_empty() {
            extra.push(("immutable".to_owned(), patterns.join(", ")));
        }
    }
}

/// With credentials that Harbor does not know, lists show what everybody may see, as if that were all.
pub(crate) fn refuse_wrong_credentials() -> Result<()> {
    let credential = invocation::credential("registry");
    credential.and_then(|credential| login::wrong_credentials(&credential)).map_or(Ok(()), Err)
}
