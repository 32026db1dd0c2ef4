//! The message that is a job: written as GitHub does, and read as far as the stand-in runs it.

use crate::world::{Container, JobOrder};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What names the parts of a job.
pub(super) struct Ids {
    pub(super) scope: String,
    pub(super) plan: String,
    pub(super) timeline: String,
    pub(super) job: String,
    pub(super) steps: Vec<String>,
    /// Opens the run service and the results service.
    pub(super) token: String,
    /// The job's `GITHUB_TOKEN`.
    pub(super) secret: String,
}

pub(super) fn render(order: &JobOrder, ids: &Ids, base: &str) -> Value {
    let owner = order.repository.split('/').next().unwrap_or_default();
    let server = order.server_url.as_str();
    let github = json!({
        "actor": owner,
        "api_url": server,
        "event": order.payload,
        "event_name": order.event,
        "graphql_url": format!("{server}/graphql"),
        "job": order.name,
        "ref": format!("refs/heads/{}", order.branch),
        "ref_name": order.branch,
        "ref_type": "branch",
        "repository": order.repository,
        "repository_owner": owner,
        "run_attempt": order.run_attempt.to_string(),
        "run_id": order.run_id.to_string(),
        "run_number": order.run_number.to_string(),
        "server_url": server,
        "sha": order.sha,
        "workflow": order.workflow,
    });
    let steps: Vec<Value> = order
        .steps
        .iter()
        .zip(&ids.steps)
        .enumerate()
        .map(|(number, (step, id))| {
            let name = if number == 0 { "__run".to_owned() } else { format!("__run_{}", number + 1) };
            json!({
                "type": "action",
                "id": id,
                "name": name,
                "contextName": name,
                "enabled": true,
                "condition": "success()",
                "displayNameToken": literal(&step.name),
                "reference": { "type": "script" },
                "inputs": { "type": 2, "map": [{ "Key": literal("script"), "Value": literal(&step.run) }] },
            })
        })
        .collect();
    let container = order.container.as_ref().map_or(Value::Null, |container| token(&json!(container)));
    let services = if order.services.is_empty() { Value::Null } else { token(&json!(order.services)) };
    let variable = |value: &str| json!({ "value": value });
    let secret = json!({ "value": ids.secret, "isSecret": true });
    json!({
        "messageType": "RunnerJobRequest",
        "plan": {
            "scopeIdentifier": ids.scope,
            "planType": "actions",
            "version": 12,
            "planId": ids.plan,
            "planGroup": "actions",
        },
        "timeline": { "id": ids.timeline, "changeId": 1, "location": null },
        "jobId": ids.job,
        "jobDisplayName": order.name,
        "jobName": order.name,
        "requestId": 1,
        "lockedUntil": "0001-01-01T00:00:00Z",
        "resources": { "endpoints": [{
            "name": "SystemVssConnection",
            "url": format!("{base}{}", super::RUN),
            "authorization": { "scheme": "OAuth", "parameters": { "AccessToken": ids.token } },
            // Neither a cache nor a stream of lines: a runner takes what is not named for what there is not.
            "data": { "ResultsServiceUrl": base },
        }] },
        "contextData": {
            "github": context(&github),
            "needs": { "t": 2 },
            "strategy": { "t": 2 },
            "vars": { "t": 2 },
            "matrix": null,
            "inputs": null,
        },
        "variables": {
            "system.culture": variable("en-us"),
            "system.github.token": secret.clone(),
            "github_token": secret,
            "system.github.job": variable(&order.name),
            "system.github.results_endpoint": variable(base),
            "system.github.launch_endpoint": variable(base),
            "system.runnerGroupName": variable("Default"),
        },
        "steps": steps,
        "jobContainer": container,
        "jobServiceContainers": services,
        "mask": [],
        "environmentVariables": [],
        "defaults": [],
        "fileTable": [format!(".github/workflows/{}.yml", order.workflow)],
        "workspace": {},
    })
}

fn literal(text: &str) -> Value {
    json!({ "type": 0, "lit": text })
}

/// A value of a workflow's file as templates have it: each part says what it is.
fn token(value: &Value) -> Value {
    match value {
        Value::String(text) => literal(text),
        Value::Array(items) => json!({ "type": 1, "seq": items.iter().map(token).collect::<Vec<_>>() }),
        Value::Object(fields) => {
            let fields: Vec<Value> =
                fields.iter().map(|(key, value)| json!({ "Key": literal(key), "Value": token(value) })).collect();
            json!({ "type": 2, "map": fields })
        }
        other => other.clone(),
    }
}

