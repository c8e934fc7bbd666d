//! Harbor's API, `/api/v2.0`: what the provider asks of it, with Basic credentials. Wrong ones are nobody's.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::base::document;
use super::{Harbor, Kind, Project, error, paged};
use crate::faults::{Reply, url_pairs};
use crate::net::Request;

/// Percent-decoded once.
fn decode(text: &str) -> String {
    url_pairs(&format!("x={}", text.replace('+', "%2B"))).next().map(|(_, value)| value).unwrap_or_default()
}

/// Whether a CLI secret is good for a call (src/server/middleware/security/oidc_cli.go).
fn takes_cli_secrets(method: &str, parts: &[&str]) -> bool {
    matches!(
        (method, parts),
        ("POST", ["projects"])
            | ("GET", ["projects" | "systeminfo"])
            | ("GET", ["projects", _, "repositories"])
            | ("GET", ["projects", _, "repositories", _, "artifacts"])
            | ("DELETE", ["projects", _, "repositories", _, "artifacts", _, "tags", _])
    )
}

impl Harbor {
    pub(super) fn api(&mut self, request: &Request) -> Reply {
        // The router decodes once and splits then; the name of a repository is decoded once more.
        let decoded = decode(request.path().strip_prefix("/api/v2.0/").unwrap_or_default());
        let parts: Vec<&str> = decoded.split('/').collect();
        let user = self
            .known(request)
            .filter(|user| self.kind(user) != Some(&Kind::Cli) || takes_cli_secrets(&request.method, &parts));
        let user = user.unwrap_or_default();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["ping"]) => document(200, &json!("Pong")),
            ("GET", ["systeminfo"]) => self.system_info(&user),
            ("GET", ["users", "current"]) => match self.kind(&user) {
                Some(kind @ (Kind::User | Kind::Admin)) => document(
                    200,
                    &json!({"user_id": 3, "username": user, "sysadmin_flag": *kind == Kind::Admin, "admin_role_in_auth": false}),
                ),
                _ => unauthorized(),
            },
            ("HEAD", ["projects"]) => {
                let name = request.query("project_name").first().cloned().unwrap_or_default();
                self.looks(&user, &name).unwrap_or_else(|| Reply::status(200))
            }
            ("GET", ["projects"]) => self.list_projects(request, &user),
            ("POST", ["projects"]) => self.create(request, &user),
            ("GET", ["repositories"]) => self.list_repositories(request, &user, None),
            ("GET", ["projects", project, rest @ ..]) if rest.first() != Some(&"repositories") => {
                self.looks(&user, project).unwrap_or_else(|| self.about(&user, project, rest))
            }
            ("GET", ["projects", project, "repositories"]) => self
                .looks(&user, project)
                .unwrap_or_else(|| self.list_repositories(request, &user, Some(project))),
            (_, ["projects", project, "repositories", repository, rest @ ..]) => {
                let name = format!("{project}/{}", decode(repository));
                self.looks(&user, project).unwrap_or_else(|| self.in_repository(request, &user, &name, rest))
            }
            _ => error(404, "NOT_FOUND", "path not found"),
        }
    }

    fn system_info(&self, user: &str) -> Reply {
        let mut told = json!({
            "auth_mode": if self.habits.oidc { "oidc_auth" } else { "db_auth" },
            "primary_auth_mode": false, "self_registration": false, "banner_message": "",
        });
        if !user.is_empty() {
            told["harbor_version"] = json!("v2.13.1-abcdef01");
            told["registry_url"] = json!(self.host);
            told["external_url"] = json!(format!("https://{}", self.host));
            told["project_creation_restriction"] =
                json!(if self.habits.admin_only { "adminonly" } else { "everyone" });
            told["read_only"] = json!(self.habits.read_only);
            told["has_ca_root"] = json!(false);
        }
        document(200, &told)
    }

    /// The refusal for whoever may not look at a project, or where there is none.
    fn looks(&self, user: &str, name: &str) -> Option<Reply> {
        let forbidden =
            || if user.is_empty() { unauthorized() } else { error(403, "FORBIDDEN", "forbidden") };
        match self.projects.get(name) {
            None if user.is_empty() => Some(unauthorized()),
            None if self.habits.hides => Some(error(403, "FORBIDDEN", "forbidden")),
            None => Some(error(404, "NOT_FOUND", &format!("project {name} not found"))),
            Some(project) if project.public || self.may(user, &format!("{name}/"), "api") => None,
            // A CLI secret stands for its user.
            Some(_) => Some(forbidden()),
        }
    }

    fn visible(&self, user: &str) -> impl Iterator<Item = (&String, &Project)> {
        self.projects.iter().filter(move |(name, _)| self.looks(user, name).is_none())
    }

    fn list_projects(&self, request: &Request, user: &str) -> Reply {
        let part = request.query("name").first().cloned().unwrap_or_default();
        let seen = self.visible(user).filter(|(name, _)| name.contains(&part));
        paged(request, &seen.map(|(name, project)| shown(name, project)).collect::<Vec<_>>())
    }

    fn create(&mut self, request: &Request, user: &str) -> Reply {
        let kind = self.kind(user).cloned();
        match kind {
            None => return unauthorized(),
            Some(Kind::Robot(Some(_))) => {
                return error(403, "FORBIDDEN", "Only system level robot can create project");
            }
            Some(Kind::User | Kind::Cli | Kind::Robot(None)) if self.habits.admin_only => {
                return error(403, "FORBIDDEN", "Only system admin can create project");
            }
            _ => {}
        }
        let body = request.json();
        let name = body["project_name"].as_str().unwrap_or_default().to_owned();
        let public = match &body["metadata"]["public"] {
            Value::Null => false,
            Value::String(text) if text == "true" || text == "false" => text == "true",
            other => {
                let text = format!("metadata.public should only be 'true' or 'false', but got: '{other}'");
                return error(400, "BAD_REQUEST", &text);
            }
        };
        if self.projects.contains_key(&name) {
            return error(409, "CONFLICT", &format!("The project named {name} already exists"));
        }
        let id = self.projects.len() + 1;
        let rights = ["pull", "push", "delete", "api"].into();
        let members = [(user.to_owned(), rights)].into();
        self.projects.insert(name, Project { id, public, members, ..Project::default() });
        Reply::status(201).header("location", &format!("/api/v2.0/projects/{id}"))
    }

    /// A project, its summary, its rules.
    fn about(&self, user: &str, name: &str, rest: &[&str]) -> Reply {
        let Some(project) = self.projects.get(name) else { return error(404, "NOT_FOUND", "not found") };
        match rest {
            [] => document(200, &shown(name, project)),
            ["summary"] => {
                let hard = project.quota.map_or(json!(-1), |bytes| json!(bytes));
                document(
                    200,
                    &json!({"repo_count": 0, "quota": {"hard": {"storage": hard}, "used": {"storage": self.used(name)}}}),
                )
            }
            ["immutabletagrules"] if user.is_empty() => unauthorized(),
            ["immutabletagrules"] => {
                let rules = project.immutable.iter().enumerate().map(|(id, start)| {
                    let selector = json!({"kind": "doublestar", "decoration": "matches", "pattern": format!("{start}*")});
                    let all = json!({"kind": "doublestar", "decoration": "repoMatches", "pattern": "**"});
                    json!({"id": id, "priority": 0, "disabled": false, "action": "immutable", "template": "immutable_template",
                        "tag_selectors": [selector], "scope_selectors": {"repository": [all]}})
                });
                document(200, &json!(rules.collect::<Vec<_>>()))
            }
            _ => error(404, "NOT_FOUND", "path not found"),
        }
    }

    /// Names of repositories and how many artifacts they have.
    fn repositories(&self) -> BTreeMap<&String, usize> {
        let mut found = BTreeMap::new();
        for (repository, _) in self.registry.manifests.keys() {
            *found.entry(repository).or_default() += 1;
        }
        found
    }

    fn list_repositories(&self, request: &Request, user: &str, project: Option<&str>) -> Reply {
        let part =
            request.query("q").first().and_then(|q| q.strip_prefix("name=~")).unwrap_or_default().to_owned();
        let in_project = |name: &str| {
            let of = name.split('/').next().unwrap_or_default();
            project.map_or_else(|| self.looks(user, of).is_none(), |project| project == of)
        };
        let all =
            self.repositories().into_iter().filter(|(name, _)| in_project(name) && name.contains(&part));
        let all: Vec<_> = all.map(|(name, count)| self.repository(name, count)).collect();
        paged(request, &all)
    }

    fn repository(&self, name: &str, artifacts: usize) -> Value {
        let pulls = self.pulled.iter().filter(|(repository, _)| repository == name).count();
        json!({
            "id": 1, "project_id": self.project(name).map_or(0, |project| project.id), "name": name,
            "artifact_count": artifacts, "pull_count": pulls,
            "creation_time": "2026-11-01T08:00:00.000Z", "update_time": "2026-11-02T08:00:00.000Z",
        })
    }

    fn in_repository(&mut self, request: &Request, user: &str, name: &str, rest: &[&str]) -> Reply {
        let deletes = request.method == "DELETE";
        if deletes && !self.may(user, name, "delete") {
            return if user.is_empty() { unauthorized() } else { error(403, "FORBIDDEN", "forbidden") };
        }
        if deletes && self.habits.read_only {
            return error(403, "DENIED", "The system is in read only mode. Any modification is prohibited.");
        }
        let Some(count) = self.repositories().get(&name.to_owned()).copied() else {
            return error(404, "NOT_FOUND", &format!("repository {name} not found"));
        };
        match (request.method.as_str(), rest) {
            ("GET", []) => document(200, &self.repository(name, count)),
            ("DELETE", []) => {
                self.registry.manifests.retain(|(repository, _), _| repository != name);
                self.registry.tags.retain(|(repository, _), _| repository != name);
                Reply::status(200)
            }
            ("GET", ["artifacts"]) => self.artifacts(request, name),
            (method, ["artifacts", reference, rest @ ..]) => {
                let key = (name.to_owned(), (*reference).to_owned());
                let digest = self.registry.tags.get(&key).cloned().unwrap_or_else(|| (*reference).to_owned());
                if !self.registry.manifests.contains_key(&(name.to_owned(), digest.clone())) {
                    return error(404, "NOT_FOUND", &format!("artifact {name}:{reference} not found"));
                }
                match (method, rest) {
                    ("GET", []) => document(200, &self.artifact(name, &digest)),
                    ("DELETE", []) => self.delete_artifact(name, &digest),
                    ("DELETE", ["tags", tag]) => self.delete_tag(name, tag),
                    _ => error(405, "METHOD_NOT_ALLOWED", "method not allowed"),
                }
            }
            _ => error(404, "NOT_FOUND", "path not found"),
        }
    }

    fn artifacts(&self, request: &Request, name: &str) -> Reply {
        let query = request.query("q").first().cloned().unwrap_or_default();
        let all = self.registry.manifests.keys().filter(|(repository, _)| repository == name);
        let all = all.map(|(_, digest)| self.artifact(name, digest)).filter(|artifact| {
            let tags = artifact["tags"].as_array().cloned().unwrap_or_default();
            let has =
                |part: &str| tags.iter().any(|tag| tag["name"].as_str().is_some_and(|it| it.contains(part)));
            match query.as_str() {
                "" => true,
                "tags=*" => !tags.is_empty(),
                other => other.strip_prefix("tags=~").is_some_and(has),
            }
        });
        paged(request, &all.collect::<Vec<_>>())
    }

    fn artifact(&self, name: &str, digest: &str) -> Value {
        let (media_type, bytes) = &self.registry.manifests[&(name.to_owned(), digest.to_owned())];
        let manifest: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let blobs = manifest["layers"].as_array().cloned().unwrap_or_default();
        let size = |entry: &Value| entry["size"].as_u64().unwrap_or(0);
        let total = blobs.iter().map(size).sum::<u64>() + size(&manifest["config"]) + bytes.len() as u64;
        let pulled = self.pulled.contains(&(name.to_owned(), digest.to_owned()));
        let pull_time = if pulled { "2026-11-03T08:00:00.000Z" } else { "0001-01-01T00:00:00.000Z" };
        let tags =
            self.registry.tags.iter().filter(|((repository, _), of)| repository == name && *of == digest);
        let tags: Vec<_> = tags
            .map(|((_, tag), _)| {
                json!({"id": 1, "repository_id": 1, "artifact_id": 1, "name": tag, "push_time": "2026-11-02T08:00:00.000Z",
                    "pull_time": pull_time, "immutable": self.is_immutable(name, tag)})
            })
            .collect();
        json!({
            "id": 1, "type": "IMAGE", "digest": digest, "size": total, "project_id": 2, "repository_id": 1,
            "media_type": manifest["config"]["mediaType"].as_str().unwrap_or_default(), "manifest_media_type": media_type,
            "artifact_type": manifest["artifactType"].as_str().unwrap_or_default(),
            "push_time": "2026-11-02T08:00:00.000Z", "pull_time": pull_time,
            "tags": if tags.is_empty() { Value::Null } else { json!(tags) },
        })
    }

    fn delete_artifact(&mut self, name: &str, digest: &str) -> Reply {
        let needed = self.registry.manifests.iter().any(|((repository, other), (_, bytes))| {
            repository == name && other != digest && String::from_utf8_lossy(bytes).contains(digest)
        });
        if needed {
            let text = format!("the deleting artifact {digest} is referenced by others");
            return error(412, "VIOLATE_FOREIGN_KEY_CONSTRAINT", &text);
        }
        self.registry.manifests.remove(&(name.to_owned(), digest.to_owned()));
        self.registry.tags.retain(|(repository, _), of| repository != name || of != digest);
        Reply::status(200)
    }

    fn delete_tag(&mut self, name: &str, tag: &str) -> Reply {
        if self.is_immutable(name, tag) {
            let text = format!("the tag {tag} configured as immutable, cannot be deleted");
            return error(412, "PRECONDITION", &text);
        }
        match self.registry.tags.remove(&(name.to_owned(), tag.to_owned())) {
            Some(_) => Reply::status(200),
            None => error(404, "NOT_FOUND", &format!("tag {tag} attached to artifact not found")),
        }
    }
}

fn unauthorized() -> Reply {
    error(401, "UNAUTHORIZED", "unauthorized")
}

fn shown(name: &str, project: &Project) -> Value {
    let mut it = json!({
        "project_id": project.id, "owner_id": 1, "name": name, "repo_count": 0,
        "creation_time": "2026-11-01T08:00:00.000Z", "update_time": "2026-11-01T08:00:00.000Z",
        "metadata": {"public": if project.public { "true" } else { "false" }},
    });
    if project.proxy {
        it["registry_id"] = json!(2);
    }
    it
}
