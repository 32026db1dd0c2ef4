//! A simulated host: units that live through prepare, boot, runner, job and teardown, and what may go wrong in each.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use contract::{
    ActFlavour, ContainerName, ContainerRecord, Ending, Grant, Pruning, Prunings,
    event::{Event, GuestExit, JobResult, Trouble, What},
};
use controller::{
    drains::Drains,
    ports::{Clock as _, PortError, Unit, UnitState},
    record::{Record, Stage},
    strain::Measured,
};
use forge::{SetKey, github::scale_set::assignments::Assignments};
use github_sim::{
    runner_service::CURRENT_VERSION,
    world::{Beat, JobId, Refusal, RunnerResult, RunnerSession},
};
use guest::admit::judge;
use rand::{Rng, rngs::StdRng};
use tokio::{
    sync::Notify,
    task::{AbortHandle, spawn_local},
    time::{sleep, timeout},
};

use crate::{
    gitea::{self, BOTH, Gitea, SimGitea},
    history::Written,
    owner,
    ports::{Hub, SimClock},
    truth::{Fate, Truth},
};

/// The host, shared.
pub type Host = Rc<RefCell<HostState>>;

/// systemd kills what does not stop (`TimeoutStopSec=`).
const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// The kernel has written to the disk what was changed before.
const FLUSHED: Duration = Duration::from_secs(30);
/// What a runner says that asks again and again.
const RETRYING: &str = "Runner connect error: x. Retrying until reconnected.";
/// What every container used of its memory, bytes.
pub const MEMORY_PEAK: u64 = 123 << 20;

/// What the host does wrong next, once each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostFault {
    /// *prepare* refuses.
    PrepareFails,
    /// The container boots and its runner is never started.
    BootHangs,
    /// nspawn is killed at a random moment.
    Killed,
    /// The job uses up its container's memory.
    OutOfMemory,
    /// StartUnit is carried out, its answer is lost.
    StartAnswerLost,
    /// StartUnit is refused.
    StartRefused,
    /// The next signals are lost.
    SignalsLost,
    /// The next signals come late, and not in order.
    SignalsLate,
    /// StopUnit is refused.
    StopRefused,
    /// The next unit that is stopped takes its time, until systemd kills it.
    StopHangs,
    /// The connection to systemd is gone for a while.
    BusLost,
    /// No record can be written for a while.
    DiskFull,
}

/// One unit.
pub struct SimUnit {
    pub class: String,
    pub state: UnitState,
    pub record: ContainerRecord,
    stop: Rc<Notify>,
    session: Rc<RefCell<Option<RunnerSession>>>,
    task: AbortHandle,
}

/// The host's state; all but `units`, `stories` and `signals` survives a crash of the controller.
pub struct HostState {
    pub hub: Hub,
    /// In the order of [`BOTH`].
    pub others: [Gitea; 2],
    pub clock: SimClock,
    pub rng: StdRng,
    pub boot_id: String,
    /// The unit's own limit.
    pub life: Duration,
    /// The limit that guests keep; none = they are stopped from keeping it.
    pub job_limit: Option<Duration>,
    /// How long jobs take; none = as chance has it.
    pub job_takes: Option<Duration>,
    pub capacity: usize,
    pub class_max: BTreeMap<String, usize>,
    /// Most containers of each target, by owner.
    pub target_max: BTreeMap<String, usize>,
    pub units: BTreeMap<ContainerName, SimUnit>,
    pub stories: BTreeMap<ContainerName, Vec<Event>>,
    pub records: BTreeMap<ContainerName, Record>,
    pub handed: BTreeMap<ContainerName, (ContainerRecord, Grant)>,
    pub endings: BTreeMap<ContainerName, Ending>,
    pub sets: BTreeMap<SetKey, Assignments>,
    pub drains: Drains,
    pub history: Written,
    /// What really became of runners and jobs, whoever knows of it.
    pub truth: Truth,
    /// `None` = "look again".
    pub signals: VecDeque<Option<Unit>>,
    pub notice: Rc<Notify>,
    pub told: Rc<Notify>,
    pub faults: Vec<HostFault>,
    pub lose_signals: u32,
    late_signals: u32,
    late: Vec<(Duration, Option<Unit>)>,
    bus_lost_until: Duration,
    disk_full_until: Duration,
    /// Changes of records that a power cut may undo: what was there, and when it changed.
    unsynced: BTreeMap<ContainerName, (Duration, Option<Record>)>,
    /// After so many writes the controller is killed.
    pub fuse: Option<u32>,
    /// It is dead where it stands: nothing it writes any more is there.
    pub dead: bool,
    pub died: Rc<Notify>,
    /// What a reading of it says.
    pub measured: Measured,
    /// Bytes that root removes when it is asked for room, and what it removed.
    pub removable: u64,
    pub prunings: Prunings,
    /// Units ever started.
    pub started: u32,
    /// Of these, those whose runner was a scale set's.
    pub by_set: u32,
    /// Jobs of forks that a guest refused.
    pub refused: u32,
    /// Most units at once.
    pub peak: usize,
}

