//! Jobs that the host cost, run again within a budget.

use std::time::Duration;

use controller::cause::Cause;
use github_sim::world::{JobSpec, JobView};
use settings::Retry;
use tokio::time::sleep;

use crate::{
    REPOS, Simulation, host, simulate,
    story::{MINUTE, SECOND, life},
};

/// Jobs of the polled class by id, the one queued last at the end.
fn jobs(simulation: &Simulation) -> Vec<JobView> {
    let mut jobs = simulation.hub.borrow().job_views();
    jobs.sort_by_key(|job| job.id);
    jobs
}

/// Two jobs of different runs run when the host is restarted, and again half an hour later. Returns all attempts there
/// were, and how many containers the history says were restarted under their job, each with the reason.
fn restarted_twice(retry: Retry) -> (Vec<JobView>, Vec<Option<String>>) {
    simulate(async {
        let mut simulation = Simulation::new(1);
        simulation.settings.retry = retry;
        simulation.host.borrow_mut().job_takes = Some(Duration::from_secs(3 * 3600));
        for repo in [REPOS[0], REPOS[1]] {
            let spec = JobSpec::new("build", &["self-hosted", "big"], &["true"]);
            simulation.hub.borrow_mut().queue_job(simulation.clock.now(), repo, spec).unwrap();
        }
        let mut restarted = Vec::new();
        for _ in 0..3 {
            life(&simulation, async |status| {
                sleep(40 * MINUTE).await;
                let status = status.borrow();
                let of_host = status.finished.iter().filter(|ended| ended.cause == Cause::HostRebooted);
                restarted.extend(of_host.map(|ended| ended.reason.clone()));
            })
            .await;
            host::goes_down(&simulation.host, false);
            sleep(SECOND).await;
        }
        (jobs(&simulation), restarted)
    })
}

#[test]
fn a_job_that_a_restart_of_the_host_cost_is_run_again_within_its_budget_and_never_unless_wanted() {
    let (jobs, restarted) = restarted_twice(Retry::default());
    assert_eq!((jobs.len(), restarted), (2, vec![None, None]), "off by default");

    let (jobs, restarted) = restarted_twice(Retry { per_job: 1, per_hour: 10 });
    let attempts: Vec<u32> = jobs.iter().map(|job| job.attempt).collect();
    assert_eq!(attempts, [1, 1, 2, 2], "each once more, and no more");
    assert!(jobs.iter().all(|job| job.acquired_at.is_some()), "{jobs:#?}");
    let reasons: Vec<String> = restarted.into_iter().flatten().collect();
    let count = |words: &str| reasons.iter().filter(|reason| reason.contains(words)).count();
    assert_eq!(
        (count("is run again: re-run 1 of 1"), count("attempt 2, and retry.per_job is 1")),
        (2, 2),
        "{reasons:?}"
    );

    let (jobs, restarted) = restarted_twice(Retry { per_job: 5, per_hour: 1 });
    let spent = restarted.iter().flatten().filter(|reason| reason.contains("(retry.per_hour)")).count();
    assert_eq!((jobs.len(), spent), (4, 1), "one in each life of a controller: {restarted:?}");
}
