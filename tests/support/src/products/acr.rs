//! Azure Container Registry, as far as a client meets it: the token service with its three ways in, the distribution API with Azure's
//! refusals, and `/acr/v1/`. Facts: Azure/acr, `docs/AAD-OAuth.md` and `docs/Token-BasicAuth.md`; registries dossier 7 and 14.5; where
//! that says UNCONFIRMED, so does the comment here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::base::{self, Verb};
use crate::faults::{Registry, Reply};
use crate::net::{Request, Site};

/// The user name that says "the password is a refresh token".
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// One registry.
#[derive(Debug, Default)]
pub struct Acr {
    /// The content.
    pub registry: Registry,
    /// The login server: `team.azurecr.io`, whatever name it is asked under.
    pub login_server: String,
    /// User names with passwords: the admin user, service principals, tokens for repositories.
    pub users: BTreeMap<String, String>,
    /// Refresh tokens that have not ended.
    pub refresh_tokens: BTreeSet<String>,
    /// Tokens of Entra ID that are of the registry's tenant.
    pub entra_tokens: BTreeSet<String>,
    /// What accounts may do: `pull`, `push`, `delete`, `metadata_read`.
    pub rights: BTreeSet<&'static str>,
    /// Anonymous pulls are switched on.
    pub anonymous_pull: bool,
    /// Permissions are by repository: the catalogue is a right of its own.
    pub by_repository: bool,
    /// The account has no role at all: 403 at the exchange.
    pub no_role: bool,
    /// Network rules refuse this address (text UNCONFIRMED).
    pub blocked: Option<String>,
    /// `REPOSITORY` or `REPOSITORY:TAG` that are locked.
    pub locked: BTreeSet<String>,
    /// Whether locked is 403 instead of 405; both were seen.
    pub locked_is_403: bool,
    /// So many of the next requests are throttled.
    pub throttled: usize,
    /// `POST /oauth2/token` without a scope is 400, as the documentation has it.
    pub scope_wanted: bool,
    /// Names a page of the catalogue and of tags.
    pub page: usize,
}

fn unauthorized() -> Reply {
    base::errors(
        401,
        "UNAUTHORIZED",
        "authentication required, visit https://aka.ms/acr/authorization for more information.",
        &Value::Null,
    )
}

impl Acr {
    /// `team.azurecr.io` with an admin user `team`, password `admin-password`, who may do everything.
    pub fn new(login_server: &str) -> Self {
        let short = login_server.split('.').next().unwrap_or_default().to_owned();
        Self {
            login_server: login_server.to_owned(),
            users: [(short, "admin-password".to_owned())].into(),
            rights: ["pull", "push", "delete", "metadata_read"].into(),
            page: 100,
            ..Self::default()
        }
    }

