//! Holds calls and deliveries against what GitHub publishes, and notes where they differ.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use serde_json::Value;

use crate::description::{Operation, Published, alone, resolved};

/// Refusals and redirections that any call may be answered with, of which the description names few.
const GENERAL: [u16; 8] = [301, 302, 307, 400, 401, 403, 404, 429];

/// A call or a delivery, and what came of it.
pub struct Exchange<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub body: &'a [u8],
    pub status: u16,
    pub answer: &'a [u8],
}

/// What was seen so far.
pub struct Judge {
    pub published: Published,
    validators: BTreeMap<String, Validator>,
    /// Each difference once: what it is about, and what differs.
    pub deviations: BTreeSet<String>,
    /// Operations whose good answers were seen.
    pub covered: BTreeSet<String>,
    pub calls: usize,
    pub deliveries: usize,
}

impl Judge {
    pub fn new(published: Published) -> Self {
        Self {
            published,
            validators: BTreeMap::new(),
            deviations: BTreeSet::new(),
            covered: BTreeSet::new(),
            calls: 0,
            deliveries: 0,
        }
    }

    /// Judges a call by the client and its answer by the server.
    pub fn call(&mut self, exchange: &Exchange<'_>) {
        self.calls += 1;
        let Some(operation) = self.published.operation(exchange.method, exchange.path) else {
            let path: Vec<&str> = exchange.path.split('/').map(|part| if is_id(part) { "*" } else { part }).collect();
            self.deviations.insert(format!("{} {}: not described", exchange.method, path.join("/")));
            return;
        };
        let id = operation.id().to_owned();
        let mut found = Vec::new();
        asked(operation, exchange, &mut found);
        let mut judged = Vec::new();
        if let (Ok(body), Some(schema)) = (serde_json::from_slice::<Value>(exchange.body), operation.body()) {
            judged.push((format!("{id} request"), alone(operation.document, schema), body));
        } else if !exchange.body.is_empty() {
            found.push("request: a body that is not described".to_owned());
        }
        let answer: Option<Value> = serde_json::from_slice(exchange.answer).ok();
        match (exchange.status, operation.answer(exchange.status), answer) {
            (304, _, None) => {}
            (status, Some(Some(schema)), Some(answer)) => {
                judged.push((format!("{id} {status}"), alone(operation.document, schema), answer));
            }
            (_, Some(None), None) => {}
            (status, None, Some(answer)) if GENERAL.contains(&status) => {
                let schema = serde_json::json!({ "$ref": "#/components/schemas/basic-error" });
                judged.push((format!("any {status}"), alone(operation.document, &schema), answer));
            }
            (status, None, _) => found.push(format!("{status}: not described")),
            (status, Some(schema), _) => {
                let expected = if schema.is_some() { "a body" } else { "none" };
                found.push(format!("{status}: {expected} is described"));
            }
        }
        if (200..400).contains(&exchange.status) {
            self.covered.insert(id.clone());
        }
        self.deviations.extend(found.into_iter().map(|what| format!("{id} {what}")));
        for (about, schema, value) in judged {
            self.value(&about, &schema, &value);
        }
    }

    /// Judges a delivery.
    pub fn delivery(&mut self, event: &str, headers: &[(String, String)], body: &Value) {
        self.deliveries += 1;
        let name = match body["action"].as_str() {
            Some(action) => format!("{event}-{action}").replace('_', "-"),
            None => event.to_owned(),
        };
        let webhooks = &self.published.webhooks;
        let described = &webhooks["webhooks"][&name]["post"];
        let Some(schema) = described.pointer("/requestBody/content/application~1json/schema") else {
            self.deviations.insert(format!("webhook {name}: not described"));
            return;
        };
        let headers: BTreeSet<String> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        let wanted = described["parameters"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str());
        let missing: Vec<String> =
            wanted.filter(|name| !headers.contains(&name.to_ascii_lowercase())).map(str::to_owned).collect();
        let schema = alone(webhooks, schema);
        self.deviations.extend(missing.into_iter().map(|header| format!("webhook {name}: no header {header}")));
        self.value(&format!("webhook {name}"), &schema, body);
        self.covered.insert(format!("webhook {name}"));
    }

