//! Runner groups that keep repositories out: their jobs get no runner of ours, whatever is started for them.

use github_sim::{
    Call,
    world::{Fault, RunnerGroupSpec, Scope, Visibility, What},
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
fn a_job_that_idle_runners_are_never_given_is_given_up_ever_longer_and_leaves_no_container_idle() {
    let prepare = |simulation: &mut Simulation| {
        group(simulation, false);
        // Whoever may register runners may not be allowed to see their groups.
        let hidden = What::Status { code: 403, message: "Resource not accessible".into(), headers: vec![] };
        simulation.hub.borrow_mut().inject(Fault::times(u32::MAX, Call::ListRunnerGroups, hidden));
    };
    beside(1, prepare, async |story| {
        sleep(2 * MINUTE).await;
        let job = story.queue_polled(PUBLIC);
        let (mut idle, minutes) = (0, 6 * 60);
        for _ in 0..minutes {
            sleep(MINUTE).await;
            idle += usize::from(!story.status.borrow().active_containers.is_empty());
        }
        assert!(!story.is_taken(job));
        assert!((2..=8).contains(&story.started()), "{} containers in six hours", story.started());
        assert!(idle < minutes / 6, "a container was there for {idle} of {minutes} minutes");
        let reasons = reasons(story);
        assert!(reasons.len() == 1 && reasons[0].contains("runner group"), "{reasons:?}");
        assert!(story.problems().contains("corp/docs"), "{}", story.problems());
        // A runner of its own group would have been given it at once.
        let next = story.queue_polled(PRIVATE);
        sleep(2 * MINUTE).await;
        assert!(story.is_taken(next));
    });
}
