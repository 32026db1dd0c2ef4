//! The whole controller in a simulation: its real loop and its real GitHub client against a simulated GitHub and a
//! simulated host, with faults, crashes and simulated time. The same seed gives the same history.
//!
//! `SIMULATION_SEED=7 cargo test --test simulation` replays one seed; `SIMULATION_SEEDS=500` tries many.
#![allow(clippy::unwrap_used, missing_docs)]

mod adopt;
mod fairness;
mod faults;
mod forgejo;
mod gitea;
mod groups;
mod health;
mod heap;
mod hints;
mod history;
mod host;
mod idle;
mod lifetimes;
mod memory;
mod mishaps;
mod operate;
mod pace;
mod ports;
mod reconcile;
mod repositories;
mod rerun;
mod story;
mod strain;
mod truth;
mod versions;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use api::webhook::{Deliveries, Judged, Secret};
use controller::{daemon::Daemon, operation::LoopCommand, record::Stage, status::Status};
use github_sim::world::{
    AccountKind, AccountSpec, Assignment, Conclusion, Config, HookSpec, JobId, JobStatus, RepoId, RepoSpec,
    RunnerGroupSpec, ScaleSetRules, Scope, Visibility, World,
};
use host::{Host, HostState};
use mishaps::Undo;
use ports::{Hub, SimClock, SimWorld, token};
use rand::{Rng, SeedableRng, rngs::StdRng};
use settings::Settings;
use tokio::{
    sync::{mpsc, watch},
    task::LocalSet,
    time::{sleep, timeout},
};

/// A repository that is named, three of an organisation, two of a person.
const REPOS: [&str; 6] = ["acme/api", "corp/web", "corp/docs", "corp/tools", "solo/site", "solo/notes"];
/// Those that everybody can read: their pull requests may come from forks.
const PUBLIC: [&str; 2] = ["solo/notes", "corp/docs"];
const CREDENTIALS: [&str; 2] = ["first", "second"];
const HOST_NAME: &str = "sim";
const HOOK_SECRET: &str = "swordfish";
/// What is left of a container, with faults and crashes all the while.
const GONE_WITHIN: Duration = Duration::from_secs(6 * 3600);
/// Deliveries of webhooks come so many ticks of the clock late.
const DELIVERED_EVERY: u32 = 5;

/// One run of the simulation.
struct Simulation {
    seed: u64,
    rng: StdRng,
    hub: Hub,
    host: Host,
    clock: SimClock,
    settings: Settings,
    served: &'static [&'static str],
    /// Jobs that must be served: their labels are ours and nobody cancels them.
    ours: Vec<JobId>,
    status: Option<watch::Receiver<Status>>,
    /// Longest pause between two events.
    pause: Duration,
    /// What is taken back, and when.
    undo: Vec<(Duration, Undo)>,
    /// Repositories that something was done to, and until when that may show.
    disturbed: BTreeMap<String, Duration>,
    /// What belongs to no container that lives, and since when.
    left: BTreeMap<String, Duration>,
    /// What the controller's webhook made of deliveries: it outlives nothing, but costs a look at most.
    heard: Deliveries,
    /// Polite stops while containers ran.
    stopped_politely: u32,
}

/// Shares and priorities differ from seed to seed; `more` = what else is configured.
fn settings(seed: u64, more: &str) -> Settings {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let text = format!(
        r#"
        max_concurrent = 5
        idle_poll_interval = "1m"
        [github]
        api_url = "http://github.invalid"
        [network]
        pool = "10.9.0.0/27"
        prefix = 30
        [class.small]
        labels = ["self-hosted", "linux"]
        memory = "1G"
        intake = "auto"
        [class.big]
        labels = ["self-hosted", "linux", "big"]
        memory = "8G"
        max_concurrent = 2
        intake = "polling"
        [credential.first]
        token_file = "/nowhere/first"
        [credential.second]
        token_file = "/nowhere/second"
        [[target]]
        repo = "acme/api"
        credential = "first"
        [[target]]
        org = "corp"
        credential = "second"
        weight = {weight}
        max_concurrent = 4
        [[target]]
        user = "solo"
        credential = "first"
        priority = {priority}
        {more}
        "#,
        weight = 1 + seed % 3,
        priority = seed % 2,
    );
    std::fs::write(file.path(), text).unwrap();
    settings::load(Some(file.path()), |_| None).unwrap()
}

