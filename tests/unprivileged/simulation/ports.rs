//! The controller's ports, simulated: a clock that tokio pauses, GitHub in-process, a host with units and guests.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    rc::Rc,
    time::Duration,
};

use contract::{ActFlavour, ContainerName, ContainerRecord, Ending, Grant, Prunings, event::Event};
use controller::{
    drains::Drains,
    ports::{Clock, Feed, Guests, PortError, Records, Systemd, Unit, World},
    record::Record,
    strain::Measured,
    time::{Mono, Wall},
};
use forge::{
    Allowance, Deletion, Finish, Forge, ForgeError, ForgeTraits, Forges, Job, Minted, RateLimit, Repository, Runner,
    RunnerDeprecation, RunnerGroup, SetKey, SetRequest, Sets, Standing, Traffic,
    gitea::Gitea,
    github::{
        Github, Login, Rest, ScaleSets, Session,
        scale_set::{Tidings, assignments::Assignments},
    },
    wire::{self, Answer, NoAnswer, Request},
};
use github_sim::{
    Reply,
    world::{JobStatus, JobView},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use settings::{Credential, ForgeKind, Settings, Template, token_file::Token};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    gitea::GiteaWire,
    heap::{self, Whose},
    history::SimHistory,
    host::{Host, HostState},
};

/// Does something that the simulation remembers, not the controller.
pub fn in_world<T>(action: impl FnOnce() -> T) -> T {
    heap::of(Whose::Worlds, action)
}

/// The token of a credential, which the simulated GitHub accepts.
pub fn token(credential: &str) -> String {
    format!("simulated-token-{credential}")
}

/// How long a controller may not know that a set's job has ended: faults keep it from listening.
const NEWS: Duration = Duration::from_secs(15 * 60);

/// Monday 2026-11-02, 00:00 UTC: where simulated wall clocks start.
pub const EPOCH: Duration = Duration::from_secs(1_793_577_600);

/// GitHub, shared by controller, runners and the test.
pub type Hub = Rc<RefCell<github_sim::World>>;

/// Simulated time since the start of the simulation.
#[derive(Clone)]
pub struct SimClock {
    start: Instant,
    /// How far the controller's wall clock is off.
    pub skew: Rc<RefCell<f64>>,
    /// How often what waits at GitHub is looked at again.
    pub tick: Rc<Cell<Duration>>,
}

impl SimClock {
    pub fn new() -> Self {
        Self { start: Instant::now(), skew: Rc::default(), tick: Rc::new(Cell::new(Duration::from_secs(1))) }
    }

    /// True time since the Unix epoch: GitHub's.
    pub fn now(&self) -> Duration {
        EPOCH + self.start.elapsed()
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Mono {
        Mono::after_start(self.start.elapsed())
    }

    fn wall(&self) -> Wall {
        Wall::from_epoch(Duration::from_secs_f64(self.now().as_secs_f64() + *self.skew.borrow()))
    }

    /// In a zone that is two hours east of Greenwich.
    fn local(&self) -> Duration {
        self.wall().since_epoch() + Duration::from_secs(2 * 3600)
    }
}

/// The wire to GitHub: takes time, and breaks where a fault says so.
#[derive(Clone)]
pub struct Wire {
    pub hub: Hub,
    pub clock: SimClock,
    pub rng: Rc<RefCell<StdRng>>,
}

impl Wire {
    async fn exchange(&self, request: http::Request<Vec<u8>>) -> Result<Answer, NoAnswer> {
        let (there, back) = {
            let mut rng = self.rng.borrow_mut();
            (rng.random_range(5..150), rng.random_range(5..150))
        };
        sleep(Duration::from_millis(there)).await;
        let mut reply = in_world(|| self.hub.borrow_mut().handle(self.clock.now(), &request));
        while let Reply::Held(held) = reply {
            sleep(self.clock.tick.get()).await;
            reply = in_world(|| self.hub.borrow_mut().look_again(self.clock.now(), &held));
        }
        match reply {
            Reply::Answer(response) => {
                sleep(Duration::from_millis(back)).await;
                Ok(response.into())
            }
            Reply::Slow(delay, response) => {
                sleep(delay).await;
                Ok(response.into())
            }
            Reply::Reset | Reply::Held(_) => Err(NoAnswer("connection reset".into())),
            Reply::Hang => {
                sleep(Duration::from_secs(30)).await;
                Err(NoAnswer("no answer within 30 s".into()))
            }
        }
    }
}

impl wire::Wire for Wire {
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        let most = request.timeout;
        let host = request.url.host_str().unwrap_or_default().parse().expect("a host");
        let mut request = request.into_http()?;
        request.headers_mut().insert("host", host);
        timeout(most, self.exchange(request)).await.unwrap_or_else(|_| Err(NoAnswer("too slow".into())))
    }

