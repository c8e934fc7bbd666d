//! What the provider asks of Harbor's API and what our cases and our fake answer, checked against Harbor's own OpenAPI file. The file
//! comes with the Go module of Harbor's client (`tests/peers/harbor-api`) and is read where that was put.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use idp_test_support::faults::Reply;
use idp_test_support::net::{Net, Request, Site};
use idp_test_support::openapi::Document;
use idp_test_support::peers;
use idp_test_support::products::harbor::{Harbor, Kind};
use serde_json::Value;

/// What Harbor answers and its file leaves out: refusals by right and by rule (src/server/v2.0/handler/project.go and
/// base.go, src/server/middleware/immutable, src/controller/artifact).
const UNDECLARED: &[(&str, u16)] = &[
    ("POST /projects", 403),
    ("HEAD /projects", 401),
    ("HEAD /projects", 403),
    ("GET /projects/{project_name_or_id}", 403),
    ("GET /projects/{project_name_or_id}", 404),
    ("DELETE /projects/{project_name}/repositories/{repository_name}/artifacts/{reference}", 412),
    (
        "DELETE /projects/{project_name}/repositories/{repository_name}/artifacts/{reference}/tags/{tag_name}",
        412,
    ),
];

fn document() -> Option<Document> {
    let path = peers::require(peers::data("harbor-api", "swagger.yaml"), "harbor-api")?;
    let text = std::fs::read_to_string(path).expect("readable");
    let file: Value = serde_saphyr::from_str(&indented(&text)).expect("YAML");
    assert_eq!(file["info"]["title"], "Harbor API");
    Some(Document::new(file))
}

/// The file, its quoted texts indented where they go on: YAML wants it, and the file does not everywhere.
fn indented(text: &str) -> String {
    let mut open = false;
    let lines = text.lines().map(|line| {
        let odd = line.matches('\'').count() % 2 == 1;
        let goes_on = open;
        open = if open { !odd } else { odd && line.trim_start().starts_with("description: '") };
        if goes_on { format!("    {line}\n") } else { format!("{line}\n") }
    });
    lines.collect()
}

