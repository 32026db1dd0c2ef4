//! What the controller would do now, found out without doing it: the loop's own looks and its own plan, in a world where
//! nothing can be started, registered or written.

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use contract::{ContainerName, ContainerRecord, Ending, Grant, event::Event};
use forge::{
    ErrorKind, Forge, ForgeError, Minted, SetKey, SetRequest, Sets,
    github::scale_set::{Tidings, assignments::Assignments},
};
use settings::{Settings, Template};
use tokio::sync::{mpsc, watch};

use super::{
    clock::RealClock,
    daemon::Daemon,
    drains::Drains,
    plan::{Action, Plan, plan},
    ports::{Feed, Guests, History, PortError, Records, Systemd, Unit, World},
    record::Record,
    status::{Finished, QueuedJob, Status},
    strain::Measured,
};
use crate::runner_version;

/// What would be done.
#[derive(Debug)]
pub struct Rehearsal {
    /// Containers to boot.
    pub boots: Vec<Boot>,
    /// Every queued job, and what it waits for.
    pub queue: Vec<QueuedJob>,
    /// What could not be looked at, and whatever else is wrong.
    pub problems: Vec<String>,
    /// Containers there are, by class.
    pub active: BTreeMap<String, usize>,
}

/// A container that would be booted.
#[derive(Debug)]
pub struct Boot {
    /// Its class.
    pub class: String,
    /// Where its runner would be registered.
    pub scope: String,
    /// The job that is the reason, by repository and id; none = to have one ready.
    pub job: Option<(String, u64)>,
}

/// Looks at every repository once, for at most `patience`, and decides. `records` and `drains` are the controller's, as
/// it keeps them now.
///
/// Scale sets are left alone, since only one listener can have them: what they would be assigned is planned as if it
/// were polled for.
pub async fn rehearse<F: Forge>(
    forge: F,
    settings: Settings,
    host: String,
    records: Vec<Record>,
    drains: Drains,
    patience: Duration,
) -> Rehearsal {
    let world = RehearsalWorld { clock: RealClock::start(), forge, records: KeptRecords { records, drains } };
    let (_commands, inbox) = mpsc::channel(1);
    let (outbox, _status) = watch::channel(Status::default());
    let (plan, status) = Daemon::new(&world, settings, host, inbox, outbox).decide_once(patience).await;
    let mut active = BTreeMap::new();
    for container in &status.active_containers {
        *active.entry(container.class.clone()).or_default() += 1;
    }
    let boots = plan.actions.into_iter().filter_map(|action| match action {
        Action::Boot { class, scope, job, .. } => Some(Boot { class, scope, job }),
        Action::Retire(_) | Action::Replace { .. } => None,
    });
    Rehearsal { boots: boots.collect(), queue: status.queue, problems: status.problems, active }
}

impl<W: World> Daemon<'_, W> {
    /// Discovers and looks at every repository once, for at most `patience`, and returns what would be done now, and how
    /// things would then be told. Nothing is booted, retired, registered or written.
    async fn decide_once(mut self, patience: Duration) -> (Plan, Status) {
        let deadline = self.now().mono + patience;
        self.parts.fleet.read_records(self.now());
        while self.parts.intake.is_curious() && self.now().mono < deadline {
            let now = self.now();
            self.parts.intake.discover_if_due(now);
            self.parts.intake.look_if_due(now);
            self.parts.intake.ask_groups_if_due(now);
            let wake = tokio::time::sleep(self.until_next().min(deadline - now.mono));
            tokio::select! {
                Some(outcome) = self.effects.next() => self.apply(outcome),
                () = wake => {}
            }
        }
        let now = self.now();
        let decided = plan(&self.parts.snapshot(false, now));
        let mut status = self.health.status(&self.parts, &decided, false, now);
        let unseen = self.parts.intake.unseen();
        if unseen > 0 && now.mono >= deadline {
            status.problems.push(format!("{unseen} repositories were not looked at within {} s", patience.as_secs()));
        }
        (decided, status)
    }
}

struct RehearsalWorld<F> {
    clock: RealClock,
    forge: F,
    records: KeptRecords,
}

impl<F: Forge> World for RehearsalWorld<F> {
    type Clock = RealClock;
    type Forge = F;
    type Sets = Nothing;
    type Systemd = Nothing;
    type Guests = Nothing;
    type Records = KeptRecords;
    type History = Nothing;

