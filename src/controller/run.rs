//! The real controller: real edges around the loop, HTTP beside it, the service manager told how it goes.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::{error, info, warn};

use super::{
    daemon::{Command, Daemon},
    edges::{Clock, World},
    guests::GuestSockets,
    ledger::Ledger,
    status::Status,
    systemd::SystemdBus,
};
use crate::{
    api,
    config::{self, CredentialKind, Problem, Problems, Settings, token_file::SecretFile},
    forge::github::{App, Github, OctocrabExchange, ScaleSets, Session, scale_set::https::Https},
};

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Option<&Path>) -> anyhow::Result<()> {
    let settings = config::load(config, |key| std::env::var(key).ok())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let host = match &settings.host_name {
        Some(name) => name.clone(),
        None => host_name(),
    };
    let world = RealWorld::open(&settings, &host).await?;
    let (commands, inbox) = mpsc::channel(8);
    let (outbox, status) = watch::channel(Status::default());
    if settings.http.port != 0 {
        let at: SocketAddr = (settings.http.address, settings.http.port).into();
        let listener = tokio::net::TcpListener::bind(at)
            .await
            .with_context(|| format!("http.port: cannot listen on {at}. Remedy: free the port or set another"))?;
        info!(%at, "serving /health and /status");
        tokio::spawn(api::serve(listener, api::router(status.clone())));
    }
    tokio::spawn(stop_on_signal(commands)?);
    tokio::spawn(tell_service_manager(status));
    info!(
        targets = settings.targets.len(),
        classes = settings.classes.len(),
        max_concurrent = settings.max_concurrent,
        host,
        version = env!("CARGO_PKG_VERSION"),
        "controller started"
    );
    let result = Daemon::new(&world, settings, host, inbox, outbox).run().await;
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    result.map_err(|error| anyhow!(error))
}

/// SIGTERM or SIGINT stops intake; a second one has nothing more to stop.
fn stop_on_signal(commands: mpsc::Sender<Command>) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = commands.send(Command::Shutdown).await;
        }
    })
}

/// READY after the first round, STATUS with each change, WATCHDOG only while rounds go on.
async fn tell_service_manager(mut status: watch::Receiver<Status>) {
    let pause = sd_notify::watchdog_enabled().map_or(Duration::from_secs(10), |limit| limit / 3);
    let mut last_line = String::new();
    let mut ready = false;
    let mut fed = Instant::now();
    // Each change of the status is a round of the loop; the loop makes one every few seconds even when idle.
    while status.changed().await.is_ok() {
        let line = status.borrow_and_update().line();
        let mut say = Vec::new();
        if !ready {
            ready = true;
            say.push(NotifyState::Ready);
        }
        if fed.elapsed() >= pause.min(Duration::from_secs(5)) {
            fed = Instant::now();
            say.push(NotifyState::Watchdog);
        }
        if line != last_line {
            say.push(NotifyState::Status(&line));
        }
        if !say.is_empty()
            && let Err(error) = sd_notify::notify(&say)
        {
            warn!(%error, "the service manager does not listen");
        }
        last_line = line;
    }
    error!("the loop ended");
}

/// The kernel's host name, made to fit a runner's name.
fn host_name() -> String {
    let uname = rustix::system::uname();
    let text = uname.nodename().to_string_lossy().to_ascii_lowercase();
    let short = text.split('.').next().unwrap_or_default();
    let name: String = short.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(20).collect();
    let name = name.trim_matches('-');
    if config::check::is_host_name(name) { name.to_owned() } else { "host".to_owned() }
}

struct RealWorld {
    clock: RealClock,
    forge: Rc<Github<Session<OctocrabExchange>>>,
    sets: ScaleSets<Session<OctocrabExchange>, Https>,
    systemd: SystemdBus,
    guests: GuestSockets,
    records: Ledger,
}

impl RealWorld {
    async fn open(settings: &Settings, host: &str) -> anyhow::Result<Self> {
        // Every file is read first, so that all that is wrong is said at once.
        let mut problems = Vec::new();
        let mut secrets = BTreeMap::new();
        for (name, credential) in &settings.credentials {
            match SecretFile::of_credential(credential).read_credential() {
                Ok(secret) => {
                    secrets.insert(name.as_str(), secret);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems).into());
        }
        let forge = Github::open(settings, |login| {
            let credential = &login.credential;
            let exchange = OctocrabExchange::new(&credential.api_url)?;
            let secret = secrets.get(credential.name.as_str()).context("a credential that was not read")?.clone();
            Ok::<_, anyhow::Error>(match (&credential.kind, &login.installation) {
                (CredentialKind::App { id, .. }, Some(installation)) => {
                    let app = App::new(*id, &secret).map_err(|error| {
                        Problems::from(Problem::new(
                            format!("credential.{}.private_key_file", credential.name),
                            format!("the key cannot be used: {error}"),
                            "generate a new private key on the App's settings page",
                        ))
                    })?;
                    Session::with_app(exchange, app, installation.clone())
                }
                _ => Session::with_token(exchange, secret),
            })
        })?;
        let forge = Rc::new(forge);
        Ok(Self {
            clock: RealClock { start: Instant::now() },
            sets: ScaleSets::new(forge.clone(), Https::new()?, host),
            forge,
            systemd: SystemdBus::connect().await.context("systemd cannot be reached on the system bus")?,
            guests: GuestSockets::default(),
            records: Ledger::open(&settings.state_dir).context("state directory")?,
        })
    }
}

impl World for RealWorld {
    type Clock = RealClock;
    type Forge = Github<Session<OctocrabExchange>>;
    type Sets = ScaleSets<Session<OctocrabExchange>, Https>;
    type Systemd = SystemdBus;
    type Guests = GuestSockets;
    type Records = Ledger;

    fn clock(&self) -> &RealClock {
        &self.clock
    }

    fn forge(&self) -> &Self::Forge {
        &self.forge
    }

    fn sets(&self) -> &Self::Sets {
        &self.sets
    }

    fn systemd(&self) -> &SystemdBus {
        &self.systemd
    }

    fn guests(&self) -> &GuestSockets {
        &self.guests
    }

    fn records(&self) -> &Ledger {
        &self.records
    }

    fn random(&self) -> u64 {
        super::random()
    }
}

struct RealClock {
    start: Instant,
}

impl Clock for RealClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