/// What must not pass, so that what passes means something.
#[test]
fn the_file_refuses_what_harbor_would() {
    let Some(document) = document() else { return };
    for (method, target, body) in [
        ("POST", "/api/v2.0/projects", r#"{"project_name":"p","metadata":{"public":false}}"#),
        ("POST", "/api/v2.0/projects", r#"{"name":"p"}"#),
        ("GET", "/api/v2.0/projects?page_size=101", ""),
        ("GET", "/api/v2.0/projects?query=x", ""),
        ("GET", "/api/v2.0/projects/p/repositories/a%2Fb/artifacts", ""),
        ("DELETE", "/api/v2.0/projects/p/repositories/a/tags/1", ""),
    ] {
        let found = document.request(method, target, &[], body.as_bytes());
        assert!(found.is_err(), "{method} {target} {body}: {found:?}");
    }
}

/// The exchanges with the API in the recorded conversations.
#[test]
fn recorded_conversations_are_harbors() {
    let Some(document) = document() else { return };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/harbor/cases");
    let (mut checked, mut wrong) = (BTreeSet::new(), Vec::new());
    for entry in std::fs::read_dir(directory).expect("cases") {
        let path = entry.expect("a case").path();
        let case: toml::Table = std::fs::read_to_string(&path).expect("readable").parse().expect("TOML");
        let exchanges = case.get("exchange").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        for exchange in exchanges {
            let text =
                |key: &str| exchange.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
            let request = text("request");
            let (method, url) = request.split_once(' ').expect("METHOD URL");
            let Some(target) =
                url.strip_prefix("https://hub.example").filter(|it| it.starts_with("/api/v2.0/"))
            else {
                continue;
            };
            let headers: Vec<(String, String)> =
                exchange.get("headers").cloned().and_then(|it| it.try_into().ok()).unwrap_or_default();
            let status =
                exchange["status"].as_integer().and_then(|it| u16::try_from(it).ok()).expect("a status");
            let found =
                document.request(method, target, &headers, text("body").as_bytes()).and_then(|operation| {
                    // A proxy's answer is not Harbor's.
                    let hidden = operation.path == "/systeminfo" && status == 404;
                    checked.insert(operation.to_string());
                    if hidden {
                        return Ok(());
                    }
                    document.answer(&operation, status, text("reply").as_bytes(), UNDECLARED)
                });
            wrong.extend(found.err().map(|why| format!("{}: {why}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked.len() >= 14, "{checked:#?}");
}

/// The fake, with the file at its side.
struct Checked {
    harbor: Harbor,
    document: Document,
    operations: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Site for Checked {
    fn answer(&mut self, request: &Request) -> Reply {
        let reply = self.harbor.answer(request);
        if request.path().starts_with("/api/v2.0/") {
            let headers: Vec<_> = request
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
                .collect();
            let found = self.document.request(&request.method, &request.target, &headers, &request.body);
            let (status, _, body) = reply.clone().into_parts();
            let found = found.and_then(|operation| {
                self.operations.insert(format!("{operation} {status}"));
                self.document.answer(&operation, status, &body, UNDECLARED)
            });
            self.wrong.extend(found.err());
        }
        reply
    }
}

fn change<T>(site: &Arc<Mutex<Checked>>, with: impl FnOnce(&mut Checked) -> T) -> T {
    with(&mut site.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What the binary asks and what the fake answers in one life of a repository.
#[test]
fn the_fake_answers_as_harbors_file_says() {
    let Some(document) = document() else { return };
    let net = Net::start();
    let checked = Checked { harbor: Harbor::new(), document, operations: BTreeSet::new(), wrong: Vec::new() };
    let site = net.site(&["hub.example"], checked);
    let sandbox = super::sandbox(&net);
    let login = ["login", "hub.example", "--username", "alice", "--password-stdin"];
    let _ = sandbox.idp_with_stdin(login, b"pw").exits(0);
    let _ = sandbox.idp(["push", "./app", "hub.example/new/app:1"]).exits(2);
    for tag in ["1", "2"] {
        let _ = sandbox.idp(["push", "./app", &format!("hub.example/team/some/app:{tag}")]).exits(0);
    }
    let _ = sandbox.idp(["list", "hub.example"]).exits(0);
    let _ = sandbox.idp(["list", "hub.example", "--namespace", "team", "--query", "app"]).exits(0);
    let _ = sandbox.idp(["list", "hub.example/team/some/app"]).exits(0);
    let _ = sandbox.idp(["list", "hub.example/team/nothing"]).exits(2);
    let _ = sandbox.idp(["delete", "--yes", "hub.example/team/some/app:1"]).exits(0);
    let _ = sandbox.idp(["delete", "--yes", "hub.example/team/some/app:1"]).exits(2);
    let digest = change(&site, |it| it.harbor.registry.tags.values().next().cloned()).expect("a tag");
    let by_digest = format!("hub.example/team/some/app@{digest}");
    let _ = sandbox.idp(["delete", "--yes", "--allow-siblings", &by_digest]).exits(0);
    change(&site, |it| it.harbor.image("team/app", "v1", "x"));
    change(&site, |it| {
        it.harbor.projects.get_mut("team").expect("there").immutable = ["v".to_owned()].into();
    });
    let _ = sandbox.idp(["delete", "--yes", "hub.example/team/app:v1"]).exits(1);
    let _ = sandbox.idp(["delete", "--yes", "--repository", "hub.example/team/app"]).exits(0);
    change(&site, |it| {
        it.harbor.accounts.get_mut("alice").expect("there").kind = Kind::Cli;
        it.harbor.habits.oidc = true;
    });
    let sso = super::sandbox(&net);
    let _ = sso.idp_with_stdin(login, b"pw").exits(0);
    let _ = sso.idp(["list", "hub.example"]).exits(0);
    change(&site, |it| {
        assert!(it.wrong.is_empty(), "{}", it.wrong.join("\n"));
        assert!(it.operations.len() >= 10, "{:#?}", it.operations);
    });
}
