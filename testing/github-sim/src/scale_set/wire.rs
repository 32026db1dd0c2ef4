//! How scale sets, sessions, agents and events are written.

use super::{QUEUE, SERVICE};
use crate::{
    stamp,
    world::{EventKind, Job, JobEvent, Opened, Runner, ScaleSet, ScaleSetId, World},
};
use serde_json::{Value, json};
use std::time::Duration;

/// A time that is not set.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn list(value: Vec<Value>) -> Value {
    json!({ "count": value.len(), "value": value })
}

pub(super) fn scale_set(world: &World, set: &ScaleSet) -> Value {
    let group = world.runner_group(&set.scope, set.group_id).map(|group| group.name).unwrap_or_default();
    let address = format!("{}{SERVICE}/_apis/runtime/runnerscalesets/{}", world.config().base_url, set.id);
    let labels: Vec<Value> = set
        .labels
        .iter()
        .enumerate()
        .map(|(index, name)| json!({ "id": index + 1, "type": "System", "name": name }))
        .collect();
    json!({
        "id": set.id,
        "name": set.name,
        "runnerGroupId": set.group_id,
        "runnerGroupName": group,
        "labels": labels,
        "RunnerSetting": { "disableUpdate": set.disable_update },
        "createdOn": stamp::rfc3339(set.created_at),
        "runnerJitConfigUrl": format!("{address}/generatejitconfig"),
        "getAcquirableJobsUrl": format!("{address}/acquirablejobs"),
        "acquireJobsUrl": format!("{address}/acquirejobs"),
        "statistics": world.scale_set_statistics(set.id),
        "enabled": true,
        "status": "online",
    })
}

pub(super) fn session(world: &World, set: &ScaleSet, opened: &Opened) -> Value {
    json!({
        "sessionId": opened.session,
        "ownerName": opened.owner,
        "runnerScaleSet": scale_set(world, set),
        "messageQueueUrl": format!("{}{QUEUE}?sessionId={}", world.config().base_url, opened.session),
        "messageQueueAccessToken": opened.queue_token,
        "statistics": world.scale_set_statistics(set.id),
    })
}

pub(super) fn agent(world: &World, runner: &Runner) -> Value {
    let group = world.runner_group(&runner.scope, runner.group_id).map(|group| group.name).unwrap_or_default();
    let labels: Vec<Value> = runner.labels.iter().map(|name| json!({ "name": name, "type": "system" })).collect();
    json!({
        "id": runner.id,
        "name": runner.name,
        "os": if runner.version.is_some() { "linux" } else { "unknown" },
        "runnerScaleSetId": runner.scale_set.map_or(0, |set| set.0),
        "createdOn": stamp::rfc3339(runner.minted_at),
        "runnerGroupId": runner.group_id,
        "runnerGroupName": group,
        "version": runner.version,
        "enabled": true,
        "ephemeral": true,
        "status": if world.is_online(runner) { "online" } else { "offline" },
        "provisioningState": "Provisioned",
        "busy": runner.is_busy(),
        "labels": labels,
    })
}

pub(super) fn event(base: &str, set: ScaleSetId, event: &JobEvent) -> Value {
    let (kind, more) = match &event.kind {
        EventKind::Available => {
            let url = format!("{base}{SERVICE}/_apis/runtime/runnerscalesets/{set}/acquirejobs");
            ("JobAvailable", json!({ "acquireJobUrl": url }))
        }
        EventKind::Assigned => ("JobAssigned", json!({})),
        EventKind::Started(id, name) => ("JobStarted", json!({ "runnerId": id, "runnerName": name })),
        EventKind::Completed(result, by) => {
            let (id, name) = by.as_ref().map_or((0, ""), |(id, name)| (id.0, name.as_str()));
            ("JobCompleted", json!({ "result": result, "runnerId": id, "runnerName": name }))
        }
    };
    let mut value = json!({
        "messageType": kind,
        "runnerRequestId": event.request_id,
        "repositoryName": event.repo,
        "ownerName": event.owner,
        "jobId": event.job_uuid,
        "jobWorkflowRef": event.workflow_ref,
        "jobDisplayName": event.display_name,
        "workflowRunId": event.run_id,
        "eventName": event.event_name,
        "requestLabels": event.labels,
        "queueTime": time(event.queued_at),
        "scaleSetAssignTime": time(event.assigned_at),
        "runnerAssignTime": time(event.acquired_at),
        "finishTime": time(event.finished_at),
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

pub(super) fn acquirable(world: &World, request: u64, job: &Job) -> Value {
    let repo = world.repo(job.repo);
    json!({
        "acquireJobUrl": "",
        "messageType": "JobAvailable",
        "runnerRequestId": request,
        "repositoryName": repo.map(|repo| repo.name.as_str()),
        "ownerName": repo.map(|repo| repo.owner.as_str()),
        "jobDisplayName": job.spec.name,
        "workflowRunId": job.run,
        "requestLabels": job.spec.labels,
    })
}

fn time(at: Option<Duration>) -> String {
    at.map_or_else(|| NEVER.to_owned(), stamp::rfc3339)
}
