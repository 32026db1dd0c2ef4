//! Runs and jobs as lists: filters, pages, fields.

use crate::hub::{HOUR, Hub};
use github_sim::{
    Config,
    world::{Gate, JobSpec, JobStatus, RepoSettings, RunSpec, RunStatusRule, RunnerResult},
};
use serde_json::{Value, json};

#[test]
fn runs_are_listed_newest_first_by_one_status() {
    let mut hub = Hub::new();
    let (first, _) = hub.queue("a", &["nix"]);
    let (second, _) = hub.queue("b", &["nix"]);
    let runner = hub.runner("x", &["nix"]);
    hub.world.runner_poll(hub.now, &runner).unwrap().unwrap();
    let ids =
        |hub: &mut Hub, query: &str| hub.get(&format!("/repos/o/r/actions/runs?{query}")).all("workflow_runs", "id");
    assert_eq!(ids(&mut hub, ""), [json!(second), json!(first)]);
    assert_eq!(ids(&mut hub, "status=queued"), [json!(second)]);
    assert_eq!(ids(&mut hub, "status=in_progress"), [json!(first)]);
    // No union: the last one counts.
    assert_eq!(ids(&mut hub, "status=queued&status=in_progress"), [json!(first)]);
    hub.world.runner_complete(hub.now, &runner, RunnerResult::Succeeded).unwrap();
    assert_eq!(ids(&mut hub, "status=completed"), [json!(first)]);
    assert_eq!(ids(&mut hub, "status=success"), [json!(first)]);
    assert!(ids(&mut hub, "status=in_progress").is_empty());
}

#[test]
fn a_list_of_runs_is_the_same_until_anything_changed_that_it_shows() {
    let mut hub = Hub::new();
    let runs = "/repos/o/r/actions/runs?per_page=100";
    let mut etag = hub.get(runs).header("etag").unwrap().to_owned();
    let mut changed = |hub: &mut Hub, what: &str| {
        let got = hub.get_if_changed(runs, &etag);
        assert_eq!(got.status, 200, "{what} does not show");
        got.header("etag").unwrap().clone_into(&mut etag);
        for _ in 0..2 {
            let again = hub.get_if_changed(runs, &etag);
            assert_eq!((again.status, again.header("etag")), (304, Some(etag.as_str())), "after {what}");
        }
    };
    let (run, _) = hub.queue("a", &["nix"]);
    changed(&mut hub, "a run");
    let runner = hub.runner("x", &["nix"]);
    hub.world.runner_poll(hub.now, &runner).unwrap().unwrap();
    changed(&mut hub, "a runner that takes its job");
    hub.world.runner_complete(hub.now, &runner, RunnerResult::Failed).unwrap();
    changed(&mut hub, "its end");
    hub.world.rerun(hub.now, run, true).unwrap();
    changed(&mut hub, "another attempt");
    let settings = hub.world.repo_settings("o/r").unwrap();
    hub.world.set_repo("o/r", RepoSettings { fork: !settings.fork, ..settings }).unwrap();
    changed(&mut hub, "what the repository is");
}

#[test]
fn pages_are_linked() {
    let mut hub = Hub::new();
    for _ in 0..5 {
        hub.queue("a", &["nix"]);
    }
    let mut path = "/api/v3/repos/o/r/actions/runs?status=queued&per_page=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = hub.get(&path);
        assert_eq!(page.body["total_count"], 5);
        seen.extend(page.all("workflow_runs", "id"));
        let link = page.header("link").unwrap();
        let Some(next) = link.split(", ").find(|part| part.ends_with("rel=\"next\"")) else {
            break;
        };
        let url = next.split(['<', '>']).nth(1).unwrap();
        path = url.strip_prefix("http://github.invalid").unwrap().to_owned();
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.windows(2).all(|pair| pair[0].as_u64() > pair[1].as_u64()));
}

#[test]
fn created_bounds_the_list() {
    let mut hub = Hub::new();
    hub.queue("old", &["nix"]);
    hub.pass(2 * HOUR);
    let (new, _) = hub.queue("new", &["nix"]);
    let recent = hub.get("/repos/o/r/actions/runs?created=%3E%3D2026-11-01T11%3A00%3A00Z");
    assert_eq!(recent.all("workflow_runs", "id"), [json!(new)]);
}

