//! Injected faults do what they say, as often as they say, and only where they say.

use crate::hub::{HOUR, Hub, MINUTE};
use github_sim::{
    Call, Reply,
    world::{Beat, Conclusion, Fault, On, Refusal, RunnerFault, RunnerResult, RunnerWhat, What},
};
use serde_json::{Value, json};
use std::time::Duration;

const RUNS: &str = "/repos/o/r/actions/runs";

#[test]
fn a_status_happens_so_often_and_nothing_is_done() {
    let mut hub = Hub::new();
    hub.world.inject(Fault::times(
        2,
        Call::Mint,
        What::Status { code: 502, message: String::new(), headers: vec![("retry-after".to_owned(), "7".to_owned())] },
    ));
    assert_eq!(hub.get(RUNS).status, 200);
    let broken = hub.mint("a", &["nix"]);
    assert_eq!((broken.status, broken.header("retry-after")), (502, Some("7")));
    assert_eq!(hub.mint("a", &["nix"]).status, 502);
    assert!(hub.world.runner_views().is_empty());
    assert_eq!(hub.mint("a", &["nix"]).status, 201);
}

#[test]
fn a_lost_answer_leaves_what_was_done() {
    let mut hub = Hub::new();
    hub.world.inject(Fault::once(Call::Mint, What::LostAnswer));
    let body = json!({ "name": "a", "runner_group_id": 1, "labels": ["nix"] });
    let path = "/repos/o/r/actions/runners/generate-jitconfig";
    let reply = hub.request("POST", path, &[], Some(body));
    assert!(matches!(reply, Reply::Reset));
    assert_eq!(hub.world.leaked_runners().len(), 1);
    assert_eq!(hub.mint("a", &["nix"]).status, 409);
    assert_eq!(hub.world.traffic().of(Call::Mint).unanswered, 1);
}

#[test]
fn a_refused_connection_and_a_hang_leave_nothing() {
    let mut hub = Hub::new();
    hub.world.inject(Fault::once(Call::Mint, What::Refused));
    hub.world.inject(Fault::once(Call::Mint, What::Hang));
    let body = json!({ "name": "a", "runner_group_id": 1, "labels": ["nix"] });
    let path = "/repos/o/r/actions/runners/generate-jitconfig";
    let first = hub.request("POST", path, &[], Some(body.clone()));
    assert!(matches!(first, Reply::Reset));
    let second = hub.request("POST", path, &[], Some(body));
    assert!(matches!(second, Reply::Hang));
    assert!(hub.world.runner_views().is_empty());
}

#[test]
fn lists_are_empty_once() {
    let mut hub = Hub::new();
    let (run, _) = hub.queue("a", &["nix"]);
    let jobs = format!("{RUNS}/{run}/jobs");
    hub.world.inject(Fault::any(1, What::EmptyList));
    hub.world.inject(Fault::any(1, What::EmptyJobs));
    let empty = hub.get(RUNS).body;
    assert_eq!(empty, json!({ "total_count": 0, "workflow_runs": [] }));
    let empty = hub.get(&jobs).body;
    assert_eq!(empty, json!({ "total_count": 0, "jobs": [] }));
    assert_eq!(hub.get(RUNS).body["total_count"], 1);
    assert_eq!(hub.get(&jobs).body["total_count"], 1);
}

#[test]
fn a_tag_changes_without_the_content() {
    let mut hub = Hub::new();
    let first = hub.get(RUNS);
    let etag = first.header("etag").unwrap().to_owned();
    hub.world.inject(Fault::once(Call::ListRuns, What::StaleEtag));
    let second = hub.get_if_changed(RUNS, &etag);
    assert_eq!((second.status, &second.body), (200, &first.body));
    let etag = second.header("etag").unwrap().to_owned();
    assert_eq!(hub.get_if_changed(RUNS, &etag).status, 304);
}

#[test]
fn the_primary_limit_lasts_until_its_reset_and_hits_one_token() {
    let mut hub = Hub::new();
    let what = What::RateLimitPrimary { reset_after: 120 };
    hub.world.inject(Fault::once(Call::ListRuns, what));
    let refused = hub.get(RUNS);
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(hub.get("/repos/o/r").status, 403, "everything, until the reset");
    hub.token = "other".to_owned();
    assert_eq!(hub.get(RUNS).status, 200);
    hub.token = "t0k".to_owned();
    hub.pass(2 * MINUTE);
    assert_eq!(hub.get(RUNS).status, 200);
}

