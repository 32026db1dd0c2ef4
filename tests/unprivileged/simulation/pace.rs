//! How often repositories are looked at.

use std::{collections::BTreeMap, time::Duration};

use controller::{daemon::Daemon, status::Status};
use github_sim::Call;
use settings::Intake;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::{HOST_NAME, Simulation, ports::SimWorld, simulate};

const MINUTE: Duration = Duration::from_secs(60);

/// A first look at a repository costs what later ones do not: nothing of it is known to be unchanged.
#[test]
fn two_hundred_quiet_repositories_are_each_looked_at_about_every_minute_from_the_start_on() {
    simulate(async {
        let mut simulation = Simulation::new(1);
        simulation.settings.poll_interval = MINUTE / 6;
        simulation.settings.idle_poll_interval = MINUTE;
        for class in simulation.settings.classes.values_mut() {
            class.intake = Intake::Polling;
        }
        {
            let mut hub = simulation.hub.borrow_mut();
            hub.add_repos("corp", "service", 200, true).unwrap();
            // What an App gets in an organisation of that size (docs/github.md#rate-limits).
            hub.set_rate_limit(Some(12_500));
        }
        let world = SimWorld::new(&simulation.hub, &simulation.host, &simulation.clock, &simulation.settings, 1);
        let (_commands, inbox) = mpsc::channel(1);
        let (outbox, _status) = watch::channel(Status::default());
        let daemon = Daemon::new(&world, simulation.settings.clone(), HOST_NAME.into(), inbox, outbox);
        tokio::select! {
            biased;
            result = daemon.run() => panic!("the controller ended by itself: {result:?}"),
            () = async {
                // First looks are 0.4 s apart.
                sleep(2 * MINUTE).await;
                simulation.hub.borrow_mut().reset_traffic();
                sleep(4 * MINUTE).await;
            } => {}
        }
        let traffic = simulation.hub.borrow().traffic();
        let mut looks: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in traffic.log.iter().filter(|entry| entry.call == Call::ListRuns) {
            if let Some((repository, _)) = entry.path.split_once("/actions/runs?status=queued")
                && repository.contains("/corp/service-")
            {
                *looks.entry(repository).or_default() += 1;
            }
        }
        let fewest = looks.values().min().copied().unwrap_or_default();
        assert!(looks.len() == 200 && fewest >= 2, "{} of 200, at least {fewest} times in 4 minutes", looks.len());
        assert!(traffic.total.requests <= 4 * 450, "{} calls: half of the secondary limit", traffic.total.requests);
    });
}
