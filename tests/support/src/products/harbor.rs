//! Harbor, from its sources at 2.16 (src/server, src/core/service/token; `plugins/harbor/README.md` names them one by one): projects with
//! members, a token service that answers 200 to a wrong password, refusals that are always 401, and the API beside it
//! ([`api`]).

mod api;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::base::{self, Verb, document};
use crate::faults::{Registry, Reply};
use crate::net::{Request, Site};

/// What Harbor's own limit for manifests is.
const MANIFEST_MAX: usize = 4 << 20;

/// Who has a password here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A user, let in everywhere.
    User,
    /// An administrator of the whole.
    Admin,
    /// A robot account of the system, or of a project.
    Robot(Option<String>),
    /// A single sign-on account: its password is a CLI secret, which the API takes for some calls only.
    Cli,
}

/// An account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its password.
    pub password: String,
    /// What it is.
    pub kind: Kind,
}

/// A project.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// Its number.
    pub id: usize,
    /// Everybody may pull.
    pub public: bool,
    /// Account to what it may do: `pull`, `push`, `delete`, and `api` (look and delete by API).
    pub members: BTreeMap<String, BTreeSet<&'static str>>,
    /// Bytes it may hold.
    pub quota: Option<usize>,
    /// A cache of another registry.
    pub proxy: bool,
    /// Tags that start so cannot be moved or deleted.
    pub immutable: BTreeSet<String>,
    /// The message of a policy that keeps what is in it from being pulled.
    pub policy: Option<String>,
}

/// Habits of a Harbor that differ from one to the next.
#[derive(Debug, Clone, Default)]
pub struct Habits {
    /// `oidc_auth` instead of `db_auth`.
    pub oidc: bool,
    /// Only administrators make projects.
    pub admin_only: bool,
    /// Nothing can be written.
    pub read_only: bool,
    /// Scheme and host of `external_url`, where they are not the registry's own.
    pub external_url: Option<String>,
    /// The API says 403 of what is not there, as some releases.
    pub hides: bool,
    /// An ingress refuses larger requests with a page.
    pub ingress: Option<usize>,
    /// The registry behind a proxy cache has had enough.
    pub throttled: bool,
    /// Something on the way adds a cookie to every request.
    pub cookie: bool,
    /// A proxy does not pass on the API.
    pub no_api: bool,
}

/// A Harbor.
#[derive(Debug)]
pub struct Harbor {
    /// Its name.
    pub host: String,
    /// Who is known.
    pub accounts: BTreeMap<String, Account>,
    /// What projects there are.
    pub projects: BTreeMap<String, Project>,
    /// What they hold.
    pub registry: Registry,
    /// Size of a blob as Harbor noted it: by the last PUT, or by the PATCHes when that was empty.
    pub sizes: BTreeMap<String, usize>,
    /// Bytes of PATCHes a session.
    patched: BTreeMap<String, usize>,
    /// `(repository, digest)` that were pulled.
    pulled: BTreeSet<(String, String)>,
    /// See there.
    pub habits: Habits,
}

impl Harbor {
    /// `hub.example` with the project `team`: `alice` (`pw`) may do everything in it, `robot$team+ci` (`secret`) push and pull,
    /// `robot$team+reader` (`secret`) pull; `library` is public; `admin` (`Harbor12345`) may do everything everywhere.
    pub fn new() -> Self {
        let account = |name: &str, password: &str, kind| {
            (name.to_owned(), Account { password: password.to_owned(), kind })
        };
        let team = Some("team".to_owned());
        let members = [
            ("alice", ["pull", "push", "delete", "api"].as_slice()),
            ("robot$team+ci", &["pull", "push"]),
            ("robot$team+reader", &["pull"]),
        ]
        .map(|(name, rights)| (name.to_owned(), rights.iter().copied().collect()));
        Self {
            host: "hub.example".to_owned(),
            accounts: [
                account("alice", "pw", Kind::User),
                account("bob", "pw", Kind::User),
                account("admin", "Harbor12345", Kind::Admin),
                account("robot$team+ci", "secret", Kind::Robot(team.clone())),
                account("robot$team+reader", "secret", Kind::Robot(team)),
                account("robot$ops", "secret", Kind::Robot(None)),
            ]
            .into(),
            projects: [
                ("library".to_owned(), Project { id: 1, public: true, ..Project::default() }),
                ("team".to_owned(), Project { id: 2, members: members.into(), ..Project::default() }),
            ]
            .into(),
            registry: Registry::default(),
            sizes: BTreeMap::new(),
            patched: BTreeMap::new(),
            pulled: BTreeSet::new(),
            habits: Habits::default(),
        }
    }

    /// Content under a tag.
    pub fn image(&mut self, repository: &str, tag: &str, content: &str) -> String {
        base::image(&mut self.registry, repository, tag, content)
    }

    /// The project of a repository.
    fn project(&self, repository: &str) -> Option<&Project> {
        self.projects.get(repository.split('/').next().unwrap_or_default())
    }

    /// The account of right Basic credentials.
    fn known(&self, request: &Request) -> Option<String> {
        let (user, password) = request.basic()?;
        self.accounts.get(&user).filter(|account| account.password == password).map(|_| user)
    }

