//! The documents that commands print with `--json`, described by JSON Schemas made from the same types.

use api::v1::{Containers, Entries, Jobs};
use controller::{history::Summary, operation::Done, status::Status};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::{check, cleanup, logs, plan};

#[derive(Debug, OpenApi)]
#[openapi(components(schemas(
    Status,
    Jobs,
    Containers,
    Entries,
    Summary,
    Done,
    check::Checked,
    plan::Planned,
    cleanup::RunnersCleaned,
    cleanup::ContainersCleaned,
    logs::Line,
)))]
struct Schemas;

/// Each command that has `--json`, and the type it prints: `logs` a document a line, the others one.
const COMMANDS: [(&str, &str); 14] = [
    ("status", "Status"),
    ("jobs", "Jobs"),
    ("containers", "Containers"),
    ("logs", "Line"),
    ("history", "Entries"),
    ("history --summary", "Summary"),
    ("drain", "Done"),
    ("resume", "Done"),
    ("stop", "Done"),
    ("provision", "Done"),
    ("check", "Checked"),
    ("plan", "Planned"),
    ("cleanup runners", "RunnersCleaned"),
    ("cleanup containers", "ContainersCleaned"),
];

/// File names and JSON Schemas (2020-12), one for each command.
pub(super) fn schemas() -> anyhow::Result<Vec<(String, Value)>> {
    let components = serde_json::to_string(&Schemas::openapi().components)?;
    let components: Value = serde_json::from_str(&components.replace("#/components/schemas/", "#/$defs/"))?;
    let schema = |(command, name): &(&str, &str)| {
        let file = format!("{}.json", command.replace(" --", "-").replace(' ', "-"));
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": format!("gha-runner-controller {command} --json"),
            "$ref": format!("#/$defs/{name}"),
            "$defs": components["schemas"],
        });
        (file, schema)
    };
    Ok(COMMANDS.iter().map(schema).collect())
}

/// Prints one, on a line.
pub(super) fn print(document: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(document)?);
    Ok(())
}
