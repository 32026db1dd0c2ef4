//! The fleet: every container, from its record to the moment nothing of it is left anywhere. Owns the containers, the
//! units that nothing explains, the subnets, and the search for registrations that nothing claims.

mod adopt;
mod boot;
mod container;
mod idle_watch;
mod job_watch;
mod jobs;
mod leftovers;
mod rerun;
mod settle;
mod settling;
mod shown;
mod stop;
mod sweep;
mod units;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use contract::{ContainerName, event};
use forge::{Deletion, ForgeError, Job, Minted, Runner, SetKey};
use settings::Settings;
use tracing::warn;

pub use self::boot::Wanted;
use self::{container::Container, idle_watch::IdleWatch, leftovers::Leftovers, sweep::Sweep};
use super::{
    cause::Cause,
    effects::Effects,
    intake::Intake,
    phase::Phase,
    plan::{ContainerView, Pickup, Use},
    ports::{Guests, PortError, Records, Unit, World},
    record::Stage,
    sets::Sets,
    status::Finished,
    time::{Mono, Now},
};

/// How long a pickup can matter: no look takes longer.
const PICKUP_KEPT: Duration = Duration::from_secs(600);

/// How long the guest may take to stop a job at its limit.
const GUESTS_PART: Duration = Duration::from_secs(75);

/// What an effect came to.
pub enum Outcome<W: World> {
    /// A runner was registered; whether its target allows jobs from forks.
    Minted { name: ContainerName, allow_forks: bool, result: Result<Minted, ForgeError> },
    /// A unit was asked to start.
    Started { name: ContainerName, result: Result<(), PortError> },
    /// A unit was asked to stop.
    Stopped { name: ContainerName, result: Result<(), PortError> },
    /// All units, by a listing begun in that round.
    Listed { began: u64, result: Result<Vec<Unit>, PortError> },
    /// An event of a guest; None if it broke the protocol.
    Guest { name: ContainerName, feed: <W::Guests as Guests>::Feed, event: Option<event::Event> },
    /// A guest is not followed any more.
    FeedClosed,
    /// The registration of an idle runner was to be deleted, for this reason.
    Retired { name: ContainerName, cause: Cause, result: Result<Deletion, ForgeError> },
    /// The forge was asked whether the registration of a container's runner is still there.
    Watched { name: ContainerName, result: Result<bool, ForgeError> },
    /// How the job of a container ended; whether it was ended in its place now.
    Concluded { name: ContainerName, finished: bool, result: Result<Option<Job>, ForgeError> },
    /// The forge was asked to run this job again, which a container had.
    Rerun { name: ContainerName, job: Job, result: Result<(), ForgeError> },
    /// The registration of an ended container was to be deleted.
    Deregistered { name: ContainerName, result: Result<Deletion, ForgeError> },
    /// An entry was to be written to the history.
    Kept { name: ContainerName, result: Result<(), PortError> },
    /// All registrations of a place.
    RunnersListed { scope: String, result: Result<Vec<Runner>, ForgeError> },
    /// All registrations of a place with idle runners, by a listing begun then.
    IdleListed { scope: String, began: Mono, result: Result<Vec<Runner>, ForgeError> },
    /// A registration that nothing claims was to be deleted.
    GhostDeleted { scope: String, runner: String, result: Result<Deletion, ForgeError> },
}

/// What others should know of.
pub enum Event {
    /// A runner was registered with a place, or could not be.
    Registered { scope: String, result: Result<(), ForgeError> },
    /// A runner that is registered with a place took a job.
    TookJob { scope: String },
    /// A container of a class came up, and the forge serves its runner.
    CameUp { class: String },
    /// What looked like a failed boot of a class was none.
    Recovered { class: String },
    /// A container of a class failed to boot, like this; whether its runner could not reach the forge.
    Failed { class: String, last: String, at_forge: bool },
    /// A runner of a class said its version, before it listened.
    RunnerVersion { class: String, version: String },
    /// The forge refused a runner of a class for its version.
    RunnerRefused { class: String },
    /// The forge refused a runner of a class for its version in the middle of its job, so the runner says.
    RunnerRefusedInJob { class: String },
    /// A job of a class ran to its end.
    JobServed { class: String },
    /// The forge gave a job to a runner of a place.
    GaveJob { scope: String },
    /// A container of a scale set ended with its job.
    EndedWithJob { key: SetKey },
}