    fn kind(&self, user: &str) -> Option<&Kind> {
        self.accounts.get(user).map(|account| &account.kind)
    }

    /// Whether an account (empty: nobody) may do something in the project of a repository.
    fn may(&self, user: &str, repository: &str, action: &str) -> bool {
        self.project(repository).is_some_and(|project| {
            self.kind(user) == Some(&Kind::Admin)
                || (action == "pull" && project.public)
                || project.members.get(user).is_some_and(|rights| rights.contains(action))
        })
    }

    /// `GET /service/token`, and nothing else there.
    fn token(&self, request: &Request) -> Reply {
        if request.method != "GET" {
            return Reply::status(405);
        }
        let service = request.query("service").first().cloned().unwrap_or_default();
        if service != "harbor-registry" {
            return base::text(400, &format!("Unable to handle service: {service}"));
        }
        let user = self.known(request).unwrap_or_default();
        let scopes = request.query("scope");
        if scopes.is_empty() && user.is_empty() {
            return Reply::status(401);
        }
        // What is asked for does not matter, and neither does a wrong password.
        let granted = scopes.iter().filter_map(|scope| {
            let (name, _) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
            let may: Vec<_> =
                ["pull", "push", "delete"].into_iter().filter(|one| self.may(&user, name, one)).collect();
            (!may.is_empty()).then(|| format!("repository:{name}:{}", may.join(",")))
        });
        let token = base::token(&user, &granted.collect::<Vec<_>>());
        document(
            200,
            &json!({"token": token, "access_token": "", "expires_in": 1800, "issued_at": "2026-11-21T09:00:00Z"}),
        )
    }

    /// 401 in Harbor's way: a token's challenge to whoever sent nothing, else Basic, which is no invitation.
    fn unauthorized(&self, request: &Request, message: &str) -> Reply {
        let external = self.habits.external_url.clone().unwrap_or_else(|| format!("https://{}", self.host));
        let catalog = request.path() == "/v2/_catalog";
        let challenge = if request.header("authorization").is_some() || catalog {
            "Basic realm=\"harbor\"".to_owned()
        } else {
            format!("Bearer realm=\"{external}/service/token\",service=\"harbor-registry\"")
        };
        error(401, "UNAUTHORIZED", &format!("{message}: {message}"))
            .header("docker-distribution-api-version", "registry/2.0")
            .header("www-authenticate", &challenge)
    }

    fn v2(&mut self, request: &Request) -> Reply {
        let path = request.path().to_owned();
        let Some((repository, verb)) = base::route(&path) else {
            return base::text(404, "404 page not found");
        };
        let bearer = request.bearer().and_then(base::granted);
        let basic = self.known(request);
        match verb {
            Verb::Base if bearer.is_some() || basic.is_some() => return document(200, &json!({})),
            Verb::Base => return self.unauthorized(request, "unauthorized"),
            Verb::Catalog if basic.as_deref().and_then(|user| self.kind(user)) == Some(&Kind::Admin) => {
                return base::content(&mut self.registry, request);
            }
            Verb::Catalog => return self.unauthorized(request, "unauthorized to list catalog"),
            _ => {}
        }
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        if reads && request.header("authorization").is_none() {
            return self.unauthorized(request, "authorize header needed to send HEAD to repository");
        }
        let name = repository.split('/').next().unwrap_or_default();
        let Some(project) = self.projects.get(name).cloned() else {
            let message = format!("project {name} not found: project {name} not found");
            return error(401, "UNAUTHORIZED", &message).header("www-authenticate", "");
        };
        let action = base::action(&request.method);
        let let_in = match &bearer {
            Some((_, scopes)) => base::covers(scopes, &repository, action),
            None => self.may(&basic.unwrap_or_default(), &repository, action),
        };
        if !let_in {
            let message = format!("unauthorized to access repository: {repository}, action: {action}");
            return self.unauthorized(request, &message);
        }
        self.ruled(request, &project, &repository, &verb)
            .unwrap_or_else(|| self.served(request, &repository, &verb))
    }

    /// What the rules of the project and of the whole forbid.
    fn ruled(&self, request: &Request, project: &Project, repository: &str, verb: &Verb) -> Option<Reply> {
        let writes = !matches!(request.method.as_str(), "GET" | "HEAD");
        let name = repository.split('/').next().unwrap_or_default();
        if writes && self.habits.read_only {
            let text = "The system is in read only mode. Any modification is prohibited.";
            return Some(error(403, "DENIED", text));
        }
        if writes && project.proxy {
            let text = format!("can not push artifact to a proxy project: {name}");
            return Some(error(403, "DENIED", &text));
        }
        if project.proxy && self.habits.throttled {
            return Some(error(429, "TOO_MANY_REQUEST", "too many requests to upstream registry"));
        }
        if let (Some(quota), "PUT") = (project.quota, request.method.as_str()) {
            let used = self.used(name);
            if used + request.body.len() > quota {
                let text = format!(
                    "adding {} B of storage resource, which when updated to current usage of {used} B will exceed the configured \
                     upper limit of {quota} B.",
                    request.body.len()
                );
                return Some(error(403, "DENIED", &text));
            }
        }
        let Verb::Manifest(reference) = verb else { return None };
        match request.method.as_str() {
            "PUT" if request.body.len() > MANIFEST_MAX => {
                Some(error(413, "REQUEST_ENTITY_TOO_LARGE", "the manifest is too large"))
            }
            "PUT" if self.is_immutable(repository, reference) => {
                let text = format!(
                    "Failed to process request due to '{repository}:{reference}' configured as immutable."
                );
                Some(error(412, "PRECONDITION", &text))
            }
            "DELETE" if !reference.contains(':') => {
                Some(error(400, "UNSUPPORTED", &format!("unsupported digest {reference}")))
            }
            "GET" => project.policy.as_deref().map(|text| error(412, "PROJECTPOLICYVIOLATION", text)),
            _ => None,
        }
    }

