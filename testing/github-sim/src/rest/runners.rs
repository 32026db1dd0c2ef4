//! Runner records: list, mint, delete.

use super::answer::Answer;
use super::route::{Call, Place};
use super::{Ask, find_repo};
use crate::{
    stamp::{rfc3339, rfc3339_millis},
    world::{DEFAULT_GROUP, MintError, MintRequest, Phase, Runner, RunnerGroup, RunnerId, Scope, Visibility, World},
};
use serde_json::{Value, json};
use std::time::Duration;

/// How long removal tokens live.
const REMOVE_TOKEN_TTL: Duration = Duration::from_secs(3_600);

/// Where the request looks for runners.
pub(super) fn scope(world: &World, ask: &Ask<'_>) -> Result<Scope, Answer> {
    match &ask.route.place {
        Place::Org(owner) => world.organization(owner).map(Scope::Org).ok_or_else(Answer::not_found),
        Place::Enterprise(name) => world.enterprise(name).map(Scope::Enterprise).ok_or_else(Answer::not_found),
        _ => find_repo(world, ask).map(Scope::Repo),
    }
}

pub(super) fn list(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let scope = scope(world, ask)?;
    let name = ask.query.get("name");
    let runners: Vec<&Runner> =
        world.runners_of(&scope).filter(|runner| name.is_none_or(|name| runner.name == name)).collect();
    Ok(ask.query.cut(&ask.address, Some("runners"), runners, |runner| render(world, runner)))
}

pub(super) fn get(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let scope = scope(world, ask)?;
    let runner = world.runner(&scope, RunnerId(ask.route.id)).ok_or_else(Answer::not_found)?;
    Ok(Answer::ok(render(world, runner)))
}

pub(super) fn delete(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let scope = scope(world, ask)?;
    let id = RunnerId(ask.route.id);
    let runner = world.runner(&scope, id).ok_or_else(Answer::not_found)?;
    if runner.is_busy() {
        return Err(Answer::error(
            422,
            &format!("Runner \"{}\" is currently running a job and cannot be deleted.", runner.name),
        ));
    }
    world.remove_runner(id);
    Ok(Answer::no_content())
}

pub(super) fn mint(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let scope = scope(world, ask)?;
    let body = ask.json()?;
    let invalid = |what: &str| Answer::error(422, &format!("Invalid request.\n\n{what}"));
    let name = body["name"].as_str().ok_or_else(|| invalid("\"name\" wasn't supplied."))?;
    let group_id = body["runner_group_id"].as_u64().ok_or_else(|| invalid("\"runner_group_id\" wasn't supplied."))?;
    let labels: Option<Vec<String>> = body["labels"]
        .as_array()
        .and_then(|labels| labels.iter().map(|label| label.as_str().map(ToOwned::to_owned)).collect());
    let request = MintRequest {
        name: name.to_owned(),
        group_id,
        labels: labels.ok_or_else(|| invalid("\"labels\" wasn't supplied."))?,
        work_folder: body["work_folder"].as_str().unwrap_or("_work").to_owned(),
        scale_set: None,
        // What github.com hands out updates nothing.
        disable_update: true,
    };
    let (id, blob) = world.mint(ask.now, scope.clone(), request).map_err(|error| match error {
        MintError::Exists => {
            Answer::error(409, &format!("Already exists - A runner with the name {name} already exists."))
        }
        MintError::NoGroup => Answer::not_found(),
        MintError::Invalid(what) => invalid(&what),
    })?;
    let runner = world.runner(&scope, id).ok_or_else(Answer::not_found)?;
    Ok(Answer::with(201, json!({ "runner": render(world, runner), "encoded_jit_config": blob })))
}

pub(super) fn token(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let scope = scope(world, ask)?;
    let (token, until) = match ask.route.call {
        Call::RegistrationToken => world.new_registration_token(ask.now, scope),
        _ => (world.new_secret("A", 28), ask.now + REMOVE_TOKEN_TTL),
    };
    Ok(Answer::with(201, json!({ "token": token, "expires_at": rfc3339_millis(until) })))
}

