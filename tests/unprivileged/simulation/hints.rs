//! Hints that a repository is worth a look.

use std::time::Duration;

use api::webhook::{Deliveries, Judged, Secret};
use controller::{daemon::Daemon, operation::LoopCommand, status::Status};
use github_sim::{
    Call,
    world::{Fault, JobSpec, JobStatus, What},
};
use settings::Intake;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::{HOOK_SECRET, HOST_NAME, REPOS, Simulation, ports::SimWorld, simulate};

const SECOND: Duration = Duration::from_secs(1);

/// Runs `story` beside a controller that looks once in ten minutes unless it is told.
fn beside_a_slow_controller<T>(story: impl AsyncFnOnce(&Simulation, mpsc::Sender<LoopCommand>) -> T) -> T {
    simulate(async {
        let mut simulation = Simulation::new(1);
        simulation.settings.poll_interval = 600 * SECOND;
        simulation.settings.idle_poll_interval = Some(600 * SECOND);
        for class in simulation.settings.classes.values_mut() {
            // A scale set would tell of every job by itself.
            class.intake = Intake::Polling;
        }
        let world = SimWorld::new(&simulation.hub, &simulation.host, &simulation.clock, &simulation.settings, 1);
        let (commands, inbox) = mpsc::channel(8);
        let (outbox, _status) = watch::channel(Status::default());
        let daemon = Daemon::new(&world, simulation.settings.clone(), HOST_NAME.into(), inbox, outbox);
        tokio::select! {
            biased;
            result = daemon.run() => panic!("the controller ended by itself: {result:?}"),
            told = async {
                sleep(10 * SECOND).await;
                simulation.hub.borrow_mut().reset_traffic();
                story(&simulation, commands).await
            } => told,
        }
    })
}

async fn hint(commands: &mpsc::Sender<LoopCommand>, repository: &str) {
    commands.send(LoopCommand::LookAgain { repository: repository.to_owned() }).await.unwrap();
}

/// How often one repository's queued runs were asked for since the start of the story.
fn looks(simulation: &Simulation, repository: &str) -> usize {
    let wanted = format!("/repos/{repository}/actions/runs?status=queued");
    simulation.hub.borrow().traffic().log.iter().filter(|entry| entry.path.starts_with(&wanted)).count()
}

#[test]
fn a_hint_brings_a_queued_job_its_container_long_before_the_next_poll() {
    beside_a_slow_controller(async |simulation, commands| {
        let job = JobSpec::new("build", &["self-hosted"], &["true"]);
        let now = simulation.clock.now();
        simulation.hub.borrow_mut().queue_job(now, REPOS[0], job).unwrap();
        sleep(5 * SECOND).await;
        assert_eq!(simulation.host.borrow().started, 0, "nobody looked yet");
        // The forge's spelling is not the operator's.
        hint(&commands, &REPOS[0].to_uppercase()).await;
        sleep(3 * SECOND).await;
        assert_eq!(simulation.host.borrow().started, 1);
        assert_eq!(looks(simulation, REPOS[1]), 0, "the other repositories are left alone");
    });
}

#[test]
fn a_flood_of_hints_is_a_look_a_second_and_one_for_nobodys_repository_is_none() {
    beside_a_slow_controller(async |simulation, commands| {
        for _ in 0..100 {
            hint(&commands, REPOS[0]).await;
            hint(&commands, "somebody/else").await;
            sleep(SECOND / 10).await;
        }
        let looks = looks(simulation, REPOS[0]);
        assert!((8..=11).contains(&looks), "{looks} looks in ten seconds");
        assert!(simulation.hub.borrow().traffic().log.iter().all(|entry| !entry.path.contains("somebody")));
    });
}

#[test]
fn a_hint_does_not_shorten_the_pause_that_a_limit_asked_for() {
    beside_a_slow_controller(async |simulation, commands| {
        let limit = What::RateLimitSecondary { retry_after: Some(60) };
        simulation.hub.borrow_mut().inject(Fault::times(1, Call::ListRuns, limit));
        hint(&commands, REPOS[0]).await;
        sleep(5 * SECOND).await;
        let before = looks(simulation, REPOS[0]);
        for _ in 0..20 {
            hint(&commands, REPOS[0]).await;
            sleep(SECOND).await;
        }
        assert_eq!(looks(simulation, REPOS[0]), before);
    });
}

#[test]
fn the_deliveries_of_a_jobs_whole_life_are_one_look() {
    beside_a_slow_controller(async |simulation, commands| {
        let (secret, mut heard) = (Secret::new(HOOK_SECRET.as_bytes()).unwrap(), Deliveries::default());
        let job = JobSpec::new("build", &["self-hosted"], &["true"]);
        let (_, job) = simulation.hub.borrow_mut().queue_job(simulation.clock.now(), REPOS[0], job).unwrap();
        let mut deliveries = 0;
        for _ in 0..400 {
            let due = simulation.hub.borrow_mut().take_deliveries(simulation.clock.now());
            for delivery in due {
                let header = |name| delivery.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value);
                if header("x-github-event").map(String::as_str) != Some("workflow_job") {
                    continue;
                }
                assert!(secret.proof().with(&delivery.body).holds(header("x-hub-signature-256").unwrap()));
                deliveries += 1;
                if let Judged::News(news) = heard.judge(header("x-github-delivery").unwrap(), &delivery.body) {
                    hint(&commands, &news.repository).await;
                }
            }
            sleep(SECOND).await;
        }
        let job = simulation.hub.borrow().job_view(job).unwrap();
        assert_eq!(job.status, JobStatus::Completed);
        assert_eq!(deliveries, 3, "queued, in_progress, completed");
        // The others tell of nothing that a container could be booted for.
        assert_eq!(looks(simulation, REPOS[0]), 1);
    });
}