#[test]
fn a_queued_job_has_the_documented_fields() {
    let mut hub = Hub::new();
    let (run, job) = hub.queue("build (x)", &["self-hosted", "Linux", "nix"]);
    let jobs = hub.get(&format!("/repos/o/r/actions/runs/{run}/jobs"));
    let listed = &jobs.body["jobs"][0];
    assert_eq!(listed["id"], json!(job));
    assert!(job.0 > 4_294_967_295, "beyond 32 bits, as the real ones are");
    assert_eq!(listed["run_id"], json!(run));
    assert_eq!(listed["labels"], json!(["self-hosted", "Linux", "nix"]));
    assert_eq!(listed["status"], "queued");
    assert_eq!(listed["started_at"], listed["created_at"]);
    for null in ["conclusion", "completed_at", "runner_id", "runner_name", "runner_group_id", "runner_group_name"] {
        assert_eq!(listed[null], Value::Null, "{null}");
        assert!(listed.as_object().unwrap().contains_key(null), "{null}");
    }
    assert_eq!(hub.get(&format!("/repos/o/r/actions/jobs/{job}")).body, *listed);
    assert_eq!(hub.get(&format!("/repos/o/s/actions/jobs/{job}")).status, 404);
    assert_eq!(hub.get(&format!("/repos/o/s/actions/runs/{run}/jobs")).status, 404);
}

#[test]
fn nullable_fields_are_null_now_and_then() {
    let mut hub = Hub::new();
    for _ in 0..77 {
        hub.queue("a", &["nix"]);
    }
    let runs = hub.get("/repos/o/r/actions/runs?per_page=100");
    for field in ["name", "head_branch", "head_commit", "pull_requests"] {
        let values = runs.all("workflow_runs", field);
        assert!(values.iter().any(Value::is_null), "{field}");
        assert!(!values.iter().all(Value::is_null), "{field}");
    }
}

#[test]
fn a_job_cancelled_before_anybody_had_it_shows_zero_and_nothing() {
    let mut hub = Hub::new();
    let (run, job) = hub.queue("a", &["nix"]);
    let path = format!("/repos/o/r/actions/runs/{run}/cancel");
    assert_eq!(hub.ask("POST", &path, None).status, 202);
    let view = hub.get(&format!("/repos/o/r/actions/jobs/{job}")).body;
    assert_eq!(view["status"], "completed");
    assert_eq!(view["conclusion"], "cancelled");
    assert_eq!(view["runner_id"], 0);
    assert_eq!(view["runner_name"], "");
    assert_eq!(hub.ask("POST", &path, None).status, 409);
}

#[test]
fn held_jobs_are_not_queued_until_released() {
    let mut hub = Hub::new();
    let runner = hub.runner("x", &["nix"]);
    for (gate, status) in [(Gate::Waiting, "waiting"), (Gate::Pending, "pending")] {
        let job = JobSpec { gate: Some(gate), ..JobSpec::new("held", &["nix"], &[]) };
        let (run, job) = hub.world.queue_job(hub.now, "o/r", job).unwrap();
        let list = hub.get(&format!("/repos/o/r/actions/runs?status={status}"));
        assert_eq!(list.all("workflow_runs", "id"), [json!(run)]);
        let view = hub.get(&format!("/repos/o/r/actions/jobs/{job}"));
        assert_eq!(view.body["status"], status);
        assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), None);
        if gate == Gate::Pending {
            hub.world.release_job(hub.now, job).unwrap();
            assert!(hub.world.release_job(hub.now, job).is_err());
            assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), Some(job));
        }
    }
}

#[test]
fn a_job_that_waits_for_another_is_not_listed_yet() {
    let mut hub = Hub::new();
    let late = JobSpec { delay_ms: 60_000, ..JobSpec::new("late", &["nix"], &[]) };
    let queued = hub.world.queue_run(hub.now, "o/r", RunSpec::push(vec![late])).unwrap();
    let path = format!("/repos/o/r/actions/runs/{}/jobs", queued.run_id);
    assert_eq!(hub.get(&path).body["total_count"], 0);
    let runs = hub.get("/repos/o/r/actions/runs?status=queued");
    assert_eq!(runs.body["total_count"], 1, "a run without jobs for a moment");
    hub.pass(HOUR);
    let job = &hub.get(&path).body["jobs"][0];
    assert_eq!(job["created_at"], "2026-11-01T10:01:00Z");
    assert_eq!(job["status"], "queued");
}

