//! Asking a provider by the name of a question, with arguments and answers as JSON: what case files are made of.
//!
//! Names are those of the contract (`auth.authorize`, `artifacts.list-page`); fields of answers are written as there, with
//! `extra` and other open lists as tables.

use serde_json::{Map, json};

use super::Value;
use crate::contract::{
    Artifacts, Auth, Authorization, Error, Explanations, Grant, Identity, Naming, Pairs, Provider,
    Repositories, Repository, Result, Scope, Target, Transport,
};

/// A provider that can be asked by name; written by [`export!`](crate::export).
pub trait Answers: Provider {
    /// The answer, or `None` when the interface of the question is not exported.
    fn answer(question: &str, arguments: &Arguments) -> Option<Result<Value>>;
}

/// The arguments of a question, by their names in the contract.
#[derive(Debug, Clone, Default)]
pub struct Arguments(pub Map<String, Value>);

impl Arguments {
    fn text(&self, name: &str) -> Option<String> {
        self.0.get(name)?.as_str().map(str::to_owned)
    }

    fn pairs(&self, name: &str) -> Pairs {
        let Some(Value::Object(table)) = self.0.get(name) else { return Vec::new() };
        let one = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        table.iter().map(|(key, value)| (key.clone(), one(value))).collect()
    }

    fn number(&self, name: &str, default: u32) -> u32 {
        self.0
            .get(name)
            .and_then(Value::as_u64)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(default)
    }

    fn scopes(&self) -> Vec<Scope> {
        let list = self.0.get("scopes").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).filter_map(Scope::parse).collect()
    }

    fn target(&self) -> Result<Target> {
        let Some(target) = self.0.get("target") else {
            return Err(Error::invalid("the case has no `target`"));
        };
        let field = |name: &str| target.get(name).and_then(Value::as_str).map(str::to_owned);
        match (field("tag"), field("digest"), target.as_str()) {
            (Some(tag), ..) => Ok(Target::Tag(tag)),
            (_, Some(digest), _) => Ok(Target::Digest(digest)),
            (.., Some("everything")) => Ok(Target::Everything),
            _ => Err(Error::invalid("`target` is { tag = … }, { digest = … } or \"everything\"")),
        }
    }
}

fn table(pairs: &Pairs) -> Value {
    Value::Object(pairs.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect())
}

fn name<T: std::fmt::Debug>(case: T) -> String {
    let debug = format!("{case:?}");
    debug.rsplit("::").next().unwrap_or_default().to_lowercase()
}

/// `provider.*`.
pub fn provider<T: Provider>(question: &str, _: &Arguments) -> Option<Result<Value>> {
    (question == "provider.describe").then(|| {
        T::describe().map(|it| {
            json!({ "id": it.id, "version": it.version, "display-name": it.display_name, "features": it.features,
                "extra": table(&it.extra) })
        })
    })
}

/// `identity.*`.
pub fn identity<T: Identity>(question: &str, _: &Arguments) -> Option<Result<Value>> {
    (question == "identity.identify").then(|| {
        T::identify().map(|it| {
            json!({ "certainty": it.certainty, "product": it.product, "version": it.version,
                "settings": table(&it.settings), "extra": table(&it.extra) })
        })
    })
}

/// `naming.*`.
pub fn naming<T: Naming>(question: &str, arguments: &Arguments) -> Option<Result<Value>> {
    (question == "naming.normalize").then(|| {
        let repository = arguments.text("repository").unwrap_or_default();
        T::normalize(repository, arguments.text("tag")).map(|it| {
            json!({ "host": it.host, "repository": it.repository, "display": it.display,
                "credential-keys": it.credential_keys, "warnings": it.warnings, "extra": table(&it.extra) })
        })
    })
}

/// `auth.*`.
pub fn auth<T: Auth>(question: &str, arguments: &Arguments) -> Option<Result<Value>> {
    match question {
        "auth.authorize" => Some(T::authorize(arguments.scopes()).map(|it| grant(&it))),
        "auth.verify" => Some(T::verify().map(|it| table(&it))),
        _ => None,
    }
}

