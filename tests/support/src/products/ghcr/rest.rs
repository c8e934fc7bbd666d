//! The part of GitHub's REST API that is about packages: lists, versions, deletion, the token's owner and the limits. Owners are named by
//! number in links to next pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Ghcr, Kind, Token, message};
use crate::faults::Reply;
use crate::net::Request;
use crate::products::base;

impl Ghcr {
    pub(super) fn rest(&mut self, request: &Request) -> Reply {
        let prefix = self.api.splitn(4, '/').nth(3).map_or_else(String::new, |path| format!("/{path}"));
        let path = request.path().to_owned();
        let Some(path) = path.strip_prefix(prefix.as_str()).map(str::to_owned) else {
            return message(404, "Not Found");
        };
        if request.header("user-agent").is_none() {
            return base::text(403, "Request forbidden by administrative rules.");
        }
        if path == "/rate_limit" {
            return base::document(
                200,
                &json!({"resources": {"core": {"limit": 5000, "remaining": 4990, "reset": 4_000_000_000_u64}}}),
            );
        }
        let Some(token) = request.bearer().and_then(|secret| self.tokens.get(secret)).cloned() else {
            return message(
                401,
                if request.bearer().is_some() { "Bad credentials" } else { "Requires authentication" },
            );
        };
        if self.rate_limited {
            return message(403, "API rate limit exceeded for user ID 1.")
                .header("x-ratelimit-remaining", "0")
                .header("x-ratelimit-reset", "1");
        }
        let reply = self.packages_api(request, &path, &token);
        if token.kind == Kind::Classic {
            reply.header("x-oauth-scopes", &token.scopes.join(", "))
        } else {
            reply
        }
    }

    fn packages_api(&mut self, request: &Request, path: &str, token: &Token) -> Reply {
        let parts: Vec<String> =
            path.trim_start_matches('/').split('/').map(|part| part.replace("%2F", "/")).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let foreign = token.kind != Kind::Classic;
        let (owner, rest) = match parts.as_slice() {
            ["user"] if foreign => return message(403, "Resource not accessible by integration"),
            ["user"] => return base::document(200, &json!({"login": token.user, "id": 1})),
            ["user", ..] if foreign => return message(403, "Resource not accessible by integration"),
            ["user", rest @ ..] => (token.user.to_owned(), rest),
            ["orgs", owner, rest @ ..] if self.organisations.contains_key(owner) => {
                ((*owner).to_owned(), rest)
            }
            ["users", owner, rest @ ..] if self.users.contains(owner) => ((*owner).to_owned(), rest),
            ["organizations", number, rest @ ..] => {
                let found = self.organisations.iter().find(|(_, id)| id.to_string() == *number);
                match found {
                    Some((owner, _)) => ((*owner).to_owned(), rest),
                    None => return message(404, "Not Found"),
                }
            }
            _ => return message(404, "Not Found"),
        };
        if self.sso.contains(owner.as_str()) && !token.sso {
            return message(403, "Resource protected by organization SAML enforcement.")
                .header("x-github-sso", "required; url=https://github.com/orgs/acme/sso");
        }
        if !token.scopes.iter().any(|scope| scope.ends_with(":packages")) {
            return message(403, "You need at least read:packages scope to list packages.");
        }
        if request.method == "DELETE" && !token.scopes.contains(&"delete:packages") {
            return message(
                403,
                "You need at least read:packages and delete:packages scope to delete a package version.",
            );
        }
        match (request.method.as_str(), rest) {
            ("GET", ["packages"]) => self.list(request, &owner),
            (method, ["packages", "container", name, rest @ ..]) => {
                let repository = format!("{owner}/{name}");
                if !self.packages.contains_key(&repository) {
                    return message(404, "Package not found.");
                }
                match (method, rest) {
                    ("GET", []) => base::document(200, &self.package(&repository)),
                    ("DELETE", []) => {
                        self.packages.remove(&repository);
                        self.content.manifests.retain(|(name, _), _| *name != repository);
                        self.content.tags.retain(|(name, _), _| *name != repository);
                        Reply::status(204)
                    }
                    ("GET", ["versions"]) => self.versions(request, &owner, &repository),
                    ("DELETE", ["versions", number]) => self.delete_version(&repository, number),
                    _ => message(404, "Not Found"),
                }
            }
            _ => message(404, "Not Found"),
        }
    }

