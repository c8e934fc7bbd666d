//! Requests and answers, checked against an OpenAPI 2 file: the paths, parameters, bodies and statuses that it declares. Only as much of
//! JSON Schema as such files use. Stricter than they are in one way: a property that the file does not name is a mistake, for ours
//! are meant to be the product's.
//!
//! May depend on nothing of the project. In: the file as a JSON value, requests, answers. Out: what is wrong with them, in words.

use serde_json::{Map, Value};

use crate::faults::url_pairs;

/// An OpenAPI 2 file.
#[derive(Debug)]
pub struct Document(Value);

/// An operation that was found for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its path, with names in braces.
    pub path: String,
    /// Its method, in lower case.
    pub method: String,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method.to_uppercase(), self.path)
    }
}

impl Document {
    /// The file.
    pub fn new(file: Value) -> Self {
        Self(file)
    }

    /// What comes before every path.
    pub fn base(&self) -> &str {
        self.0["basePath"].as_str().unwrap_or_default()
    }

    /// The operation of a request, whose target is path and query below [`base`](Self::base) and all.
    ///
    /// # Errors
    /// Everything that the file does not allow.
    pub fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Operation, String> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (operation, values) =
            self.find(method, path).ok_or_else(|| format!("{method} {path}: there is no such operation"))?;
        let declared = self.parameters(&operation);
        let place = |place: &'static str| declared.iter().filter(move |one| one["in"] == place);
        let mut wrong = Vec::new();
        for (name, value) in &values {
            // A router decodes once before it splits.
            if value.to_lowercase().contains("%2f") {
                wrong.push(format!("{name}: a slash that is encoded once"));
            }
            let parameter = place("path").find(|one| one["name"] == name.as_str());
            wrong.extend(
                parameter.and_then(|one| scalar(one, value).err()).map(|why| format!("{name}: {why}")),
            );
        }
        let given: Vec<_> = url_pairs(query).collect();
        for (name, value) in &given {
            match place("query").find(|one| one["name"] == name.as_str()) {
                Some(parameter) => {
                    wrong.extend(scalar(parameter, value).err().map(|why| format!("{name}: {why}")));
                }
                None => wrong.push(format!("{name}: there is no such parameter")),
            }
        }
        for parameter in place("query").filter(|one| one["required"] == true) {
            if !given.iter().any(|(name, _)| parameter["name"] == name.as_str()) {
                wrong.push(format!("{} is missing", parameter["name"]));
            }
        }
        for parameter in place("header") {
            let name = parameter["name"].as_str().unwrap_or_default();
            let sent = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            wrong.extend(sent.and_then(|(_, value)| scalar(parameter, value).err()));
        }
        match (place("body").next(), body) {
            (None, []) => {}
            (None, _) => wrong.push("a body where none belongs".to_owned()),
            (Some(parameter), []) if parameter["required"] == true => wrong.push("no body".to_owned()),
            (Some(_), []) => {}
            (Some(parameter), body) => match serde_json::from_slice(body) {
                Ok(value) => self.value("body", &parameter["schema"], &value, &mut wrong),
                Err(error) => wrong.push(format!("the body is not JSON: {error}")),
            },
        }
        if wrong.is_empty() { Ok(operation) } else { Err(format!("{operation}: {}", wrong.join("; "))) }
    }

    /// An answer of an operation. Statuses of `undeclared` need not be in the file, their bodies are those of its errors.
    ///
    /// # Errors
    /// Everything that the file does not allow.
    pub fn answer(
        &self,
        operation: &Operation,
        status: u16,
        body: &[u8],
        undeclared: &[(&str, u16)],
    ) -> Result<(), String> {
        let responses = &self.0["paths"][&operation.path][&operation.method]["responses"];
        let shown = operation.to_string();
        let known = undeclared.iter().any(|(operation, code)| *operation == shown && *code == status);
        let response = match (responses.get(status.to_string()), known) {
            (Some(response), _) => self.resolve(response),
            // Every error of such an API has the body of the error that is declared everywhere.
            (None, true) => self.resolve(responses.get("500").unwrap_or(&Value::Null)),
            (None, false) => return Err(format!("{operation}: {status} is not declared")),
        };
        let mut wrong = Vec::new();
        match (response.get("schema"), body) {
            // HEAD, and some proxies' answers, have none.
            (_, []) => {}
            (None, _) => wrong.push("a body where none belongs".to_owned()),
            (Some(schema), body) => match serde_json::from_slice(body) {
                Ok(value) => self.value("body", schema, &value, &mut wrong),
                Err(error) => wrong.push(format!("the body is not JSON: {error}")),
            },
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("{operation} {status}: {}", wrong.join("; "))) }
    }

    /// The operation of a method and a path, and the values of the names in braces as they were sent. A plain part of a path goes
    /// before a name.
    fn find(&self, method: &str, path: &str) -> Option<(Operation, Vec<(String, String)>)> {
        let sent: Vec<&str> = path.strip_prefix(self.base())?.split('/').collect();
        let method = method.to_lowercase();
        let paths = self.0["paths"].as_object()?;
        let mut found = Vec::new();
        for (template, operations) in paths {
            let parts: Vec<&str> = template.split('/').collect();
            if parts.len() != sent.len() || operations.get(&method).is_none() {
                continue;
            }
            let values: Option<Vec<_>> = parts
                .iter()
                .zip(&sent)
                .filter_map(|(part, value)| {
                    match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                        Some(name) => Some(Some((name.to_owned(), (*value).to_owned()))),
                        None if part == value => None,
                        None => Some(None),
                    }
                })
                .collect();
            if let Some(values) = values {
                found.push((Operation { path: template.clone(), method: method.clone() }, values));
            }
        }
        found.into_iter().min_by_key(|(_, values)| values.len())
    }

    fn parameters(&self, operation: &Operation) -> Vec<Value> {
        let path = &self.0["paths"][&operation.path];
        let lists = [&path["parameters"], &path[&operation.method]["parameters"]];
        lists
            .iter()
            .filter_map(|list| list.as_array())
            .flatten()
            .map(|one| self.resolve(one).clone())
            .collect()
    }

    /// What a `$ref` points to.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let target = value.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
        target.map_or(value, |pointer| self.0.pointer(pointer).unwrap_or(&Value::Null))
    }

    fn value(&self, at: &str, schema: &Value, value: &Value, wrong: &mut Vec<String>) {
        let nullable = schema["x-nullable"] == true;
        let schema = self.resolve(schema);
        let kind = schema["type"].as_str().unwrap_or("object");
        match (kind, value) {
            (_, Value::Null) if nullable || schema["x-nullable"] == true => {}
            // What such a server calls an empty list of its language is null on the wire.
            ("array", Value::Null) => {}
            ("array", Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&format!("{at}[{index}]"), &schema["items"], item, wrong);
                }
            }
            ("object", Value::Object(fields)) => self.object(at, schema, fields, wrong),
            ("string", Value::String(text)) => {
                wrong.extend(text_of(schema, text).err().map(|why| format!("{at}: {why}")));
            }
            ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => {}
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => {}
            (kind, other) => wrong.push(format!("{at} is not of the type {kind}: {other}")),
        }
    }

    fn object(&self, at: &str, schema: &Value, fields: &Map<String, Value>, wrong: &mut Vec<String>) {
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        let others = schema.get("additionalProperties");
        for (name, value) in fields {
            let at = format!("{at}.{name}");
            match (properties.get(name), others) {
                (Some(schema), _) => self.value(&at, schema, value, wrong),
                (None, Some(schema @ Value::Object(_))) => self.value(&at, schema, value, wrong),
                (None, Some(Value::Bool(true))) => {}
                _ => wrong.push(format!("{at}: there is no such property")),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                wrong.push(format!("{at}.{name} is missing"));
            }
        }
    }
}