    fn now(&self) -> Duration {
        self.clock.wall().since_epoch()
    }

    fn random(&self) -> u64 {
        self.rng.borrow_mut().random()
    }
}

/// A controller that is dead does nothing any more.
async fn alive(host: &Host) {
    if host.borrow().dead {
        std::future::pending::<()>().await;
    }
}

/// The real client of scale sets, watched.
pub struct WatchedSets {
    sets: ScaleSets<Session<Wire>, Wire>,
    host: Host,
}

impl Sets for WatchedSets {
    async fn open(&self, key: &SetKey, request: &SetRequest) -> Result<Vec<String>, ForgeError> {
        self.sets.open(key, request).await
    }

    async fn listen(&self, key: &SetKey, capacity: &mut watch::Receiver<u32>) -> Result<Tidings, ForgeError> {
        let told = *capacity.borrow() as usize;
        let most = self.host.borrow().capacity;
        // Refused jobs come on top, up to 50 of them; and so does every pull request's that may be refused, until it was
        // looked up whether its repository is public and where it comes from. A set reports the end of a job only with
        // its next message.
        let since = self.host.borrow().clock.now().saturating_sub(NEWS);
        let open = |job: &JobView| job.status != JobStatus::Completed || job.completed_at.is_none_or(|at| at >= since);
        let may_be_refused = |job: &&JobView| job.name == "fork" || job.scale_set.is_some() && open(job);
        let refused = || self.host.borrow().hub.borrow().job_views().iter().filter(may_be_refused).count();
        assert!(told <= most || told <= most + refused().min(50), "{key}: {told} jobs promised on a host of {most}");
        self.sets.listen(key, capacity).await
    }

    fn held_for(&self, key: &SetKey) -> Option<Duration> {
        self.sets.held_for(key)
    }

    async fn acknowledge(&self, key: &SetKey, message_id: u64) {
        alive(&self.host).await;
        let written = self.host.borrow().sets.get(key).is_some_and(|kept| kept.last_message_id() >= message_id);
        assert!(written, "{key}: message {message_id} is acknowledged before it is on disk");
        self.sets.acknowledge(key, message_id).await;
    }

    async fn mint(&self, key: &SetKey, runner_name: &str) -> Result<Minted, ForgeError> {
        alive(&self.host).await;
        let recorded = self.host.borrow().records.values().any(|record| record.runner_name == runner_name);
        assert!(recorded, "{runner_name} is registered before it is recorded");
        self.sets.mint(key, runner_name).await
    }

    async fn release(&self, key: &SetKey) -> Result<(), ForgeError> {
        self.sets.release(key).await
    }
}

/// The real clients, watched: nothing may be registered before it is recorded.
pub struct WatchedForge {
    pub forges: Forges<Session<Wire>, GiteaWire>,
    pub host: Host,
}

impl Forge for WatchedForge {
    async fn discover(&self, target: &str) -> Result<Vec<Repository>, ForgeError> {
        self.forges.discover(target).await
    }

