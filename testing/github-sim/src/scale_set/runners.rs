//! Runners of scale sets; the same records as those of the REST half (docs/github.md#runners-of-a-scale-set).

use super::refusal::Refusal;
use super::{Ask, Said, wire};
use crate::world::{MintError, MintRequest, RunnerId, ScaleSetId, World};
use serde_json::json;

pub(super) fn mint(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let body = ask.json()?;
    let id = ScaleSetId(ask.route.id);
    let set = world.scale_set(&scope, id).ok_or_else(|| Refusal::no_scale_set(id.0))?;
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    let request = MintRequest {
        name: name.clone(),
        group_id: set.group_id,
        labels: set.labels.clone(),
        work_folder: body["workFolder"].as_str().unwrap_or("_work").to_owned(),
        scale_set: Some(id),
        disable_update: set.disable_update,
    };
    let (runner, blob) = world.mint(ask.now, scope, request).map_err(|error| match error {
        MintError::Exists => {
            Refusal::new(409, "AgentExistsException", &format!("A runner exists with the same name {name}."))
        }
        MintError::NoGroup => Refusal::new(400, "RunnerGroupNotFoundException", "There is no such runner group."),
        MintError::Invalid(what) => Refusal::new(400, "ArgumentException", &what),
    })?;
    Ok(Said::Json(json!({
        "runner": { "id": runner, "name": name, "runnerScaleSetId": id },
        "encodedJITConfig": blob,
    })))
}

pub(super) fn get(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let runner = world.runner(&scope, RunnerId(ask.route.id)).ok_or_else(|| not_found(ask.route.id))?;
    Ok(Said::Json(wire::agent(world, runner)))
}

pub(super) fn find(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let name = ask.query("agentName");
    let agents = world
        .runners_of(&scope)
        .filter(|runner| name.as_ref().is_none_or(|name| runner.name.eq_ignore_ascii_case(name)))
        .map(|runner| wire::agent(world, runner))
        .collect();
    Ok(Said::Json(wire::list(agents)))
}

pub(super) fn delete(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let id = RunnerId(ask.route.id);
    let runner = world.runner(&scope, id).ok_or_else(|| not_found(id.0))?;
    if runner.is_busy() {
        let message = format!("Runner \"{}\" is still running a job.", runner.name);
        return Err(Refusal::new(400, "JobStillRunningException", &message));
    }
    world.remove_runner(id);
    Ok(Said::NoContent)
}

fn not_found(id: u64) -> Refusal {
    Refusal::new(404, "AgentNotFoundException", &format!("No agent found with identifier {id}."))
}
