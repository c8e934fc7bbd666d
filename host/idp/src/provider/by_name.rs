//! A question by its name in the contract, with arguments and answers as JSON: how recorded conversations (`plugins/*/cases`) are asked
//! of the compiled component. Types come from the component itself, so every question of the contract can be asked, and an answer
//! is what the guest said, before the host makes its own types of it. The call is the one of [`super::call`], with
//! all its checks; secrets stay out of the JSON.

use idp_oci::client::dialect::{Answer, Challenge, DialectError};
use idp_oci::secret::Secret;
use serde_json::{Map, Value, json};
use wasmtime::component::{Resource, ResourceAny, Type, Val};
use wasmtime::{Store, component::Instance};

use super::call::Budget;
use super::convert::{Screen, Screened};
use super::dialect::{ProviderDialect, granted_secret};
use super::secrets::Held;
use super::state::{Question, State};

/// A question.
#[derive(Debug, Clone, Default)]
pub struct ByName {
    /// `auth.authorize`
    pub question: String,
    /// By their names in the contract. One that is left out is empty, none or a page of 100.
    pub arguments: Map<String, Value>,
    /// What led here.
    pub challenges: Vec<Challenge>,
    /// 1, or 2 when a fresh grant was refused.
    pub attempt: u32,
    /// What is to be identified or explained.
    pub subject: Option<Answer>,
}

/// What came of it.
#[derive(Debug)]
pub struct Told {
    /// The answer or the error of the guest, with `null` where a secret is.
    pub outcome: Result<Value, Value>,
    /// The secrets of a grant, by JSON pointer.
    pub secrets: Vec<(String, Secret)>,
}

/// The same, while the store is there.
struct Said {
    outcome: Result<Value, Value>,
    handles: Vec<(String, Resource<Held>)>,
}

impl Screened for Said {
    fn screen(&mut self, screen: &mut Screen<'_>) {
        match &mut self.outcome {
            Ok(value) | Err(value) => value.screen(screen),
        }
    }
}

impl Screened for Value {
    fn screen(&mut self, screen: &mut Screen<'_>) {
        match self {
            Self::String(text) => text.screen(screen),
            Self::Array(list) => list.iter_mut().for_each(|value| value.screen(screen)),
            Self::Object(table) => table.values_mut().for_each(|value| value.screen(screen)),
            Self::Null | Self::Bool(_) | Self::Number(_) => {}
        }
    }
}

impl ProviderDialect {
    /// Asks a question by name; `None` when the component does not export it. `look` is called with the bytes of the guest's
    /// linear memory once the guest has answered and while it is still there.
    pub async fn ask(
        &self,
        asked: ByName,
        look: impl FnOnce(usize) + Send + 'static,
    ) -> Result<Option<Told>, DialectError> {
        let ByName { question, arguments, challenges, attempt, subject } = asked;
        let Some((interface, function)) = question.split_once('.') else { return Ok(None) };
        let Some(interface) = self.linked.exports.names().into_iter().find(|name| *name == interface) else {
            return Ok(None);
        };
        let budget = match interface {
            "provider" => Budget::DESCRIBE,
            "identity" => Budget::IDENTIFY,
            _ => Budget::USUAL,
        };
        let about = Question { challenges, attempt, operation: None, subject };
        let path = format!("idp:registry-provider/{interface}@0.1.0");
        let function = function.to_owned();
        let told = self
            .linked
            .call(
                &self.shared,
                self.asked("a question by name", budget, about),
                |store, instance| {
                    Box::pin(async move {
                        let said = call(store, instance, &path, &function, &arguments).await?;
                        look(store.data().holdings.memory());
                        Ok(Ok(said))
                    })
                },
                |state, said| {
                    let Some(said) = said else { return Ok(None) };
                    let symbols = state.gate.symbols().clone();
                    let mut secrets = Vec::new();
                    for (pointer, handle) in said.handles {
                        secrets.push((pointer, granted_secret(state.table.delete(handle)?, &symbols)?));
                    }
                    Ok(Some(Told { outcome: said.outcome, secrets }))
                },
            )
            .await?;
        told.map_err(|error| self.refused(error))
    }
}

async fn call(
    store: &mut Store<State>,
    instance: &Instance,
    interface: &str,
    function: &str,
    arguments: &Map<String, Value>,
) -> wasmtime::Result<Option<Said>> {
    let index = instance
        .get_export_index(&mut *store, None, interface)
        .and_then(|interface| instance.get_export_index(&mut *store, Some(&interface), function));
    let Some(function) = index.and_then(|index| instance.get_func(&mut *store, index)) else {
        return Ok(None);
    };
    let ty = function.ty(&mut *store);
    let arguments: Vec<Val> = ty
        .params()
        .map(|(name, ty)| {
            let given = arguments.get(name).unwrap_or(&Value::Null);
            lower(given, &ty)
                .ok_or_else(|| wasmtime::Error::msg(format!("the argument `{name}` does not fit")))
        })
        .collect::<wasmtime::Result<_>>()?;
    let Some(Type::Result(result)) = ty.results().next() else {
        return Err(wasmtime::Error::msg("the function returns no result"));
    };
    let mut results = [Val::Bool(false)];
    function.call_async(&mut *store, &arguments, &mut results).await?;
    let [Val::Result(answer)] = results else {
        return Err(wasmtime::Error::msg("the function returned no result"));
    };
    let mut handles = Vec::new();
    let read = |value: Option<Box<Val>>, ty: Option<Type>, handles: &mut Vec<_>| match (value, ty) {
        (Some(value), Some(ty)) => lift(*value, &ty, "", handles),
        _ => Value::Null,
    };
    let outcome = match answer {
        Ok(value) => Ok(read(value, result.ok(), &mut handles)),
        Err(value) => Err(read(value, result.err(), &mut handles)),
    };
    let mut owned = Vec::with_capacity(handles.len());
    for (pointer, handle) in handles {
        owned.push((pointer, handle.try_into_resource::<Held>(&mut *store)?));
    }
    Ok(Some(Said { outcome, handles: owned }))
}