    async fn look(&self, target: &str) -> Result<Vec<Job>, ForgeError> {
        self.forges.look(target).await
    }

    async fn mint(
        &self,
        target: &str,
        runner_name: &str,
        labels: &[String],
        handle: Option<&str>,
    ) -> Result<Minted, ForgeError> {
        alive(&self.host).await;
        let recorded = self.host.borrow().records.values().any(|record| record.runner_name == runner_name);
        assert!(recorded, "{runner_name} is registered before it is recorded");
        self.forges.mint(target, runner_name, labels, handle).await
    }

    async fn is_registered(&self, target: &str, runner_id: u64) -> Result<bool, ForgeError> {
        self.forges.is_registered(target, runner_id).await
    }

    async fn finish(&self, target: &str, grant: &Grant, task: u64, end: Finish, why: &str) -> Result<bool, ForgeError> {
        self.forges.finish(target, grant, task, end, why).await
    }

    fn traits_of(&self, name: &str) -> ForgeTraits {
        self.forges.traits_of(name)
    }

    async fn find_runner(&self, target: &str, runner_name: &str) -> Result<Option<Runner>, ForgeError> {
        self.forges.find_runner(target, runner_name).await
    }

    async fn list_runners(&self, target: &str) -> Result<Vec<Runner>, ForgeError> {
        self.forges.list_runners(target).await
    }

    async fn delete_runner(&self, target: &str, runner_id: u64) -> Result<Deletion, ForgeError> {
        self.forges.delete_runner(target, runner_id).await
    }

    async fn job(&self, target: &str, job_id: u64) -> Result<Option<Job>, ForgeError> {
        self.forges.job(target, job_id).await
    }

    async fn job_of_run(&self, repository: &str, run_id: u64, runner_name: &str) -> Result<Option<Job>, ForgeError> {
        self.forges.job_of_run(repository, run_id, runner_name).await
    }

    async fn rerun(&self, repository: &str, job_id: u64) -> Result<(), ForgeError> {
        self.forges.rerun(repository, job_id).await
    }

    async fn runner_group(&self, scope: &str) -> Result<Option<RunnerGroup>, ForgeError> {
        self.forges.runner_group(scope).await
    }

    async fn runner_deprecation(&self, name: &str, version: &str) -> Result<Option<RunnerDeprecation>, ForgeError> {
        self.forges.runner_deprecation(name, version).await
    }

    fn rate_limit(&self, target: &str) -> Option<RateLimit> {
        self.forges.rate_limit(target)
    }

    fn allowance(&self, target: &str) -> Option<Allowance> {
        self.forges.allowance(target)
    }

    fn traffic(&self, credential: &str) -> Traffic {
        self.forges.traffic(credential)
    }

    fn standing(&self, credential: &str) -> Standing {
        self.forges.standing(credential)
    }
}

/// systemd of the simulated host.
pub struct SimSystemd {
    pub host: Host,
}

impl Systemd for SimSystemd {
    async fn start(&self, class: &str, name: &ContainerName) -> Result<(), PortError> {
        heap::polled(Whose::Worlds, crate::host::start(&self.host, class, name)).await
    }

    async fn stop(&self, _class: &str, name: &ContainerName) -> Result<(), PortError> {
        heap::polled(Whose::Worlds, crate::host::stop(&self.host, name)).await
    }

    async fn list(&self) -> Result<Vec<Unit>, PortError> {
        sleep(Duration::from_millis(2)).await;
        HostState::list(&self.host)
    }

    async fn changed(&self) -> Vec<Unit> {
        loop {
            let notice = self.host.borrow().notice.clone();
            let heard = notice.notified();
            if let Some(unit) = self.host.borrow_mut().signals.pop_front() {
                return unit.into_iter().collect();
            }
            heard.await;
        }
    }
}

/// The guests of the simulated host.
pub struct SimGuests {
    pub host: Host,
}

/// One guest's story, from the beginning.
pub struct SimFeed {
    host: Host,
    name: ContainerName,
    next: usize,
}

