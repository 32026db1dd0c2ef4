//! The loop: level-triggered. A look at a forge, a signal from systemd, a guest's event, a timer and the operator all
//! only say "look again"; what to do follows from what is.
//!
//! Effects are futures on this one thread, whose outcomes come back as messages; nothing else changes the state.

mod adopt;
mod credentials;
mod discover;
mod groups;
mod launch;
mod look;
mod observe;
mod operate;
mod publish;
mod rehearse;
mod repositories;
mod scopes;
mod sets;
mod settle;
mod snapshot;
mod sweep;
mod targets;
mod versions;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use contract::{ContainerName, event::Event};
use forge::{
    self, Deletion, ForgeError, Job, Minted, Runner, RunnerDeprecation, RunnerGroup, SetKey,
    github::scale_set::{Tidings, assignments::Assignments},
};
use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use settings::Settings;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use self::{
    credentials::Credential, launch::Failures, repositories::Repository, scopes::Place, sets::Set, targets::Target,
};
use super::{
    container::Container,
    drains::Drains,
    edges::{Clock, EdgeError, Guests, Systemd, Unit, World},
    operation::Order,
    plan::{Action, ClassView, Pickup, Plan, plan},
    record::Stage,
    status::{Finished, Status},
};

/// Longest sleep between two rounds: how late a timer without a deadline of its own may be.
const ROUND: Duration = Duration::from_secs(5);
/// The same where nothing waits, and nothing is there that time alone could change: well below the service manager's
/// patience.
const QUIET_ROUND: Duration = Duration::from_secs(20);
/// How often all units are listed even if no signal came.
const RELIST: Duration = Duration::from_secs(30);
/// How long a stopping controller waits for registrations and starts under way.
const LAST_WAIT: Duration = Duration::from_secs(15);
/// Ended containers kept for the status.
const FINISHED_KEPT: usize = 200;
/// How long a pickup can matter: no look takes longer.
const PICKUP_KEPT: Duration = Duration::from_secs(600);

/// What the operator or the service manager asks for.
#[derive(Debug)]
pub enum Command {
    /// Take no new jobs, finish what is being started, return. Containers go on.
    Shutdown,
    /// Something may have happened in a repository (`owner/repository`): look at it now. A hint, and no more.
    LookAgain {
        /// As the forge writes it. One that is not served is ignored.
        repository: String,
    },
    /// What an operator asks for.
    Operate(Order),
}

/// The controller.
#[allow(missing_debug_implementations)]
pub struct Daemon<'w, W: World> {
    world: &'w W,
    settings: Settings,
    host: String,
    boot_id: String,
    classes: Vec<ClassView>,
    class_failures: BTreeMap<String, Failures>,
    targets: BTreeMap<String, Target>,
    scopes: BTreeMap<String, Place>,
    repositories: BTreeMap<String, Repository>,
    credentials: BTreeMap<String, Credential>,
    sets: BTreeMap<SetKey, Set>,
    /// What was remembered of sets that are not there yet.
    kept_assignments: BTreeMap<SetKey, Assignments>,
    /// Sessions of sets that are being given back.
    releasing: usize,
    containers: BTreeMap<ContainerName, Container>,
    versions: versions::Versions,
    drains: Drains,
    /// The last entry could not be written to the history.
    history_error: Option<String>,
    /// Told of every change of the status: before, after.
    observer: Option<Observer<'w>>,
    /// Units with our name pattern that nothing explains; being stopped.
    orphans: BTreeSet<ContainerName>,
    effects: FuturesUnordered<LocalBoxFuture<'w, Outcome<W>>>,
    pickups: VecDeque<Pickup>,
    finished: VecDeque<Arc<Finished>>,
    plan: Plan,
    next_subnet: u32,
    next_list: Duration,
    listing: bool,
    /// The last error at systemd, until it answers again.
    systemd_error: Option<String>,
    stopping_since: Option<Duration>,
    rounds: u64,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
}

