//! The run service: a runner takes a job, keeps it, and says how it ended.

use super::{Answer, Ask, job_message, run_refusal};
use crate::{
    stamp,
    world::{Completion, JobId, RunnerId, RunnerKey, RunnerResult, StepUpdate, World},
};
use serde_json::{Value, json};

pub(super) fn serve(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    if ask.request.method() != "POST" {
        return Err(Answer::plain(404, "Not Found"));
    }
    match (ask.key(world)?, ask.path) {
        (RunnerKey::Listener(runner), "acquirejob") => acquire(world, ask, runner),
        (RunnerKey::Job(runner, job), "renewjob") => {
            let until = world.runner_renews(ask.now, runner, job).map_err(|refusal| run_refusal(&refusal))?;
            Ok(match until {
                Some(until) => Answer::ok(json!({ "lockedUntil": stamp::rfc3339_millis(until) })),
                None => Answer::empty(202),
            })
        }
        (RunnerKey::Job(runner, job), "completejob") => complete(world, ask, runner, job),
        _ => Err(Answer::plain(403, "Forbidden")),
    }
}

fn acquire(world: &mut World, ask: &Ask<'_>, runner: RunnerId) -> Result<Answer, Answer> {
    let body = ask.json()?;
    let wanted = body["jobMessageId"].as_str().unwrap_or_default();
    let order = world.runner_takes(ask.now, runner, wanted).map_err(|refusal| run_refusal(&refusal))?;
    let plan = world.new_uuid();
    let ids = job_message::Ids {
        scope: world.new_uuid(),
        timeline: world.new_uuid(),
        job: world.job_uuid(order.job_id),
        steps: world.step_ids(order.job_id),
        token: world.new_job_token(ask.now, runner, order.job_id, &plan),
        secret: world.new_secret("ghs_", 36),
        plan,
    };
    let message = job_message::render(&order, &ids, &world.config().base_url);
    Ok(Answer::ok(message).with("x-plan-id", &ids.plan))
}

fn complete(world: &mut World, ask: &Ask<'_>, runner: RunnerId, job: JobId) -> Result<Answer, Answer> {
    let body = ask.json()?;
    let result: RunnerResult = body["conclusion"]
        .as_str()
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| Answer::plain(400, "There is no such conclusion."))?;
    let steps = list(&body["stepResults"]);
    let said = |of: &Value| -> Vec<String> {
        list(&of["annotations"]).iter().filter_map(|one| one["message"].as_str().map(ToOwned::to_owned)).collect()
    };
    let completion = Completion {
        result,
        steps: steps
            .iter()
            .map(|step| StepUpdate {
                id: step["external_id"].as_str().unwrap_or_default().to_owned(),
                name: step["name"].as_str().unwrap_or_default().to_owned(),
                conclusion: step["conclusion"]
                    .as_str()
                    .and_then(|word| word.parse().ok())
                    .map(RunnerResult::conclusion),
                began: false,
            })
            .collect(),
        annotations: said(&body).into_iter().chain(steps.iter().flat_map(said)).collect(),
    };
    world.runner_completes(ask.now, runner, job, &completion).map_err(|refusal| run_refusal(&refusal))?;
    Ok(Answer::empty(204))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