fn repo_spec(name: &str) -> RepoSpec {
    RepoSpec { name: name.into(), private: !PUBLIC.contains(&name) }
}

/// Of a repository, of an organisation itself: each owner is one target here.
fn owner(name: &str) -> String {
    name.split('/').next().unwrap_or_default().to_owned()
}

/// A host that serves one repository, and looks at it now and then.
fn small_settings() -> Settings {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let text = r#"
        max_concurrent = 2
        poll_interval = "20m"
        idle_poll_interval = "1h"
        [github]
        api_url = "http://github.invalid"
        [network]
        pool = "10.9.0.0/28"
        prefix = 30
        [class.small]
        labels = ["self-hosted", "linux", "big"]
        intake = "polling"
        [credential.first]
        token_file = "/nowhere/first"
        [[target]]
        repo = "acme/api"
        credential = "first"
        "#;
    std::fs::write(file.path(), text).unwrap();
    settings::load(Some(file.path()), |_| None).unwrap()
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self::with(seed, settings(seed, ""), &REPOS)
    }

    /// A Gitea and a Forgejo are beside GitHub.
    fn with_gitea(seed: u64) -> Self {
        Self::with(seed, settings(seed, gitea::SETTINGS), &REPOS)
    }

    /// A small host, for years of simulated time.
    fn small(seed: u64) -> Self {
        let mut simulation = Self::with(seed, small_settings(), &REPOS[..1]);
        // Some are busier than others, and most of them are idle for most of the time.
        let hours = [2, 8, 24, 24][usize::try_from(seed % 4).unwrap()];
        simulation.pause = Duration::from_secs(hours * 3600);
        simulation.clock.tick.set(Duration::from_secs(60));
        simulation
    }

    /// `served` = the repositories in which something happens.
    fn with(seed: u64, settings: Settings, served: &'static [&'static str]) -> Self {
        let clock = SimClock::new();
        let mut github = World::new(Config { seed, tokens: CREDENTIALS.map(token).to_vec(), ..Config::default() });
        github.set_account(AccountSpec { login: "solo".into(), kind: AccountKind::User, enterprise: None }).unwrap();
        let repos: Vec<RepoId> = REPOS.iter().map(|repo| github.add_repo(&repo_spec(repo)).unwrap()).collect();
        let group =
            RunnerGroupSpec { name: "Default".into(), visibility: Visibility::All, allows_public_repositories: true };
        github.set_runner_group(&Scope::Org("corp".into()), group).unwrap();
        let hooked =
            if settings.targets.len() > 1 { vec![Scope::Repo(repos[0]), Scope::Org("corp".into())] } else { vec![] };
        for scope in hooked {
            let hook = HookSpec { scope, url: "http://hooks.invalid/webhook".into(), secret: HOOK_SECRET.into() };
            github.set_hook(clock.now(), hook).unwrap();
        }
        if seed % 3 == 2 {
            // As GitHub Enterprise Server gives jobs out.
            let rules = ScaleSetRules { assignment: Assignment::Acquire, ..ScaleSetRules::default() };
            github.set_scale_set_rules(rules);
        }
        github.advance(clock.now());
        let hub: Hub = Rc::new(RefCell::new(github));
        let class_max: BTreeMap<String, usize> =
            settings.classes.values().map(|class| (class.name.clone(), class.max_concurrent)).collect();
        let state = HostState::new(
            hub.clone(),
            clock.clone(),
            StdRng::seed_from_u64(seed.wrapping_mul(31)),
            settings.max_concurrent,
            class_max,
            settings.targets.iter().map(|target| (owner(&target.name), target.max_concurrent)).collect(),
        );
        Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            hub,
            host: Rc::new(RefCell::new(state)),
            clock,
            settings,
            ours: Vec::new(),
            status: None,
            pause: Duration::from_secs(180),
            undo: Vec::new(),
            disturbed: BTreeMap::new(),
            served,
            left: BTreeMap::new(),
            heard: Deliveries::default(),
            stopped_politely: 0,
        }
    }

    /// One life of the controller: for so long, then it is asked to stop, or killed where it stands.
    async fn controller(&mut self, life: Duration, polite: bool) {
        let world = SimWorld::new(&self.hub, &self.host, &self.clock, &self.settings, self.rng.random());
        let (commands, inbox) = mpsc::channel(1);
        let (outbox, status) = watch::channel(Status::default());
        self.status = Some(status);
        let daemon = Daemon::new(&world, self.settings.clone(), HOST_NAME.into(), inbox, outbox).run();
        tokio::pin!(daemon);
        // Dead between any two writes, or wherever it stands when its time is over.
        let fuse = self.rng.random_bool(0.3).then(|| self.rng.random_range(0..80));
        let died = {
            let mut host = self.host.borrow_mut();
            (host.fuse, host.dead, host.died) = (fuse, false, Rc::default());
            host.died.clone()
        };
        let killed = tokio::select! {
            biased;
            result = &mut daemon => {
                // systemd starts one again that could not reach it.
                assert!(result.is_err() && self.host.borrow().bus_is_lost(), "it ended by itself: {result:?}");
                true
            }
            () = died.notified() => true,
            () = self.events(life, Some(&commands)) => false,
        };
        self.host.borrow_mut().fuse = None;
        if polite && !killed {
            let running = self.host.borrow().units.len();
            // A hint may be in the way: it is taken while the controller runs.
            let asked = async { commands.send(LoopCommand::Shutdown).await.unwrap() };
            let stopped = timeout(Duration::from_secs(60), daemon);
            tokio::join!(asked, stopped).1.expect("stopping takes too long").unwrap();
            if running > 0 {
                self.stopped_politely += 1;
            }
        }
    }

    /// What happens to the controller's world while it runs, for so long.
    async fn events(&mut self, life: Duration, commands: Option<&mpsc::Sender<LoopCommand>>) {
        let end = self.clock.now() + life;
        while self.clock.now() < end {
            let pause = Duration::from_millis(self.rng.random_range(1..self.pause.as_millis() as u64));
            let next = (self.clock.now() + pause).min(end);
            while self.clock.now() < next {
                sleep((self.clock.tick.get() * DELIVERED_EVERY).min(next - self.clock.now())).await;
                self.host.borrow_mut().deliver_late();
                self.deliver(commands).await;
            }
            if self.clock.now() < end {
                self.take_back();
                self.something_happens();
                self.something_happens_at_gitea();
                self.check_others();
                self.check_leftovers();
            }
        }
    }

    /// What belongs to no container that lives goes within its deadline, whatever else happens.
    fn check_leftovers(&mut self) {
        let now = self.clock.now();
        let host = self.host.borrow();
        let lives = |runner: &str| host.records.values().any(|record| record.runner_name == runner);
        let hub = self.hub.borrow();
        let ours = hub.runner_views().into_iter().map(|runner| runner.name).filter(|name| name.starts_with(HOST_NAME));
        let registrations = ours.filter(|name| !lives(name)).map(|name| format!("registration {name}"));
        let units = host.units.keys().filter(|name| !host.records.contains_key(*name));
        let handed = host.handed.keys().filter(|name| !host.records.contains_key(*name));
        let settling = host.records.values().filter(|record| matches!(record.stage, Stage::Settling { .. }));
        let left: BTreeMap<String, Duration> = registrations
            .chain(units.map(|name| format!("unit {name}")))
            .chain(handed.map(|name| format!("hand-over {name}")))
            .chain(settling.map(|record| format!("ended container {}", record.runner_name)))
            .map(|what| (self.left.get(&what).copied().unwrap_or(now), what))
            .map(|(since, what)| (what, since))
            .collect();
        for (what, since) in &left {
            assert!(now - *since < GONE_WITHIN, "{what} is still there after {:?}", now - *since);
        }
        drop((host, hub));
        self.left = left;
    }

    /// What the webhook of a controller that runs hears.
    async fn deliver(&mut self, commands: Option<&mpsc::Sender<LoopCommand>>) {
        let due = self.hub.borrow_mut().take_deliveries(self.clock.now());
        let Some(commands) = commands else { return };
        let secret = Secret::new(HOOK_SECRET.as_bytes()).unwrap();
        for delivery in due {
            let header =
                |name| delivery.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
            if header("x-github-event") != Some("workflow_job")
                || !header("x-hub-signature-256")
                    .is_some_and(|signature| secret.proof().with(&delivery.body).holds(signature))
            {
                continue;
            }
            if let Judged::News(hint) = self.heard.judge(header("x-github-delivery").unwrap(), &delivery.body) {
                commands.send(LoopCommand::LookAgain { repository: hint.repository }).await.unwrap();
            }
        }
    }

    /// Nothing but jobs that come, go and come again.
    fn something_happens_at_gitea(&mut self) {
        if !self.settings.credentials.contains_key("own") {
            return;
        }
        let forge = self.host.borrow().others[self.rng.random_range(0..2)].clone();
        let mut gitea = forge.borrow_mut();
        let known: Vec<u64> = gitea.jobs.keys().copied().collect();
        let any = known.get(self.rng.random_range(0..known.len().max(1))).copied();
        match (self.rng.random_range(0..10), any) {
            (0..2, Some(job)) => gitea.cancel(job),
            (2, Some(job)) => gitea.rerun(job),
            (3..7, _) => {
                gitea.queue();
            }
            _ => {}
        }
    }

    /// After the last fault: everything is served, and nothing is left anywhere.
    fn check_the_end(&self) {
        let hub = self.hub.borrow();
        let views: BTreeMap<JobId, _> = hub.job_views().into_iter().map(|job| (job.id, job)).collect();
        for job in &self.ours {
            let job = &views[job];
            assert!(job.acquired_at.is_some(), "job {} was never served: {job:?}", job.id);
            assert_eq!(job.status, JobStatus::Completed, "job {} never ended: {job:?}", job.id);
        }
        for job in views.values().filter(|job| job.name == "foreign") {
            assert_eq!(job.runner_name, None, "a job with labels that are not ours was picked");
        }
        // A foreign runner may have taken one.
        let is_ours = |name: &String| name.starts_with(HOST_NAME);
        for job in views.values().filter(|job| job.name == "fork" && job.runner_name.as_ref().is_some_and(is_ours)) {
            assert_ne!(job.conclusion, Some(Conclusion::Success), "a job of a fork was run: {job:?}");
        }
        let left: Vec<_> = hub.runner_views().into_iter().filter(|runner| runner.name.starts_with(HOST_NAME)).collect();
        assert!(left.is_empty(), "registrations leaked: {left:#?}");
        let host = self.host.borrow();
        for forge in &host.others {
            let forge = forge.borrow();
            let open: Vec<_> = forge.jobs.iter().filter(|(_, job)| job.status != "completed").collect();
            assert!(open.is_empty(), "jobs of {:?} were never served, or never ended: {open:?}", forge.flavour);
            assert_eq!(forge.registrations(), 0, "registrations leaked at {:?}", forge.flavour);
        }
        assert!(host.units.is_empty(), "units left: {:?}", host.units.keys());
        assert!(host.handed.is_empty(), "hand-overs left: {:?}", host.handed.keys());
        assert!(host.records.is_empty(), "records left: {:?}", host.records.values());
        host.truth.is_told_by(&host.history);
        let sessions: Vec<_> = hub.scale_set_views().into_iter().filter(|set| set.listener.is_some()).collect();
        assert!(sessions.is_empty(), "sessions left after a polite stop: {sessions:#?}");
        let status = self.status.as_ref().unwrap().borrow();
        assert!(status.active_containers.is_empty());
        assert!(status.problems.is_empty(), "still unhealthy: {:?}", status.problems);
    }
}