impl HostState {
    /// The Gitea or the Forgejo.
    pub fn forge(&self, flavour: ActFlavour) -> Gitea {
        self.others[BOTH.iter().position(|of| *of == flavour).unwrap()].clone()
    }

    pub fn new(
        hub: Hub,
        clock: SimClock,
        rng: StdRng,
        capacity: usize,
        class_max: BTreeMap<String, usize>,
        target_max: BTreeMap<String, usize>,
    ) -> Self {
        Self {
            hub,
            others: SimGitea::both(),
            clock,
            rng,
            boot_id: "boot-1".into(),
            life: Duration::from_secs(12 * 3600),
            job_limit: Some(Duration::from_secs(6 * 3600)),
            job_takes: None,
            capacity,
            class_max,
            target_max,
            units: BTreeMap::new(),
            stories: BTreeMap::new(),
            records: BTreeMap::new(),
            handed: BTreeMap::new(),
            endings: BTreeMap::new(),
            sets: BTreeMap::new(),
            drains: Drains::default(),
            history: Written::default(),
            truth: Truth::default(),
            signals: VecDeque::new(),
            notice: Rc::default(),
            told: Rc::default(),
            faults: Vec::new(),
            lose_signals: 0,
            late_signals: 0,
            late: Vec::new(),
            bus_lost_until: Duration::ZERO,
            disk_full_until: Duration::ZERO,
            unsynced: BTreeMap::new(),
            fuse: None,
            dead: false,
            died: Rc::default(),
            measured: Measured::default(),
            removable: 0,
            prunings: Prunings::default(),
            started: 0,
            by_set: 0,
            refused: 0,
            peak: 0,
        }
    }

    /// What root does when it is asked for room.
    pub fn make_room(&mut self) {
        let freed_bytes = std::mem::take(&mut self.removable);
        if freed_bytes > 0 {
            self.measured.file_systems.iter_mut().for_each(|disk| disk.free_bytes += freed_bytes);
            let pruning = Pruning { at_ms: 1, freed_bytes, removed: vec!["big/caches/old".to_owned()] };
            self.prunings = std::mem::take(&mut self.prunings).and(pruning);
        }
    }

    pub fn listing(&self) -> Vec<Unit> {
        self.units
            .iter()
            .map(|(name, unit)| Unit { name: name.clone(), class: unit.class.clone(), state: unit.state })
            .collect()
    }

    pub fn fault(&mut self, wanted: HostFault) -> bool {
        match self.faults.iter().position(|fault| *fault == wanted) {
            Some(at) => {
                self.faults.remove(at);
                true
            }
            None => false,
        }
    }

    /// There is no way to systemd.
    pub fn bus_is_lost(&self) -> bool {
        self.clock.now() < self.bus_lost_until
    }