    fn challenge(&self, scope: &str) -> Reply {
        let server = &self.login_server;
        let scope = if scope.is_empty() { String::new() } else { format!(",scope=\"{scope}\"") };
        unauthorized().header(
            "www-authenticate",
            &format!(r#"Bearer realm="https://{server}/oauth2/token",service="{server}"{scope}"#),
        )
    }

    /// What of the asked scopes an account gets: fewer is no error here, it shows later.
    fn grant(&self, user: &str, asked: &[String]) -> Reply {
        let allowed = |actions: &str| -> String {
            let anonymous = user == "anonymous";
            let may =
                |action: &&str| if anonymous { *action == "pull" } else { self.rights.contains(action) };
            actions.split(',').filter(may).collect::<Vec<_>>().join(",")
        };
        let granted: Vec<String> = asked
            .iter()
            .filter_map(|scope| {
                if scope == "registry:catalog:*" {
                    return (!self.by_repository && user != "anonymous").then(|| scope.clone());
                }
                let (resource, actions) = scope.rsplit_once(':')?;
                Some(format!("{resource}:{}", allowed(actions)))
            })
            .collect();
        base::document(200, &json!({"access_token": base::token(user, &granted)}))
    }

    fn token(&self, request: &Request) -> Reply {
        if request.method == "GET" {
            let scopes = request.query("scope");
            return match request.basic() {
                None if self.anonymous_pull => self.grant("anonymous", &scopes),
                None => unauthorized(),
                Some((user, password)) if user == NOBODY && self.refresh_tokens.contains(&password) => {
                    self.grant(&user, &scopes)
                }
                Some((user, password)) if self.users.get(&user) == Some(&password) => {
                    self.grant(&user, &scopes)
                }
                Some(_) => unauthorized(),
            };
        }
        // `grant_type=password` is 400 (containerd, 2022).
        if request.form("grant_type").as_deref() != Some("refresh_token")
            || request.form("service").as_deref() != Some(&self.login_server)
        {
            return base::errors(400, "BAD_REQUEST", "grant_type or service", &Value::Null);
        }
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let scopes = crate::faults::url_pairs(&text).filter(|(name, _)| name == "scope");
        let scopes: Vec<String> = scopes.map(|(_, value)| value).collect();
        if self.scope_wanted && scopes.is_empty() {
            return base::errors(400, "BAD_REQUEST", "scope is required", &Value::Null);
        }
        match request.form("refresh_token") {
            Some(token) if self.refresh_tokens.contains(&token) => self.grant("someone", &scopes),
            _ => unauthorized(),
        }
    }

    fn exchange(&mut self, request: &Request) -> Reply {
        if request.form("grant_type").as_deref() != Some("access_token")
            || request.form("service").as_deref() != Some(&self.login_server)
        {
            return base::errors(400, "BAD_REQUEST", "grant_type or service", &Value::Null);
        }
        match request.form("access_token") {
            Some(token) if self.entra_tokens.contains(&token) => {}
            _ => return base::errors(401, "UNAUTHORIZED", "AADSTS50020: not of this tenant", &Value::Null),
        }
        if self.no_role {
            return base::errors(403, "DENIED", "the account has no role", &Value::Null);
        }
        let refresh = format!("refresh-token-of-an-exchange-{}", self.refresh_tokens.len());
        self.refresh_tokens.insert(refresh.clone());
        base::document(200, &json!({"refresh_token": refresh}))
    }

    /// The refusal of a request that the token does not cover.
    fn check(&self, request: &Request, repository: &str, action: &str, catalog: bool) -> Option<Reply> {
        let wanted = match (catalog, repository) {
            (true, _) => "registry:catalog:*".to_owned(),
            (_, "") => String::new(),
            (_, repository) if action == "push" => format!("repository:{repository}:pull,push"),
            (_, repository) => format!("repository:{repository}:{action}"),
        };
        let granted = request.bearer().and_then(base::granted);
        let covered = granted.is_some_and(|(_, scopes)| match (catalog, repository) {
            (true, _) => scopes.contains(&wanted),
            (_, "") => true,
            (_, repository) => base::covers(&scopes, repository, action),
        });
        // Passwords are taken directly too.
        let direct = request.basic().is_some_and(|(user, password)| self.users.get(&user) == Some(&password));
        (!covered && !direct).then(|| self.challenge(&wanted))
    }

    fn is_locked(&self, repository: &str, reference: &str) -> bool {
        self.locked.contains(repository) || self.locked.contains(&format!("{repository}:{reference}"))
    }

    fn refuse_locked(&self) -> Reply {
        let (status, code) = if self.locked_is_403 { (403, "DENIED") } else { (405, "UNSUPPORTED") };
        let text = "The operation is disallowed on this registry, repository or image. View troubleshooting steps at https://aka.ms/acr/faq/#why-does-my-pull-or-push-request-fail-with-disallowed-operation";
        base::errors(status, code, text, &Value::Null)
    }

    fn repositories(&self) -> BTreeSet<&String> {
        self.registry.manifests.keys().map(|(repository, _)| repository).collect()
    }

    fn catalog(&self, request: &Request) -> Reply {
        let last = request.query("last").pop();
        let limit = request.query("n").pop().and_then(|n| n.parse().ok()).unwrap_or(self.page);
        let limit: usize = self.page.min(limit);
        let rest: Vec<&String> = self
            .repositories()
            .into_iter()
            .filter(|name| last.as_ref().is_none_or(|last| *name > last))
            .collect();
        let page = &rest[..limit.min(rest.len())];
        let reply = base::document(200, &json!({"repositories": page}));
        match (page.last(), rest.len() > limit) {
            // With a parameter that nobody asked for, which has to come back.
            (Some(last), true) => {
                reply.header("link", &format!(r#"</v2/_catalog?last={last}&n={limit}&orderby=>; rel="next""#))
            }
            _ => reply,
        }
    }

    fn attributes(&self, repository: &str, tag: &str) -> Value {
        let free = !self.is_locked(repository, tag);
        json!({"deleteEnabled": free, "writeEnabled": free, "listEnabled": true, "readEnabled": true})
    }

    fn tag(&self, repository: &str, tag: &str, digest: &str) -> Value {
        json!({
            "name": tag, "digest": digest, "createdTime": "2026-10-11T12:13:14.1516171Z",
            "lastUpdateTime": "2026-10-12T12:13:14.1516171Z", "signed": false,
            "changeableAttributes": self.attributes(repository, tag),
        })
    }

    fn manifest(&self, repository: &str, digest: &str) -> Option<Value> {
        let (media_type, bytes) = self.registry.manifests.get(&(repository.to_owned(), digest.to_owned()))?;
        let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let layers = document["layers"].as_array().into_iter().flatten();
        let size: u64 = layers.filter_map(|layer| layer["size"].as_u64()).sum();
        let tags: Vec<&String> = self
            .registry
            .tags
            .iter()
            .filter(|((name, _), tagged)| name == repository && *tagged == digest)
            .map(|((_, tag), _)| tag)
            .collect();
        Some(json!({
            "digest": digest, "imageSize": size, "mediaType": media_type,
            "configMediaType": document["config"]["mediaType"], "tags": tags,
            "createdTime": "2026-10-11T12:13:14.1516171Z", "lastUpdateTime": "2026-10-11T12:13:14.1516171Z",
            "changeableAttributes": self.attributes(repository, ""),
        }))
    }

    fn tags(&self, request: &Request, repository: &str) -> Reply {
        let last = request.query("last").pop();
        let limit = request.query("n").pop().and_then(|n| n.parse().ok()).unwrap_or(self.page);
        let limit: usize = self.page.min(limit);
        // Newest first; here the greatest name.
        let mut all: Vec<(&String, &String)> = self
            .registry
            .tags
            .iter()
            .filter(|((name, tag), _)| name == repository && last.as_ref().is_none_or(|last| tag < last))
            .map(|((_, tag), digest)| (tag, digest))
            .collect();
        all.reverse();
        let page = &all[..limit.min(all.len())];
        let tags: Vec<Value> = page.iter().map(|(tag, digest)| self.tag(repository, tag, digest)).collect();
        let body = json!({"registry": self.login_server, "imageName": repository, "tags": tags});
        let reply = base::document(200, &body);
        match (page.last(), all.len() > limit) {
            (Some((last, _)), true) => reply.header(
                "link",
                &format!(
                    r#"</acr/v1/{repository}/_tags?last={last}&n={limit}&orderby=timedesc>; rel="next""#
                ),
            ),
            _ => reply,
        }
    }

    /// `/acr/v1/…`
    fn api(&mut self, request: &Request) -> Reply {
        let path = request.path().trim_start_matches("/acr/v1/").to_owned();
        let (repository, rest) = path
            .split_once("/_tags")
            .map(|(name, rest)| (name.to_owned(), format!("_tags{rest}")))
            .or_else(|| {
                path.split_once("/_manifests")
                    .map(|(name, rest)| (name.to_owned(), format!("_manifests{rest}")))
            })
            .unwrap_or((path, String::new()));
        let deletes = request.method == "DELETE";
        let action = if deletes { "delete" } else { "metadata_read" };
        if let Some(refusal) = self.check(request, &repository, action, false) {
            return refusal;
        }
        if !self.repositories().contains(&repository) {
            return base::errors(404, "NAME_UNKNOWN", "repository name not known to registry", &Value::Null);
        }
        match (deletes, rest.split_once('/').unwrap_or((rest.as_str(), ""))) {
            (false, ("", _)) => {
                let of = |names: usize| names;
                let tags = of(self.registry.tags.keys().filter(|(name, _)| *name == repository).count());
                let manifests =
                    of(self.registry.manifests.keys().filter(|(name, _)| *name == repository).count());
                base::document(
                    200,
                    &json!({
                        "registry": self.login_server, "imageName": repository, "tagCount": tags,
                        "manifestCount": manifests, "createdTime": "2026-01-02T03:04:05.6789Z",
                        "lastUpdateTime": "2026-10-12T12:13:14.1516171Z",
                        "changeableAttributes": self.attributes(&repository, ""),
                    }),
                )
            }
            (false, ("_tags", "")) => self.tags(request, &repository),
            (false, ("_tags", tag)) => match self.registry.tags.get(&(repository.clone(), tag.to_owned())) {
                Some(digest) => base::document(200, &json!({"tag": self.tag(&repository, tag, digest)})),
                None => base::errors(404, "TAG_UNKNOWN", "the specified tag does not exist", &Value::Null),
            },
            (false, ("_manifests", "")) => {
                let digests = self.registry.manifests.keys().filter(|(name, _)| *name == repository);
                let manifests: Vec<Value> =
                    digests.filter_map(|(_, digest)| self.manifest(&repository, digest)).collect();
                base::document(200, &json!({"imageName": repository, "manifests": manifests}))
            }
            (false, (_, digest)) => match self.manifest(&repository, digest) {
                Some(manifest) => base::document(200, &json!({ "manifest": manifest })),
                None => base::errors(404, "MANIFEST_UNKNOWN", "manifest not found", &Value::Null),
            },
            (true, ("", _)) if self.locked.iter().any(|it| it.split(':').next() == Some(&repository)) => {
                self.refuse_locked()
            }
            (true, ("", _)) => {
                let gone = |registry: &mut Registry| {
                    let tags: Vec<String> = registry
                        .tags
                        .keys()
                        .filter(|(name, _)| *name == repository)
                        .map(|(_, tag)| tag.clone())
                        .collect();
                    registry.tags.retain(|(name, _), _| *name != repository);
                    registry.manifests.retain(|(name, _), _| *name != repository);
                    tags
                };
                let tags = gone(&mut self.registry);
                base::document(202, &json!({"manifestsDeleted": [], "tagsDeleted": tags}))
            }
            (true, (_, tag)) if self.is_locked(&repository, tag) => self.refuse_locked(),
            (true, (_, tag)) => match self.registry.tags.remove(&(repository.clone(), tag.to_owned())) {
                Some(_) => Reply::status(202),
                None => base::errors(404, "TAG_UNKNOWN", "the specified tag does not exist", &Value::Null),
            },
        }
    }
}

impl Site for Acr {
    fn answer(&mut self, request: &Request) -> Reply {
        if let Some(address) = &self.blocked {
            let text = format!(
                "client with IP '{address}' is not allowed access, refer https://aka.ms/acr/firewall to grant access."
            );
            return base::errors(403, "DENIED", &text, &Value::Null);
        }
        if self.throttled > 0 {
            self.throttled -= 1;
            return base::errors(429, "TOOMANYREQUESTS", "too many requests", &Value::Null)
                .header("retry-after", "0");
        }
        match request.path() {
            "/oauth2/token" => return self.token(request),
            "/oauth2/exchange" => return self.exchange(request),
            path if path.starts_with("/acr/v1/") => return self.api(request),
            _ => {}
        }
        let Some((repository, verb)) = base::route(request.path()) else {
            return base::text(404, "404 page not found");
        };
        let action = base::action(&request.method);
        if let Some(refusal) = self.check(request, &repository, action, verb == Verb::Catalog) {
            return refusal;
        }
        match &verb {
            Verb::Catalog => return self.catalog(request),
            Verb::Tags if !self.repositories().contains(&repository) => {
                return base::errors(
                    404,
                    "NAME_UNKNOWN",
                    "repository name not known to registry",
                    &Value::Null,
                );
            }
            Verb::Manifest(reference) if action != "pull" && self.is_locked(&repository, reference) => {
                return self.refuse_locked();
            }
            // It indexes referrers; here there are none.
            Verb::Referrers(_) => {
                let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []});
                return Reply::status(200)
                    .header("content-type", "application/vnd.oci.image.index.v1+json")
                    .body(index.to_string());
            }
            _ => {}
        }
        base::content(&mut self.registry, request)
    }
}