/// `hours` of faults and crashes, then three quiet hours.
async fn history(seed: u64, hours: u64) -> Simulation {
    history_of(Simulation::with_gitea(seed), hours, 1800).await
}

/// `life` = longest life of one controller, in seconds.
async fn history_of(mut simulation: Simulation, hours: u64, life: u64) -> Simulation {
    let end = simulation.clock.now() + Duration::from_secs(hours * 3600);
    while simulation.clock.now() < end {
        let life = Duration::from_millis(simulation.rng.random_range(100..life * 1000));
        let polite = simulation.rng.random_bool(0.3);
        simulation.controller(life, polite).await;
        let away = Duration::from_millis(simulation.rng.random_range(0..60_000));
        if simulation.rng.random_bool(0.1) {
            let power_lost = simulation.rng.random();
            host::goes_down(&simulation.host, power_lost);
        }
        simulation.events(away, None).await;
    }
    simulation.take_everything_back();
    simulation.hub.borrow_mut().clear_faults();
    simulation.host.borrow_mut().recovers();
    *simulation.clock.skew.borrow_mut() = 0.0;
    quiet(&mut simulation, Duration::from_secs(3 * 3600)).await;
    simulation.check_the_end();
    simulation
}

/// Nothing goes wrong any more, for so long.
async fn quiet(simulation: &mut Simulation, time: Duration) {
    let world = SimWorld::new(
        &simulation.hub,
        &simulation.host,
        &simulation.clock,
        &simulation.settings,
        simulation.rng.random(),
    );
    let (commands, inbox) = mpsc::channel::<LoopCommand>(1);
    let (outbox, status) = watch::channel(Status::default());
    simulation.status = Some(status);
    let daemon = Daemon::new(&world, simulation.settings.clone(), HOST_NAME.into(), inbox, outbox).run();
    tokio::pin!(daemon);
    tokio::select! {
        biased;
        result = &mut daemon => panic!("the controller ended by itself: {result:?}"),
        () = sleep(time) => {}
    }
    commands.send(LoopCommand::Shutdown).await.unwrap();
    timeout(Duration::from_secs(60), daemon).await.expect("stopping takes too long").unwrap();
}

