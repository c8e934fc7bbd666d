//! The part of GitLab's REST API that is about registries, at `/api/v4`: projects, groups, repositories and tags, with its two ways of
//! paging. What may not be seen is 404 there.

use serde_json::{Value, json};

use super::{Gitlab, Kind, Project, Token, message};
use crate::faults::Reply;
use crate::net::Request;
use crate::products::base;

impl Gitlab {
    /// Who asks the API: `PRIVATE-TOKEN`, `JOB-TOKEN`, Bearer, or nobody.
    fn caller(&self, request: &Request) -> Result<Option<Token>, Box<Reply>> {
        let (sent, job) =
            match (request.header("private-token"), request.header("job-token"), request.bearer()) {
                (Some(token), ..) | (_, None, Some(token)) => (token, false),
                (None, Some(token), _) => (token, true),
                (None, None, None) => return Ok(None),
            };
        let known = self.tokens.get(sent).filter(|token| match token.kind {
            Kind::Access => !job,
            Kind::Job(_) => job,
            Kind::Deploy | Kind::Password => false,
        });
        known.cloned().map(Some).ok_or_else(|| Box::new(message(401, "401 Unauthorized")))
    }

    pub(super) fn rest(&mut self, request: &Request, path: &str) -> Reply {
        let caller = match self.caller(request) {
            Ok(caller) => caller,
            Err(refused) => return *refused,
        };
        let parts: Vec<String> =
            path.trim_start_matches('/').split('/').map(|part| part.replace("%2F", "/")).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let has = |scope: &str| {
            caller.as_ref().is_some_and(|token| {
                matches!(token.kind, Kind::Job(_))
                    || token.scopes.iter().any(|one| *one == scope || *one == "api")
            })
        };
        match parts.as_slice() {
            ["user"] if !has("read_api") && !has("read_user") => return insufficient(),
            ["user"] => return base::document(200, &json!({"id": 1, "username": "alice"})),
            ["personal_access_tokens", "self"] => {
                let scopes = caller.map(|token| token.scopes).unwrap_or_default();
                return base::document(
                    200,
                    &json!({"id": 1, "scopes": scopes, "expires_at": "2027-01-01", "active": true}),
                );
            }
            _ => {}
        }
        // What may not be seen is not there.
        let sees = |path: &str, project: &Project| match caller.as_ref().map(|token| token.kind) {
            None => project.public,
            Some(Kind::Job(own)) => own == path,
            Some(_) => true,
        };
        match parts.as_slice() {
            ["groups", group, "registry", "repositories"] => {
                let inside = |path: &str| path.starts_with(&format!("{group}/"));
                let visible = self.projects.iter().any(|(path, project)| inside(path) && sees(path, project));
                if !visible {
                    return message(404, "404 Group Not Found");
                }
                if !has("read_api") {
                    return insufficient();
                }
                let all = self.repositories(inside, false);
                self.paged(request, &all)
            }
            ["projects", path, rest @ ..] => {
                let Some(project) = self.projects.get(path).filter(|project| sees(path, project)).cloned()
                else {
                    return message(404, "404 Project Not Found");
                };
                if !has("read_api") && !project.public {
                    return insufficient();
                }
                let own = (*path).to_owned();
                let inside = |name: &str| {
                    name.strip_prefix(own.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                match (request.method.as_str(), rest) {
                    ("GET", []) => base::document(
                        200,
                        &json!({"id": 3, "visibility": if project.public { "public" } else { "private" }, "web_url": format!("{}/{own}", self.gitlab),
                            "container_registry_access_level": if project.disabled { "disabled" } else { "enabled" }}),
                    ),
                    ("GET", ["registry", "repositories"]) => {
                        let all = self.repositories(inside, request.query("tags_count") == ["true"]);
                        self.paged(request, &all)
                    }
                    (method, ["registry", "repositories", number, rest @ ..]) => {
                        let found = self
                            .numbers
                            .iter()
                            .find(|(_, id)| id.to_string() == *number)
                            .map(|(name, _)| name.clone());
                        let Some(name) = found else { return message(404, "404 Not Found") };
                        if method == "DELETE" && !has("api") {
                            return insufficient();
                        }
                        self.repository(request, &name, &project, rest)
                    }
                    _ => message(404, "404 Not Found"),
                }
            }
            _ => message(404, "404 Not Found"),
        }
    }

    fn repositories(&self, inside: impl Fn(&str) -> bool, count: bool) -> Vec<Value> {
        let names = self.numbers.iter().filter(|(name, _)| inside(name));
        let one = |(name, id): (&String, &u64)| {
            let tags = self.content.tags.keys().filter(|(of, _)| of == name).count();
            let status = self.scheduled.contains(name).then_some("delete_scheduled");
            let mut it = json!({"id": id, "name": name.rsplit('/').next(), "path": name, "project_id": 3, "status": status,
                "location": format!("{}/{name}", self.registry), "created_at": "2026-01-02T03:04:05.000Z"});
            if count {
                it["tags_count"] = json!(tags);
            }
            it
        };
        names.map(one).collect()
    }

    fn repository(&mut self, request: &Request, name: &str, project: &Project, rest: &[&str]) -> Reply {
        let key = |tag: &str| (name.to_owned(), tag.to_owned());
        match (request.method.as_str(), rest) {
            ("DELETE", []) => {
                self.scheduled.insert(name.to_owned());
                Reply::status(202).body("202")
            }
            ("GET", ["tags"]) => {
                let tags: Vec<Value> = self
                    .content
                    .tags
                    .keys()
                    .filter(|(of, _)| of == name)
                    .map(|(_, tag)| json!({"name": tag, "path": format!("{name}:{tag}"), "location": format!("{}/{name}:{tag}", self.registry)}))
                    .collect();
                self.keyset(request, &tags)
            }
            ("GET", ["tags", tag]) => match self.content.tags.get(&key(tag)) {
                Some(digest) => base::document(
                    200,
                    &json!({"name": tag, "digest": digest, "revision": "r", "created_at": "2026-01-02T03:04:05.000+00:00", "total_size": 286}),
                ),
                None => message(404, "404 Tag Not Found"),
            },
            ("DELETE", ["tags", tag]) if project.protected.contains(tag) => {
                message(403, "403 Forbidden - Protected tag")
            }
            ("DELETE", ["tags", tag]) => match self.content.tags.remove(&key(tag)) {
                Some(_) => Reply::status(200).body("200"),
                None => message(404, "404 Tag Not Found"),
            },
            _ => message(404, "404 Not Found"),
        }
    }

    fn size(&self, request: &Request) -> usize {
        request
            .query("per_page")
            .first()
            .and_then(|size| size.parse::<usize>().ok())
            .unwrap_or(20)
            .min(self.page)
            .max(1)
    }

    /// Pages by number.
    fn paged(&self, request: &Request, all: &[Value]) -> Reply {
        let size = self.size(request);
        let page = request.query("page").first().and_then(|page| page.parse::<usize>().ok()).unwrap_or(1);
        let start = (page - 1) * size;
        let items: Vec<&Value> = all.iter().skip(start).take(size).collect();
        let reply = base::document(200, &json!(items));
        if start + size >= all.len() {
            return reply;
        }
        let next = format!("https://{}{}?page={}&per_page={size}", request.host, request.path(), page + 1);
        reply.header("link", &format!(r#"<{next}>; rel="next", <{next}>; rel="last""#))
    }

    /// Pages by the last name.
    fn keyset(&self, request: &Request, all: &[Value]) -> Reply {
        let size = self.size(request);
        let last = request.query("last").into_iter().next().unwrap_or_default();
        let rest: Vec<&Value> =
            all.iter().filter(|tag| tag["name"].as_str().unwrap_or_default() > last.as_str()).collect();
        let items = &rest[..size.min(rest.len())];
        let reply = base::document(200, &json!(items));
        match items.last().filter(|_| rest.len() > size) {
            Some(tag) => {
                let name = tag["name"].as_str().unwrap_or_default();
                let next = format!(
                    "https://{}{}?last={name}&pagination=keyset&per_page={size}",
                    request.host,
                    request.path()
                );
                reply.header("link", &format!(r#"<{next}>; rel="next""#))
            }
            None => reply,
        }
    }
}

fn insufficient() -> Reply {
    base::document(
        403,
        &json!({"error": "insufficient_scope", "error_description": "The request requires higher privileges than provided by the access token.",
            "scope": "api read_api"}),
    )
}
