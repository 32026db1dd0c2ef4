//! One host for all targets: a busy one does not starve the others.

use std::time::Duration;

use github_sim::world::{JobId, JobStatus};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::sleep;

use crate::{
    REPOS, Simulation, replayable, seeds,
    story::{MINUTE, Story, beside},
};

/// One repository of each target.
const TARGETS: [&str; 3] = [REPOS[0], REPOS[1], REPOS[4]];
/// Until a quiet repository is looked at, until the next container ends whose job takes five minutes at most, and until
/// one has booted.
const BOUND: Duration = Duration::from_secs(90 + 300 + 30);

#[test]
fn a_job_of_a_quiet_target_starts_within_a_bound_while_a_busy_one_floods_the_host() {
    for seed in seeds().into_iter().take(4) {
        replayable(seed, || beside(seed, equal, async |story| flooded(story, seed).await));
    }
}

/// A higher priority is meant to come first; weights are shares.
fn equal(simulation: &mut Simulation) {
    for target in &mut simulation.settings.targets {
        target.priority = 0;
    }
}

async fn flooded(story: &Story, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let busy = *TARGETS.choose(&mut rng).unwrap();
    let mut quiet: Vec<JobId> = Vec::new();
    for minute in 0..90 {
        let views = story.simulation.hub.borrow().job_views();
        for _ in views.iter().filter(|job| job.status == JobStatus::Queued).count()..30 {
            story.queue(busy);
        }
        // One at a time for each of the others, so that its share is free.
        for repo in TARGETS.into_iter().filter(|repo| *repo != busy) {
            let mut own = quiet.iter().map(|job| story.view(*job)).filter(|view| view.repo == repo);
            if minute >= 10 && own.all(|view| view.status == JobStatus::Completed) && rng.random_bool(0.3) {
                quiet.push(story.queue(repo));
            }
        }
        sleep(MINUTE).await;
    }
    sleep(BOUND).await;
    assert!(quiet.len() > 5, "hardly anything was tried");
    for job in quiet {
        let view = story.view(job);
        let waited = view.acquired_at.map(|at| at.saturating_sub(view.created_at));
        assert!(waited.is_some_and(|waited| waited <= BOUND), "{} waited {waited:?} beside {busy}", view.repo);
    }
}
