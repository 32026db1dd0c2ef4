//! The real controller: real ports around the loop, HTTP beside it, the service manager told how it goes.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use api::{
    Events, Measures, Sources, Written,
    webhook::{self, Counters, Hint, Secret},
};
use contract::{PRUNINGS_FILE, Prunings, ROOM_WANTED};
use controller::{
    clock::RealClock,
    daemon::Daemon,
    guests::GuestSockets,
    history::{History, Reader},
    host_name::host_name,
    ledger::Ledger,
    operation::LoopCommand,
    ports::World,
    runner_version,
    status::Status,
    strain::{Measured, measure},
    systemd::SystemdBus,
};
use forge::{
    Https,
    github::{ScaleSets, Session},
};
use sandbox::paths::{DISKS_DIR, ROOTS_DIR, STORES_DIR};
use sd_notify::NotifyState;
use settings::{Problems, Settings, Template, token_file::SecretFile};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::{error, info, warn};

use super::open_forge::{RealForge, open_forge};

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Option<&Path>) -> anyhow::Result<()> {
    let settings = settings::load(config, |key| std::env::var(key).ok())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let host = host_name(&settings);
    let world = RealWorld::open(&settings, &host).await?;
    let (commands, inbox) = mpsc::channel(8);
    let (outbox, status) = watch::channel(Status::default());
    let deliveries = match &settings.webhook {
        Some(webhook) => Some(listen_for_deliveries(&settings, webhook, commands.clone()).await?),
        None => None,
    };
    let sources = Sources {
        status: status.clone(),
        webhook: deliveries,
        events: Events::default(),
        measures: Measures::default(),
        history: Reader::new(&settings.state_dir),
        state_dir: settings.state_dir.clone(),
        commands: Some(commands.clone()),
        written: Written::default(),
    };
    serve_api(&settings, sources.clone()).await?;
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
    let daemon = Daemon::new(&world, settings, host, inbox, outbox);
    let result = daemon.observed_by(move |before, after| sources.observe(before, after)).run().await;
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    result.map_err(|error| anyhow!(error))
}

/// Serves readers and operators on a thread of its own: however many ask, the loop goes round.
async fn serve_api(settings: &Settings, sources: Sources) -> anyhow::Result<()> {
    let http = &settings.http;
    let token = SecretFile::of_http(http).map(|file| file.read_credential()).transpose();
    let token = token.map_err(|problem| Problems(vec![problem]))?;
    let public = match http.port {
        0 => None,
        port => Some(listen("http.port", (http.address, port).into()).await?.into_std()?),
    };
    let socket = match control_socket(Path::new(contract::paths::CONTROL_SOCKET)) {
        Ok(listener) => Some(listener),
        Err(error) => {
            let remedy = "Remedy: systemd-sysusers && systemd-tmpfiles --create, then restart";
            warn!(%error, socket = contract::paths::CONTROL_SOCKET, "nobody can operate the controller: no local socket. {remedy}");
            None
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("api".into()).spawn(move || {
        runtime.block_on(async {
            let readers = async {
                // Both were listened to before; only an unusable runtime could refuse them.
                if let Some(listener) = public.and_then(|listener| TcpListener::from_std(listener).ok()) {
                    api::serve(listener, api::public(sources.clone(), token)).await;
                }
            };
            let operators = async {
                if let Some(listener) = socket.and_then(|listener| UnixListener::from_std(listener).ok()) {
                    api::serve(listener, api::local(sources.clone())).await;
                }
            };
            tokio::join!(readers, operators);
        });
    })?;
    Ok(())
}

/// The socket of those who may operate: its directory gives it their group (setgid), its mode lets them in.
fn control_socket(path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    info!(socket = %path.display(), "listening");
    Ok(listener)
}

async fn listen(key: &str, at: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(at)
        .await
        .with_context(|| format!("{key}: cannot listen on {at}. Remedy: free the port or set another"))?;
    info!(%at, key, "listening");
    Ok(listener)
}

/// Serves `/webhook`, and `/webhook/CREDENTIAL` for other forges than GitHub, and passes every hint on to the loop.
async fn listen_for_deliveries(
    settings: &Settings,
    webhook: &settings::Webhook,
    commands: mpsc::Sender<LoopCommand>,
) -> anyhow::Result<Arc<Counters>> {
    let hooks =
        settings.credentials.values().filter_map(|known| Some((Some(&*known.name), SecretFile::of_hook(known)?)));
    let mut senders = BTreeMap::new();
    for (credential, file) in SecretFile::of_webhook(webhook).map(|file| (None, file)).into_iter().chain(hooks) {
        let secret = file.read_credential().map_err(|problem| Problems(vec![problem]))?;
        senders.insert(credential.map(str::to_owned), Secret::new(secret.expose().as_bytes())?);
    }
    let (router, mut hints, counters) = webhook::router(senders);
    let listener = listen("webhook.port", (webhook.address, webhook.port).into()).await?;
    tokio::spawn(api::serve(listener, router));
    tokio::spawn(async move {
        while let Some(Hint { repository, .. }) = hints.recv().await {
            if commands.send(LoopCommand::LookAgain { repository }).await.is_err() {
                return;
            }
        }
    });
    Ok(counters)
}

/// SIGTERM or SIGINT stops intake; a second one has nothing more to stop.
fn stop_on_signal(commands: mpsc::Sender<LoopCommand>) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = commands.send(LoopCommand::Shutdown).await;
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

struct RealWorld {
    clock: RealClock,
    forge: RealForge,
    sets: ScaleSets<Session<Https>, Https>,
    systemd: SystemdBus,
    guests: GuestSockets,
    records: Ledger,
    history: History,
    /// What is written to: the controller's state, and what containers write.
    places: Vec<PathBuf>,
}

impl RealWorld {
    async fn open(settings: &Settings, host: &str) -> anyhow::Result<Self> {
        let forge = open_forge(settings)?;
        Ok(Self {
            clock: RealClock::start(),
            sets: ScaleSets::new(forge.github().clone(), Https::new(settings.proxy.as_ref())?, host),
            forge,
            systemd: SystemdBus::connect().await.context("systemd cannot be reached on the system bus")?,
            guests: GuestSockets::default(),
            records: Ledger::open(&settings.state_dir).context("state directory")?,
            places: vec![settings.state_dir.clone(), ROOTS_DIR.into(), DISKS_DIR.into(), STORES_DIR.into()],
            history: History::start(&settings.state_dir, settings.history_keep).context("history")?,
        })
    }
}

impl World for RealWorld {
    type Clock = RealClock;
    type Forge = RealForge;
    type Sets = ScaleSets<Session<Https>, Https>;
    type Systemd = SystemdBus;
    type Guests = GuestSockets;
    type Records = Ledger;
    type History = History;

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

    fn history(&self) -> &History {
        &self.history
    }

    fn runner_version(&self, template: &Template) -> Option<String> {
        runner_version::in_template(template)
    }

    fn measure(&self) -> Measured {
        measure(&self.places)
    }

    fn ask_for_room(&self) {
        if let Err(error) = fs::write(ROOM_WANTED, "") {
            warn!(%error, path = ROOM_WANTED, "cannot ask for room");
        }
    }

    fn prunings(&self) -> Prunings {
        // Root's file, and small; where nothing was removed there is none.
        let text = fs::read(PRUNINGS_FILE).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn random(&self) -> u64 {
        controller::random()
    }
}
