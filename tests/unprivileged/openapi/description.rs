//! What GitHub publishes of itself: the description of its REST API, that of its webhooks, and examples of deliveries,
//! as `tests/setup.sh` fetched them.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    env, fs,
    path::PathBuf,
};

use serde_json::{Map, Value, json};

/// The files, read.
pub struct Published {
    /// github.com's REST API (OpenAPI 3.0).
    api: Value,
    /// That of Enterprise Cloud, asked for what the first does not have: enterprises, and what is newer there.
    enterprise: Value,
    /// github.com's webhooks (OpenAPI 3.1).
    pub webhooks: Value,
    /// Deliveries that GitHub once sent.
    pub examples: Vec<Value>,
}

/// One call that there is.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    /// The description it stands in.
    pub document: &'a Value,
    /// Path with its parameters in braces.
    pub template: &'a str,
    value: &'a Value,
    /// Parameters of the path.
    shared: &'a Value,
}

impl Published {
    /// The files, or why they are not there.
    pub fn read() -> Result<Self, String> {
        let cache = env::var_os("GHA_TOOLS_CACHE").unwrap_or("/var/cache/gha-runner-controller-tools".into());
        let directory = PathBuf::from(cache).join("octokit");
        let read = |name: &str| {
            let path = directory.join(name);
            let text = fs::read(&path)
                .map_err(|error| format!("{}: {error}; tests/setup.sh tools fetches it with npm", path.display()))?;
            serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
        };
        let Value::Array(examples) = read("examples.json")? else { return Err("the examples are no list".into()) };
        Ok(Self {
            api: read("api.github.com.json")?,
            enterprise: read("ghec.json")?,
            webhooks: read("webhooks.json")?,
            examples,
        })
    }

    /// The call that this method and path are; a word counts before a parameter.
    pub fn operation(&self, method: &str, path: &str) -> Option<Operation<'_>> {
        let parts: Vec<&str> = path.split('/').collect();
        [&self.api, &self.enterprise].into_iter().find_map(|document| {
            let paths = document["paths"].as_object()?.iter();
            let fitting = paths.filter_map(|(template, item)| {
                let value = item.get(method.to_ascii_lowercase())?;
                let operation = Operation { document, template, value, shared: &item["parameters"] };
                let names: Vec<&str> = template.split('/').collect();
                let fits = names.len() == parts.len()
                    && names.iter().zip(&parts).all(|(name, part)| name.starts_with('{') || name == part);
                fits.then(|| (names.iter().filter(|name| !name.starts_with('{')).count(), operation))
            });
            fitting.max_by_key(|(words, _)| *words).map(|(_, operation)| operation)
        })
    }
}

impl<'a> Operation<'a> {
    /// GitHub's name of it.
    pub fn id(self) -> &'a str {
        self.value["operationId"].as_str().unwrap_or_default()
    }

    /// Its parameters in the path or the query.
    pub fn parameters(self, place: &str) -> Vec<&'a Value> {
        let all = [self.shared, &self.value["parameters"]].into_iter().filter_map(Value::as_array).flatten();
        all.map(|parameter| resolved(self.document, parameter)).filter(|found| found["in"] == place).collect()
    }

    /// The schema of what it may be sent.
    pub fn body(self) -> Option<&'a Value> {
        let body = resolved(self.document, self.value.get("requestBody")?);
        body.pointer("/content/application~1json/schema")
    }

    /// What is said of this status: `Some(None)` = it has no body.
    pub fn answer(self, status: u16) -> Option<Option<&'a Value>> {
        let answer = resolved(self.document, self.value["responses"].get(status.to_string())?);
        Some(answer.pointer("/content/application~1json/schema"))
    }

    /// The status of a good answer.
    pub fn good(self) -> u16 {
        let statuses = self.value["responses"].as_object().into_iter().flatten().map(|(status, _)| status);
        statuses.filter_map(|status| status.parse().ok()).find(|status| (200..300).contains(status)).unwrap_or(200)
    }
}

/// What a reference leads to; what is none is itself.
pub fn resolved<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    for _ in 0..16 {
        let Some(place) = value.get("$ref").and_then(Value::as_str) else { return value };
        value = document.pointer(place.trim_start_matches('#')).unwrap_or(&Value::Null);
    }
    value
}

/// A schema of an OpenAPI document as a JSON Schema that needs nothing beside it.
pub fn alone(document: &Value, schema: &Value) -> Value {
    let (mut known, mut wanted) = (BTreeMap::new(), Vec::new());
    let whole = converted(schema, &mut wanted);
    while let Some(place) = wanted.pop() {
        let Entry::Vacant(unknown) = known.entry(place) else { continue };
        let named = document.pointer(unknown.key().trim_start_matches('#')).unwrap_or(&Value::Null);
        unknown.insert(converted(named, &mut wanted));
    }
    let known: Map<String, Value> = known.into_iter().map(|(place, schema)| (name(&place), schema)).collect();
    json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "allOf": [whole], "$defs": known })
}

fn name(place: &str) -> String {
    place.trim_start_matches("#/").replace('/', ".")
}

/// Of OpenAPI 3.0 into JSON Schema: what may be null says so by its type. Alternatives need not exclude each other:
/// those that GitHub writes often do not.
fn converted(schema: &Value, wanted: &mut Vec<String>) -> Value {
    let Value::Object(schema) = schema else { return schema.clone() };
    if let Some(place) = schema.get("$ref").and_then(Value::as_str) {
        wanted.push(place.to_owned());
        return json!({ "$ref": format!("#/$defs/{}", name(place)) });
    }
    let mut made = Map::new();
    for (keyword, value) in schema {
        let value = match (keyword.as_str(), value) {
            ("properties" | "patternProperties", Value::Object(properties)) => {
                properties.iter().map(|(name, schema)| (name.clone(), converted(schema, wanted))).collect()
            }
            ("items" | "additionalProperties" | "not", schema) => converted(schema, wanted),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter().map(|schema| converted(schema, wanted)).collect()
            }
            ("type" | "enum" | "const" | "required" | "format" | "pattern", value) => value.clone(),
            ("minimum" | "maximum" | "minLength" | "maxLength" | "minItems" | "maxItems", value) => value.clone(),
            _ => continue,
        };
        let keyword = if keyword == "oneOf" { "anyOf" } else { keyword };
        made.insert(keyword.to_owned(), value);
    }
    let made = Value::Object(made);
    match schema.get("nullable") == Some(&Value::Bool(true)) {
        true => json!({ "anyOf": [{ "type": "null" }, made] }),
        false => made,
    }
}
