//! Idle runners that are of no use any more make room for others, and no job is blamed for them.

use std::time::Duration;

use controller::cause::Cause;
use github_sim::{
    Call,
    world::{Fault, JobId, RunnerFault, RunnerWhat, What},
};
use tokio::time::sleep;

use crate::{
    Simulation,
    ports::token,
    story::{MINUTE, SECOND, Story, beside},
};

fn fault(story: &Story, what: RunnerWhat, count: u32) {
    story.simulation.hub.borrow_mut().inject_runner(RunnerFault { count, ..RunnerFault::once(what) });
}

fn nothing(_: &mut Simulation) {}

/// Something idle is always there.
fn one_ready(simulation: &mut Simulation) {
    simulation.settings.classes.get_mut("big").unwrap().min_idle = 1;
    simulation.settings.targets.retain(|target| target.name == "acme/api");
}

/// Causes and reasons of all ends, the oldest first.
fn ends(story: &Story) -> Vec<(Cause, String)> {
    let status = story.status.borrow();
    status.finished.iter().map(|ended| (ended.cause, ended.reason.clone().unwrap_or_default())).collect()
}

fn ends_by(story: &Story, cause: Cause) -> usize {
    ends(story).iter().filter(|(found, _)| *found == cause).count()
}

#[test]
fn a_runner_that_lost_its_assignment_makes_room_for_one_that_gets_the_job() {
    for (scale_set, repo) in [(false, "acme/api"), (true, "acme/api"), (false, "corp/web"), (true, "corp/web")] {
        for seed in [1, 2] {
            beside(seed, nothing, async |story| {
                sleep(2 * MINUTE).await;
                fault(story, RunnerWhat::AssignmentLost, 1);
                let job = if scale_set { story.queue(repo) } else { story.queue_polled(repo) };
                sleep(5 * MINUTE).await;
                assert!(story.is_taken(job), "{repo}, by scale set: {scale_set}, seed {seed}: {:?}", ends(story));
                sleep(10 * MINUTE).await;
                assert_eq!(ends_by(story, Cause::Replaced), 1, "{:?}", ends(story));
                assert_eq!((story.registrations(), story.problems().as_str()), (0, ""));
            });
        }
    }
}

/// When all of them were taken.
async fn taken_within(story: &Story, jobs: &[JobId], most: Duration) -> Duration {
    let mut waited = Duration::ZERO;
    while !jobs.iter().all(|job| story.is_taken(*job)) {
        assert!(waited < most, "{jobs:?} not taken within {most:?}: {:?}", story.status.borrow().queue);
        sleep(SECOND).await;
        waited += SECOND;
    }
    waited
}

#[test]
fn five_minutes_after_an_outage_everything_runs_though_all_that_registered_meanwhile_is_deaf() {
    for seed in [1, 2] {
        beside(seed, nothing, async |story| {
            sleep(2 * MINUTE).await;
            fault(story, RunnerWhat::GivenNothing, u32::MAX);
            let queue = || {
                [story.queue("acme/api"), story.queue_polled("acme/api"), story.queue("corp/web")]
                    .into_iter()
                    .chain([story.queue_polled("solo/site")])
            };
            let mut jobs: Vec<JobId> = queue().collect();
            sleep(40 * MINUTE).await;
            assert!(jobs.iter().all(|job| !story.is_taken(*job)));
            assert!(story.started() <= 80, "{} containers in forty minutes for four jobs", story.started());
            story.simulation.hub.borrow_mut().clear_faults();
            taken_within(story, &jobs, 5 * MINUTE).await;
            jobs.extend(queue());
            // Five places for eight jobs.
            taken_within(story, &jobs, 15 * MINUTE).await;
            sleep(20 * MINUTE).await;
            assert_eq!((story.registrations(), story.problems().as_str()), (0, ""));
            let blamed = ends(story).into_iter().filter(|(cause, _)| {
                !matches!(cause, Cause::Replaced | Cause::Succeeded | Cause::JobFailed | Cause::IdleTooLong)
            });
            assert_eq!(blamed.collect::<Vec<_>>(), []);
        });
    }
}

