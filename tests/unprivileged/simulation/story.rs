//! One controller, left alone by chance, and what is told beside it.

use std::time::Duration;

use controller::{daemon::Daemon, status::Status};
use github_sim::world::{JobId, JobSpec, JobView};
use tokio::sync::{mpsc, watch};

use crate::{HOST_NAME, Simulation, ports::SimWorld, simulate};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);

/// What a story can see and do.
pub struct Story {
    pub simulation: Simulation,
    pub status: watch::Receiver<Status>,
}

/// Runs `story` beside a controller, in a world made ready by `prepare`.
pub fn beside<T>(seed: u64, prepare: impl FnOnce(&mut Simulation), story: impl AsyncFnOnce(&Story) -> T) -> T {
    let made = || {
        let mut simulation = Simulation::new(seed);
        prepare(&mut simulation);
        simulation
    };
    told_in(seed, made, story)
}

/// The same where a Gitea and a Forgejo are beside GitHub.
pub fn beside_gitea<T>(story: impl AsyncFnOnce(&Story) -> T) -> T {
    told_in(1, || Simulation::with_gitea(1), story)
}

fn told_in<T>(seed: u64, made: impl FnOnce() -> Simulation, story: impl AsyncFnOnce(&Story) -> T) -> T {
    simulate(async {
        let simulation = made();
        let world = SimWorld::new(&simulation.hub, &simulation.host, &simulation.clock, &simulation.settings, seed);
        let (_commands, inbox) = mpsc::channel(8);
        let (outbox, status) = watch::channel(Status::default());
        let daemon = Daemon::new(&world, simulation.settings.clone(), HOST_NAME.into(), inbox, outbox);
        let told = Story { simulation, status };
        tokio::select! {
            biased;
            result = daemon.run() => panic!("the controller ended by itself: {result:?}"),
            told = story(&told) => told,
        }
    })
}

impl Story {
    /// A job of the class that a scale set serves where there is one.
    pub fn queue(&self, repo: &str) -> JobId {
        self.queue_for(repo, &["self-hosted"])
    }

    /// A job of the class that is polled for everywhere.
    pub fn queue_polled(&self, repo: &str) -> JobId {
        self.queue_for(repo, &["self-hosted", "big"])
    }

    fn queue_for(&self, repo: &str, labels: &[&str]) -> JobId {
        let job = JobSpec::new("build", labels, &["true"]);
        self.simulation.hub.borrow_mut().queue_job(self.simulation.clock.now(), repo, job).unwrap().1
    }

    pub fn view(&self, job: JobId) -> JobView {
        self.simulation.hub.borrow().job_view(job).unwrap()
    }

    pub fn is_taken(&self, job: JobId) -> bool {
        self.view(job).acquired_at.is_some()
    }

    pub fn started(&self) -> u32 {
        self.simulation.host.borrow().started
    }

    /// Registrations that are this host's.
    pub fn registrations(&self) -> usize {
        let hub = self.simulation.hub.borrow();
        hub.runner_views().into_iter().filter(|runner| runner.name.starts_with(HOST_NAME)).count()
    }

    pub fn problems(&self) -> String {
        self.status.borrow().problems.join("\n")
    }
}

/// One life of a controller, killed when `story` is told: what it leaves behind is there for the next.
pub async fn life<T>(simulation: &Simulation, story: impl AsyncFnOnce(&watch::Receiver<Status>) -> T) -> T {
    let world = SimWorld::new(&simulation.hub, &simulation.host, &simulation.clock, &simulation.settings, 1);
    let (_commands, inbox) = mpsc::channel(8);
    let (outbox, status) = watch::channel(Status::default());
    let daemon = Daemon::new(&world, simulation.settings.clone(), HOST_NAME.into(), inbox, outbox);
    tokio::select! {
        biased;
        result = daemon.run() => panic!("the controller ended by itself: {result:?}"),
        told = story(&status) => told,
    }
}
