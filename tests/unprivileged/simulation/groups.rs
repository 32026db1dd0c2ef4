//! Runner groups that keep repositories out: their jobs get no runner of ours, whatever is started for them.

use github_sim::{
    Call,
    world::{Fault, JobSpec, RunnerGroupSpec, Scope, Visibility, What},
};
use settings::Intake;
use tokio::time::sleep;

use crate::{
    Simulation,
    story::{MINUTE, Story, beside},
};

/// A public repository of the organisation, and a private one.
const PUBLIC: &str = "corp/docs";
const PRIVATE: &str = "corp/web";

fn group(simulation: &Simulation, allows_public_repositories: bool) {
    let group = RunnerGroupSpec { name: "Default".into(), visibility: Visibility::All, allows_public_repositories };
    simulation.hub.borrow_mut().set_runner_group(&Scope::Org("corp".into()), group).unwrap();
}

fn reasons(story: &Story) -> Vec<String> {
    story.status.borrow().queue.iter().map(|job| job.reason.clone()).collect()
}

#[test]
fn a_job_that_its_runner_group_excludes_boots_nothing_and_says_so_until_the_group_lets_it_in() {
    for intake in [Intake::Polling, Intake::Auto] {
        let prepare = |simulation: &mut Simulation| {
            group(simulation, false);
            simulation.settings.classes.get_mut("small").unwrap().intake = intake;
        };
        beside(1, prepare, async |story| {
            sleep(2 * MINUTE).await;
            let (kept_out, let_in) = (story.queue_polled(PUBLIC), story.queue_polled(PRIVATE));
            sleep(20 * MINUTE).await;
            assert!(story.is_taken(let_in) && !story.is_taken(kept_out));
            assert_eq!(story.started(), 1, "the one that can be run");
            let reasons = reasons(story);
            assert!(reasons.len() == 1 && reasons[0].contains("runner group \"Default\" of corp"), "{reasons:?}");
            let problems = story.problems();
            assert!(problems.contains("corp/docs") && problems.contains("Remedy: "), "{problems}");

            group(&story.simulation, true);
            sleep(20 * MINUTE).await;
            assert!(story.is_taken(kept_out));
            assert_eq!(story.problems(), "");
        });
    }
}

#[test]
fn a_job_of_a_group_without_labels_is_a_scale_sets_or_is_explained() {
    for intake in [Intake::Polling, Intake::Auto] {
        let prepare = |simulation: &mut Simulation| {
            simulation.settings.classes.get_mut("small").unwrap().intake = intake;
        };
        beside(1, prepare, async |story| {
            sleep(2 * MINUTE).await;
            let spec = JobSpec { group: Some("Default".into()), ..JobSpec::new("build", &[], &["true"]) };
            let now = story.simulation.clock.now();
            let job = story.simulation.hub.borrow_mut().queue_job(now, PRIVATE, spec).unwrap().1;
            sleep(10 * MINUTE).await;
            let reasons = reasons(story);
            if intake == Intake::Auto {
                assert!(story.is_taken(job), "the forge assigns it to the set: {reasons:?}");
            } else {
                assert!(reasons.len() == 1 && reasons[0].contains("runs-on: {group: NAME, labels:"), "{reasons:?}");
                assert_eq!(story.started(), 0);
            }
        });
    }
}

/// Whoever may register runners may not be allowed to see their groups.
fn hidden_group(simulation: &mut Simulation) {
    group(simulation, false);
    let hidden = What::Status { code: 403, message: "Resource not accessible".into(), headers: vec![] };
    simulation.hub.borrow_mut().inject(Fault::times(u32::MAX, Call::ListRunnerGroups, hidden));
}

/// Containers started, and minutes in which one was there, while this job waits and others are served now and then.
async fn wait_beside(story: &Story, minutes: u32, others: bool) -> (u32, u32) {
    let (mut there, before) = (0, story.started());
    let mut served = 0;
    for minute in 0..minutes {
        if others && minute % 20 == 0 {
            story.queue_polled(PRIVATE);
            served += 1;
        }
        sleep(MINUTE).await;
        there += u32::from(!story.status.borrow().active_containers.is_empty());
    }
    (story.started() - before - served, there)
}

#[test]
fn a_job_that_idle_runners_are_not_given_while_others_are_served_is_given_up_ever_longer() {
    beside(1, hidden_group, async |story| {
        sleep(2 * MINUTE).await;
        let job = story.queue_polled(PUBLIC);
        sleep(3 * MINUTE).await;
        let (started, there) = wait_beside(story, 6 * 60, true).await;
        assert!(!story.is_taken(job));
        assert!((2..=16).contains(&started), "{started} containers for it in six hours");
        assert!(there < 6 * 20, "a container was there for {there} of 360 minutes, five each for the others' jobs");
        let reasons = reasons(story);
        assert!(reasons.len() == 1 && reasons[0].contains("runner group"), "{reasons:?}");
        assert!(story.problems().contains("corp/docs"), "{}", story.problems());
    });
}

#[test]
fn where_nothing_tells_a_group_from_an_outage_a_job_is_given_up_after_an_hour() {
    beside(1, hidden_group, async |story| {
        sleep(2 * MINUTE).await;
        let job = story.queue_polled(PUBLIC);
        let (started, _) = wait_beside(story, 75, false).await;
        assert!((15..=24).contains(&started), "{started} containers: another every three minutes");
        let (started, there) = wait_beside(story, 6 * 60, false).await;
        assert!(!story.is_taken(job));
        assert!((2..=8).contains(&started), "{started} containers in six hours");
        assert!(there < 60, "a container was there for {there} of 360 minutes");
        assert!(story.problems().contains("corp/docs"), "{}", story.problems());
        // A runner of its own group would have been given it at once.
        let next = story.queue_polled(PRIVATE);
        sleep(2 * MINUTE).await;
        assert!(story.is_taken(next));
    });
}