/// An argument as the component takes it.
fn lower(given: &Value, ty: &Type) -> Option<Val> {
    Some(match ty {
        Type::String if given.is_null() => Val::String(String::new()),
        Type::String => Val::String(text(given)),
        Type::U32 if given.is_null() => Val::U32(100),
        Type::U32 => Val::U32(u32::try_from(given.as_u64()?).ok()?),
        Type::Option(_) if given.is_null() => Val::Option(None),
        Type::Option(inner) => Val::Option(Some(Box::new(lower(given, &inner.ty())?))),
        Type::List(_) if given.is_null() => Val::List(Vec::new()),
        Type::List(list) => match (given, list.ty()) {
            (Value::Object(table), Type::Tuple(_)) => {
                let pair = |(key, value): (&String, &Value)| {
                    Val::Tuple(vec![Val::String(key.clone()), Val::String(text(value))])
                };
                Val::List(table.iter().map(pair).collect())
            }
            (Value::Array(list), ty) => {
                Val::List(list.iter().map(|value| lower(value, &ty)).collect::<Option<_>>()?)
            }
            _ => return None,
        },
        Type::Record(_) => scope(given.as_str()?)?,
        Type::Variant(_) => match given {
            Value::String(case) => Val::Variant(case.clone(), None),
            Value::Object(table) => {
                let (case, value) = table.iter().next()?;
                Val::Variant(case.clone(), Some(Box::new(Val::String(text(value)))))
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `repository:team/app:pull,push`; the name may hold a `:`. The one record that is an argument.
fn scope(text: &str) -> Option<Val> {
    let (kind, rest) = text.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let actions = actions.split(',').filter(|action| !action.is_empty());
    let field = |name: &str, value: Val| (name.to_owned(), value);
    Some(Val::Record(vec![
        field("kind", Val::String(kind.to_owned())),
        field("name", Val::String(name.to_owned())),
        field("actions", Val::List(actions.map(|action| Val::String(action.to_owned())).collect())),
    ]))
}

/// A result as recorded conversations write it: open lists as tables, scopes as tokens write them, a case with a value as a table of one.
fn lift(value: Val, ty: &Type, at: &str, handles: &mut Vec<(String, ResourceAny)>) -> Value {
    match (value, ty) {
        (Val::String(text) | Val::Enum(text) | Val::Variant(text, None), _) => Value::from(text),
        (Val::Bool(flag), _) => Value::from(flag),
        (Val::U8(number), _) => Value::from(number),
        (Val::U16(number), _) => Value::from(number),
        (Val::U32(number), _) => Value::from(number),
        (Val::U64(number), _) => Value::from(number),
        (Val::Option(Some(value)), Type::Option(inner)) => lift(*value, &inner.ty(), at, handles),
        (Val::List(list), Type::List(ty)) => {
            let element = ty.ty();
            if is_pair(&element) {
                return Value::Object(list.into_iter().filter_map(pair).collect());
            }
            let items = list.into_iter().enumerate();
            items.map(|(index, value)| lift(value, &element, &format!("{at}/{index}"), handles)).collect()
        }
        (Val::Tuple(values), Type::Tuple(ty)) => {
            let values = values.into_iter().zip(ty.types()).enumerate();
            values.map(|(index, (value, ty))| lift(value, &ty, &format!("{at}/{index}"), handles)).collect()
        }
        (Val::Variant(case, Some(value)), Type::Variant(ty)) => {
            let payload = ty.cases().find(|one| one.name == case).and_then(|one| one.ty);
            let value = payload.map(|ty| lift(*value, &ty, &format!("{at}/{case}"), handles));
            json!({ case: value })
        }
        (Val::Record(fields), Type::Record(ty)) => {
            let fields = fields.into_iter().zip(ty.fields());
            let table: Map<String, Value> = fields
                .map(|((name, value), field)| {
                    let value = lift(value, &field.ty, &format!("{at}/{name}"), handles);
                    (name, value)
                })
                .collect();
            match (table.get("kind"), table.get("name"), table.get("actions")) {
                (Some(kind), Some(name), Some(Value::Array(actions))) => {
                    let actions: Vec<String> = actions.iter().map(text).collect();
                    Value::from(format!("{}:{}:{}", text(kind), text(name), actions.join(",")))
                }
                _ => Value::Object(table),
            }
        }
        (Val::Resource(handle), _) => {
            handles.push((at.to_owned(), handle));
            Value::Null
        }
        _ => Value::Null,
    }
}

/// An entry of an open list.
fn is_pair(ty: &Type) -> bool {
    let Type::Tuple(tuple) = ty else { return false };
    tuple.types().len() == 2 && tuple.types().all(|ty| ty == Type::String)
}

fn pair(entry: Val) -> Option<(String, Value)> {
    let Val::Tuple(both) = entry else { return None };
    match <[Val; 2]>::try_from(both) {
        Ok([Val::String(key), Val::String(value)]) => Some((key, Value::from(value))),
        _ => None,
    }
}
