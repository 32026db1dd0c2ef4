//! What is told to be wrong: as long as it is, as often as it changes, and no more.

use tokio::time::sleep;

use crate::{
    REPOS,
    host::HostFault,
    story::{MINUTE, SECOND, beside},
};

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
