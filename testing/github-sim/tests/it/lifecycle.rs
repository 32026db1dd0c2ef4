//! What time and the fate of runners do to jobs.

use crate::hub::{HOUR, Hub, MINUTE, START};
use github_sim::world::{Beat, Conclusion, JobStatus, Refusal, RunnerResult};
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_job_records_who_ran_it_and_when() {
    let mut hub = Hub::new();
    let (run, job) = hub.queue("a", &["nix"]);
    hub.pass(3 * SECOND);
    let runner = hub.runner("x", &["nix"]);
    assert_eq!(hub.world.runner_offer(hub.now, &runner).unwrap(), Some(job));
    hub.pass(SECOND);
    let path = format!("/repos/o/r/actions/jobs/{job}");
    assert_eq!(hub.get(&path).body["status"], "queued", "offered is not taken");
    let order = hub.world.runner_acquire(hub.now, &runner, job).unwrap();
    assert_eq!((order.run_id, order.repository.as_str()), (run, "o/r"));
    let taken = hub.get(&path).body;
    assert_eq!(taken["status"], "in_progress");
    assert_eq!(taken["runner_id"], json!(runner.runner));
    assert_eq!(taken["runner_name"], "x");
    assert_eq!(taken["runner_group_name"], "Default");
    assert_eq!(taken["started_at"], "2026-11-01T10:00:04Z");
    hub.pass(SECOND);
    hub.world.runner_step(hub.now, &runner, 0, None).unwrap();
    hub.world.runner_output(hub.now, &runner, "hello\n").unwrap();
    hub.pass(SECOND);
    hub.world.runner_step(hub.now, &runner, 0, Some(3)).unwrap();
    hub.world.runner_complete_with(hub.now, &runner, RunnerResult::Failed, Some(3), None).unwrap();
    let view = hub.world.job_view(job).unwrap();
    assert_eq!(view.queued_at, Some(START));
    assert_eq!(view.offered_at, Some(START + 3 * SECOND));
    assert_eq!(view.acquired_at, Some(START + 4 * SECOND));
    assert_eq!(view.started_at, Some(START + 5 * SECOND));
    assert_eq!(view.completed_at, Some(START + 6 * SECOND));
    assert_eq!(view.runner_id, Some(runner.runner));
    assert_eq!(view.output, "hello\n");
    assert_eq!((view.exit_code, view.conclusion), (Some(3), Some(Conclusion::Failure)));
    assert_eq!(hub.get(&path).body["steps"][0]["conclusion"], "failure");
}

#[test]
fn a_job_nobody_takes_ends_after_a_day() {
    let mut hub = Hub::new();
    let (_, job) = hub.queue("a", &["nix"]);
    hub.pass(24 * HOUR - SECOND);
    assert_eq!(hub.world.job_view(job).unwrap().status, JobStatus::Queued);
    hub.pass(HOUR);
    let view = hub.world.job_view(job).unwrap();
    assert_eq!(view.conclusion, Some(Conclusion::Cancelled));
    assert_eq!(view.completed_at, Some(START + 24 * HOUR), "when it was due, not when noticed");
}

#[test]
fn an_offer_that_is_not_taken_goes_back() {
    let mut hub = Hub::new();
    let (_, job) = hub.queue("a", &["nix"]);
    let first = hub.runner("first", &["nix"]);
    let second = hub.runner("second", &["nix"]);
    assert_eq!(hub.world.runner_offer(hub.now, &first).unwrap(), Some(job));
    assert_eq!(hub.world.runner_offer(hub.now, &second).unwrap(), None);
    hub.pass(MINUTE);
    assert_eq!(hub.world.runner_offer(hub.now, &second).unwrap(), Some(job));
    assert_eq!(hub.world.runner_acquire(hub.now, &first, job), Err(Refusal::JobGone));
    assert!(hub.world.runner_acquire(hub.now, &second, job).is_ok());
}