/// Told what the status was, and what it is.
type Observer<'w> = Box<dyn FnMut(&Status, &Status) + 'w>;

/// What an effect came to.
enum Outcome<W: World> {
    Discovered { target: String, result: Result<Vec<forge::Repository>, ForgeError> },
    SetOpened { key: SetKey, result: Result<Vec<String>, ForgeError> },
    SetHeard { key: SetKey, result: Result<Tidings, ForgeError> },
    SetReleased,
    Looked { repository: String, began: Duration, result: Result<Vec<Job>, ForgeError> },
    Minted { name: ContainerName, result: Result<Minted, ForgeError> },
    Started { name: ContainerName, result: Result<(), EdgeError> },
    Stopped { name: ContainerName, result: Result<(), EdgeError> },
    Listed { began: u64, result: Result<Vec<Unit>, EdgeError> },
    Guest { name: ContainerName, feed: <W::Guests as Guests>::Feed, event: Option<Event> },
    FeedClosed,
    Retired { name: ContainerName, result: Result<Deletion, ForgeError> },
    Kept { name: ContainerName, result: Result<(), EdgeError> },
    Concluded { name: ContainerName, result: Result<Option<Job>, ForgeError> },
    Deregistered { name: ContainerName, result: Result<Deletion, ForgeError> },
    RunnersListed { scope: String, result: Result<Vec<Runner>, ForgeError> },
    GhostDeleted { scope: String, runner: String, result: Result<Deletion, ForgeError> },
    GroupTold { scope: String, result: Result<Option<RunnerGroup>, ForgeError> },
    DeprecationSaid { asked: (String, String), result: Result<Option<RunnerDeprecation>, ForgeError> },
}

impl<'w, W: World> Daemon<'w, W> {
    /// A controller with nothing adopted yet. `host` is the host part of runner names.
    pub fn new(
        world: &'w W,
        settings: Settings,
        host: String,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<Status>,
    ) -> Self {
        use super::edges::Records;
        let mut classes: Vec<_> = settings.classes.values().collect();
        // Smallest first: what a class may use decides, then how much it promises, then its name.
        classes.sort_by(|a, b| {
            let size = |class: &settings::Class| {
                (class.memory.unwrap_or(u64::MAX), class.cpus.unwrap_or(f64::MAX), class.labels.len())
            };
            let ((am, ac, al), (bm, bc, bl)) = (size(a), size(b));
            am.cmp(&bm).then(ac.total_cmp(&bc)).then(al.cmp(&bl)).then(a.name.cmp(&b.name))
        });
        let classes = classes
            .into_iter()
            .map(|class| ClassView {
                name: class.name.clone(),
                labels: class.labels.iter().map(|label| label.to_lowercase()).collect(),
                max: class.max_concurrent,
                min_idle: class.min_idle,
                held_until: None,
                outdated: false,
                drained: false,
            })
            .collect();
        let mut daemon = Self {
            world,
            host,
            boot_id: world.records().boot_id(),
            classes,
            class_failures: BTreeMap::new(),
            targets: BTreeMap::new(),
            scopes: BTreeMap::new(),
            repositories: BTreeMap::new(),
            sets: BTreeMap::new(),
            kept_assignments: BTreeMap::new(),
            releasing: 0,
            credentials: settings.credentials.keys().map(|name| (name.clone(), Credential::default())).collect(),
            containers: BTreeMap::new(),
            versions: versions::Versions::default(),
            drains: Drains::default(),
            history_error: None,
            observer: None,
            orphans: BTreeSet::new(),
            effects: FuturesUnordered::new(),
            pickups: VecDeque::new(),
            finished: VecDeque::new(),
            plan: Plan::default(),
            next_subnet: 0,
            next_list: Duration::ZERO,
            listing: false,
            systemd_error: None,
            stopping_since: None,
            rounds: 0,
            commands,
            status,
            settings,
        };
        match world.records().load_sets() {
            Ok(kept) => daemon.kept_assignments = kept.into_iter().collect(),
            Err(error) => warn!(%error, "what is known of scale sets cannot be read; the forge tells it again"),
        }
        daemon.configure_targets();
        daemon.forget_kept_sets();
        daemon.recall_drains();
        daemon
    }