#[test]
fn the_secondary_limit_may_or_may_not_say_how_long() {
    let mut hub = Hub::new();
    for retry_after in [Some(30), None] {
        let what = What::RateLimitSecondary { retry_after };
        hub.world.inject(Fault::any(1, what));
        let refused = hub.get(RUNS);
        assert_eq!(refused.status, 403);
        assert_eq!(refused.header("retry-after"), retry_after.map(|_| "30"));
        assert_ne!(refused.header("x-ratelimit-remaining"), Some("0"));
        assert!(refused.body["message"].as_str().unwrap().contains("secondary rate limit"));
    }
}

#[test]
fn pages_shift_while_they_are_read() {
    let mut hub = Hub::new();
    for _ in 0..4 {
        hub.queue("a", &["nix"]);
    }
    hub.world.inject(Fault::once(Call::ListRuns, What::PageShift));
    let page = |n: u32| format!("{RUNS}?status=queued&per_page=2&page={n}");
    let first = hub.get(&page(1)).all("workflow_runs", "id");
    let second = hub.get(&page(2)).all("workflow_runs", "id");
    assert_eq!(first[1], second[0], "seen twice");
    assert_eq!(hub.get(&page(3)).all("workflow_runs", "id").len(), 1);
}

#[test]
fn a_token_is_refused_in_the_middle() {
    let mut hub = Hub::new();
    hub.world.inject(Fault::once(Call::ListRuns, What::Unauthorized).after(1));
    assert_eq!(hub.get(RUNS).status, 200);
    assert_eq!(hub.get(RUNS).status, 401);
    assert_eq!(hub.get(RUNS).status, 200);
}

#[test]
fn a_policy_refuses_a_runner_without_a_word() {
    let mut hub = Hub::new();
    hub.world.inject(Fault::once(Call::Mint, What::NoRunners));
    let refused = hub.mint("a", &["nix"]);
    assert_eq!((refused.status, refused.body), (403, Value::Null));
    assert!(hub.world.runner_views().is_empty());
}

#[test]
fn a_body_breaks_off() {
    let mut hub = Hub::new();
    hub.world.inject(Fault::once(Call::ListRuns, What::BadJson));
    let broken = hub.get(RUNS);
    assert_eq!((broken.status, broken.body), (200, Value::Null));
}

#[test]
fn an_answer_points_elsewhere() {
    let mut hub = Hub::new();
    let what = What::Redirect { status: 301, to: "/repos/o/s/actions/runs".to_owned() };
    hub.world.inject(Fault::once(Call::ListRuns, what));
    let moved = hub.get(RUNS);
    assert_eq!((moved.status, moved.header("location")), (301, Some("/repos/o/s/actions/runs")));
}

#[test]
fn an_answer_comes_late_or_with_a_wrong_date() {
    let mut hub = Hub::new();
    hub.world.inject(Fault::any(1, What::Slow { ms: 1_500 }));
    let reply = hub.request("GET", RUNS, &[], None);
    assert!(matches!(reply, Reply::Slow(late, _) if late == Duration::from_millis(1_500)));
    hub.world.inject(Fault::any(1, What::DateSkew { seconds: -600 }));
    assert_eq!(hub.get(RUNS).header("date"), Some("Sun, 01 Nov 2026 09:50:00 GMT"));
}

#[test]
fn only_the_repository_and_the_method_named() {
    let mut hub = Hub::new();
    let down = || What::Status { code: 500, message: "down".to_owned(), headers: Vec::new() };
    hub.world.inject(Fault::any(1, down()).in_repo("O/S"));
    hub.world.inject(Fault { on: On::Method("POST".to_owned()), ..Fault::any(1, down()) });
    assert_eq!(hub.get(RUNS).status, 200);
    assert_eq!(hub.get("/repos/o/s/actions/runs").status, 500);
    assert_eq!(hub.mint("a", &["nix"]).status, 500);
    hub.world.inject(Fault::any(9, down()));
    hub.world.clear_faults();
    assert_eq!(hub.get(RUNS).status, 200);
}

#[test]
fn faults_are_written_as_json() {
    let fault: Fault = serde_json::from_value(json!({
        "on": { "call": "mint" },
        "what": { "status": { "code": 503 } },
    }))
    .unwrap();
    assert_eq!(fault.on, On::Call(Call::Mint));
    assert_eq!(fault.count, 1);
    let fault: Fault = serde_json::from_value(json!({
        "on": "any", "repo": "o/r", "count": 3, "what": "lost_answer",
    }))
    .unwrap();
    assert_eq!(fault, Fault::any(3, What::LostAnswer).in_repo("o/r"));
    let fault: RunnerFault = serde_json::from_value(json!({ "what": "steal_job" })).unwrap();
    assert_eq!(fault, RunnerFault::once(RunnerWhat::StealJob));
}