    /// Nothing goes wrong any more.
    pub fn recovers(&mut self) {
        self.faults.clear();
        self.dead = false;
        (self.lose_signals, self.late_signals) = (0, 0);
        (self.bus_lost_until, self.disk_full_until) = Default::default();
        self.late.clear();
    }

    /// A write of the controller's may take place.
    pub fn writes(&mut self) -> bool {
        if self.fuse == Some(0) && !self.dead {
            self.dead = true;
            self.died.notify_one();
        }
        self.fuse = self.fuse.map(|left| left.saturating_sub(1));
        !self.dead
    }

    /// There is no room for a file.
    pub fn is_full(&mut self) -> Result<(), PortError> {
        if self.fault(HostFault::DiskFull) {
            self.disk_full_until = self.clock.now() + Duration::from_secs(self.rng.random_range(1..300));
        }
        if self.clock.now() < self.disk_full_until {
            return Err(PortError("no space left on device".into()));
        }
        Ok(())
    }

    /// A record changes; `durable` = a power cut cannot undo it.
    pub fn changes(&mut self, name: &ContainerName, durable: bool) {
        let (now, before) = (self.clock.now(), self.records.get(name).cloned());
        if durable {
            self.unsynced.remove(name);
        } else {
            let kept = self.unsynced.entry(name.clone()).or_insert_with(|| (now, before.clone()));
            if now - kept.0 > FLUSHED {
                *kept = (now, before);
            }
        }
    }

    /// The connection to systemd is there.
    fn bus(host: &Host) -> Result<(), PortError> {
        let mut state = host.borrow_mut();
        let now = state.clock.now();
        if state.fault(HostFault::BusLost) {
            let pause = Duration::from_secs(state.rng.random_range(1..120));
            state.bus_lost_until = now + pause;
            let host = host.clone();
            spawn_local(async move {
                sleep(pause).await;
                host.borrow_mut().signal(None);
            });
        }
        if now < state.bus_lost_until {
            return Err(PortError("org.freedesktop.DBus.Error.Disconnected: connection closed".into()));
        }
        Ok(())
    }

    /// All units, if the connection is there.
    pub fn list(host: &Host) -> Result<Vec<Unit>, PortError> {
        Self::bus(host)?;
        Ok(host.borrow().listing())
    }

    fn signal(&mut self, unit: Option<Unit>) {
        if self.bus_is_lost() {
            return;
        }
        if self.fault(HostFault::SignalsLost) {
            self.lose_signals = 5;
        }
        if self.lose_signals > 0 {
            self.lose_signals -= 1;
            return;
        }
        if self.fault(HostFault::SignalsLate) {
            self.late_signals = 5;
        }
        if self.late_signals > 0 {
            self.late_signals -= 1;
            self.late.push((self.clock.now() + Duration::from_secs(self.rng.random_range(1..60)), unit));
            return;
        }
        self.signals.push_back(unit);
        self.notice.notify_waiters();
    }

    /// Signals that were late arrive now.
    pub fn deliver_late(&mut self) {
        let now = self.clock.now();
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = later;
        for (_, unit) in due {
            self.signals.push_back(unit);
            self.notice.notify_waiters();
        }
    }

    fn set_state(&mut self, name: &ContainerName, state: UnitState) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.state = state;
        let unit = Unit { name: name.clone(), class: unit.class.clone(), state };
        self.signal(Some(unit));
    }

    pub fn tell(&mut self, name: &ContainerName, what: What) {
        let at_ms = self.clock.wall().as_millis();
        let story = self.stories.entry(name.clone()).or_default();
        story.push(Event { seq: story.len() as u32, at_ms, what });
        self.told.notify_waiters();
    }
}

