//! `docs/registries.md`: product by operation, and how each is shown. Made of the recorded cases (`plugins/*/cases`), of what the components
//! export, and of the table of tests against real products (`tests/products/real.toml`). Printed, and compared with the file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use idp::provider::{CallContext, Providers, ProvidersConfig, SelectRequest};
use idp_oci::client::dialect::ErrorKind;
use idp_provider_sdk::testing::case::{Case, files};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cases::providers;
use crate::script::Stage;
use crate::support::{config, root};

/// Column, question, and the target of a removal.
const OPERATIONS: [(&str, &str, Option<&str>); 14] = [
    ("identify", "identity.identify", None),
    ("names", "naming.normalize", None),
    ("log in", "auth.authorize", None),
    ("verify", "auth.verify", None),
    ("hints", "transport.hints", None),
    ("rate limits", "transport.limits", None),
    ("create", "repositories.ensure", None),
    ("info", "repositories.info", None),
    ("list repositories", "repositories.list-page", None),
    ("list tags", "artifacts.list-page", None),
    ("delete tag", "artifacts.remove", Some("tag")),
    ("delete digest", "artifacts.remove", Some("digest")),
    ("delete repository", "artifacts.remove", Some("everything")),
    ("explain", "explanations.explain", None),
];

const START: &str = "<!-- matrix: begin (generated; `cargo xtask bless`) -->\n";
const END: &str = "<!-- matrix: end -->\n";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    rows: BTreeMap<String, Vec<String>>,
    real: Vec<Real>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Real {
    product: String,
    operations: Vec<String>,
    test: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Real,
    Recorded,
    Unsupported(String),
    /// Exported, and no case shows it.
    Open,
}

impl Real {
    /// What is wrong about the entry.
    fn problem(&self, products: &[&str]) -> Option<String> {
        if !products.contains(&self.product.as_str()) {
            return Some(format!("`{}` is no row", self.product));
        }
        let known = |name: &String| OPERATIONS.iter().any(|(column, ..)| column == name);
        if let Some(odd) = self.operations.iter().find(|name| !known(name)) {
            return Some(format!("`{odd}` is no operation"));
        }
        let (file, test) = self.test.split_once("::")?;
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        // Or a line of a macro that makes tests.
        let there = text.contains(&format!("fn {test}(")) || text.contains(&format!("\n    {test} => "));
        (!there).then(|| format!("`{}` is not there", self.test))
    }
}

/// The operation of a case.
fn column(case: &Case) -> Option<usize> {
    let target = case.arguments.get("target").map(|target| match target {
        Value::Object(table) => table.keys().next().cloned().unwrap_or_default(),
        other => other.as_str().unwrap_or_default().to_owned(),
    });
    OPERATIONS.iter().position(|(_, question, wanted)| {
        *question == case.question && (wanted.is_none() || *wanted == target.as_deref())
    })
}

/// The product that a case is about, in lower case.
fn product(case: &Case) -> Option<String> {
    let answered = case.answer.as_ref().filter(|_| case.question == "identity.identify");
    let answered = answered.and_then(|answer| answer.get("product")?.as_str().map(str::to_owned));
    let named = case.host.settings.get("product").cloned().or(answered)?;
    Some(named.to_lowercase()).filter(|name| !name.is_empty())
}

fn unsupported(error: &Value) -> Option<String> {
    let said = error.get("message").and_then(Value::as_str).unwrap_or("the product does not offer it");
    (error.get("kind")? == "unsupported").then(|| said.trim_matches('…').trim().to_owned())
}

/// What one provider's cases say of one of its products.
fn recorded(cases: &[Case], row: &str, rows: &[String]) -> Vec<Option<Cell>> {
    let mut cells: Vec<Option<Cell>> = vec![None; OPERATIONS.len()];
    let row = row.to_lowercase();
    for case in cases {
        let Some(index) = column(case) else { continue };
        let of_one = product(case).filter(|_| rows.len() > 1);
        if of_one.is_some_and(|named| named != row && !row.starts_with(&named) && !named.starts_with(&row)) {
            continue;
        }
        match case.error.as_ref().and_then(unsupported) {
            None => cells[index] = Some(Cell::Recorded),
            Some(why) if cells[index].is_none() => cells[index] = Some(Cell::Unsupported(why)),
            Some(_) => {}
        }
    }
    cells
}

/// What a component says of an operation that no case shows.
async fn asked(dialect: &idp::provider::ProviderDialect, index: usize) -> Cell {
    let (_, question, target) = OPERATIONS[index];
    let target = match target {
        Some("everything") => json!("everything"),
        Some("digest") => json!({ "digest": format!("sha256:{}", "0".repeat(64)) }),
        _ => json!({ "tag": "none" }),
    };
    let arguments = json!({ "repository": "team/app", "name": "team/app", "target": target });
    let asked = idp::provider::ByName {
        question: question.to_owned(),
        arguments: arguments.as_object().cloned().unwrap_or_default(),
        attempt: 1,
        ..Default::default()
    };
    match dialect.ask(asked, |_| ()).await {
        Ok(None) => Cell::Unsupported("the provider leaves it to the specification".to_owned()),
        Ok(Some(told)) => match told.outcome.err().as_ref().and_then(unsupported) {
            Some(why) => Cell::Unsupported(why),
            None => Cell::Open,
        },
        Err(error) if error.kind == ErrorKind::Unsupported => Cell::Unsupported(error.message),
        Err(_) => Cell::Open,
    }
}