#[test]
fn a_job_is_stolen() {
    let mut hub = Hub::new();
    let (_, job) = hub.queue("a", &["nix"]);
    hub.world.inject_runner(RunnerFault::once(RunnerWhat::StealJob));
    let runner = hub.runner("mine", &["nix"]);
    assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), None);
    let view = hub.world.job_view(job).unwrap();
    assert!(view.runner_name.unwrap().starts_with("stranger-"));
    hub.pass(MINUTE);
    let view = hub.world.job_view(job).unwrap();
    assert_eq!(view.conclusion, Some(Conclusion::Success));
    let (_, next) = hub.queue("b", &["nix"]);
    assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), Some(next));
}

#[test]
fn runners_are_refused_as_told_and_by_name() {
    let mut hub = Hub::new();
    for (what, refusal) in [
        (RunnerWhat::NeverListening, Refusal::NeverListening),
        (RunnerWhat::SessionConflict, Refusal::SessionConflict),
        (RunnerWhat::SessionForbidden, Refusal::Forbidden),
        (RunnerWhat::ClockSkew, Refusal::ClockSkew),
    ] {
        hub.world.inject_runner(RunnerFault { name_prefix: Some("ours-".to_owned()), ..RunnerFault::once(what) });
        let name = format!("theirs-{what:?}");
        hub.runner(&name, &["nix"]);
        let minted = hub.mint(&format!("ours-{what:?}"), &["nix"]);
        let blob = minted.body["encoded_jit_config"].as_str().unwrap().to_owned();
        assert_eq!(hub.world.runner_connect(hub.now, &blob), Err(refusal));
        assert!(hub.world.runner_connect(hub.now, &blob).is_ok(), "once");
    }
}

#[test]
fn a_runner_that_listens_may_still_be_refused_when_it_asks() {
    let mut hub = Hub::new();
    let (_, job) = hub.queue("a", &["nix"]);
    for (what, refusal) in [
        (RunnerWhat::VersionTooOld, Refusal::VersionTooOld("2.338.2".to_owned())),
        (RunnerWhat::SessionInvalid, Refusal::SessionInvalid),
    ] {
        hub.world.inject_runner(RunnerFault::once(what));
        let runner = hub.runner(&format!("{what:?}"), &["nix"]);
        assert_eq!(hub.world.runner_offer(hub.now, &runner), Err(refusal));
        assert_eq!(hub.world.job_view(job).unwrap().offered_at, None);
    }
}

#[test]
fn a_job_may_end_before_it_begins() {
    let mut hub = Hub::new();
    for (what, first, conclusion) in [
        (RunnerWhat::CancelledAtOnce, Ok(Beat::Cancel), None),
        (RunnerWhat::RenewalFails, Err(Refusal::JobGone), Some(Conclusion::Cancelled)),
    ] {
        let (_, job) = hub.queue("a", &["nix"]);
        hub.world.inject_runner(RunnerFault::once(what));
        let runner = hub.runner(&format!("{what:?}"), &["nix"]);
        assert_eq!(hub.world.runner_offer(hub.now, &runner), Ok(Some(job)));
        hub.world.runner_acquire(hub.now, &runner, job).unwrap();
        assert_eq!(hub.world.runner_beat(hub.now, &runner), first, "{what:?}");
        if conclusion.is_some() {
            // Nobody says that it is over.
            hub.world.runner_vanish(hub.now, &runner);
            hub.pass(HOUR);
        } else {
            hub.world.runner_complete(hub.now, &runner, RunnerResult::Canceled).unwrap();
        }
        assert_eq!(hub.world.job_view(job).unwrap().conclusion, Some(Conclusion::Cancelled), "{what:?}");
    }
}

#[test]
fn a_doomed_runner_is_told_to_die_in_the_middle() {
    let mut hub = Hub::new();
    hub.queue("a", &["nix"]);
    hub.world.inject_runner(RunnerFault::once(RunnerWhat::VanishMidJob));
    let runner = hub.runner("x", &["nix"]);
    hub.world.runner_poll(hub.now, &runner).unwrap();
    assert_eq!(hub.world.runner_beat(hub.now, &runner), Ok(Beat::Die));
}