/// StartUnit. Here the promises about containers are checked, at the moment that counts.
pub async fn start(host: &Host, class: &str, name: &ContainerName) -> Result<(), PortError> {
    sleep(Duration::from_millis(2)).await;
    HostState::bus(host)?;
    if host.borrow_mut().fault(HostFault::StartRefused) {
        return Err(PortError("org.freedesktop.DBus.Error.AccessDenied".into()));
    }
    {
        let mut state = host.borrow_mut();
        let (record, _) = state.handed.get(name).expect("a unit is started only after the hand-over").clone();
        let known = state.records.get(name).expect("a unit is started only after it is recorded");
        assert_eq!(known.stage, Stage::Started);
        let by_set = known.set;
        if let Some(job) = record.job_id {
            let from_fork = state.hub.borrow().job_view(JobId(job)).is_ok_and(|view| view.name == "fork");
            assert!(!from_fork, "{name} is booted for a job of a fork");
        }
        assert!(!state.units.contains_key(name), "{name} is started twice");
        for (other, unit) in &state.units {
            assert_ne!(unit.record.subnet, record.subnet, "{name} and {other} share a subnet");
        }
        assert!(state.units.len() < state.capacity, "more than {} containers at once", state.capacity);
        let same_class = state.units.values().filter(|unit| unit.class == class).count();
        assert!(same_class < state.class_max[class], "more than {} of class {class}", state.class_max[class]);
        let target = owner(&record.scope);
        let same_target = state.units.values().filter(|unit| owner(&unit.record.scope) == target).count();
        assert!(same_target < state.target_max[&target], "more than {} for {target}", state.target_max[&target]);
        let stop = Rc::new(Notify::new());
        let session: Rc<RefCell<Option<RunnerSession>>> = Rc::default();
        let task = spawn_local(live(host.clone(), name.clone(), stop.clone(), session.clone())).abort_handle();
        let unit = SimUnit { class: class.to_owned(), state: UnitState::Activating, record, stop, session, task };
        state.units.insert(name.clone(), unit);
        state.stories.remove(name);
        state.endings.remove(name);
        state.started += 1;
        state.by_set += u32::from(by_set);
        state.peak = state.peak.max(state.units.len());
        state.set_state(name, UnitState::Activating);
    }
    if host.borrow_mut().fault(HostFault::StartAnswerLost) {
        sleep(Duration::from_secs(20)).await;
        return Err(PortError("no answer within 20 s".into()));
    }
    Ok(())
}

/// StopUnit.
pub async fn stop(host: &Host, name: &ContainerName) -> Result<(), PortError> {
    sleep(Duration::from_millis(2)).await;
    HostState::bus(host)?;
    if host.borrow_mut().fault(HostFault::StopRefused) {
        return Err(PortError("org.freedesktop.systemd1.TransactionIsDestructive".into()));
    }
    if let Some(unit) = host.borrow().units.get(name) {
        unit.stop.notify_one();
    }
    Ok(())
}

/// How a unit ends: systemd's result, exit status, an error of *prepare*.
pub struct End {
    pub result: &'static str,
    pub code: &'static str,
    pub status: String,
    pub error: Option<String>,
}

impl End {
    pub fn exit(exit: GuestExit) -> Self {
        let result = if exit == GuestExit::Succeeded { "success" } else { "exit-code" };
        Self::exited(result, &exit.code().to_string())
    }

    pub fn exited(result: &'static str, status: &str) -> Self {
        Self { result, code: "exited", status: status.into(), error: None }
    }
}

