//! The same seed and the same calls give the same answers.

use crate::hub::Hub;
use github_sim::{
    Config,
    world::{Picking, RunnerResult},
};
use std::fmt::Write as _;
use std::time::Duration;

/// Everything a busy day answers, as text.
fn day(seed: u64) -> String {
    let mut hub = Hub::with(Config { seed, picking: Picking::Random, ..Config::default() });
    let mut said = String::new();
    for hour in 0..24 {
        for job in 0..5 {
            hub.queue(&format!("{hour}-{job}"), &["nix"]);
        }
        for runner in 0..4 {
            let session = hub.runner(&format!("r{hour}-{runner}"), &["nix"]);
            let job = hub.world.runner_poll(hub.now, &session).unwrap();
            writeln!(said, "{session:?} {job:?}").unwrap();
            hub.pass(Duration::from_secs(60));
            match runner {
                0 => hub.world.runner_vanish(hub.now, &session),
                1 => hub.world.runner_stop(hub.now, &session).unwrap(),
                _ => hub.world.runner_complete(hub.now, &session, RunnerResult::Succeeded).unwrap(),
            }
        }
        let runs = hub.get("/repos/o/r/actions/runs?per_page=100");
        let runners = hub.get("/repos/o/r/actions/runners?per_page=100");
        writeln!(said, "{:?} {} {:?}", runs.headers, runs.body, runners.body).unwrap();
        hub.pass(Duration::from_secs(3_000));
    }
    writeln!(said, "{:?}", hub.world.job_views()).unwrap();
    said
}

#[test]
fn a_seed_replays() {
    assert!(day(7) == day(7));
}

#[test]
fn another_seed_is_another_day() {
    assert!(day(7) != day(8));
}