fn render(rows: &[(String, String, Vec<Cell>)]) -> String {
    let mut notes: Vec<&str> = Vec::new();
    let mut text = String::from("| product | provider |");
    for (column, ..) in OPERATIONS {
        let _ = write!(text, " {column} |");
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(OPERATIONS.len()));
    for (product, provider, cells) in rows {
        let _ = write!(text, "\n| {product} | `{provider}` |");
        for cell in cells {
            let _ = match cell {
                Cell::Real => write!(text, " **real** |"),
                Cell::Recorded => write!(text, " recorded |"),
                Cell::Open => write!(text, " – |"),
                Cell::Unsupported(why) => {
                    let number = notes.iter().position(|note| note == why).unwrap_or_else(|| {
                        notes.push(why);
                        notes.len() - 1
                    });
                    write!(text, " unsupported ({}) |", number + 1)
                }
            };
        }
    }
    text.push_str("\n\n**real**: a test runs it against the product itself. recorded: a conversation in `plugins/*/cases` shows it, natively and \
                   in the sandbox.\nunsupported: the product or its provider says so, for the reason below; `idp` then does what the \
                   specification says, or ends with that reason.\n–: nothing shows it yet.\n\n");
    for (index, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}. {note}", index + 1);
    }
    text
}

async fn matrix() -> String {
    let table = std::fs::read_to_string(root().join("tests/products/real.toml")).expect("the table");
    let table: Table = toml::from_str(&table).expect("the table of real products");
    // Nothing is scripted: what is asked of a component here reaches nobody.
    let transport = Arc::new(Stage::default());
    let all = Providers::new(ProvidersConfig { transport, ..config() });
    let mut rows = Vec::new();
    for provider in providers() {
        let cases: Vec<Case> = files(&root().join("plugins").join(&provider).join("cases"))
            .expect("cases")
            .iter()
            .map(|(path, text)| Case::parse(text).unwrap_or_else(|why| panic!("{}: {why}", path.display())))
            .collect();
        let mut request = SelectRequest::new("registry.example".parse().expect("a registry"), "https");
        request.flag = Some(provider.clone());
        let selection = all.select(&request, async { None }).await.expect("a provider");
        let mut context = CallContext::new(request.registry, "https", "push");
        context.dry_run = true;
        let dialect = all.load(&selection, context).await.expect("loaded");
        let display = selection.provider.manifest.display_name.clone().unwrap_or_else(|| provider.clone());
        let products = table.rows.get(&provider).cloned().unwrap_or_else(|| vec![display]);
        for product in &products {
            let mut cells = Vec::new();
            for (index, cell) in recorded(&cases, product, &products).into_iter().enumerate() {
                cells.push(match cell {
                    Some(cell) => cell,
                    None => asked(&dialect, index).await,
                });
            }
            rows.push((product.clone(), provider.clone(), cells));
        }
    }
    let names: Vec<&str> = rows.iter().map(|(product, ..)| product.as_str()).collect();
    let problems: Vec<String> = table.real.iter().filter_map(|real| real.problem(&names)).collect();
    assert!(problems.is_empty(), "tests/products/real.toml: {}", problems.join("; "));
    for real in &table.real {
        let row = rows.iter_mut().find(|(product, ..)| *product == real.product);
        let (_, _, cells) = row.expect("checked");
        for (index, (column, ..)) in OPERATIONS.iter().enumerate() {
            if real.operations.iter().any(|operation| operation == column) {
                cells[index] = Cell::Real;
            }
        }
    }
    rows.sort_by_key(|(product, ..)| product.to_lowercase());
    render(&rows)
}

/// Puts the matrix between the markers; a file without them gets both.
fn placed(text: &str, matrix: &str) -> String {
    let matrix = format!("{START}\n{matrix}\n{END}");
    match (text.find(START), text.find(END)) {
        (Some(start), Some(end)) if start < end => {
            format!("{}{matrix}{}", &text[..start], &text[end + END.len()..])
        }
        _ if text.is_empty() => format!("# Registries\n\n{matrix}"),
        _ => format!("{text}\n{matrix}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_is_what_the_tests_show() {
    let path: &Path = &root().join("docs/registries.md");
    let matrix = matrix().await;
    // What a run shows is kept with its log.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), matrix.as_bytes());
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let wanted = placed(&written, &matrix);
    if std::env::var_os("IDP_BLESS").is_some() {
        std::fs::write(path, &wanted).expect("docs can be written");
    } else {
        assert!(written == wanted, "docs/registries.md is out of date: run `cargo xtask bless`");
    }
}

#[test]
fn what_others_write_around_the_matrix_stays() {
    let first = placed("", "a\n");
    assert_eq!(first, format!("# Registries\n\n{START}\na\n\n{END}"));
    let around = format!("before\n{first}after\n");
    assert_eq!(placed(&around, "b\n"), around.replace("\na\n", "\nb\n"));
}