/// The containers.
pub struct Fleet<'w, W: World> {
    world: &'w W,
    effects: Effects<'w, Outcome<W>>,
    settings: Rc<Settings>,
    /// The host part of runner names.
    host: String,
    boot_id: String,
    containers: BTreeMap<ContainerName, Container>,
    /// Units with our name pattern that nothing explains; being stopped.
    orphans: BTreeSet<ContainerName>,
    next_subnet: u32,
    /// Jobs that containers took and that no look has shown since.
    pickups: VecDeque<Pickup>,
    finished: VecDeque<Arc<Finished>>,
    /// Why runners cannot be registered, by place, as the history has it.
    refusals: BTreeMap<String, String>,
    /// When jobs were run again in the last hour.
    reruns: VecDeque<Mono>,
    /// By place.
    sweeps: BTreeMap<String, Sweep>,
    idle_watch: IdleWatch,
    next_list: Mono,
    listing: bool,
    leftovers: Leftovers,
    /// The last error at systemd, until it answers again.
    systemd_error: Option<String>,
    /// The last entry could not be written to the history.
    history_error: Option<String>,
    events: Vec<Event>,
}

impl<'w, W: World> Fleet<'w, W> {
    /// Nothing is adopted yet. `host` = the host part of runner names.
    pub fn new(world: &'w W, settings: Rc<Settings>, effects: Effects<'w, Outcome<W>>, host: String) -> Self {
        Self {
            world,
            effects,
            settings,
            host,
            boot_id: world.records().boot_id(),
            containers: BTreeMap::new(),
            orphans: BTreeSet::new(),
            next_subnet: 0,
            pickups: VecDeque::new(),
            finished: VecDeque::new(),
            refusals: BTreeMap::new(),
            reruns: VecDeque::new(),
            sweeps: BTreeMap::new(),
            idle_watch: IdleWatch::default(),
            next_list: Mono::START,
            listing: false,
            leftovers: Leftovers::new(),
            systemd_error: None,
            history_error: None,
            events: Vec::new(),
        }
    }

    /// Takes in what an effect came to.
    pub fn apply(&mut self, outcome: Outcome<W>, sets: &Sets<'w, W>, now: Now) {
        match outcome {
            Outcome::Minted { name, allow_forks, result } => self.minted(&name, allow_forks, result, now),
            Outcome::Started { name, result } => self.started(&name, result, now),
            Outcome::Stopped { name, result } => self.stopped(&name, result, now),
            Outcome::Listed { began, result } => self.listed(began, result, now),
            Outcome::Guest { name, feed, event } => self.guest_said(name, feed, event, now),
            Outcome::FeedClosed => {}
            Outcome::Retired { name, cause, result } => self.retired(&name, cause, result, now),
            Outcome::Watched { name, result } => self.watched(&name, result, now),
            Outcome::Concluded { name, finished, result } => self.concluded(&name, finished, result, sets, now),
            Outcome::Rerun { name, job, result } => self.rerun_asked(&name, job, result, sets, now),
            Outcome::Deregistered { name, result } => self.deregistered(&name, result, now),
            Outcome::Kept { name, result } => self.kept(&name, result, now),
            Outcome::RunnersListed { scope, result } => self.swept(&scope, result, now),
            Outcome::IdleListed { scope, began, result } => self.idle_listed(&scope, began, result, now),
            Outcome::GhostDeleted { scope, runner, result } => sweep::ghost_deleted(&scope, &runner, result),
        }
    }

    /// What happened since this was asked last.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// When something is due.
    pub fn next_due(&self, now: Now) -> Option<Mono> {
        let waiting = self.containers.values().filter(|c| !c.in_flight && c.not_before > now.mono);
        waiting.map(|container| container.not_before).min()
    }

    /// Starts the next effect of each container that needs one.
    pub fn drive_if_needed(&mut self, intake: &Intake<'w, W>, sets: &Sets<'w, W>, now: Now) {
        let names: Vec<ContainerName> = self.containers.keys().cloned().collect();
        for name in names {
            self.drive(&name, intake, sets, now);
        }
    }

