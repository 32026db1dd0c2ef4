//! Runner records: minting, matching, deleting, lingering.

use crate::hub::{HOUR, Hub, MINUTE};
use github_sim::{
    Config,
    jit::JitConfig,
    world::{JobSpec, JobStatus, Picking, Refusal, RunnerGroupSpec, RunnerResult, RunnerState, Scope, Visibility},
};
use serde_json::json;
use std::time::Duration;

const MINT: &str = "/repos/o/r/actions/runners/generate-jitconfig";

#[test]
fn a_mint_makes_an_offline_record_and_a_blob_for_it() {
    let mut hub = Hub::new();
    let minted = hub.mint("host1-nix-01", &["nix", "self-hosted"]);
    assert_eq!(minted.status, 201);
    let runner = &minted.body["runner"];
    assert_eq!(runner["name"], "host1-nix-01");
    assert_eq!(runner["os"], "unknown");
    assert_eq!(runner["status"], "offline");
    assert_eq!(runner["busy"], false);
    assert_eq!(runner["runner_group_id"], 1);
    assert_eq!(
        runner["labels"],
        json!([{"id": 1, "name": "nix", "type": "custom"}, {"id": 2, "name": "self-hosted", "type": "custom"}])
    );
    let blob = minted.body["encoded_jit_config"].as_str().unwrap();
    let settings: serde_json::Value =
        serde_json::from_slice(&github_sim::jit::unpack(blob).unwrap()[github_sim::jit::RUNNER]).unwrap();
    // As github.com writes it (docs/github.md#contents-of-a-jit-configuration): every value is a text.
    assert_eq!(
        settings,
        json!({
            "AgentId": runner["id"].to_string(),
            "AgentName": "host1-nix-01",
            "DisableUpdate": "True",
            "Ephemeral": "True",
            "GitHubUrl": "https://github.com/o/r",
            "PoolId": "1",
            "PoolName": "Default",
            "ServerUrl": "http://github.invalid/_broker/",
            "ServerUrlV2": "http://github.invalid/_broker/",
            "UseV2Flow": "true",
            "WorkFolder": "_work",
        })
    );
    let config = JitConfig::decode(blob).unwrap();
    assert_eq!(config.credentials.data.authorization_url, "http://github.invalid/_apis/oauth2/token");
    let id = &runner["id"];
    let same = hub.get(&format!("/repos/o/r/actions/runners/{id}"));
    assert_eq!(same.body, *runner);
    assert_eq!(hub.get(&format!("/repos/o/s/actions/runners/{id}")).status, 404);
    assert_eq!(hub.get(&format!("/orgs/o/actions/runners/{id}")).status, 404);
}

#[test]
fn bad_mints_are_refused_and_make_nothing() {
    let mut hub = Hub::new();
    let long = "x".repeat(65);
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    for body in [
        json!({}),
        json!({ "name": "", "runner_group_id": 1, "labels": ["a"] }),
        json!({ "name": long, "runner_group_id": 1, "labels": ["a"] }),
        json!({ "name": "a", "labels": ["a"] }),
        json!({ "name": "a", "runner_group_id": 1 }),
        json!({ "name": "a", "runner_group_id": 1, "labels": [] }),
        json!({ "name": "a", "runner_group_id": 1, "labels": [""] }),
        json!({ "name": "a", "runner_group_id": 1, "labels": [1] }),
        json!({ "name": "a", "runner_group_id": 1, "labels": many }),
    ] {
        assert_eq!(hub.post(MINT, body.clone()).status, 422, "{body}");
    }
    let group = json!({ "name": "a", "runner_group_id": 9, "labels": ["a"] });
    assert_eq!(hub.post(MINT, group).status, 404);
    assert!(hub.world.runner_views().is_empty());
}

#[test]
fn a_name_is_taken_once_in_a_scope() {
    let mut hub = Hub::new();
    assert_eq!(hub.mint("a", &["nix"]).status, 201);
    let again = hub.mint("a", &["nix"]);
    assert_eq!(again.status, 409);
    assert!(again.body["message"].as_str().unwrap().contains("Already exists"));
    let elsewhere = json!({ "name": "a", "runner_group_id": 1, "labels": ["nix"] });
    let path = "/repos/o/s/actions/runners/generate-jitconfig";
    assert_eq!(hub.post(path, elsewhere).status, 201);
}

#[test]
fn records_are_found_by_name_and_listed_in_pages() {
    let mut hub = Hub::new();
    for name in ["a", "b", "c"] {
        hub.mint(name, &["nix"]);
    }
    let one = hub.get("/repos/o/r/actions/runners?name=b");
    assert_eq!(one.all("runners", "name"), [json!("b")]);
    let page = hub.get("/repos/o/r/actions/runners?per_page=2&page=2");
    assert_eq!(page.body["total_count"], 3);
    assert_eq!(page.all("runners", "name"), [json!("c")]);
}

