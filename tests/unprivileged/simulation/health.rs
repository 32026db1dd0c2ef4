//! What is told to be wrong: as long as it is, as often as it changes, and no more.

use std::{cell::RefCell, rc::Rc};

use controller::{
    daemon::Daemon,
    event::{What as Happened, changes},
    incident::Incident,
    status::Status,
};
use github_sim::{
    Call,
    world::{Fault, What},
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::{
    HOST_NAME, REPOS, Simulation,
    host::HostFault,
    ports::SimWorld,
    simulate,
    story::{MINUTE, SECOND, beside},
};

fn refused(code: u16) -> What {
    What::Status { code, message: "not now".into(), headers: vec![] }
}

#[test]
fn a_unit_that_is_not_started_counts_as_one_failed_boot() {
    beside(
        1,
        |_| {},
        async |story| {
            sleep(MINUTE).await;
            story.simulation.host.borrow_mut().faults.push(HostFault::StartRefused);
            let job = story.queue_polled(REPOS[0]);
            let mut most = 0;
            for _ in 0..600 {
                sleep(SECOND / 10).await;
                let failures = story.status.borrow().classes.iter().map(|class| class.boot_failures).max();
                most = most.max(failures.unwrap_or_default());
            }
            assert!(story.is_taken(job));
            assert_eq!(most, 1);
        },
    );
}

#[test]
fn failed_boots_are_history_once_nobody_has_asked_for_the_class_for_an_hour() {
    beside(
        1,
        |_| {},
        async |story| {
            sleep(MINUTE).await;
            // More than are tried until the job is seen to be gone.
            story.simulation.host.borrow_mut().faults.extend([HostFault::StartRefused; 8]);
            let job = story.queue_polled(REPOS[0]);
            let failed = "in a row ended before they took a job";
            for _ in 0..600 {
                if story.problems().contains(failed) {
                    break;
                }
                sleep(SECOND / 10).await;
            }
            let hub = &story.simulation.hub;
            hub.borrow_mut().cancel_job(story.simulation.clock.now(), job).unwrap();
            sleep(30 * MINUTE).await;
            assert!(story.problems().contains(failed), "{}", story.problems());
            sleep(40 * MINUTE).await;
            assert_eq!(story.problems(), "");
            assert!(story.status.borrow().classes.iter().all(|class| class.boot_failures == 0));
        },
    );
}

#[test]
fn a_place_where_runners_cannot_be_registered_is_no_problem_once_nobody_needs_one_there() {
    beside(
        1,
        |_| {},
        async |story| {
            sleep(MINUTE).await;
            let hub = &story.simulation.hub;
            hub.borrow_mut().inject(Fault::times(u32::MAX, Call::Mint, refused(403)));
            let job = story.queue_polled(REPOS[0]);
            for _ in 0..20 {
                sleep(MINUTE).await;
                assert!(story.problems().contains("acme/api: runners cannot be registered"), "{}", story.problems());
            }
            hub.borrow_mut().cancel_job(story.simulation.clock.now(), job).unwrap();
            sleep(10 * MINUTE).await;
            assert_eq!(story.problems(), "");
            assert!(story.status.borrow().scopes.is_empty(), "{:?}", story.status.borrow().scopes);
            // Who needs one again is told again.
            story.queue_polled(REPOS[0]);
            sleep(MINUTE).await;
            assert!(story.problems().contains("acme/api: runners cannot be registered"), "{}", story.problems());
        },
    );
}

#[test]
fn a_refused_credential_is_an_incident_with_the_remedy_until_it_is_taken_again() {
    beside(
        1,
        |_| {},
        async |story| {
            sleep(2 * MINUTE).await;
            story.simulation.hub.borrow_mut().inject(Fault::times(u32::MAX, Call::ListRuns, refused(401)));
            sleep(2 * MINUTE).await;
            let status = story.status.borrow().clone();
            let told = status.incidents.iter().find(|ongoing| ongoing.incident == Incident::Credential).unwrap();
            for words in ["the forge refuses it: not now", "systemctl reload gha-runner-controller"] {
                assert!(told.reason.contains(words), "{told:?}");
            }
            assert!(status.credentials.iter().any(|known| known.refused.as_deref() == Some("not now")));
            story.simulation.hub.borrow_mut().clear_faults();
            // The breaker rests the credential for ten minutes, and a fifth more by chance.
            sleep(15 * MINUTE).await;
            assert_eq!((story.problems(), story.status.borrow().incidents.clone()), (String::new(), vec![]));
        },
    );
}

/// Every list of problems that listeners were told while `happens` was so for ten minutes, and for ten more.
fn told_of(happens: Vec<(Call, What)>) -> Vec<Vec<String>> {
    simulate(async {
        let simulation = Simulation::new(1);
        let world = SimWorld::new(&simulation.hub, &simulation.host, &simulation.clock, &simulation.settings, 1);
        let (_commands, inbox) = mpsc::channel(8);
        let (outbox, _status) = watch::channel(Status::default());
        let told = Rc::new(RefCell::new(Vec::new()));
        let listener = told.clone();
        let daemon = Daemon::new(&world, simulation.settings.clone(), HOST_NAME.into(), inbox, outbox).observed_by(
            move |before, after| {
                for event in changes(before, after) {
                    if let Happened::Health { problems } = event.what {
                        listener.borrow_mut().push(problems);
                    }
                }
            },
        );
        tokio::select! {
            biased;
            result = daemon.run() => panic!("the controller ended by itself: {result:?}"),
            () = async {
                sleep(2 * MINUTE).await;
                for (call, what) in happens {
                    simulation.hub.borrow_mut().inject(Fault::times(u32::MAX, call, what));
                }
                sleep(10 * MINUTE).await;
                simulation.hub.borrow_mut().clear_faults();
                sleep(10 * MINUTE).await;
            } => {}
        }
        told.take()
    })
}

#[test]
fn listeners_are_told_of_a_problem_when_it_comes_and_when_it_goes_and_not_each_second_between() {
    for happens in [
        vec![(Call::ListRuns, refused(502))],
        vec![(Call::ListRuns, What::RateLimitSecondary { retry_after: Some(700) })],
        vec![(Call::GetMessage, refused(502))],
    ] {
        let told = told_of(happens.clone());
        assert!(told.len() >= 2 && told.len() <= 8, "{happens:?}: told {} times: {told:#?}", told.len());
        assert!(!told[0].is_empty() && told.last().unwrap().is_empty(), "{happens:?}: {told:#?}");
    }
}

#[test]
fn how_jobs_are_found_is_told_for_each_target_and_class_with_the_reason() {
    beside(
        1,
        |_| {},
        async |story| {
            sleep(MINUTE).await;
            let targets = story.status.borrow().targets.clone();
            let told: Vec<(String, String, String)> = targets
                .iter()
                .flat_map(|target| target.intake.iter().map(|chosen| (target.repo.clone(), chosen)))
                .map(|(target, chosen)| {
                    (target, chosen.class.clone(), format!("{:?}: {}", chosen.intake, chosen.reason))
                })
                .collect();
            assert_eq!(told.len(), 6, "{told:#?}");
            for (target, class, words) in told {
                let expected = match (class.as_str(), target.as_str()) {
                    ("big", _) => "Polling: the class has intake = \"polling\"",
                    (_, "solo") => "Polling: intake = \"auto\" polls where runners are registered with repositories",
                    _ => "ScaleSet: the forge gave it a scale set",
                };
                assert!(words.starts_with(expected), "{target}, {class}: {words}");
            }
        },
    );
}