/// A grant in the clear: the test wrote its secrets itself.
fn grant(it: &Grant) -> Value {
    let clear = |secret: &crate::Secret| String::from_utf8_lossy(&secret.0.0.bytes).into_owned();
    let authorization = match &it.authorization {
        Authorization::Anonymous => json!("anonymous"),
        Authorization::Bearer(token) => json!({ "bearer": clear(token) }),
        Authorization::Basic(username, password) => json!({ "basic": [username, clear(password)] }),
        Authorization::Headers(list) => {
            json!({ "headers": list.iter().map(|(name, value)| json!([name, clear(value)])).collect::<Vec<_>>() })
        }
    };
    json!({ "authorization": authorization, "scopes": it.scopes.iter().map(Scope::wire).collect::<Vec<_>>(),
        "expires-in-s": it.expires_in_s, "reuse": name(it.reuse), "extra": table(&it.extra) })
}

/// `transport.*`.
pub fn transport<T: Transport>(question: &str, arguments: &Arguments) -> Option<Result<Value>> {
    match question {
        "transport.hints" => Some(T::hints(arguments.text("repository")).map(|it| table(&it))),
        "transport.limits" => Some(T::limits().map(|list| list.iter().map(table).collect())),
        _ => None,
    }
}

fn repository(it: &Repository) -> Value {
    json!({ "name": it.name, "extra": table(&it.extra) })
}

/// `repositories.*`.
pub fn repositories<T: Repositories>(question: &str, arguments: &Arguments) -> Option<Result<Value>> {
    let name = || arguments.text("name").unwrap_or_default();
    match question {
        "repositories.ensure" => {
            Some(T::ensure(name(), arguments.pairs("options")).map(|it| repository(&it)))
        }
        "repositories.info" => Some(T::info(name()).map(|it| repository(&it))),
        "repositories.list-page" => {
            let page = T::list_page(
                arguments.pairs("filter"),
                arguments.number("limit", 100),
                arguments.text("cursor"),
            );
            Some(page.map(|it| {
                json!({ "items": it.items.iter().map(repository).collect::<Vec<_>>(), "next": it.next,
                    "extra": table(&it.extra) })
            }))
        }
        _ => None,
    }
}

/// `artifacts.*`.
pub fn artifacts<T: Artifacts>(question: &str, arguments: &Arguments) -> Option<Result<Value>> {
    let repository = arguments.text("repository").unwrap_or_default();
    match question {
        "artifacts.list-page" => {
            let (filter, cursor) = (arguments.pairs("filter"), arguments.text("cursor"));
            let page = T::list_page(repository, filter, arguments.number("limit", 100), cursor);
            Some(page.map(|it| {
                let tag = |tag: &crate::Tag| {
                    json!({ "name": tag.name, "digest": tag.digest, "extra": table(&tag.extra) })
                };
                json!({ "items": it.items.iter().map(tag).collect::<Vec<_>>(), "next": it.next,
                    "extra": table(&it.extra) })
            }))
        }
        "artifacts.remove" => Some(arguments.target().and_then(|target| {
            let it = T::remove(repository, target, arguments.pairs("options"))?;
            Ok(json!({ "removed": it.removed, "also-removed": it.also_removed, "asynchronous": it.asynchronous,
                "extra": table(&it.extra) }))
        })),
        _ => None,
    }
}

/// `explanations.*`.
pub fn explanations<T: Explanations>(question: &str, _: &Arguments) -> Option<Result<Value>> {
    (question == "explanations.explain").then(|| {
        T::explain().map(|it| {
            json!({ "class": it.class, "title": it.title, "cause": it.cause, "fixes": it.fixes,
                "retryable": it.retryable, "extra": table(&it.extra) })
        })
    })
}

/// An error, as case files write it.
pub(crate) fn error(it: &Error) -> Value {
    let kind = match it.kind {
        crate::ErrorKind::NotFound => "not-found".to_owned(),
        crate::ErrorKind::RateLimited => "rate-limited".to_owned(),
        crate::ErrorKind::EgressDenied => "egress-denied".to_owned(),
        kind => name(kind),
    };
    json!({ "kind": kind, "code": it.code, "message": it.message, "http-status": it.http_status,
        "retry-after-s": it.retry_after_s, "sent": it.sent, "extra": table(&it.extra) })
}