/// The other way round, as long as no part is an expression.
fn of_token(token: &Value) -> Value {
    let list = |name: &str| token[name].as_array().map(Vec::as_slice).unwrap_or_default();
    match token["type"].as_u64() {
        Some(0) => token["lit"].clone(),
        Some(1) => list("seq").iter().map(of_token).collect(),
        Some(2) => {
            let fields = list("map")
                .iter()
                .filter_map(|field| Some((field["Key"]["lit"].as_str()?.to_owned(), of_token(&field["Value"]))));
            Value::Object(fields.collect())
        }
        _ => token.clone(),
    }
}

/// A value as contexts have it: dictionaries and arrays say what they are.
fn context(value: &Value) -> Value {
    match value {
        Value::Array(items) => json!({ "t": 1, "a": items.iter().map(context).collect::<Vec<_>>() }),
        Value::Object(fields) => {
            let fields: Vec<Value> =
                fields.iter().map(|(key, value)| json!({ "k": key, "v": context(value) })).collect();
            json!({ "t": 2, "d": fields })
        }
        other => other.clone(),
    }
}

/// The other way round.
fn plain(context: &Value) -> Value {
    let list = |name: &str| context[name].as_array().map(Vec::as_slice).unwrap_or_default();
    match context["t"].as_u64() {
        Some(1) => list("a").iter().map(plain).collect(),
        Some(2) => {
            let fields =
                list("d").iter().filter_map(|field| Some((field["k"].as_str()?.to_owned(), plain(&field["v"]))));
            Value::Object(fields.collect())
        }
        _ => context.clone(),
    }
}

/// A job as a runner reads it.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names of the message say it")]
pub struct JobMessage {
    pub job_id: String,
    pub plan_id: String,
    pub timeline_id: String,
    pub display_name: String,
    /// Address of the run service.
    pub run_service: String,
    pub token: String,
    /// Address of the results service.
    pub results_service: String,
    /// The `github` context.
    pub github: Map<String, Value>,
    pub steps: Vec<JobStep>,
    pub container: Option<Container>,
    /// By their names.
    pub services: BTreeMap<String, Container>,
}

/// One step that runs a script.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the message say it")]
pub struct JobStep {
    pub id: String,
    pub display_name: String,
    pub script: String,
}

impl JobMessage {
    /// Reads it. None if it lacks something, or has a step of another kind.
    #[must_use]
    pub fn read(message: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let endpoints = message["resources"]["endpoints"].as_array()?;
        let endpoint = endpoints.iter().find(|endpoint| endpoint["name"] == "SystemVssConnection")?;
        let Value::Object(github) = plain(&message["contextData"]["github"]) else { return None };
        let steps = message["steps"].as_array()?.iter().map(|step| {
            let inputs = step["inputs"]["map"].as_array()?;
            let script = inputs.iter().find(|input| input["Key"]["lit"] == "script")?;
            Some(JobStep {
                id: text(&step["id"])?,
                display_name: text(&step["displayNameToken"]["lit"])?,
                script: text(&script["Value"]["lit"])?,
            })
        });
        Some(Self {
            job_id: text(&message["jobId"])?,
            plan_id: text(&message["plan"]["planId"])?,
            timeline_id: text(&message["timeline"]["id"])?,
            display_name: text(&message["jobDisplayName"])?,
            run_service: text(&endpoint["url"])?,
            token: text(&endpoint["authorization"]["parameters"]["AccessToken"])?,
            results_service: text(&message["variables"]["system.github.results_endpoint"]["value"])?,
            github,
            steps: steps.collect::<Option<_>>()?,
            container: serde_json::from_value(of_token(&message["jobContainer"])).ok()?,
            services: serde_json::from_value::<Option<_>>(of_token(&message["jobServiceContainers"]))
                .ok()?
                .unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn contexts_say_of_themselves_what_they_are_and_can_be_read_again() {
        let value = json!({ "a": [1, { "b": null }], "c": { "d": "e", "f": true } });
        let written = context(&value);
        assert_eq!(written["t"], 2);
        assert_eq!(
            written["d"][0],
            json!({ "k": "a", "v": { "t": 1, "a": [1, { "t": 2, "d": [{ "k": "b", "v": null }] }] } })
        );
        assert_eq!(plain(&written), value);
    }

    #[test]
    fn containers_are_templates_of_literals_and_can_be_read_again() {
        let value = json!({ "image": "box:1", "ports": ["80:80"], "env": { "A": "b" } });
        let written = token(&value);
        assert_eq!(written["map"][1], json!({ "Key": literal("image"), "Value": literal("box:1") }));
        assert_eq!(written["map"][2]["Value"], json!({ "type": 1, "seq": [literal("80:80")] }));
        assert_eq!(of_token(&written), value);
    }
}
