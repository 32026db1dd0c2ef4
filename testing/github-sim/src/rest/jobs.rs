//! Jobs.

use super::answer::Answer;
use super::{Ask, find_repo};
use crate::{
    stamp::rfc3339,
    world::{Conclusion, Job, JobId, JobStatus, Run, RunId, World},
};
use serde_json::{Value, json};

pub(super) fn list(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let repo = find_repo(world, ask)?;
    let run = world.run(RunId(ask.route.id)).filter(|run| run.repo == repo).ok_or_else(Answer::not_found)?;
    let all = ask.query.get("filter") == Some("all");
    let attempt = match ask.route.attempt {
        0 => run.attempt,
        attempt if attempt <= run.attempt => attempt,
        _ => return Err(Answer::not_found()),
    };
    let wanted = |job: &&Job| job.is_listed() && (all || job.attempt == attempt);
    let jobs: Vec<&Job> = run.jobs.iter().filter_map(|id| world.job(*id)).filter(wanted).collect();
    Ok(ask.query.cut(&ask.address, Some("jobs"), jobs, |job| render(world, &ask.api, run, job)))
}

pub(super) fn get(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let repo = find_repo(world, ask)?;
    let job = world
        .job(JobId(ask.route.id))
        .filter(|job| job.repo == repo && job.is_listed())
        .ok_or_else(Answer::not_found)?;
    let run = world.run(job.run).ok_or_else(Answer::not_found)?;
    Ok(Answer::ok(render(world, &ask.api, run, job)))
}

pub(super) fn render(world: &World, api: &str, run: &Run, job: &Job) -> Value {
    let repo = world.repo(job.repo).map(|repo| repo.full_name()).unwrap_or_default();
    let url = format!("{api}/repos/{repo}/actions");
    // Null until a runner has it; a job that ended without ever having one shows 0 and "" instead.
    let (runner_id, runner_name, group_id, group_name) = match &job.taken_by {
        Some(by) => (json!(by.id), json!(by.name), json!(by.group_id), json!("Default")),
        None if job.status == JobStatus::Completed => (json!(0), json!(""), json!(0), json!("")),
        None => (Value::Null, Value::Null, Value::Null, Value::Null),
    };
    let now_and_then = |every: u64, value: Value| match run.number.is_multiple_of(every) {
        true => Value::Null,
        false => value,
    };
    // As long as nothing began, the start is a placeholder.
    let started_at = job.acquired_at.unwrap_or(job.created_at);
    json!({
        "id": job.id,
        "run_id": job.run,
        "run_url": format!("{url}/runs/{}", job.run),
        "run_attempt": job.attempt,
        "node_id": format!("CR_{}", job.id),
        "head_sha": run.head_sha,
        "head_branch": now_and_then(7, json!(run.spec.branch)),
        "workflow_name": now_and_then(11, json!(run.spec.workflow)),
        "url": format!("{url}/jobs/{}", job.id),
        "html_url": now_and_then(17, json!(format!("{api}/{repo}/actions/runs/{}/job/{}", job.run, job.id))),
        "check_run_url": format!("{api}/repos/{repo}/check-runs/{}", job.id),
        "name": job.spec.name,
        "status": job.status.as_str(),
        "conclusion": job.conclusion.map(Conclusion::as_str),
        "created_at": rfc3339(job.created_at),
        "started_at": rfc3339(started_at),
        "completed_at": job.completed_at.map(rfc3339),
        "labels": job.spec.labels,
        "runner_id": runner_id,
        "runner_name": runner_name,
        "runner_group_id": group_id,
        "runner_group_name": group_name,
        "steps": steps(job),
    })
}

/// Steps are listed once a runner has the job.
fn steps(job: &Job) -> Vec<Value> {
    if job.acquired_at.is_none() {
        return Vec::new();
    }
    job.steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let status = match (step.started_at, step.completed_at) {
                (_, Some(_)) => "completed",
                (Some(_), None) => "in_progress",
                (None, None) => "queued",
            };
            json!({
                "name": step.name,
                "status": status,
                "conclusion": step.conclusion.map(Conclusion::as_str),
                "number": index + 1,
                "started_at": step.started_at.map(rfc3339),
                "completed_at": step.completed_at.map(rfc3339),
            })
        })
        .collect()
}