#[test]
fn an_idle_runner_that_is_offline_or_cut_off_or_whose_registration_is_gone_is_replaced() {
    for (delete, hidden, reason) in [
        (false, false, "its runner is offline at the forge"),
        (true, false, "the registration of its runner is gone"),
        (false, true, "its runner lost the forge and has not reached it again"),
    ] {
        beside(1, one_ready, async |story| {
            sleep(5 * MINUTE).await;
            assert_eq!(story.started(), 1);
            if hidden {
                let oops = What::Status { code: 502, message: String::new(), headers: vec![] };
                story.simulation.hub.borrow_mut().inject(Fault::times(u32::MAX, Call::ListRunners, oops));
            } else {
                // Seen once, it may be a slip.
                story.simulation.hub.borrow_mut().inject(Fault::once(Call::ListRunners, What::EmptyList));
                sleep(10 * MINUTE).await;
                assert_eq!(story.started(), 1, "replaced for one empty list");
            }
            fault(story, RunnerWhat::CutOff, 1);
            sleep(2 * SECOND).await;
            if delete {
                let id = story.simulation.hub.borrow().runner_views()[0].id;
                let request = http::Request::delete(format!("/repos/acme/api/actions/runners/{id}"))
                    .header("authorization", format!("Bearer {}", token("first")))
                    .header("host", "github.invalid")
                    .header("user-agent", "an operator")
                    .body(Vec::new())
                    .unwrap();
                let now = story.simulation.clock.now();
                let _ = story.simulation.hub.borrow_mut().handle(now, &request);
                assert_eq!(story.registrations(), 0);
            }
            sleep(7 * MINUTE).await;
            assert_eq!(ends(story), [(Cause::Replaced, reason.to_owned())]);
            assert_eq!((story.started(), story.registrations(), story.problems().as_str()), (2, 1, ""));
            let job = story.queue_polled("acme/api");
            sleep(MINUTE).await;
            assert!(story.is_taken(job), "the new one serves");
        });
    }
}

#[test]
fn a_runner_that_gets_no_session_ends_at_its_boots_deadline_with_its_own_words() {
    beside(1, nothing, async |story| {
        sleep(2 * MINUTE).await;
        fault(story, RunnerWhat::SessionBroken, 1);
        let job = story.queue_polled("acme/api");
        sleep(5 * MINUTE).await;
        assert!(story.is_taken(job));
        let ends = ends(story);
        assert!(
            ends[0].0 == Cause::BootFailed && ends[0].1.contains("Retrying until reconnected"),
            "what the runner said explains it: {ends:?}"
        );
    });
}

/// The simulation begins on a Monday, at 2:00 by the host's clock.
#[test]
fn idle_containers_are_ready_in_the_hours_that_the_class_names_and_at_no_other_time() {
    let office = |simulation: &mut Simulation| {
        one_ready(simulation);
        let hours = "Mon..Fri 08:00..18:00".parse().unwrap();
        simulation.settings.classes.get_mut("big").unwrap().min_idle_hours = vec![hours];
    };
    beside(3, office, async |story| {
        sleep(Duration::from_secs(6 * 3600) - 2 * MINUTE).await;
        assert_eq!((story.started(), story.registrations()), (0, 0), "before the morning");
        sleep(4 * MINUTE).await;
        assert_eq!((story.started(), story.registrations()), (1, 1), "a runner listens");
        let job = story.queue_polled("acme/api");
        sleep(MINUTE).await;
        assert!(story.is_taken(job));
        sleep(Duration::from_secs(10 * 3600)).await;
        assert_eq!((story.registrations(), story.problems().as_str()), (0, ""), "in the evening");
        let before = story.started();
        sleep(Duration::from_secs(13 * 3600)).await;
        assert_eq!(story.started(), before, "in the night");
        sleep(Duration::from_secs(3600)).await;
        assert_eq!((story.started(), story.registrations()), (before + 1, 1), "on Tuesday");
    });
}
