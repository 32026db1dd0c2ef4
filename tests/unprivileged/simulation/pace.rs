//! How often repositories are looked at, and what that costs.

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

/// What `minutes` beside a controller, after those `before`, show of so many quiet repositories of an organisation: looks at each, in order, and
/// calls, all of them and those that count. A first look at a repository costs what later ones do not: nothing of it is
/// known to be unchanged.
fn quiet(repositories: u32, limit: u64, before: u32, minutes: u32) -> (Vec<usize>, u64, u64) {
    simulate(async {
        let mut simulation = Simulation::new(1);
        simulation.settings.idle_poll_interval = None;
        for class in simulation.settings.classes.values_mut() {
            class.intake = Intake::Polling;
        }
        simulation.settings.targets.retain(|target| target.name == "corp");
        simulation.settings.targets[0].include = vec!["service-*".into()];
        {
            let mut hub = simulation.hub.borrow_mut();
            hub.add_repos("corp", "service", repositories, true).unwrap();
            hub.set_rate_limit(Some(limit));
        }
        let world = SimWorld::new(&simulation.hub, &simulation.host, &simulation.clock, &simulation.settings, 1);
        let (_commands, inbox) = mpsc::channel(1);
        let (outbox, _status) = watch::channel(Status::default());
        let daemon = Daemon::new(&world, simulation.settings.clone(), HOST_NAME.into(), inbox, outbox);
        tokio::select! {
            biased;
            result = daemon.run() => panic!("the controller ended by itself: {result:?}"),
            () = async {
                sleep(before * MINUTE).await;
                simulation.hub.borrow_mut().reset_traffic();
                sleep(minutes * MINUTE).await;
            } => {}
        }
        let traffic = simulation.hub.borrow().traffic();
        let mut looks: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in traffic.log.iter().filter(|entry| entry.call == Call::ListRuns) {
            if let Some((repository, _)) = entry.path.split_once("/actions/runs?status=queued") {
                *looks.entry(repository).or_default() += 1;
            }
        }
        assert_eq!(looks.len(), repositories as usize, "each is looked at");
        let mut looks: Vec<usize> = looks.into_values().collect();
        looks.sort_unstable();
        (looks, traffic.total.requests, traffic.total.requests - traffic.total.not_modified)
    })
}

#[test]
fn few_repositories_are_looked_at_at_the_poll_interval_always_and_many_as_often_as_a_token_affords() {
    let mut table = vec![
        "| quiet repositories | looked at every | mean delay | calls an hour | of these counted |".to_owned(),
        "|---:|---:|---:|---:|---:|".to_owned(),
    ];
    for repositories in [1, 5, 20, 50, 100, 200] {
        let (looks, calls, counted) = quiet(repositories, 5000, 10, 10);
        let every = 600.0 / (looks.iter().sum::<usize>() as f64 / looks.len() as f64);
        // Half of the secondary limit of 900 a minute, and of the primary one of 5,000 an hour.
        assert!(calls <= 4500 && counted * 6 <= 2500, "{repositories}: {calls} calls, {counted} counted");
        assert!(repositories > 20 || every < 10.7, "{repositories}: every {every:.1} s");
        assert!(every < 120.0, "{repositories}: every {every:.1} s");
        let row = (every.round(), (every / 2.0).round());
        table.push(format!("| {repositories} | {} s | {} s | {} | {} |", row.0, row.1, calls * 6, counted * 6));
    }
    println!("{}", table.join("\n"));
}

#[test]
fn two_hundred_quiet_repositories_are_each_looked_at_about_every_minute_from_the_start_on() {
    // What an App gets in an organisation of that size (docs/github.md#rate-limits).
    // First looks are 0.4 s apart.
    let (looks, calls, _) = quiet(200, 12_500, 2, 4);
    assert!(looks[0] >= 2, "at least {} times in 4 minutes", looks[0]);
    assert!(calls <= 4 * 450, "{calls} calls: half of the secondary limit");
}
