//! What is told to be wrong: as long as it is, as often as it changes, and no more.

use github_sim::{
    Call,
    world::{Fault, What},
};
use tokio::time::sleep;

use crate::{
    REPOS,
    host::HostFault,
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