pub(super) fn downloads(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    scope(world, ask)?;
    let version = crate::runner_service::CURRENT_VERSION;
    let one = |architecture: &str| {
        let filename = format!("actions-runner-linux-{architecture}-{version}.tar.gz");
        json!({
            "os": "linux",
            "architecture": architecture,
            "download_url": format!("{}/actions/runner/releases/download/v{version}/{filename}", ask.api),
            "filename": filename,
        })
    };
    Ok(Answer::ok(json!([one("x64"), one("arm64")])))
}

/// Until when a runner version is good. GitHub leaves out when it cannot be registered any more.
pub(super) fn deprecation(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    scope(world, ask)?;
    let version = ask.route.text.trim_start_matches('v');
    let at = world.runner_deprecation(version).ok_or_else(Answer::not_found)?;
    Ok(Answer::ok(json!({
        "runner_version": version,
        "runtime_deprecates_at": at.map(rfc3339),
    })))
}

/// Custom labels: read, add, replace, remove one or all.
pub(super) fn labels(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let scope = scope(world, ask)?;
    let body = ask.json()?;
    let given = || -> Result<Vec<String>, Answer> {
        body["labels"]
            .as_array()
            .map(|labels| labels.iter().filter_map(|label| label.as_str().map(ToOwned::to_owned)).collect())
            .ok_or_else(|| Answer::error(422, "Invalid request.\n\n\"labels\" wasn't supplied."))
    };
    let runner = world.runner_mut(&scope, RunnerId(ask.route.id)).ok_or_else(Answer::not_found)?;
    match (ask.method, ask.route.text) {
        ("POST", _) => {
            for label in given()? {
                if !runner.labels.contains(&label) {
                    runner.labels.push(label);
                }
            }
        }
        ("PUT", _) => runner.labels = given()?,
        ("DELETE", "") => runner.labels.clear(),
        ("DELETE", label) => {
            let before = runner.labels.len();
            runner.labels.retain(|own| !own.eq_ignore_ascii_case(label));
            if runner.labels.len() == before {
                return Err(Answer::not_found());
            }
        }
        _ => {}
    }
    let labels = render_labels(&runner.labels);
    Ok(Answer::ok(json!({ "total_count": labels.len(), "labels": labels })))
}

pub(super) fn groups(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let scope = scope(world, ask)?;
    let groups = world.runner_groups(&scope);
    Ok(ask.query.cut(&ask.address, Some("runner_groups"), groups, |group| render_group(&scope, &ask.address, &group)))
}

fn render_group(scope: &Scope, groups: &str, group: &RunnerGroup) -> Value {
    let own = format!("{groups}/{}", group.id);
    let mut value = json!({
        "id": group.id,
        "name": group.name,
        "visibility": match group.visibility {
            Visibility::All => "all",
            Visibility::Selected(_) => "selected",
        },
        "default": group.id == DEFAULT_GROUP,
        "allows_public_repositories": group.allows_public_repositories,
        "runners_url": format!("{own}/runners"),
        "restricted_to_workflows": false,
        "selected_workflows": [],
    });
    if matches!(scope, Scope::Enterprise(_)) {
        value["selected_organizations_url"] = json!(format!("{own}/organizations"));
    } else {
        value["selected_repositories_url"] = json!(format!("{own}/repositories"));
        value["inherited"] = json!(false);
    }
    value
}

fn render_labels(labels: &[String]) -> Vec<Value> {
    labels.iter().enumerate().map(|(index, name)| json!({ "id": index + 1, "name": name, "type": "custom" })).collect()
}

fn render(world: &World, runner: &Runner) -> Value {
    json!({
        "id": runner.id,
        "name": runner.name,
        "os": match runner.phase {
            Phase::Minted => "unknown",
            _ => "linux",
        },
        "status": if world.is_online(runner) { "online" } else { "offline" },
        "busy": runner.is_busy(),
        "ephemeral": true,
        "version": runner.version,
        "runner_group_id": runner.group_id,
        "labels": render_labels(&runner.labels),
    })
}