/// Runs a simulation on a paused clock, one thread, nothing left to chance but the seed.
fn simulate<T>(future: impl Future<Output = T>) -> T {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

/// Says how to see it again if it fails.
fn replayable<T>(seed: u64, run: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        eprintln!("seed {seed} failed; replay it: SIMULATION_SEED={seed} cargo test --release --test simulation");
        std::panic::resume_unwind(panic)
    })
}

fn seeds() -> Vec<u64> {
    let number = |key| std::env::var(key).ok().and_then(|text| text.parse().ok());
    match number("SIMULATION_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SIMULATION_SEEDS").unwrap_or(24)).collect(),
    }
}

#[test]
fn random_histories_with_faults_and_crashes_serve_every_job_and_leave_nothing() {
    let (mut jobs, mut containers, mut by_set, mut politely) = (0, 0, 0, 0);
    for seed in seeds() {
        let simulation = replayable(seed, || simulate(history(seed, 6)));
        jobs += simulation.ours.len();
        politely += simulation.stopped_politely;
        containers += simulation.host.borrow().started;
        by_set += simulation.host.borrow().by_set;
    }
    println!(
        "{jobs} jobs that had to be served, {containers} containers, {by_set} of scale sets, {politely} polite stops with \
         jobs running"
    );
    assert!(by_set > 0 && by_set < containers, "both ways to find jobs are used");
    assert!(seeds().len() == 1 || politely > 0, "no history stopped a controller while jobs ran");
}