    fn clock(&self) -> &RealClock {
        &self.clock
    }

    fn forge(&self) -> &F {
        &self.forge
    }

    fn sets(&self) -> &Nothing {
        &Nothing
    }

    fn systemd(&self) -> &Nothing {
        &Nothing
    }

    fn guests(&self) -> &Nothing {
        &Nothing
    }

    fn records(&self) -> &KeptRecords {
        &self.records
    }

    fn history(&self) -> &Nothing {
        &Nothing
    }

    fn runner_version(&self, template: &Template) -> Option<String> {
        runner_version::in_template(template)
    }

    fn measure(&self) -> Measured {
        Measured::default()
    }

    fn random(&self) -> u64 {
        0
    }
}

/// Records that were read; nothing is written.
struct KeptRecords {
    records: Vec<Record>,
    drains: Drains,
}

impl Records for KeptRecords {
    fn load(&self) -> Result<Vec<Record>, PortError> {
        Ok(self.records.clone())
    }

    fn put(&self, _: &Record) -> Result<(), PortError> {
        Err(rehearsed())
    }

    fn remove(&self, _: &ContainerName) -> Result<(), PortError> {
        Err(rehearsed())
    }

    fn hand_over(&self, _: &ContainerRecord, _: &Grant) -> Result<(), PortError> {
        Err(rehearsed())
    }

    fn take_back(&self, _: &ContainerName) -> Result<(), PortError> {
        Err(rehearsed())
    }

    fn handed_over(&self) -> Result<Vec<ContainerRecord>, PortError> {
        Ok(Vec::new())
    }

    fn load_sets(&self) -> Result<Vec<(SetKey, Assignments)>, PortError> {
        Ok(Vec::new())
    }

    fn put_set(&self, _: &SetKey, _: &Assignments) -> Result<(), PortError> {
        Err(rehearsed())
    }

    fn remove_set(&self, _: &SetKey) -> Result<(), PortError> {
        Err(rehearsed())
    }

    fn load_drains(&self) -> Result<Drains, PortError> {
        Ok(self.drains.clone())
    }

    fn put_drains(&self, _: &Drains) -> Result<(), PortError> {
        Err(rehearsed())
    }

    fn ending(&self, _: &ContainerName) -> Option<Ending> {
        None
    }

    fn left_behind(&self) -> Vec<Ending> {
        Vec::new()
    }

    fn boot_id(&self) -> String {
        String::new()
    }
}

impl History for Nothing {
    async fn keep(&self, _: Arc<Finished>) -> Result<(), PortError> {
        Err(rehearsed())
    }
}

/// No systemd, no guest, no scale set.
struct Nothing;

fn rehearsed() -> PortError {
    PortError("this is a rehearsal".to_owned())
}

fn not_asked() -> ForgeError {
    ForgeError::new(ErrorKind::Refused, "this is a rehearsal")
}

impl Systemd for Nothing {
    async fn start(&self, _: &str, _: &ContainerName) -> Result<(), PortError> {
        Err(rehearsed())
    }

    async fn stop(&self, _: &str, _: &ContainerName) -> Result<(), PortError> {
        Err(rehearsed())
    }

    async fn list(&self) -> Result<Vec<Unit>, PortError> {
        Err(rehearsed())
    }

    async fn changed(&self) -> Vec<Unit> {
        pending().await
    }
}

impl Guests for Nothing {
    type Feed = Self;

    fn follow(&self, _: &ContainerName) -> Self {
        Self
    }
}

impl Feed for Nothing {
    async fn next(&mut self) -> Option<Event> {
        pending().await
    }
}

impl Sets for Nothing {
    async fn open(&self, _: &SetKey, _: &SetRequest) -> Result<Vec<String>, ForgeError> {
        Err(not_asked())
    }

    async fn listen(&self, _: &SetKey, _: &mut watch::Receiver<u32>) -> Result<Tidings, ForgeError> {
        Err(not_asked())
    }

    fn held_for(&self, _: &SetKey) -> Option<Duration> {
        None
    }

    async fn acknowledge(&self, _: &SetKey, _: u64) {}

    async fn mint(&self, _: &SetKey, _: &str) -> Result<Minted, ForgeError> {
        Err(not_asked())
    }

    async fn release(&self, _: &SetKey) -> Result<(), ForgeError> {
        Ok(())
    }
}
