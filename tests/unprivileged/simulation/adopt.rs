//! What a new controller makes of what an earlier one left behind.

use std::path::Path;

use controller::{cause::Cause, ledger::records_in};
use github_sim::world::JobSpec;
use tokio::time::sleep;

use crate::{
    REPOS, Simulation, simulate,
    story::{MINUTE, SECOND, life},
    truth::Fate,
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

#[test]
fn what_an_earlier_version_left_is_settled_and_written_down_by_this_one() {
    for form in ["first", "shared", "current"] {
        simulate(async {
            let simulation = Simulation::new(1);
            let state = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unprivileged/upgrade").join(form);
            let records = records_in(&state).unwrap();
            let runners: Vec<String> = records.iter().map(|record| record.runner_name.clone()).collect();
            assert_eq!(runners.len(), 4);
            for record in records {
                simulation.host.borrow_mut().records.insert(record.name.clone(), record);
            }
            // That one had ended.
            simulation.host.borrow_mut().truth.took(&runners[3], 4);
            simulation.host.borrow_mut().truth.is(&runners[3], Fate::Failed);
            life(&simulation, async |_| sleep(60 * MINUTE).await).await;
            let host = simulation.host.borrow();
            assert!(host.records.is_empty(), "{form}: {:?}", host.records);
            let causes: Vec<_> =
                runners.iter().map(|runner| host.history.of(runner).map(|entry| entry.cause)).collect();
            assert_eq!(causes[2], Some(Cause::IdleTooLong), "{form}: it was being stopped");
            assert!(causes.iter().all(Option::is_some), "{form}: {causes:?}");
        });
    }
}