/// A parameter that is written as text.
fn scalar(parameter: &Value, text: &str) -> Result<(), String> {
    match parameter["type"].as_str() {
        Some("integer") => {
            let number: i64 = text.parse().map_err(|_| format!("{text} is no integer"))?;
            let limit = |key: &str| parameter[key].as_i64();
            let fits = limit("maximum").is_none_or(|most| number <= most)
                && limit("minimum").is_none_or(|least| number >= least);
            if fits { Ok(()) } else { Err(format!("{text} is out of range")) }
        }
        Some("boolean") if text != "true" && text != "false" => {
            Err(format!("{text} is neither true nor false"))
        }
        Some("string") => text_of(parameter, text),
        _ => Ok(()),
    }
}

fn text_of(schema: &Value, text: &str) -> Result<(), String> {
    let listed = schema["enum"].as_array();
    if listed.is_some_and(|list| !list.iter().any(|one| one == text)) {
        return Err(format!("{text} is none of the allowed values"));
    }
    let length = text.chars().count() as u64;
    if schema["maxLength"].as_u64().is_some_and(|most| length > most)
        || schema["minLength"].as_u64().is_some_and(|least| length < least)
    {
        return Err(format!("{text} is too long or too short"));
    }
    // `2026-11-21T09:00:00.000Z`; what a date is worth is not asked.
    let is_time = || {
        let digits = |from: usize, to: usize| {
            text.get(from..to).is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
        };
        digits(0, 4) && digits(5, 7) && digits(8, 10) && digits(11, 13) && text.get(10..11) == Some("T")
    };
    if schema["format"] == "date-time" && !is_time() { Err(format!("{text} is no time")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Document {
        Document::new(json!({
            "basePath": "/api",
            "parameters": {"size": {"name": "size", "in": "query", "type": "integer", "maximum": 100}},
            "responses": {"500": {"schema": {"$ref": "#/definitions/Error"}}},
            "definitions": {
                "Error": {"type": "object", "properties": {"message": {"type": "string"}}},
                "Thing": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string", "maxLength": 3},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "made": {"type": "string", "format": "date-time"},
                    "count": {"type": "integer", "x-nullable": true},
                    "more": {"type": "object", "additionalProperties": {"type": "integer"}},
                }},
            },
            "paths": {
                "/things": {
                    "get": {"parameters": [{"$ref": "#/parameters/size"}], "responses": {
                        "200": {"schema": {"type": "array", "items": {"$ref": "#/definitions/Thing"}}},
                        "500": {"$ref": "#/responses/500"}}},
                    "post": {"parameters": [{"in": "body", "name": "thing", "required": true,
                        "schema": {"$ref": "#/definitions/Thing"}}], "responses": {"201": {"description": "made"}}},
                },
                "/things/{name}": {"delete": {"responses": {"200": {"description": "gone"}}}},
                "/things/all": {"delete": {"responses": {"200": {"description": "gone"}}}},
            },
        }))
    }

    #[test]
    fn requests() {
        let document = document();
        for (method, target, body, right) in [
            ("GET", "/api/things", "", true),
            ("GET", "/api/things?size=100", "", true),
            ("GET", "/api/things?size=101", "", false),
            ("GET", "/api/things?size=x", "", false),
            ("GET", "/api/things?page=1", "", false),
            ("GET", "/api/things", "{}", false),
            ("GET", "/things", "", false),
            ("PUT", "/api/things", "", false),
            ("POST", "/api/things", r#"{"name":"abc"}"#, true),
            ("POST", "/api/things", r#"{"name":"abcd"}"#, false),
            ("POST", "/api/things", r#"{"name":"abc","other":1}"#, false),
            ("POST", "/api/things", r#"{"tags":[]}"#, false),
            ("POST", "/api/things", "", false),
            ("POST", "/api/things", "x", false),
            ("DELETE", "/api/things/a%252Fb", "", true),
            ("DELETE", "/api/things/a%2Fb", "", false),
            ("DELETE", "/api/things/a/b", "", false),
        ] {
            let found = document.request(method, target, &[], body.as_bytes());
            assert_eq!(found.is_ok(), right, "{method} {target} {body}: {found:?}");
        }
        let all = document.request("DELETE", "/api/things/all", &[], b"").expect("there");
        assert_eq!(all.to_string(), "DELETE /things/all");
    }

    #[test]
    fn answers() {
        let document = document();
        let operation = document.request("GET", "/api/things", &[], b"").expect("there");
        for (status, body, right) in [
            (200, r#"[{"name":"a","tags":["x"],"count":null,"more":{"y":1}}]"#, true),
            (200, r#"[{"name":"a","tags":null,"made":"2026-11-21T09:00:00.000Z"}]"#, true),
            (200, r#"[{"name":"a","made":"yesterday"}]"#, false),
            (200, r#"[{"name":"a","more":{"y":"1"}}]"#, false),
            (200, r#"[{"name":1}]"#, false),
            (200, r#"{"name":"a"}"#, false),
            (500, r#"{"message":"m"}"#, true),
            (500, r#"{"text":"m"}"#, false),
            (404, "", false),
            (403, r#"{"message":"m"}"#, true),
            (403, r#"{"text":"m"}"#, false),
        ] {
            let checked = document.answer(&operation, status, body.as_bytes(), &[("GET /things", 403)]);
            assert_eq!(checked.is_ok(), right, "{status} {body}: {checked:?}");
        }
    }
}