    /// Whether a tag is there and a rule keeps it.
    fn is_immutable(&self, repository: &str, tag: &str) -> bool {
        let there = self.registry.tags.contains_key(&(repository.to_owned(), tag.to_owned()));
        let rules = self.project(repository).map(|project| &project.immutable);
        there && rules.is_some_and(|rules| rules.iter().any(|start| tag.starts_with(start.as_str())))
    }

    /// Bytes that a project holds.
    fn used(&self, project: &str) -> usize {
        let start = format!("{project}/");
        let blobs = self.registry.blobs.iter().filter(|((repository, _), _)| repository.starts_with(&start));
        blobs.map(|(_, bytes)| bytes.len()).sum()
    }

    fn served(&mut self, request: &Request, repository: &str, verb: &Verb) -> Reply {
        if let Verb::Referrers(_) = verb {
            return document(200, &json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}))
                .header("content-type", "application/vnd.oci.image.index.v1+json");
        }
        let reply = base::content(&mut self.registry, request);
        match (verb, request.method.as_str(), reply.code()) {
            (Verb::Manifest(reference), "GET" | "HEAD", 404) => {
                error(404, "NOT_FOUND", &format!("artifact {repository}:{reference} not found"))
            }
            (Verb::Manifest(reference), "GET", 200) => {
                let key = (repository.to_owned(), reference.clone());
                let digest = self.registry.tags.get(&key).unwrap_or(reference).clone();
                self.pulled.insert((repository.to_owned(), digest));
                reply
            }
            (Verb::Upload, "PATCH", 202) => {
                *self.patched.entry(request.path().to_owned()).or_default() += request.body.len();
                reply
            }
            (Verb::Upload, "PUT", 201) => {
                let patched = self.patched.remove(request.path()).unwrap_or(0);
                let size = if request.body.is_empty() { patched } else { request.body.len() };
                let digest = request.query("digest").first().cloned().unwrap_or_default();
                self.sizes.insert(digest, size);
                reply
            }
            _ => reply,
        }
    }
}

impl Default for Harbor {
    fn default() -> Self {
        Self::new()
    }
}

impl Site for Harbor {
    fn answer(&mut self, request: &Request) -> Reply {
        let unsafe_method = !matches!(request.method.as_str(), "GET" | "HEAD");
        let path = request.path();
        let reply = if self.habits.ingress.is_some_and(|limit| request.body.len() > limit) {
            Reply::status(413)
                .header("content-type", "text/html")
                .body("<html><head><title>413 Request Entity Too Large</title></head></html>")
        } else if (self.habits.cookie || request.header("cookie").is_some())
            && unsafe_method
            && !path.starts_with("/v2/")
        {
            error(403, "FORBIDDEN", "CSRF token not found in request")
        } else if path == "/service/token" {
            self.token(request)
        } else if path.starts_with("/v2/") {
            self.v2(request)
        } else if path.starts_with("/api/v2.0/") && !self.habits.no_api {
            self.api(request)
        } else {
            base::text(404, "404 page not found")
        };
        reply.and_header("set-cookie", "sid=1; Path=/; HttpOnly")
    }
}

/// Harbor's error document.
fn error(status: u16, code: &str, message: &str) -> Reply {
    document(status, &json!({"errors": [{"code": code, "message": message}]}))
}

/// A page of a list, with the links that Harbor gives.
fn paged(request: &Request, all: &[Value]) -> Reply {
    let number = |name: &str, default: usize| {
        request.query(name).first().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (page, size) = (number("page", 1), number("page_size", 10).min(100));
    let items: Vec<_> = all.iter().skip((page - 1) * size).take(size).collect();
    let reply = document(200, &json!(items)).header("x-total-count", &all.len().to_string());
    let link =
        |page: usize, rel: &str| format!("<{}?page={page}&page_size={size}>; rel=\"{rel}\"", request.path());
    let mut links = Vec::new();
    if page > 1 {
        links.push(link(page - 1, "prev"));
    }
    if page * size < all.len() {
        links.push(link(page + 1, "next"));
    }
    if links.is_empty() { reply } else { reply.header("link", &links.join(" , ")) }
}