impl Guests for SimGuests {
    type Feed = SimFeed;

    fn follow(&self, name: &ContainerName) -> SimFeed {
        SimFeed { host: self.host.clone(), name: name.clone(), next: 0 }
    }
}

impl Feed for SimFeed {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let told = self.host.borrow().told.clone();
            let heard = told.notified();
            let event = self.host.borrow().stories.get(&self.name).and_then(|story| story.get(self.next).cloned());
            if let Some(event) = event {
                self.next += 1;
                return Some(event);
            }
            heard.await;
        }
    }
}

/// Files of the simulated host: they outlive the controller.
pub struct SimRecords {
    pub host: Host,
}

impl SimRecords {
    /// Nothing is written any more; or nothing can be.
    fn is_dead(&self) -> Result<bool, PortError> {
        let mut host = self.host.borrow_mut();
        Ok(!host.writes() || host.is_full().map(|()| false)?)
    }
}

impl Records for SimRecords {
    fn load(&self) -> Result<Vec<Record>, PortError> {
        Ok(self.host.borrow().records.values().cloned().collect())
    }

    fn put(&self, record: &Record) -> Result<(), PortError> {
        if self.is_dead()? {
            return Ok(());
        }
        // As the real ledger does.
        in_world(|| self.host.borrow_mut().changes(&record.name, record.runner_id.is_none()));
        in_world(|| self.host.borrow_mut().records.insert(record.name.clone(), record.clone()));
        Ok(())
    }

    fn remove(&self, name: &ContainerName) -> Result<(), PortError> {
        let mut host = self.host.borrow_mut();
        if !host.writes() {
            return Ok(());
        }
        in_world(|| host.changes(name, false));
        if let Some(record) = host.records.remove(name) {
            let Some(entry) = host.history.holds(&record) else { return Ok(()) };
            host.truth.agrees_with(entry, &host.hub.borrow(), &host.others);
        }
        Ok(())
    }

    fn hand_over(&self, record: &ContainerRecord, grant: &Grant) -> Result<(), PortError> {
        if self.is_dead()? {
            return Ok(());
        }
        in_world(|| self.host.borrow_mut().handed.insert(record.name.clone(), (record.clone(), grant.clone())));
        Ok(())
    }

    fn take_back(&self, name: &ContainerName) -> Result<(), PortError> {
        if self.host.borrow_mut().writes() {
            self.host.borrow_mut().handed.remove(name);
        }
        Ok(())
    }

    fn granted(&self, name: &ContainerName) -> Option<Grant> {
        self.host.borrow().handed.get(name).map(|(_, grant)| grant.clone())
    }

    fn handed_over(&self) -> Result<Vec<ContainerRecord>, PortError> {
        Ok(self.host.borrow().handed.values().map(|(record, _)| record.clone()).collect())
    }

    fn load_sets(&self) -> Result<Vec<(SetKey, Assignments)>, PortError> {
        Ok(self.host.borrow().sets.iter().map(|(key, kept)| (key.clone(), kept.clone())).collect())
    }

    fn put_set(&self, key: &SetKey, assignments: &Assignments) -> Result<(), PortError> {
        if self.is_dead()? {
            return Ok(());
        }
        in_world(|| self.host.borrow_mut().sets.insert(key.clone(), assignments.clone()));
        Ok(())
    }

    fn remove_set(&self, key: &SetKey) -> Result<(), PortError> {
        if self.host.borrow_mut().writes() {
            self.host.borrow_mut().sets.remove(key);
        }
        Ok(())
    }

    fn load_drains(&self) -> Result<Drains, PortError> {
        Ok(self.host.borrow().drains.clone())
    }

    fn put_drains(&self, drains: &Drains) -> Result<(), PortError> {
        if !self.is_dead()? {
            self.host.borrow_mut().drains = drains.clone();
        }
        Ok(())
    }

