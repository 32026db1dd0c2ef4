//! What a new controller makes of what an earlier one left behind.

use github_sim::world::JobSpec;
use tokio::time::sleep;

use crate::{
    REPOS, Simulation, simulate,
    story::{MINUTE, SECOND, life},
};

#[test]
fn a_container_of_a_scale_set_whose_record_is_lost_is_taken_over_as_the_scale_sets() {
    simulate(async {
        let simulation = Simulation::new(1);
        let running = async || {
            while simulation.hub.borrow().job_views().iter().all(|job| job.acquired_at.is_none()) {
                sleep(SECOND / 10).await;
            }
        };
        life(&simulation, async |_| {
            sleep(MINUTE).await;
            let job = JobSpec::new("build", &["self-hosted"], &["true"]);
            simulation.hub.borrow_mut().queue_job(simulation.clock.now(), REPOS[0], job).unwrap();
            running().await;
        })
        .await;
        assert_eq!(simulation.host.borrow().by_set, 1);
        simulation.host.borrow_mut().records.clear();
        life(&simulation, async |status| {
            sleep(SECOND).await;
            let shown: Vec<bool> = status.borrow().active_containers.iter().map(|container| container.set).collect();
            assert_eq!(shown, [true]);
            // Counted as another's, it would be missing in the set, and one more would be started for its job.
            sleep(MINUTE).await;
            assert_eq!(simulation.host.borrow().started, 1);
        })
        .await;
    });
}
