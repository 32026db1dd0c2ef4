//! Repositories and workflow runs.

use super::answer::Answer;
use super::query::created_matches;
use super::route::{Call, Place};
use super::unchanged::MadeFrom;
use super::{Ask, find_repo, profile, runners};
use crate::{
    stamp::rfc3339,
    world::{Access, ControlError, JobId, JobStatus, Repo, Run, RunId, World},
};
use serde_json::{Value, json};

/// A filtered list shows no more than this.
const MAX_FILTERED: usize = 1_000;

pub(super) fn get_repo(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let id = find_repo(world, ask)?;
    let repo = world.repo(id).ok_or_else(Answer::not_found)?;
    Ok(Answer::ok(profile::in_full(render_for(world, ask, repo))))
}

/// Whether a repository has Actions at all.
pub(super) fn actions_permissions(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let id = find_repo(world, ask)?;
    let repo = world.repo(id).ok_or_else(Answer::not_found)?;
    Ok(Answer::ok(match repo.settings.actions_enabled {
        true => json!({ "enabled": true, "allowed_actions": "all", "sha_pinning_required": false }),
        false => json!({ "enabled": false, "sha_pinning_required": false }),
    }))
}

/// Repositories of an account, of an installation, of a runner group, or those the token is meant for.
pub(super) fn list_repos(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let grant = world.token(&ask.account).map(|known| known.grant.clone()).unwrap_or_default();
    let visible = |repo: &&Repo| !repo.private || grant.covers(repo);
    let (key, repos): (_, Vec<&Repo>) = match (ask.route.call, &ask.route.place) {
        (Call::GroupRepos, _) => {
            let scope = runners::scope(world, ask)?;
            let group = world.runner_group(&scope, ask.route.id).ok_or_else(Answer::not_found)?;
            (Some("repositories"), world.repos().filter(|repo| group.selects(repo) && visible(repo)).collect())
        }
        (Call::ListOrgRepos, Place::Org(owner)) => {
            let owner = world.organization(owner).ok_or_else(Answer::not_found)?;
            (None, world.repos().filter(|repo| repo.belongs_to(&owner) && visible(repo)).collect())
        }
        // What anybody may know of an account, whoever asks.
        (Call::ListOrgRepos, Place::User(owner)) => {
            let (owner, _) = world.account(owner).ok_or_else(Answer::not_found)?;
            (None, world.repos().filter(|repo| repo.belongs_to(&owner) && !repo.private).collect())
        }
        (Call::InstallationRepos, _) => {
            (Some("repositories"), world.repos().filter(|repo| grant.covers(repo)).collect())
        }
        _ => {
            let wanted = ask.query.get("visibility").unwrap_or("all");
            let shown = |repo: &&Repo| wanted == "all" || (wanted == "private") == repo.private;
            (None, world.repos().filter(|repo| grant.covers(repo) && shown(repo)).collect())
        }
    };
    Ok(ask.query.cut(&ask.address, key, repos, |repo| render_for(world, ask, repo)))
}

/// A repository with what the caller may do there.
fn render_for(world: &World, ask: &Ask<'_>, repo: &Repo) -> Value {
    let mut value = profile::repository(&ask.api, repo);
    let grant = world.token(&ask.account).map(|known| &known.grant);
    let covered = grant.is_none_or(|grant| grant.covers(repo));
    let may = |permission: &str| {
        covered
            && grant.and_then(|grant| grant.permissions()).is_none_or(|own| own.get(permission) == Some(&Access::Write))
    };
    value["permissions"] = json!({ "admin": may("administration"), "push": may("contents"), "pull": true });
    value
}

pub(super) fn list(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let id = find_repo(world, ask)?;
    let repo = world.repo(id).ok_or_else(Answer::not_found)?;
    let made_from = MadeFrom::runs_of(world, repo);
    if ask.has.is_some_and(|tag| world.given().is_unchanged(&ask.account, ask.asked, made_from, tag)) {
        return Ok(Answer::not_modified());
    }
    let status = ask.query.get("status");
    let open = |status: &str| ["queued", "in_progress", "requested", "waiting", "pending"].contains(&status);
    // Years of finished runs need not be looked at to find those that are not.
    let candidates: Vec<RunId> = match status {
        Some(status) if open(status) => repo.open_runs.iter().rev().copied().collect(),
        _ => repo.runs.iter().rev().copied().collect(),
    };
    let wanted = |run: &&Run| {
        let shows = |text: &str| run.status.as_str() == text || run.conclusion.is_some_and(|end| end.as_str() == text);
        let matches = |name: &str, value: &str| ask.query.get(name).is_none_or(|v| v == value);
        status.is_none_or(shows)
            && matches("event", &run.spec.event)
            && matches("branch", &run.spec.branch)
            && matches("head_sha", &run.head_sha)
            && ask.query.get("created").is_none_or(|filter| created_matches(filter, run.created_at))
    };
    let mut runs: Vec<&Run> = candidates.iter().filter_map(|id| world.run(*id)).filter(wanted).collect();
    let filters = ["status", "event", "branch", "head_sha", "created"];
    if filters.iter().any(|name| ask.query.get(name).is_some()) {
        runs.truncate(MAX_FILTERED);
    }
    let answer = ask.query.cut(&ask.address, Some("workflow_runs"), runs, |run| render(ask, repo, run));
    Ok(Answer { made_from: Some(made_from), ..answer })
}

