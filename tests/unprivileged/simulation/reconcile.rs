//! What scale sets lose, REST finds.

use github_sim::world::{Assignment, JobId, ScaleSetRules};
use tokio::time::sleep;

use crate::{
    REPOS, Simulation,
    story::{MINUTE, SECOND, beside},
};

fn with(assignment: Assignment) -> impl Fn(&mut Simulation) {
    move |simulation| {
        let rules = ScaleSetRules { assignment, ..ScaleSetRules::default() };
        simulation.hub.borrow_mut().set_scale_set_rules(rules);
    }
}

#[test]
fn a_job_whose_assignment_github_drops_is_found_by_rest_and_served_all_the_same() {
    for assignment in [Assignment::Automatic, Assignment::Acquire] {
        beside(1, with(assignment), async |story| {
            sleep(MINUTE).await;
            let job = story.queue(REPOS[0]);
            while story.view(job).scale_set.is_none() {
                sleep(SECOND / 10).await;
            }
            story.simulation.hub.borrow_mut().drop_assignment(story.simulation.clock.now(), job).unwrap();
            sleep(2 * MINUTE).await;
            assert!(!story.is_taken(job), "nobody has it, and the set gets it no more");
            sleep(10 * MINUTE).await;
            assert!(story.is_taken(job), "{assignment:?}: never served: {:?}", story.view(job));
            // The set goes on with whatever else comes.
            let next = story.queue(REPOS[0]);
            sleep(10 * SECOND).await;
            assert!(story.is_taken(next) && story.view(next).scale_set.is_some(), "{:?}", story.view(next));
            assert_eq!(story.problems(), "");
        });
    }
}

#[test]
fn jobs_that_wait_because_the_host_is_full_are_left_to_the_set() {
    beside(1, with(Assignment::Automatic), async |story| {
        sleep(MINUTE).await;
        // Far more than the host takes: for a long time the set is assigned none of most of them.
        let jobs: Vec<JobId> = (0..40).map(|_| story.queue(REPOS[0])).collect();
        sleep(15 * MINUTE).await;
        assert!(jobs.iter().any(|job| !story.is_taken(*job)), "the host was never full");
        assert_eq!(story.started(), story.simulation.host.borrow().by_set, "a runner outside the set was started");
    });
}

#[test]
fn the_job_of_a_scale_set_is_known_by_its_id_in_the_history_however_short_it_was() {
    beside(1, with(Assignment::Automatic), async |story| {
        sleep(MINUTE).await;
        let jobs: Vec<JobId> = (0..20).map(|_| story.queue(REPOS[0])).collect();
        sleep(60 * MINUTE).await;
        assert!(jobs.iter().all(|job| story.is_taken(*job)));
        let finished = story.status.borrow().finished.clone();
        for ended in &finished {
            let job = ended.job_id.map(|id| story.view(JobId(id)));
            let runner = job.and_then(|job| job.runner_name);
            assert_eq!(runner.as_ref(), Some(&ended.runner_name), "{ended:?}");
        }
        assert_eq!(finished.len(), 20);
    });
}