    fn package(&self, repository: &str) -> Value {
        let (owner, name) = repository.split_once('/').unwrap_or_default();
        let public = self.packages.get(repository).is_some_and(|package| package.public);
        json!({
            "id": 1, "name": name, "package_type": "container", "owner": {"login": owner},
            "visibility": if public { "public" } else { "private" },
            "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-02-02T03:04:05Z",
            "html_url": format!("https://github.com/{owner}/packages/container/package/{name}"),
        })
    }

    fn list(&self, request: &Request, owner: &str) -> Reply {
        if request.query("package_type") != ["container"] {
            return message(400, "Invalid argument: package_type");
        }
        let names = self.packages.keys().filter(|name| name.starts_with(&format!("{owner}/")));
        let all: Vec<Value> = names.map(|name| self.package(name)).collect();
        self.paged(request, owner, "packages?package_type=container", &all)
    }

    fn versions(&mut self, request: &Request, owner: &str, repository: &str) -> Reply {
        let digests: Vec<String> = self
            .content
            .manifests
            .keys()
            .filter(|(name, _)| name == repository)
            .map(|(_, digest)| digest.clone())
            .collect();
        let mut found: Vec<(u64, String)> =
            digests.into_iter().map(|digest| (self.number(repository, &digest), digest)).collect();
        // The newest first.
        found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let version = |(id, digest): &(u64, String)| {
            json!({
                "id": id, "name": digest, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-03T00:00:00Z",
                "metadata": {"package_type": "container", "container": {"tags": self.tags(repository, digest)}},
            })
        };
        let all: Vec<Value> = found.iter().map(version).collect();
        let name = repository.split_once('/').map_or("", |(_, name)| name).replace('/', "%2F");
        self.paged(request, owner, &format!("packages/container/{name}/versions?state=active"), &all)
    }

    fn tags(&self, repository: &str, digest: &str) -> Vec<&str> {
        let tags = self.content.tags.iter();
        tags.filter(|((name, _), of)| name == repository && *of == digest)
            .map(|((_, tag), _)| tag.as_str())
            .collect()
    }

    /// Pages by number, with a link that names an organisation by its number.
    fn paged(&self, request: &Request, owner: &str, rest: &str, all: &[Value]) -> Reply {
        let number = |name: &str| request.query(name).first().and_then(|value| value.parse::<usize>().ok());
        let size = number("per_page").unwrap_or(30).min(self.page).max(1);
        let page = number("page").unwrap_or(1);
        let start = (page - 1) * size;
        let items: Vec<&Value> = all.iter().skip(start).take(size).collect();
        let reply = base::document(200, &json!(items));
        if start + size >= all.len() {
            return reply;
        }
        let place = match self.organisations.get(owner) {
            Some(number) => format!("organizations/{number}"),
            None if request.path().ends_with("/user/packages") => "user".to_owned(),
            None => format!("users/{owner}"),
        };
        let next = format!("{}/{place}/{rest}&per_page={size}&page={}", self.api, page + 1);
        reply.header("link", &format!(r#"<{next}>; rel="next", <{next}>; rel="last""#))
    }

    fn delete_version(&mut self, repository: &str, number: &str) -> Reply {
        let found =
            self.numbers.iter().find(|((name, _), id)| name == repository && id.to_string() == number);
        let Some(((_, digest), _)) = found else { return message(404, "Package version not found.") };
        let digest = digest.clone();
        let tagged: BTreeSet<&String> = self
            .content
            .tags
            .iter()
            .filter(|((name, _), _)| name == repository)
            .map(|(_, digest)| digest)
            .collect();
        if tagged.contains(&digest) && tagged.len() == 1 {
            return message(
                400,
                "You cannot delete the last tagged version of a package. You must delete the package instead.",
            );
        }
        let package = self.packages.get(repository).cloned().unwrap_or_default();
        if package.public && package.downloads > 5000 {
            return message(
                400,
                "Publicly visible package versions with more than 5000 downloads cannot be deleted. Contact GitHub support for further assistance.",
            );
        }
        self.content.manifests.remove(&(repository.to_owned(), digest.clone()));
        self.content.tags.retain(|(name, _), of| name != repository || *of != digest);
        Reply::status(204)
    }
}