    /// Tells `observer` of every change of the status: what it was before, and what it is.
    pub fn observed_by(mut self, observer: impl FnMut(&Status, &Status) + 'w) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Adopts what exists, then runs until [`Command::Shutdown`].
    pub async fn run(mut self) -> Result<(), EdgeError> {
        self.adopt().await?;
        loop {
            self.act();
            self.publish();
            if self.may_return() {
                return Ok(());
            }
            let world = self.world;
            let wake = tokio::time::sleep(self.until_next());
            tokio::select! {
                biased;
                command = self.commands.recv() => self.command(command),
                Some(outcome) = self.effects.next() => self.apply(outcome),
                units = world.systemd().changed() => self.heard(units),
                () = wake => {}
            }
            // Whatever else is ready belongs to the same round: one plan for a burst.
            while let Some(Some(outcome)) = self.effects.next().now_or_never() {
                self.apply(outcome);
            }
        }
    }

    fn command(&mut self, command: Option<Command>) {
        // A closed channel means that whoever would stop us is gone.
        match command.unwrap_or(Command::Shutdown) {
            Command::LookAgain { repository } => self.look_again(&repository),
            Command::Operate(order) => self.operate(order),
            Command::Shutdown if self.stopping_since.is_none() => {
                info!("stopping: no new jobs; running containers go on");
                self.stopping_since = Some(self.now());
                self.release_sets();
            }
            Command::Shutdown => {}
        }
    }

    /// Stopping, and nothing is being registered or started.
    fn may_return(&self) -> bool {
        self.stopping_since.is_some_and(|since| {
            let busy = self.containers.values().any(|c| c.in_flight && !c.has_ended());
            !busy && self.releasing == 0 || self.now().saturating_sub(since) >= LAST_WAIT
        })
    }

    fn now(&self) -> Duration {
        self.world.clock().monotonic()
    }

    fn wall_ms(&self) -> u64 {
        u64::try_from(self.world.clock().wall().as_millis()).unwrap_or(u64::MAX)
    }

    /// Starts an effect.
    fn start(&self, effect: impl Future<Output = Outcome<W>> + 'w) {
        self.effects.push(effect.boxed_local());
    }

    /// Decides and starts whatever follows from the state as it is.
    fn act(&mut self) {
        self.rounds += 1;
        let now = self.now();
        let kept_since = now.saturating_sub(PICKUP_KEPT);
        while self.pickups.front().is_some_and(|pickup| pickup.at < kept_since) {
            self.pickups.pop_front();
        }
        if now >= self.next_list && !self.listing {
            self.list_units();
        }
        if self.stopping_since.is_none() {
            self.discover_where_due(now);
            self.open_sets_where_due(now);
            self.look_after_sets();
            self.look_where_due(now);
            self.ask_groups_where_due(now);
            self.sweep_where_due(now);
        }
        self.note_served(now);
        self.watch_versions(now);
        self.note_passed_over(now);
        self.plan = plan(&self.snapshot(now));
        self.forgive_unneeded_scopes(now);
        self.promise();
        for action in std::mem::take(&mut self.plan.actions) {
            match action {
                Action::Boot { class, scope, set, job } => drop(self.boot(&class, &scope, set, job)),
                Action::Retire(name) => self.retire(&name),
            }
        }
        let names: Vec<ContainerName> = self.containers.keys().cloned().collect();
        for name in names {
            self.drive(&name, now);
        }
    }

    /// The next effect a container needs, if none is under way.
    fn drive(&mut self, name: &ContainerName, now: Duration) {
        let Some(container) = self.containers.get_mut(name) else { return };
        if container.in_flight || now < container.not_before {
            return;
        }
        let overdue = now.saturating_sub(container.asked_at) > self.settings.boot_timeout
            && container.record.timeline.listening_ms.is_none();
        match container.record.stage {
            Stage::Minting => self.mint(name),
            Stage::Started if container.use_() == super::plan::Use::Coming && overdue => {
                let limit = humantime::format_duration(self.settings.boot_timeout);
                let reason = format!("{} after {limit}, its boot timeout", container.phase);
                warn!(container = %name, reason, "its runner does not listen");
                container.reason = Some(reason);
                self.stop(name, super::cause::Cause::BootFailed);
            }
            Stage::Started => {}
            Stage::Stopping { cause } => self.stop(name, cause),
            Stage::Settling { .. } => self.settle(name),
        }
    }

    /// How long nothing can be due.
    fn until_next(&self) -> Duration {
        let now = self.now();
        let intake = self.stopping_since.is_none();
        let looks = self.repositories.values().filter(|repository| intake && !repository.looking).map(|r| r.next_look);
        let discoveries = self.targets.values().filter(|_| intake).filter_map(|target| target.next_discovery);
        let sets = self.sets.values().filter(|_| intake).filter_map(Set::due);
        let containers = self.containers.values().filter(|c| !c.in_flight && c.not_before > now).map(|c| c.not_before);
        let longest = if self.is_quiet() { QUIET_ROUND } else { ROUND };
        looks
            .chain(discoveries)
            .chain(sets)
            .chain(containers)
            .map(|due| due.saturating_sub(now))
            .min()
            .unwrap_or(longest)
            // A millisecond at least, so that a due time just missed cannot spin.
            .clamp(Duration::from_millis(1), longest)
    }

    /// No container is there, none is wanted, and nobody waits for the controller to stop.
    fn is_quiet(&self) -> bool {
        self.containers.is_empty()
            && self.orphans.is_empty()
            && self.stopping_since.is_none()
            && self.classes.iter().all(|class| class.min_idle == 0)
            && self.plan.waiting.values().all(|why| why.is_no_demand())
            && self.sets.iter().all(|(key, set)| set.assigned() <= self.refused_of(key, set))
    }

    fn apply(&mut self, outcome: Outcome<W>) {
        match outcome {
            Outcome::Discovered { target, result } => self.discovered(&target, result),
            Outcome::SetOpened { key, result } => self.set_opened(key, result),
            Outcome::SetHeard { key, result } => self.set_heard(key, result),
            Outcome::SetReleased => self.releasing = self.releasing.saturating_sub(1),
            Outcome::Looked { repository, began, result } => self.looked(&repository, began, result),
            Outcome::Minted { name, result } => self.minted(&name, result),
            Outcome::Started { name, result } => self.started(&name, result),
            Outcome::Stopped { name, result } => self.stopped(&name, result),
            Outcome::Listed { began, result } => self.listed(began, result),
            Outcome::Guest { name, feed, event } => self.guest_said(name, feed, event),
            Outcome::FeedClosed => {}
            Outcome::Retired { name, result } => self.retired(&name, result),
            Outcome::Kept { name, result } => self.kept(&name, result),
            Outcome::Concluded { name, result } => self.concluded(&name, result),
            Outcome::Deregistered { name, result } => self.deregistered(&name, result),
            Outcome::RunnersListed { scope, result } => self.swept(&scope, result),
            Outcome::GhostDeleted { scope, runner, result } => self.ghost_deleted(&scope, &runner, result),
            Outcome::GroupTold { scope, result } => self.group_told(&scope, result),
            Outcome::DeprecationSaid { asked, result } => self.deprecation_said(&asked, result),
        }
    }

    /// Writes a container's record; a disk that does not take it is said and tried again with the next change.
    fn remember(&self, name: &ContainerName) {
        use super::edges::Records;
        if let Some(container) = self.containers.get(name)
            && let Err(error) = self.world.records().put(&container.record)
        {
            warn!(container = %name, %error, "record not written");
        }
    }
}

/// Waits longer the more often something failed: `first`, twice that, … at most `most`.
fn backoff(first: Duration, failures: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most)
}
