//! Memory: the controller's own, which does not grow with what it has done, and what containers used of theirs.

use std::time::Duration;

use controller::{cause::Cause, daemon::Daemon, status::Status};
use github_sim::world::JobSpec;
use settings::Intake;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::{
    HOST_NAME, REPOS, Simulation,
    heap::{self, Whose},
    host::{HostFault, MEMORY_PEAK},
    ports::SimWorld,
    simulate,
};

/// Time from one job to the next.
const APART: Duration = Duration::from_secs(120);
/// Lives after which everything that is kept to some number or age is full: 200 endings, and the pages of runs that a
/// look without a filter reads, until all on one began more than 25 hours ago.
const FILLED: u32 = 950;
/// Further lives, after which nothing more may be there.
const MORE: u32 = 450;
/// What may differ between two moments of rest, bytes: names and numbers of different length.
const SLACK: isize = 16 * 1024;

#[test]
fn the_controllers_memory_does_not_grow_with_the_containers_it_has_seen() {
    let (filled, after) = simulate(async {
        let mut simulation = Simulation::new(1);
        simulation.settings.poll_interval = Duration::from_secs(120);
        simulation.settings.idle_poll_interval = Some(Duration::from_secs(120));
        // What scale sets tell is kept for two days, by a rule of its own; and listening takes long to simulate.
        for class in simulation.settings.classes.values_mut() {
            class.intake = Intake::Polling;
        }
        let world = heap::of(Whose::Controllers, || {
            SimWorld::new(&simulation.hub, &simulation.host, &simulation.clock, &simulation.settings, 1)
        });
        let (_commands, inbox) = mpsc::channel(1);
        let (outbox, status) = watch::channel(Status::default());
        let daemon = heap::of(Whose::Controllers, || {
            Daemon::new(&world, simulation.settings.clone(), HOST_NAME.into(), inbox, outbox)
        });
        tokio::select! {
            biased;
            result = heap::polled(Whose::Controllers, daemon.run()) => panic!("the controller ended by itself: {result:?}"),
            found = async {
                live_through(&simulation, &status, FILLED).await;
                let filled = heap::live(Whose::Controllers);
                live_through(&simulation, &status, MORE).await;
                (filled, heap::live(Whose::Controllers))
            } => found,
        }
    });
    println!("after {FILLED} lives {filled} bytes, after {MORE} more {after}");
    assert!(filled > 10_000, "nothing was counted");
    assert!(after <= filled + SLACK, "{filled} bytes became {after} in {MORE} lives");
}

/// So many containers come and go, of both classes; then it is quiet.
async fn live_through(simulation: &Simulation, status: &watch::Receiver<Status>, lives: u32) {
    let end = simulation.host.borrow().started + lives;
    let mut number = 0_usize;
    while simulation.host.borrow().started < end {
        let labels: &[&str] = if number.is_multiple_of(3) { &["linux", "big"] } else { &["self-hosted"] };
        let job = JobSpec::new("build", labels, &["true"]);
        simulation.hub.borrow_mut().queue_job(simulation.clock.now(), REPOS[0], job).unwrap();
        number += 1;
        sleep(APART).await;
    }
    // Long enough for every registration to be settled and every listing to be read anew.
    sleep(Duration::from_secs(2 * 3600)).await;
    let status = status.borrow();
    assert!(status.active_containers.is_empty() && status.queue.is_empty(), "{status:?}");
}

#[test]
fn a_job_that_uses_up_its_memory_is_told_as_that_and_everyone_with_what_they_used() {
    let finished = simulate(async {
        let simulation = Simulation::new(1);
        let world = SimWorld::new(&simulation.hub, &simulation.host, &simulation.clock, &simulation.settings, 1);
        let (_commands, inbox) = mpsc::channel(1);
        let (outbox, status) = watch::channel(Status::default());
        let daemon = Daemon::new(&world, simulation.settings.clone(), HOST_NAME.into(), inbox, outbox);
        let queue = |name| {
            let job = JobSpec::new(name, &["self-hosted"], &["true"]);
            simulation.hub.borrow_mut().queue_job(simulation.clock.now(), REPOS[0], job).unwrap();
        };
        tokio::select! {
            biased;
            result = daemon.run() => panic!("the controller ended by itself: {result:?}"),
            () = async {
                simulation.host.borrow_mut().faults.push(HostFault::OutOfMemory);
                for name in ["greedy", "modest"] {
                    queue(name);
                    sleep(Duration::from_secs(3600)).await;
                }
            } => {}
        }
        status.borrow().finished.clone()
    });
    let greedy: Vec<bool> = finished.iter().map(|ended| ended.cause == Cause::OutOfMemory).collect();
    assert_eq!(greedy.iter().filter(|greedy| **greedy).count(), 1, "{finished:#?}");
    assert!(finished.len() > 1 && finished.iter().all(|ended| ended.memory_peak == Some(MEMORY_PEAK)), "{finished:#?}");
}