async fn live(host: Host, name: ContainerName, stop: Rc<Notify>, session: Rc<RefCell<Option<RunnerSession>>>) {
    let lifetime = host.borrow().life;
    let killed = {
        let mut state = host.borrow_mut();
        let doomed = state.fault(HostFault::Killed);
        let moment = state.rng.random_range(1..30_000);
        if doomed { Duration::from_millis(moment) } else { Duration::MAX }
    };
    let end = tokio::select! {
        biased;
        () = stop.notified() => {
            let (hub, now) = (host.borrow().hub.clone(), host.borrow().clock.now());
            if let Some(session) = session.borrow().as_ref() {
                let _ = hub.borrow_mut().runner_stop(now, session);
            }
            let hangs = host.borrow_mut().fault(HostFault::StopHangs);
            sleep(if hangs { STOP_TIMEOUT } else { Duration::from_millis(120) }).await;
            End::exited("exit-code", "255")
        }
        () = sleep(killed.min(Duration::from_secs(86_400 * 30))) => {
            vanish(&host, &session);
            End { code: "killed", ..End::exited("signal", "KILL") }
        }
        end = timeout(lifetime, inside(&host, &name, &session)) => end.unwrap_or_else(|_| {
            vanish(&host, &session);
            End::exited("timeout", "0")
        }),
    };
    host.borrow_mut().set_state(&name, UnitState::Deactivating);
    let teardown = Duration::from_millis(host.borrow_mut().rng.random_range(10..200));
    sleep(teardown).await;
    let mut state = host.borrow_mut();
    let class = state.units[&name].class.clone();
    let ended_at_ms = state.clock.wall().as_millis();
    let runner = state.units[&name].record.runner_name.clone();
    match end.result {
        "timeout" => state.truth.is(&runner, Fate::RanOutOfTime),
        "oom-kill" => state.truth.is(&runner, Fate::RanOutOfMemory),
        _ if end.status == "255" || end.code == "killed" => state.truth.is(&runner, Fate::TakenDown),
        _ => {}
    }
    let ending = Ending {
        name: name.clone(),
        class,
        service_result: end.result.into(),
        exit_code: Some(end.code.into()),
        exit_status: Some(end.status),
        error: end.error,
        last_words: None,
        asked_to_stop: false,
        memory_peak: Some(MEMORY_PEAK),
        oom_kills: None,
        cpu_us: Some(1_500_000),
        ended_at_ms,
        teardown_us: teardown.as_micros() as u64,
        left_behind: vec![],
    };
    state.endings.insert(name.clone(), ending);
    state.units.remove(&name);
    state.stories.remove(&name);
    state.signal(None);
}

fn vanish(host: &Host, session: &Rc<RefCell<Option<RunnerSession>>>) {
    let (hub, now) = (host.borrow().hub.clone(), host.borrow().clock.now());
    if let Some(session) = session.borrow().as_ref() {
        hub.borrow_mut().runner_vanish(now, session);
    }
}