#[test]
fn a_week_with_a_fault_every_few_minutes_ends_well() {
    for seed in seeds().into_iter().take(4) {
        replayable(seed, || {
            simulate(async {
                let mut simulation = Simulation::new(seed);
                simulation.pause = Duration::from_secs(900);
                // A week is about age. How looks go at their usual pace, the shorter histories show.
                simulation.settings.poll_interval = Duration::from_secs(120);
                simulation.settings.idle_poll_interval = Some(Duration::from_secs(240));
                simulation.clock.tick.set(Duration::from_secs(10));
                history_of(simulation, 7 * 24, 86_400).await;
            });
        });
    }
}

/// Histories of `DAYS` days each on small hosts, as many at once as there are processors; `SIMULATION_DAYS` = how many
/// days all of them have together.
#[test]
fn years_of_histories_on_small_hosts_end_well() {
    const DAYS: u64 = 10;
    let days: u64 = std::env::var("SIMULATION_DAYS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let seeds = match std::env::var("SIMULATION_SEED") {
        Ok(_) => seeds(),
        Err(_) => (0..days.div_ceil(DAYS)).collect(),
    };
    let next = std::sync::Mutex::new(seeds.iter());
    let (begun, containers) = (std::time::Instant::now(), std::sync::atomic::AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = { next.lock().unwrap().next() } {
                    let run = || simulate(async { history_of(Simulation::small(*seed), DAYS * 24, 86_400).await });
                    let started = replayable(*seed, run).host.borrow().started;
                    containers.fetch_add(started, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    println!("{} simulated days, {containers:?} containers, in {:?}", seeds.len() as u64 * DAYS, begun.elapsed());
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let tell = |seed| {
        simulate(async move {
            let simulation = history(seed, 2).await;
            let jobs = simulation.hub.borrow().job_views();
            (format!("{jobs:?}"), simulation.host.borrow().started, simulation.seed)
        })
    };
    assert_eq!(tell(3), tell(3));
    assert_ne!(tell(3).0, tell(4).0, "the seed means nothing");
}