    fn drive(&mut self, name: &ContainerName, intake: &Intake<'w, W>, sets: &Sets<'w, W>, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        if container.in_flight || now.mono < container.not_before {
            return;
        }
        let overdue = now.mono - container.asked_at > self.settings.boot_timeout
            && container.record.timeline.listening_ms.is_none();
        match container.record.stage {
            Stage::Minting => self.mint(name, intake, now),
            Stage::Started if container.use_() == Use::Coming && overdue => {
                let limit = humantime::format_duration(self.settings.boot_timeout);
                let said = container.trouble_message.take().map(|said| format!("; the runner: {said}"));
                let reason = format!("{} after {limit}, its boot timeout{}", container.phase, said.unwrap_or_default());
                warn!(container = %name, reason, "its runner does not listen");
                container.reason = Some(reason);
                self.stop(name, Cause::BootFailed, now);
            }
            Stage::Started if container.phase == Phase::Running => {
                // The guest comes first: it stops the job in good order, and knows when it began.
                let limit = self.settings.classes.get(&container.record.class).map(|class| class.timeout);
                let limit = limit.unwrap_or(self.settings.job_timeout);
                if now.mono - container.phase_since >= limit + GUESTS_PART {
                    let limit = humantime::format_duration(limit);
                    container.reason = Some(format!("its job ran for {limit}, the limit of its class"));
                    self.stop(name, Cause::TimedOut, now);
                }
            }
            Stage::Started => {}
            Stage::Stopping { cause } => self.stop(name, cause, now),
            Stage::Settling { .. } => self.settle(name, sets, now),
        }
    }

    /// Writes a container's record; a disk that does not take it is said and tried again with the next change.
    fn remember(&self, name: &ContainerName) {
        if let Some(container) = self.containers.get(name)
            && let Err(error) = self.world.records().put(&container.record)
        {
            warn!(container = %name, %error, "record not written");
        }
    }

    fn live(&self) -> impl Iterator<Item = &Container> {
        self.containers.values().filter(|container| !container.has_ended())
    }

    /// Neither a container nor a unit that nothing explains is there.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.orphans.is_empty()
    }

    /// Something is being registered, started or stopped.
    pub fn is_busy(&self) -> bool {
        self.live().any(|container| container.in_flight)
    }

    /// Most containers at once: a unit that nothing explains has a place too.
    pub fn capacity(&self) -> usize {
        self.settings.max_concurrent.saturating_sub(self.orphans.len())
    }

    /// Subnets no container has. A unit that nothing explains has one too, though we do not know which.
    pub fn free_subnets(&self) -> usize {
        (self.settings.network.pool.len() as usize).saturating_sub(self.live().count() + self.orphans.len())
    }

    /// The containers as planning sees them.
    pub fn views(&self) -> Vec<ContainerView> {
        let view = |container: &Container| ContainerView {
            name: container.record.name.clone(),
            class: container.record.class.clone(),
            scope: container.record.scope.clone(),
            set: container.record.set,
            bound_to: container.bound_to(),
            use_: container.use_(),
            patience: self.idle_watch.patience(container),
        };
        self.live().map(view).collect()
    }

    /// Jobs that containers took and that no look has shown since.
    pub fn pickups(&self) -> Vec<Pickup> {
        self.pickups.iter().cloned().collect()
    }

    /// Places of the containers that have not ended, one for each.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.live().map(|container| container.record.scope.as_str())
    }

    /// Places of all containers, also of those that have ended and are not settled.
    pub fn scopes_in_use(&self) -> BTreeSet<&str> {
        self.containers.values().map(|container| container.record.scope.as_str()).collect()
    }

    /// Containers of a scale set that a job may still find.
    pub fn spare(&self, key: &SetKey) -> usize {
        let spare = |container: &&Container| {
            container.record.set
                && container.set_key() == *key
                && matches!(container.use_(), Use::Coming | Use::Idle(_))
        };
        self.live().filter(spare).count()
    }

    /// Repositories whose jobs run in containers of scale sets.
    pub fn repositories_of_sets(&self) -> impl Iterator<Item = String> {
        let busy = self.live().filter(|container| container.record.set && container.use_() == Use::Busy);
        busy.filter_map(|container| container.record.repository().map(str::to_owned))
    }
}