#[test]
fn labels_match_as_a_subset_without_regard_to_case() {
    let mut hub = Hub::new();
    hub.queue("too much", &["nix", "gpu"]);
    hub.queue("nothing asked", &[]);
    let (_, fits) = hub.queue("fits", &["NIX", "linux"]);
    let runner = hub.runner("x", &["Nix", "Linux", "big"]);
    assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), Some(fits));
    assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), None, "one job is all it gets");
}

#[test]
fn a_runner_of_one_repository_does_not_serve_another_and_one_of_the_owner_does() {
    let mut hub = Hub::new();
    let job = JobSpec::new("a", &["nix"], &[]);
    let (_, here) = hub.world.queue_job(hub.now, "o/s", job.clone()).unwrap();
    hub.world.queue_job(hub.now, "p/q", job).unwrap();
    let own = hub.runner("own", &["nix"]);
    assert_eq!(hub.world.runner_poll(hub.now, &own).unwrap(), None);
    let minted = hub.post(
        "/orgs/o/actions/runners/generate-jitconfig",
        json!({ "name": "all", "runner_group_id": 1, "labels": ["nix"] }),
    );
    assert_eq!(minted.status, 201);
    let blob = minted.body["encoded_jit_config"].as_str().unwrap();
    let all = hub.world.runner_connect(hub.now, blob).unwrap();
    assert_eq!(hub.world.runner_poll(hub.now, &all).unwrap(), None, "no group serves public repositories untold");
    let group =
        RunnerGroupSpec { name: "Default".to_owned(), visibility: Visibility::All, allows_public_repositories: true };
    hub.world.set_runner_group(&Scope::Org("o".to_owned()), group).unwrap();
    assert_eq!(hub.world.runner_poll(hub.now, &all).unwrap(), Some(here));
    assert_eq!(hub.get("/orgs/o/actions/runners").body["total_count"], 1);
    assert_eq!(hub.get("/orgs/o/actions/runner-groups").body["total_count"], 1);
    assert_eq!(hub.get("/orgs/nobody/actions/runners").status, 404);
}

#[test]
fn the_oldest_job_goes_first_unless_chance_decides() {
    let mut hub = Hub::new();
    let first = hub.queue("0", &["nix"]).1;
    for name in 1..10 {
        hub.pass(Duration::from_secs(1));
        hub.queue(&name.to_string(), &["nix"]);
    }
    let runner = hub.runner("x", &["nix"]);
    assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), Some(first));
    hub.world.set_picking(Picking::Random);
    let waiting: Vec<_> =
        hub.world.job_views().into_iter().filter(|job| job.status == JobStatus::Queued).map(|job| job.id).collect();
    let mut taken = Vec::new();
    for name in 0..waiting.len() {
        let runner = hub.runner(&format!("r{name}"), &["nix"]);
        taken.extend(hub.world.runner_poll(hub.now, &runner).unwrap());
    }
    assert_ne!(taken, waiting);
    taken.sort_unstable();
    assert_eq!(taken, waiting);
}

#[test]
fn an_idle_record_is_deleted_and_its_runner_sent_away() {
    let mut hub = Hub::new();
    let runner = hub.runner("x", &["nix"]);
    let path = format!("/repos/o/r/actions/runners/{}", runner.runner);
    let shown = hub.get(&path).body;
    assert_eq!((&shown["status"], &shown["os"]), (&json!("online"), &json!("linux")));
    assert_eq!(hub.delete(&path).status, 204);
    assert_eq!(hub.delete(&path).status, 404);
    assert_eq!(hub.world.runner_poll(hub.now, &runner), Err(Refusal::NotFound));
}

#[test]
fn a_busy_record_cannot_be_deleted_and_lingers_after_its_job() {
    let mut hub = Hub::new();
    hub.queue("a", &["nix"]);
    let runner = hub.runner("x", &["nix"]);
    hub.world.runner_poll(hub.now, &runner).unwrap().unwrap();
    let path = format!("/repos/o/r/actions/runners/{}", runner.runner);
    assert_eq!(hub.get(&path).body["busy"], true);
    let refused = hub.delete(&path);
    assert_eq!(refused.status, 422);
    assert_eq!(refused.body["message"], "Runner \"x\" is currently running a job and cannot be deleted.");
    hub.world.runner_complete(hub.now, &runner, RunnerResult::Succeeded).unwrap();
    hub.pass(Duration::from_secs(4));
    assert_eq!(hub.world.runner_views()[0].state, RunnerState::Lingering);
    assert_eq!(hub.delete(&path).status, 422);
    assert_eq!(hub.mint("x", &["nix"]).status, 409);
    assert!(hub.world.leaked_runners().is_empty());
    hub.pass(Duration::from_secs(37));
    assert_eq!(hub.delete(&path).status, 404);
    assert_eq!(hub.mint("x", &["nix"]).status, 201);
}