    /// Judges one value.
    fn value(&mut self, about: &str, schema: &Value, value: &Value) {
        let validator = self.validators.entry(about.to_owned()).or_insert_with(|| validator(schema));
        for error in validator.iter_errors(value) {
            let place = generalised(&error.instance_path().to_string());
            // Of alternatives it is said that none fits, and quoted is the whole value.
            let said: String = error.masked().to_string().chars().take(200).collect();
            self.deviations.insert(format!("{about} {place}: {said}"));
        }
        let mut unknown = BTreeSet::new();
        unknown_fields(schema, &schema["allOf"][0], value, "", &mut unknown);
        self.deviations.extend(unknown.into_iter().map(|place| format!("{about} {place}: not described")));
    }
}

/// A validator for a schema.
pub fn validator(schema: &Value) -> Validator {
    jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .unwrap_or_else(|error| panic!("GitHub's schema is none: {error}"))
}

/// What is wrong with the address of a call.
fn asked(operation: Operation<'_>, exchange: &Exchange<'_>, found: &mut Vec<String>) {
    let parts = operation.template.split('/').zip(exchange.path.split('/'));
    let in_path: BTreeMap<&str, &str> =
        parts.filter_map(|(name, part)| Some((name.strip_prefix('{')?.strip_suffix('}')?, part))).collect();
    let mut check = |place: &str, name: &str, value: &str| {
        let described = operation.parameters(place);
        let Some(parameter) = described.iter().find(|parameter| parameter["name"] == name) else {
            return found.push(format!("request {place} {name}: not described"));
        };
        let schema = alone(operation.document, &parameter["schema"]);
        let candidates = [
            Some(Value::from(value)),
            value.parse::<i64>().ok().map(Value::from),
            value.parse::<bool>().ok().map(Value::from),
        ];
        let validator = validator(&schema);
        if !candidates.into_iter().flatten().any(|candidate| validator.is_valid(&candidate)) {
            found.push(format!("request {place} {name}: {value:?} does not fit"));
        }
    };
    for (name, value) in in_path {
        check("path", name, value);
    }
    for pair in exchange.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        check("query", name, value);
    }
}

/// Fields that the schema does not have though it has some.
fn unknown_fields(document: &Value, schema: &Value, value: &Value, place: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            let (mut known, mut open) = (BTreeMap::<&str, Vec<&Value>>::new(), false);
            properties(document, schema, 0, &mut known, &mut open);
            for (name, value) in object {
                let here = format!("{place}/{name}");
                match known.get(name.as_str()) {
                    Some(schemas) => {
                        // What one alternative does not have, another may.
                        let each = schemas.iter().map(|schema| {
                            let mut found = BTreeSet::new();
                            unknown_fields(document, schema, value, &here, &mut found);
                            found
                        });
                        found.extend(each.min_by_key(BTreeSet::len).into_iter().flatten());
                    }
                    None if !open && !known.is_empty() => {
                        found.insert(here);
                    }
                    None => {}
                }
            }
        }
        Value::Array(items) => {
            let mut schemas = Vec::new();
            item_schemas(document, schema, 0, &mut schemas);
            for item in items {
                let each = schemas.iter().map(|schema| {
                    let mut found = BTreeSet::new();
                    unknown_fields(document, schema, item, &format!("{place}/*"), &mut found);
                    found
                });
                found.extend(each.min_by_key(BTreeSet::len).into_iter().flatten());
            }
        }
        _ => {}
    }
}

/// The fields that a schema names, in whatever alternative; `open` = and others.
fn properties<'a>(
    document: &'a Value,
    schema: &'a Value,
    depth: usize,
    known: &mut BTreeMap<&'a str, Vec<&'a Value>>,
    open: &mut bool,
) {
    let schema = resolved(document, schema);
    if depth > 8 {
        return;
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        known.entry(name).or_default().push(property);
    }
    *open |= schema.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false));
    for schema in ["allOf", "anyOf"].iter().filter_map(|keyword| schema[keyword].as_array()).flatten() {
        properties(document, schema, depth + 1, known, open);
    }
}

fn item_schemas<'a>(document: &'a Value, schema: &'a Value, depth: usize, found: &mut Vec<&'a Value>) {
    let schema = resolved(document, schema);
    if depth > 8 {
        return;
    }
    found.extend(schema.get("items"));
    for schema in ["allOf", "anyOf"].iter().filter_map(|keyword| schema[keyword].as_array()).flatten() {
        item_schemas(document, schema, depth + 1, found);
    }
}

/// A place in a document, whichever item of a list it is in.
fn generalised(place: &str) -> String {
    place.split('/').map(|part| if part.parse::<usize>().is_ok() { "*" } else { part }).collect::<Vec<_>>().join("/")
}

fn is_id(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_digit())
}
