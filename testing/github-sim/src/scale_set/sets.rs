//! Scale sets themselves and the runner groups they may be in (docs/github.md#finding-and-creating-a-scale-set).

use super::refusal::Refusal;
use super::{Ask, Said, wire};
use crate::world::{DEFAULT_GROUP, ScaleSetError, ScaleSetId, ScaleSetRequest, Scope, World};
use serde_json::{Value, json};

pub(super) fn find_group(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let wanted = ask.query("groupName");
    let groups: Vec<Value> = world
        .runner_groups(&scope)
        .into_iter()
        .filter(|group| wanted.as_ref().is_none_or(|name| group.name.eq_ignore_ascii_case(name)))
        .map(|group| {
            let size = world.runners_of(&scope).filter(|runner| runner.group_id == group.id).count();
            let is_default = group.id == DEFAULT_GROUP;
            json!({ "id": group.id, "name": group.name, "size": size, "isDefaultGroup": is_default })
        })
        .collect();
    Ok(Said::Json(wire::list(groups)))
}

pub(super) fn list(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let name = ask.query("name");
    let group = ask.query("runnerGroupId").and_then(|group| group.parse::<u64>().ok());
    let sets = world
        .scale_sets_of(&scope)
        .filter(|set| name.as_ref().is_none_or(|name| set.name.eq_ignore_ascii_case(name)))
        .filter(|set| group.is_none_or(|group| set.group_id == group))
        .map(|set| wire::scale_set(world, set))
        .collect();
    Ok(Said::Json(wire::list(sets)))
}

pub(super) fn get(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    shown(world, &scope, ScaleSetId(ask.route.id))
}

pub(super) fn create(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let body = ask.json()?;
    let request = ScaleSetRequest {
        name: body["name"].as_str().unwrap_or_default().to_owned(),
        group_id: body["runnerGroupId"].as_u64().unwrap_or(DEFAULT_GROUP),
        labels: labels(&body),
        disable_update: body["RunnerSetting"]["disableUpdate"].as_bool().unwrap_or(false),
    };
    let name = request.name.clone();
    let id = world.create_scale_set(ask.now, scope.clone(), request).map_err(|error| refuse(error, 0, &name))?;
    shown(world, &scope, id)
}

/// What the body does not name stays.
pub(super) fn update(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let body = ask.json()?;
    let id = ScaleSetId(ask.route.id);
    let set = world.scale_set(&scope, id).ok_or_else(|| Refusal::no_scale_set(id.0))?;
    let request = ScaleSetRequest {
        name: body["name"].as_str().unwrap_or(&set.name).to_owned(),
        group_id: body["runnerGroupId"].as_u64().unwrap_or(set.group_id),
        labels: set.labels.clone(),
        disable_update: body["RunnerSetting"]["disableUpdate"].as_bool().unwrap_or(set.disable_update),
    };
    let name = request.name.clone();
    world.update_scale_set(&scope, id, request).map_err(|error| refuse(error, id.0, &name))?;
    shown(world, &scope, id)
}

pub(super) fn delete(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let id = ScaleSetId(ask.route.id);
    world.delete_scale_set(&scope, id).map_err(|error| refuse(error, id.0, ""))?;
    Ok(Said::NoContent)
}

fn shown(world: &World, scope: &Scope, id: ScaleSetId) -> Result<Said, Refusal> {
    let set = world.scale_set(scope, id).ok_or_else(|| Refusal::no_scale_set(id.0))?;
    Ok(Said::Json(wire::scale_set(world, set)))
}

fn labels(body: &Value) -> Vec<String> {
    let labels = body["labels"].as_array().map(Vec::as_slice).unwrap_or_default();
    labels.iter().filter_map(|label| label["name"].as_str().map(ToOwned::to_owned)).collect()
}

fn refuse(error: ScaleSetError, id: u64, name: &str) -> Refusal {
    match error {
        ScaleSetError::Missing => Refusal::no_scale_set(id),
        ScaleSetError::Exists => {
            let message = format!("Runner scale set {name} already exists.");
            Refusal::new(400, "RunnerScaleSetExistsException", &message)
        }
        ScaleSetError::NoGroup => Refusal::new(400, "RunnerGroupNotFoundException", "There is no such runner group."),
        ScaleSetError::NoName => Refusal::new(400, "ArgumentException", "The name of a scale set cannot be empty."),
    }
}