#[test]
fn a_job_whose_runner_died_before_starting_is_cancelled_after_a_quarter_of_an_hour() {
    let mut hub = Hub::new();
    let (_, job) = hub.queue("a", &["nix"]);
    let runner = hub.runner("x", &["nix"]);
    hub.world.runner_offer(hub.now, &runner).unwrap();
    hub.world.runner_acquire(hub.now, &runner, job).unwrap();
    hub.world.runner_vanish(hub.now, &runner);
    hub.pass(15 * MINUTE - SECOND);
    assert_eq!(hub.world.job_view(job).unwrap().conclusion, None);
    hub.pass(SECOND);
    assert_eq!(hub.world.job_view(job).unwrap().conclusion, Some(Conclusion::Cancelled));
}

#[test]
fn a_job_whose_runner_vanished_fails_after_nine_minutes_and_forty_seconds() {
    let mut hub = Hub::new();
    let (_, job) = hub.queue("a", &["nix"]);
    let runner = hub.runner("x", &["nix"]);
    hub.world.runner_poll(hub.now, &runner).unwrap();
    hub.pass(MINUTE);
    hub.world.runner_vanish(hub.now, &runner);
    let path = format!("/repos/o/r/actions/runners/{}", runner.runner);
    let record = hub.get(&path).body;
    assert_eq!((&record["status"], &record["busy"]), (&json!("offline"), &json!(true)));
    assert_eq!(hub.delete(&path).status, 422);
    hub.pass(9 * MINUTE + 39 * SECOND);
    assert_eq!(hub.world.job_view(job).unwrap().status, JobStatus::InProgress);
    hub.pass(SECOND);
    assert_eq!(hub.world.job_view(job).unwrap().conclusion, Some(Conclusion::Failure));
    hub.pass(41 * SECOND);
    assert_eq!(hub.delete(&path).status, 404);
}

#[test]
fn forcing_a_run_to_cancel_frees_the_record_of_a_lost_runner() {
    let mut hub = Hub::new();
    let (run, job) = hub.queue("a", &["nix"]);
    let runner = hub.runner("x", &["nix"]);
    hub.world.runner_poll(hub.now, &runner).unwrap();
    hub.world.runner_vanish(hub.now, &runner);
    let base = format!("/repos/o/r/actions/runs/{run}");
    assert_eq!(hub.ask("POST", &format!("{base}/cancel"), None).status, 202);
    assert_eq!(hub.world.job_view(job).unwrap().conclusion, None, "nobody is there to obey");
    assert_eq!(hub.ask("POST", &format!("{base}/force-cancel"), None).status, 202);
    assert_eq!(hub.world.job_view(job).unwrap().conclusion, Some(Conclusion::Cancelled));
    hub.pass(MINUTE);
    assert!(hub.world.runner_views().is_empty());
}

#[test]
fn a_cancelled_job_is_cancelled_by_its_runner() {
    let mut hub = Hub::new();
    let (_, job) = hub.queue("a", &["nix"]);
    let runner = hub.runner("x", &["nix"]);
    hub.world.runner_poll(hub.now, &runner).unwrap();
    assert_eq!(hub.world.runner_beat(hub.now, &runner), Ok(Beat::GoOn));
    hub.world.cancel_job(hub.now, job).unwrap();
    assert_eq!(hub.world.runner_beat(hub.now, &runner), Ok(Beat::Cancel));
    hub.world.runner_complete(hub.now, &runner, RunnerResult::Canceled).unwrap();
    let view = hub.world.job_view(job).unwrap();
    assert_eq!(view.conclusion, Some(Conclusion::Cancelled));
    assert_eq!(view.runner_id, Some(runner.runner));
}

#[test]
fn a_stopped_runner_fails_its_job_within_half_a_minute() {
    let mut hub = Hub::new();
    let (_, job) = hub.queue("a", &["nix"]);
    let runner = hub.runner("x", &["nix"]);
    hub.world.runner_poll(hub.now, &runner).unwrap();
    hub.world.runner_stop(hub.now, &runner).unwrap();
    hub.pass(14 * SECOND);
    assert_eq!(hub.world.job_view(job).unwrap().conclusion, None);
    hub.pass(12 * SECOND);
    let view = hub.world.job_view(job).unwrap();
    assert_eq!(view.conclusion, Some(Conclusion::Failure));
    assert!(view.note.unwrap().contains("shutdown signal"));
}

#[test]
fn time_never_runs_backwards() {
    let mut hub = Hub::new();
    hub.pass(HOUR);
    hub.world.advance(START);
    assert_eq!(hub.world.now(), START + HOUR);
}