#[test]
fn what_a_half_begun_run_shows_is_a_choice() {
    for (rule, status) in [(RunStatusRule::Furthest, "in_progress"), (RunStatusRule::LeastFar, "queued")] {
        let mut hub = Hub::with(Config { run_status: rule, ..Config::default() });
        let jobs = vec![JobSpec::new("a", &["nix"], &[]), JobSpec::new("b", &["nix"], &[])];
        hub.world.queue_run(hub.now, "o/r", RunSpec::push(jobs)).unwrap();
        let runner = hub.runner("x", &["nix"]);
        hub.world.runner_poll(hub.now, &runner).unwrap().unwrap();
        let run = &hub.get("/repos/o/r/actions/runs").body["workflow_runs"][0];
        assert_eq!(run["status"], status);
    }
}

#[test]
fn a_fork_is_told() {
    let mut hub = Hub::new();
    let spec = RunSpec {
        event: "pull_request".to_owned(),
        from_fork: true,
        ..RunSpec::push(vec![JobSpec::new("a", &["nix"], &[])])
    };
    hub.world.queue_run(hub.now, "o/r", spec).unwrap();
    let run = hub.get("/repos/o/r/actions/runs?event=pull_request").body["workflow_runs"][0].clone();
    assert_eq!(run["head_repository"]["fork"], true);
    assert_ne!(run["head_repository"]["id"], run["repository"]["id"]);
}

#[test]
fn running_again_makes_new_jobs() {
    let mut hub = Hub::new();
    let jobs = vec![JobSpec::new("good", &["nix"], &[]), JobSpec::new("bad", &["nix"], &[])];
    let queued = hub.world.queue_run(hub.now, "o/r", RunSpec::push(jobs)).unwrap();
    let base = format!("/repos/o/r/actions/runs/{}", queued.run_id);
    let rerun = format!("{base}/rerun-failed-jobs");
    assert_eq!(hub.ask("POST", &rerun, None).status, 403, "still running");
    for (name, result) in [("x", RunnerResult::Succeeded), ("y", RunnerResult::Failed)] {
        let runner = hub.runner(name, &["nix"]);
        hub.world.runner_poll(hub.now, &runner).unwrap().unwrap();
        hub.world.runner_complete(hub.now, &runner, result).unwrap();
    }
    assert_eq!(hub.get(&base).body["conclusion"], "failure");
    assert_eq!(hub.ask("POST", &rerun, None).status, 201);
    let latest = hub.get(&format!("{base}/jobs"));
    assert_eq!(latest.all("jobs", "name"), [json!("bad")]);
    assert_eq!(latest.body["jobs"][0]["run_attempt"], 2);
    assert_ne!(latest.body["jobs"][0]["id"], json!(queued.job_ids[1]));
    assert_eq!(hub.get(&format!("{base}/jobs?filter=all")).body["total_count"], 3);
    assert_eq!(hub.get(&format!("{base}/attempts/1/jobs")).body["total_count"], 2);
    assert_eq!(hub.get(&base).body["run_attempt"], 2);
    assert_eq!(hub.world.run_view(queued.run_id).unwrap().status, JobStatus::Queued);
}

#[test]
fn a_run_that_succeeded_cannot_be_retried_in_parts() {
    let mut hub = Hub::new();
    let (run, job) = hub.queue("a", &["nix"]);
    let runner = hub.runner("x", &["nix"]);
    hub.world.runner_poll(hub.now, &runner).unwrap().unwrap();
    hub.world.runner_complete(hub.now, &runner, RunnerResult::Succeeded).unwrap();
    let base = format!("/repos/o/r/actions/runs/{run}");
    let refused = hub.ask("POST", &format!("{base}/rerun-failed-jobs"), None);
    assert_eq!(refused.status, 403);
    assert_eq!(refused.body["message"], "This workflow run cannot be retried");
    let one = hub.ask("POST", &format!("/repos/o/r/actions/jobs/{job}/rerun"), None);
    assert_eq!(one.status, 201);
}