/// prepare, boot, runner, job.
async fn inside(host: &Host, name: &ContainerName, session: &Rc<RefCell<Option<RunnerSession>>>) -> End {
    let (hub, clock) = (host.borrow().hub.clone(), host.borrow().clock.clone());
    sleep(Duration::from_millis(15)).await;
    if host.borrow_mut().fault(HostFault::PrepareFails) {
        return End { error: Some("no space left on device".into()), ..End::exited("exit-code", "1") };
    }
    let Some((record, grant)) = host.borrow().handed.get(name).cloned() else {
        return End { error: Some("no hand-over".into()), ..End::exited("exit-code", "1") };
    };
    host.borrow_mut().set_state(name, UnitState::Active);
    let boot = host.borrow_mut().rng.random_range(150..900);
    sleep(Duration::from_millis(boot)).await;
    let hangs = host.borrow_mut().fault(HostFault::BootHangs);
    let tell = |what| host.borrow_mut().tell(name, what);
    let gives_up = |last: &str, kind, status| {
        tell(What::Trouble { kind, message: last.into() });
        tell(What::RunnerExited { status });
        End::exit(match kind {
            Trouble::VersionRefused => GuestExit::VersionRefused,
            _ => GuestExit::RunnerFailed,
        })
    };
    tell(What::Booted);
    if hangs {
        std::future::pending::<()>().await;
    }
    tell(What::NetworkReady);
    tell(What::RunnerStarted);
    let connect = host.borrow_mut().rng.random_range(200..3000);
    sleep(Duration::from_millis(connect)).await;
    let encoded_jit_config = match grant {
        Grant::GithubJit { encoded_jit_config } => encoded_jit_config,
        Grant::ActRunner(runner) => return gitea::run(host, name, &runner).await,
    };
    let connected = hub.borrow_mut().runner_connect(clock.now(), &encoded_jit_config);
    let connection = match connected {
        Ok(connection) => connection,
        Err(Refusal::NeverListening) => std::future::pending().await,
        Err(Refusal::Broken) => {
            tell(What::Trouble { kind: Trouble::ConnectError, message: RETRYING.into() });
            std::future::pending().await
        }
        Err(refusal @ (Refusal::Forbidden | Refusal::ClockSkew)) => {
            return gives_up(&format!("Failed to create session. {refusal}"), Trouble::RunnerFailed, 1);
        }
        Err(Refusal::SessionConflict) => return End::exit(GuestExit::SessionConflict),
        Err(_) => return End::exit(GuestExit::RegistrationDeleted),
    };
    *session.borrow_mut() = Some(connection.clone());
    tell(What::RunnerVersion { version: CURRENT_VERSION.into() });
    tell(What::Listening);
    let order = loop {
        let now = clock.now();
        let offered = hub.borrow_mut().runner_offer(now, &connection);
        let taken = offered.and_then(|offer| {
            let mut hub = hub.borrow_mut();
            offer.map(|job| hub.runner_acquire(now, &connection, job)).transpose()
        });
        match taken {
            Ok(Some(order)) => break order,
            Ok(None) | Err(Refusal::JobGone) => sleep(Duration::from_secs(1)).await,
            Err(Refusal::Broken) => {
                tell(What::Trouble { kind: Trouble::ConnectError, message: RETRYING.into() });
                std::future::pending().await
            }
            Err(refusal @ Refusal::VersionTooOld(_)) => {
                let _ = hub.borrow_mut().runner_stop(clock.now(), &connection);
                return gives_up(&format!("An error occurred: {refusal}"), Trouble::VersionRefused, 7);
            }
            Err(Refusal::SessionInvalid) => {
                let _ = hub.borrow_mut().runner_stop(clock.now(), &connection);
                let last = "An error occurred: Get next message failed with non-retryable error.";
                return gives_up(last, Trouble::RunnerFailed, 1);
            }
            Err(_) => return End::exit(GuestExit::NoJob),
        }
    };
    tell(What::JobStarted { job: order.name.clone(), task: None });
    let fate = |fate| host.borrow_mut().truth.is(&record.runner_name, fate);
    host.borrow_mut().truth.took(&record.runner_name, order.job_id.0);
    // Before the runner starts the job's worker, it renews the job.
    let kept = hub.borrow_mut().runner_beat(clock.now(), &connection);
    if kept != Ok(Beat::GoOn) {
        match kept {
            Ok(_) => {
                fate(Fate::Cancelled);
                let _ = hub.borrow_mut().runner_complete(clock.now(), &connection, RunnerResult::Canceled);
            }
            Err(_) => hub.borrow_mut().runner_vanish(clock.now(), &connection),
        }
        tell(What::Trouble { kind: Trouble::NoResult, message: "no word on how it went".into() });
        tell(What::RunnerExited { status: 0 });
        return End::exit(GuestExit::NoResult);
    }
    // The hook before its first step, which the forge's runner would run.
    if !record.allow_forks && judge(Some(&order.event), order.payload.to_string().as_bytes()).is_err() {
        sleep(Duration::from_secs(2)).await;
        let _ = hub.borrow_mut().runner_complete(clock.now(), &connection, RunnerResult::Failed);
        host.borrow_mut().refused += 1;
        tell(What::JobEnded { result: JobResult::Failed });
        tell(What::Trouble { kind: Trouble::ForkRefused, message: "from a fork".into() });
        tell(What::RunnerExited { status: 0 });
        return End::exit(GuestExit::ForkRefused);
    }
    assert_ne!(order.name, "fork", "a job of a fork is run");
    host.borrow_mut().truth.runs(order.job_id.0);
    let _ = hub.borrow_mut().runner_started(clock.now(), &connection);
    if host.borrow_mut().fault(HostFault::OutOfMemory) {
        sleep(Duration::from_secs(2)).await;
        hub.borrow_mut().runner_vanish(clock.now(), &connection);
        return End::exited("oom-kill", "0");
    }
    let (mut left, fails) = {
        let mut state = host.borrow_mut();
        let takes = state.rng.random_range(1..300);
        (state.job_takes.map_or(takes, |takes| takes.as_secs()), state.rng.random_bool(0.2))
    };
    let (began, limit) = (clock.now(), host.borrow().job_limit);
    while left > 0 {
        if limit.is_some_and(|limit| clock.now() - began >= limit) {
            fate(Fate::RanOutOfTime);
            let _ = hub.borrow_mut().runner_complete(clock.now(), &connection, RunnerResult::Failed);
            tell(What::JobEnded { result: JobResult::Canceled });
            return End::exit(GuestExit::TimedOut);
        }
        sleep(Duration::from_secs(left.min(5))).await;
        left = left.saturating_sub(5);
        let beat = hub.borrow_mut().runner_beat(clock.now(), &connection);
        match beat {
            Ok(Beat::GoOn) => {}
            Ok(Beat::Cancel) => {
                fate(Fate::Cancelled);
                let _ = hub.borrow_mut().runner_complete(clock.now(), &connection, RunnerResult::Canceled);
                tell(What::JobEnded { result: JobResult::Canceled });
                return End::exit(GuestExit::JobCanceled);
            }
            Ok(Beat::Die) => {
                hub.borrow_mut().runner_vanish(clock.now(), &connection);
                return End::exit(GuestExit::RunnerFailed);
            }
            Err(refusal @ Refusal::VersionTooOld(_)) => {
                let _ = hub.borrow_mut().runner_complete(clock.now(), &connection, RunnerResult::Canceled);
                tell(What::JobEnded { result: JobResult::Canceled });
                return gives_up(&format!("An error occurred: {refusal}"), Trouble::VersionRefused, 7);
            }
            Err(_) => return End::exit(GuestExit::RunnerFailed),
        }
    }
    fate(if fails { Fate::Failed } else { Fate::Succeeded });
    let (at_hub, result, exit) = if fails {
        (RunnerResult::Failed, JobResult::Failed, GuestExit::JobFailed)
    } else {
        (RunnerResult::Succeeded, JobResult::Succeeded, GuestExit::Succeeded)
    };
    let _ = hub.borrow_mut().runner_complete(clock.now(), &connection, at_hub);
    tell(What::JobEnded { result });
    sleep(Duration::from_millis(300)).await;
    tell(What::RunnerExited { status: 0 });
    End::exit(exit)
}

/// The host goes down, and is there again at once: nothing that runs survives, nor anything under `/run`. Where the power
/// was cut, the last changes of records that were not synchronised may be undone, each for itself.
pub fn goes_down(host: &Host, power_lost: bool) {
    let mut state = host.borrow_mut();
    let now = state.clock.now();
    for unit in std::mem::take(&mut state.units).into_values() {
        unit.task.abort();
        state.truth.is(&unit.record.runner_name, Fate::TakenDown);
        if let Some(session) = unit.session.borrow().as_ref() {
            let mut hub = state.hub.borrow_mut();
            if power_lost { hub.runner_vanish(now, session) } else { drop(hub.runner_stop(now, session)) }
        }
    }
    state.handed.clear();
    state.stories.clear();
    state.endings.clear();
    state.signals.clear();
    state.late.clear();
    state.boot_id.push('+');
    for (name, (at, before)) in std::mem::take(&mut state.unsynced) {
        if power_lost && now - at < FLUSHED && state.rng.random() {
            match before {
                Some(record) => drop(state.records.insert(name, record)),
                None => drop(state.records.remove(&name)),
            }
        }
    }
}
