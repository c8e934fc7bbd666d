//! `hub.docker.com` (hub/latest.yaml, hub-tool for the deletions) and the search of `index.docker.io`.

use serde_json::{Value, json};

use super::DockerHub;
use crate::faults::Reply;
use crate::net::Request;
use crate::products::base::document;

/// `{"errinfo":null,"message":…}`
fn said(status: u16, message: &str) -> Reply {
    document(status, &json!({"errinfo": null, "message": message}))
}

/// A page as the API makes it: past the end it is 404.
fn page(request: &Request, all: &[Value]) -> Reply {
    let number = |name: &str, default: usize| {
        request.query(name).first().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (page, size) = (number("page", 1), number("page_size", 10).min(100));
    let start = (page - 1) * size;
    if page > 1 && start >= all.len() {
        return said(404, "object not found");
    }
    let results = &all[start.min(all.len())..(start + size).min(all.len())];
    let more = start + size < all.len();
    let next = more
        .then(|| format!("https://{}{}?page={}&page_size={size}", request.host, request.path(), page + 1));
    document(200, &json!({"count": all.len(), "next": next, "previous": null, "results": results}))
}

impl DockerHub {
    pub(super) fn api(&mut self, request: &Request) -> Reply {
        if self.habits.abuse {
            return super::too_many();
        }
        if let Some(reset) = self.habits.api_limit {
            return document(429, &json!({"detail": "Rate limit exceeded", "error": false}))
                .header("x-ratelimit-limit", "180")
                .header("x-ratelimit-remaining", "0")
                .header("x-ratelimit-reset", &reset.to_string());
        }
        if (request.method.as_str(), request.path()) == ("POST", "/v2/auth/token") {
            return self.log_in(request);
        }
        // Nothing but its own tokens: neither passwords nor access tokens.
        let user = match request.header("authorization") {
            None => String::new(),
            Some(_) => match self.caller(request) {
                Some(user) => user,
                None => return said(401, "unauthorized"),
            },
        };
        let path = request.path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').skip(1).collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["namespaces", namespace, "repositories"]) => self.list(request, &user, namespace),
            ("POST", ["namespaces", namespace, "repositories"]) => self.create(request, &user, namespace),
            ("GET" | "HEAD", ["namespaces", namespace, "repositories", name]) => {
                let full = format!("{namespace}/{name}");
                if self.may_see(&user, &full) {
                    document(200, &self.described(&full))
                } else {
                    said(404, "object not found")
                }
            }
            ("GET", ["namespaces", namespace, "repositories", name, "tags", rest @ ..]) => {
                let full = format!("{namespace}/{name}");
                if self.habits.api_without_tags || !self.may_see(&user, &full) {
                    return said(404, "object not found");
                }
                let tags = self.tags(&full, request.query("name").first().map(String::as_str));
                match rest {
                    [] => page(request, &tags),
                    [tag, ..] => match tags.iter().find(|it| it["name"] == **tag) {
                        Some(tag) => document(200, tag),
                        None => said(404, "tag not found"),
                    },
                }
            }
            ("DELETE", ["repositories", namespace, name, rest @ ..]) => {
                self.remove(&user, &format!("{namespace}/{name}"), rest)
            }
            _ => said(404, "not found"),
        }
    }

    fn log_in(&mut self, request: &Request) -> Reply {
        let body = request.json();
        let (user, secret) =
            (body["identifier"].as_str().unwrap_or_default(), body["secret"].as_str().unwrap_or_default());
        if self.accounts.get(user).is_none_or(|account| account.secret != secret) {
            return document(401, &json!({"detail": "Incorrect authentication credentials"}));
        }
        if self.habits.second_factor && !secret.starts_with("dckr_") {
            return document(
                401,
                &json!({"detail": "Require secondary authentication on MFA enabled account", "login_2fa_token": "f"}),
            );
        }
        let (user, number) = (user.to_owned(), self.number());
        document(200, &json!({"access_token": format!("api.{user}.{number}")}))
    }

    fn caller(&mut self, request: &Request) -> Option<String> {
        let mut parts = request.bearer()?.split('.');
        let (kind, user, number) = (parts.next()?, parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        (kind == "api" && self.spend(number, self.habits.api_requests)).then_some(user)
    }

    fn may_see(&self, user: &str, name: &str) -> bool {
        self.repositories.contains_key(name) && self.may(user, name, "pull")
    }

    fn described(&self, name: &str) -> Value {
        let (namespace, short) = name.split_once('/').unwrap_or(("", name));
        json!({
            "name": short, "namespace": namespace, "repository_type": "image", "status": 1,
            "description": format!("About {short}"), "is_private": self.repositories.get(name), "star_count": 1,
            "pull_count": 42, "last_updated": "2026-11-20T10:00:00.123456Z", "date_registered": "2026-01-02T03:04:05Z",
            "storage_size": 1234,
        })
    }

    fn list(&self, request: &Request, user: &str, namespace: &str) -> Reply {
        let known = self.accounts.contains_key(namespace)
            || self.repositories.keys().any(|name| name.starts_with(&format!("{namespace}/")));
        if !known {
            return said(404, "namespace not found");
        }
        let part = request.query("name").first().cloned().unwrap_or_default();
        let wanted = |name: &&String| {
            name.split_once('/').is_some_and(|(own, short)| own == namespace && short.contains(&part))
                && self.may_see(user, name)
        };
        let all: Vec<Value> =
            self.repositories.keys().filter(wanted).map(|name| self.described(name)).collect();
        page(request, &all)
    }

    fn create(&mut self, request: &Request, user: &str, namespace: &str) -> Reply {
        if user.is_empty() {
            return said(401, "unauthorized");
        }
        if !self.accounts.contains_key(namespace) {
            return said(404, "not found");
        }
        let body = request.json();
        let name = format!("{namespace}/{}", body["name"].as_str().unwrap_or_default());
        if !self.may(user, &name, "push") {
            return said(403, "permission denied");
        }
        if self.repositories.contains_key(&name) {
            return said(400, "Repository with this Name and Namespace already exists.");
        }
        let private = body["is_private"] == true;
        let prefix = format!("{namespace}/");
        let others =
            self.repositories.iter().filter(|(name, private)| **private && name.starts_with(&prefix)).count();
        if private && others >= self.habits.private_limit {
            return said(400, "private repository limit reached");
        }
        self.repositories.insert(name.clone(), private);
        document(201, &self.described(&name))
    }

    fn tags(&self, name: &str, part: Option<&str>) -> Vec<Value> {
        let own = self.registry.tags.iter().filter(|((repository, tag), _)| {
            repository == name && part.is_none_or(|part| tag.contains(part))
        });
        own.map(|((_, tag), digest)| {
            let media_type = self.registry.manifests.get(&(name.to_owned(), digest.clone())).map(|(media_type, _)| media_type);
            json!({
                "name": tag, "full_size": 2048, "digest": digest, "media_type": media_type, "content_type": "image",
                "last_updated": "2026-11-20T10:00:00Z", "tag_last_pushed": "2026-11-20T10:00:00Z",
                "tag_last_pulled": "2026-11-21T08:00:00Z",
                "images": [{"architecture": "amd64", "os": "linux", "digest": digest, "size": 2048, "status": "active"}],
            })
        })
        .collect()
    }

    fn remove(&mut self, user: &str, name: &str, rest: &[&str]) -> Reply {
        if !self.may_see(user, name) {
            return said(404, "object not found");
        }
        if !self.may(user, name, "delete") {
            return document(403, &json!({"detail": "access token has insufficient scopes"}));
        }
        match rest {
            [] => {
                self.repositories.remove(name);
                self.registry.tags.retain(|(repository, _), _| repository != name);
                self.registry.manifests.retain(|(repository, _), _| repository != name);
                Reply::status(202)
            }
            ["tags", tag] => match self.registry.tags.remove(&(name.to_owned(), (*tag).to_owned())) {
                Some(_) => Reply::status(204),
                None => said(404, "tag not found"),
            },
            _ => said(404, "not found"),
        }
    }

    /// `GET https://index.docker.io/v1/search?q=&n=&page=`: official images without their namespace, private ones never.
    pub(super) fn search(&self, request: &Request) -> Reply {
        if self.habits.abuse {
            return super::too_many();
        }
        let first = |name: &str| request.query(name).first().cloned().unwrap_or_default();
        let (query, size) = (first("q"), first("n").parse().unwrap_or(25_usize).clamp(1, 100));
        let at = first("page").parse().unwrap_or(1_usize);
        let found: Vec<Value> = self
            .repositories
            .iter()
            .filter(|(name, private)| !**private && name.contains(&query))
            .map(|(name, _)| {
                let shown = name.strip_prefix("library/").unwrap_or(name);
                json!({"name": shown, "description": format!("About {shown}"), "star_count": 1, "is_official": shown != name})
            })
            .collect();
        let results: Vec<&Value> = found.iter().skip((at - 1) * size).take(size).collect();
        document(
            200,
            &json!({"num_pages": found.len().div_ceil(size), "num_results": found.len(), "page": at, "page_size": size,
                "query": query, "results": results}),
        )
    }
}