pub(super) fn get(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let id = find_repo(world, ask)?;
    let repo = world.repo(id).ok_or_else(Answer::not_found)?;
    let run = world.run(RunId(ask.route.id)).filter(|run| run.repo == id).ok_or_else(Answer::not_found)?;
    Ok(Answer::ok(render(ask, repo, run)))
}

/// Cancel and run again.
pub(super) fn control(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let repo = find_repo(world, ask)?;
    let (now, id) = (ask.now, ask.route.id);
    let belongs = match ask.route.call {
        Call::RerunJob => world.job(JobId(id)).is_some_and(|job| job.repo == repo),
        _ => world.run(RunId(id)).is_some_and(|run| run.repo == repo),
    };
    if !belongs {
        return Err(Answer::not_found());
    }
    let refuse = |error: ControlError| Answer::error(error.status, error.message);
    let status = match ask.route.call {
        Call::CancelRun => world.try_cancel(now, RunId(id), false).map(|()| 202),
        Call::ForceCancelRun => world.try_cancel(now, RunId(id), true).map(|()| 202),
        Call::RerunFailed => world.try_rerun(now, RunId(id), true).map(|_| 201),
        Call::RerunJob => world.try_rerun_job(now, JobId(id)).map(|_| 201),
        _ => world.try_rerun(now, RunId(id), false).map(|_| 201),
    };
    Ok(Answer::with(status.map_err(refuse)?, json!({})))
}

/// Some fields may be null, and on a few runs they are, always the same ones.
fn render(ask: &Ask<'_>, repo: &Repo, run: &Run) -> Value {
    let full_name = repo.full_name();
    let url = format!("{}/repos/{full_name}/actions/runs/{}", ask.api, run.id);
    let now_and_then = |every: u64, value: Value| match run.number.is_multiple_of(every) {
        true => Value::Null,
        false => value,
    };
    let status = match run.status {
        JobStatus::Unborn => JobStatus::Queued,
        status => status,
    };
    let own = profile::mentioned(&ask.api, repo, repo.id.0, &full_name, repo.settings.fork, repo.private);
    let head_repository = match run.spec.from_fork {
        true => {
            let copy = format!("somebody-else/{}", repo.name);
            profile::mentioned(&ask.api, repo, run.spec.head_repo_id(repo.id), &copy, true, false)
        }
        false => own.clone(),
    };
    let actor = profile::user(&ask.api, &repo.owner);
    let previous = (run.attempt > 1).then(|| format!("{url}/attempts/{}", run.attempt - 1));
    json!({
        "id": run.id,
        "name": now_and_then(11, json!(run.spec.workflow)),
        "node_id": format!("WFR_{}", run.id),
        "head_branch": now_and_then(7, json!(run.spec.branch)),
        "head_sha": run.head_sha,
        "path": format!(".github/workflows/{}.yml", run.spec.workflow),
        "run_number": run.number,
        "run_attempt": run.attempt,
        "event": run.spec.event,
        "display_title": format!("{} #{}", run.spec.workflow, run.number),
        "status": status.as_str(),
        "conclusion": run.conclusion.map(|end| end.as_str()),
        "workflow_id": 11,
        "check_suite_id": run.id.0 + 1,
        "check_suite_node_id": format!("CS_{}", run.id),
        "url": url,
        "html_url": format!("{}/{full_name}/actions/runs/{}", ask.api, run.id),
        "pull_requests": now_and_then(13, json!([])),
        "created_at": rfc3339(run.created_at),
        "updated_at": rfc3339(run.updated_at),
        "run_started_at": rfc3339(run.started_at),
        "actor": actor,
        "triggering_actor": actor,
        "jobs_url": format!("{url}/jobs"),
        "logs_url": format!("{url}/logs"),
        "check_suite_url": format!("{}/repos/{full_name}/check-suites/{}", ask.api, run.id.0 + 1),
        "artifacts_url": format!("{url}/artifacts"),
        "cancel_url": format!("{url}/cancel"),
        "rerun_url": format!("{url}/rerun"),
        "previous_attempt_url": previous,
        "workflow_url": format!("{}/repos/{full_name}/actions/workflows/11", ask.api),
        "head_commit": now_and_then(5, head_commit(run)),
        "repository": own,
        "head_repository": head_repository,
    })
}

fn head_commit(run: &Run) -> Value {
    let by = json!({ "name": "Mona Lisa", "email": "mona@example.invalid" });
    json!({
        "id": run.head_sha,
        "tree_id": run.head_sha,
        "message": "change",
        // In the time zone of whoever made it.
        "timestamp": rfc3339(run.created_at).replace('Z', "+00:00"),
        "author": by,
        "committer": by,
    })
}