    fn ending(&self, name: &ContainerName) -> Option<Ending> {
        self.host.borrow().endings.get(name).cloned()
    }

    fn left_behind(&self) -> Vec<Ending> {
        self.host.borrow().endings.values().filter(|ending| !ending.left_behind.is_empty()).cloned().collect()
    }

    fn boot_id(&self) -> String {
        self.host.borrow().boot_id.clone()
    }
}

/// All ports of one life of the controller.
pub struct SimWorld {
    pub clock: SimClock,
    pub forge: WatchedForge,
    pub sets: WatchedSets,
    pub systemd: SimSystemd,
    pub guests: SimGuests,
    pub records: SimRecords,
    pub history: SimHistory,
    pub rng: RefCell<StdRng>,
    /// The runner version that templates tell.
    pub tree: RefCell<Option<String>>,
}

impl SimWorld {
    pub fn new(hub: &Hub, host: &Host, clock: &SimClock, settings: &Settings, seed: u64) -> Self {
        let rng = Rc::new(RefCell::new(StdRng::seed_from_u64(seed)));
        let wire = Wire { hub: hub.clone(), clock: clock.clone(), rng: rng.clone() };
        // Stories are about one mishap each; histories have all of them.
        let loses = seed > 1;
        let others = settings.credentials.values().filter_map(|Credential { name, forge, .. }| {
            let flavour = if *forge == ForgeKind::Forgejo { ActFlavour::Forgejo } else { ActFlavour::Gitea };
            let (gitea, rng) = (host.borrow().forge(flavour), rng.clone());
            let wire = GiteaWire { gitea, clock: clock.clone(), rng, loses };
            Some((name.clone(), Gitea::open(settings, name, wire, Token::new(token(name)))?))
        });
        let others = others.collect();
        let session = |login: &Login| {
            let rest = Rest::new(wire.clone(), &login.credential.api_url);
            Ok::<_, Infallible>(Session::with_token(rest, Token::new(token(&login.credential.name))))
        };
        let Ok(github) = Github::open(settings, session);
        let github = Rc::new(github);
        Self {
            clock: clock.clone(),
            sets: WatchedSets { sets: ScaleSets::new(github.clone(), wire, "sim"), host: host.clone() },
            forge: WatchedForge { forges: Forges::new(github, others), host: host.clone() },
            systemd: SimSystemd { host: host.clone() },
            guests: SimGuests { host: host.clone() },
            records: SimRecords { host: host.clone() },
            history: SimHistory { host: host.clone() },
            rng: RefCell::new(StdRng::seed_from_u64(seed ^ 0x5eed)),
            tree: RefCell::default(),
        }
    }
}

impl World for SimWorld {
    type Clock = SimClock;
    type Forge = WatchedForge;
    type Sets = WatchedSets;
    type Systemd = SimSystemd;
    type Guests = SimGuests;
    type Records = SimRecords;
    type History = SimHistory;

    fn clock(&self) -> &SimClock {
        &self.clock
    }

    fn forge(&self) -> &WatchedForge {
        &self.forge
    }

    fn sets(&self) -> &WatchedSets {
        &self.sets
    }

    fn systemd(&self) -> &SimSystemd {
        &self.systemd
    }

    fn guests(&self) -> &SimGuests {
        &self.guests
    }

    fn records(&self) -> &SimRecords {
        &self.records
    }

    fn history(&self) -> &SimHistory {
        &self.history
    }

    fn runner_version(&self, _template: &Template) -> Option<String> {
        self.tree.borrow().clone()
    }

    fn measure(&self) -> Measured {
        self.systemd.host.borrow().measured.clone()
    }

    fn ask_for_room(&self) {
        self.systemd.host.borrow_mut().make_room();
    }

    fn prunings(&self) -> Prunings {
        self.systemd.host.borrow().prunings.clone()
    }

    fn random(&self) -> u64 {
        self.rng.borrow_mut().random()
    }
}