#[test]
fn a_record_nobody_uses_is_a_leak_until_github_forgets_it() {
    let mut hub = Hub::new();
    hub.mint("never", &["nix"]);
    let left = hub.runner("left", &["nix"]);
    hub.world.runner_stop(hub.now, &left).unwrap();
    assert_eq!(hub.world.leaked_runners().len(), 2);
    assert_eq!(hub.get("/repos/o/r/actions/runners").all("runners", "status"), ["offline", "offline"]);
    hub.pass(24 * HOUR - MINUTE);
    assert_eq!(hub.world.runner_views().len(), 2);
    hub.pass(MINUTE);
    assert!(hub.world.runner_views().is_empty());
}

#[test]
fn one_registration_is_one_connection_and_one_job() {
    let mut hub = Hub::new();
    hub.queue("a", &["nix"]);
    let minted = hub.mint("x", &["nix"]);
    let blob = minted.body["encoded_jit_config"].as_str().unwrap().to_owned();
    let runner = hub.world.runner_connect(hub.now, &blob).unwrap();
    assert_eq!(hub.world.runner_connect(hub.now, &blob), Err(Refusal::SessionConflict));
    hub.world.runner_poll(hub.now, &runner).unwrap().unwrap();
    hub.world.runner_complete(hub.now, &runner, RunnerResult::Succeeded).unwrap();
    assert_eq!(hub.world.runner_connect(hub.now, &blob), Err(Refusal::NoRegistration));
    assert!(matches!(hub.world.runner_connect(hub.now, "rubbish"), Err(Refusal::BadConfig(_))));
}

#[test]
fn tokens_and_downloads_are_there() {
    let mut hub = Hub::new();
    for kind in ["registration-token", "remove-token"] {
        for scope in ["repos/o/r", "orgs/o"] {
            let token = hub.ask("POST", &format!("/{scope}/actions/runners/{kind}"), None);
            assert_eq!(token.status, 201);
            assert!(token.body["token"].is_string());
            assert_eq!(token.body["expires_at"], "2026-11-01T11:00:00.000Z");
        }
    }
    let downloads = hub.get("/repos/o/r/actions/runners/downloads");
    assert_eq!(downloads.body[0]["os"], "linux");
}

#[test]
fn labels_can_be_changed() {
    let mut hub = Hub::new();
    let id = hub.mint("x", &["nix"]).body["runner"]["id"].clone();
    let path = format!("/repos/o/r/actions/runners/{id}/labels");
    let added = hub.post(&path, json!({ "labels": ["gpu", "nix"] }));
    assert_eq!(added.all("labels", "name"), ["nix", "gpu"]);
    let removed = hub.delete(&format!("{path}/NIX"));
    assert_eq!(removed.all("labels", "name"), ["gpu"]);
    assert_eq!(hub.delete(&format!("{path}/nix")).status, 404);
    let replaced = hub.ask("PUT", &path, Some(json!({ "labels": ["a"] })));
    assert_eq!(replaced.all("labels", "name"), ["a"]);
}

#[test]
fn a_runner_that_is_too_old_is_refused() {
    let mut hub = Hub::with(Config { minimum_runner_version: Some((2, 400, 0)), ..Config::default() });
    let minted = hub.mint("x", &["nix"]);
    let blob = minted.body["encoded_jit_config"].as_str().unwrap().to_owned();
    let runner = hub.world.runner_connect(hub.now, &blob).unwrap();
    assert_eq!(hub.world.runner_offer(hub.now, &runner), Err(Refusal::VersionTooOld("2.338.2".to_owned())));
    hub.world.set_minimum_runner_version(Some((2, 338, 2)));
    assert_eq!(hub.world.runner_offer(hub.now, &runner), Ok(None));
}

#[test]
fn a_version_has_an_end_that_can_be_asked_for() {
    let mut hub = Hub::new();
    let path = "/repos/o/r/actions/runners/deprecations";
    let current = hub.get(&format!("{path}/2.338.2"));
    assert_eq!(current.body, json!({ "runner_version": "2.338.2", "runtime_deprecates_at": null }));
    assert_eq!(hub.get(&format!("{path}/9.9.9")).status, 404);
    hub.world.set_runner_deprecation("2.338.2", Some(hub.now + HOUR));
    let ending = hub.get("/orgs/o/actions/runners/deprecations/2.338.2");
    assert_eq!(ending.body["runtime_deprecates_at"], "2026-11-01T11:00:00Z");
    let runner = hub.runner("in time", &["nix"]);
    assert_eq!(hub.world.runner_offer(hub.now, &runner), Ok(None));
    hub.pass(HOUR);
    let late = hub.runner("too late", &["nix"]);
    for runner in [runner, late] {
        assert_eq!(hub.world.runner_offer(hub.now, &runner), Err(Refusal::VersionTooOld("2.338.2".to_owned())));
    }
}
