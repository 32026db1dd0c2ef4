//! The life of the guest, from its first act to its exit status.

use std::{
    cell::RefCell,
    env, fs,
    future::pending,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use contract::{
    Grant,
    event::{GuestExit, Trouble, What},
    guest_settings::{EVENTS_MOUNT, GRANT_CREDENTIAL, GuestSettings, SETTINGS_CREDENTIAL, STOP_PATIENCE},
};
use rustix::process::{Pid, Signal};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStderr, ChildStdout},
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    account, act,
    dialect::{Dialect, Prepared, Said, Stream},
    docker,
    github::{self, pages},
    gpu, hook,
    lines::Lines,
    nix,
    outlet::{self, Outlet},
    output::{self, Output},
    reach::{Place, Way},
    runner, variables,
    verdict::{Heard, verdict},
};

/// How long a runner that was killed may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long what it printed last may take to arrive; a process it left behind may hold its output open for ever.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(200);
/// How long the last of the job's output may take to be read.
const PAGES_PATIENCE: Duration = Duration::from_secs(1);
/// How long the host may take to hear the end of the story, and to begin to listen to that of a failure.
const STORY_PATIENCE: Duration = Duration::from_millis(500);
/// How long the journal may take to accept the last lines.
const PRINT_PATIENCE: Duration = Duration::from_secs(2);
/// How often a runner is started again after an error that may pass. All of it counts as one boot, which the host limits.
const MOST_RESTARTS: u32 = 3;
/// What lies between. GitHub's own script waits five seconds.
const RESTART_PAUSE: Duration = Duration::from_secs(5);
/// Pause between two looks at what was heard of a runner.
const LOOK: Duration = Duration::from_millis(500);
/// What is known of a runner that took a job and said no more.
const NO_RESULT: &str = "the runner took a job and ended without a word on how it went: the job was cancelled before it \
                         began, or the forge did not let the runner keep it";
/// systemd-nspawn's copy of the credentials in the container (systemd.exec(5), `LoadCredential=`).
const CONTAINER_CREDENTIALS: &str = "/run/host/credentials";

/// Everything that was made before the runner can start.
struct Ready {
    settings: GuestSettings,
    account: account::Account,
    runner: Prepared,
}

/// Does it all.
pub fn run() -> GuestExit {
    let mut outlet = Outlet::new();
    let listener = outlet::bind(Path::new(EVENTS_MOUNT)).inspect_err(|error| {
        // Nobody will hear the story, and the job can run all the same.
        eprintln!("guest: cannot listen for the controller: {error}");
    });
    outlet.report(What::Booted);
    let ready = set_up(&outlet);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("guest: cannot start: {error}");
            return GuestExit::SetupFailed;
        }
    };
    let exit = runtime.block_on(async {
        if let Ok(listener) = listener
            && let Err(error) = outlet.serve(listener)
        {
            eprintln!("guest: cannot serve the controller: {error}");
        }
        let result = match ready {
            Ok(ready) => work(ready, &outlet).await,
            Err(error) => Err(error),
        };
        let exit = result.unwrap_or_else(|error| {
            let message = format!("{error:#}");
            eprintln!("guest: {message}");
            outlet.report(What::Trouble { kind: Trouble::SetupFailed, message });
            GuestExit::SetupFailed
        });
        if exit.needs_words() {
            // It may all have happened before anybody could connect.
            outlet.wait_for_listener(STORY_PATIENCE).await;
        }
        outlet.finish(STORY_PATIENCE).await;
        exit
    });
    // A thread may hang on a console nobody reads.
    runtime.shutdown_background();
    end_what_is_left();
    exit
}

/// Kills every process of the container but its init and this one. The init would ask each to end and wait, ten
/// seconds for a daemon that waits for somebody else (Docker does); nothing that they could still save is kept.
fn end_what_is_left() {
    // systemd's word that process 1 is a container's (systemd-detect-virt(1)): a guest started by hand does no harm.
    if Path::new("/run/systemd/container").exists() && env::var_os("CREDENTIALS_DIRECTORY").is_some() {
        // -1, which kill(2) takes for everybody but init and the caller. There may be none.
        let _ = rustix::process::kill_process_group(Pid::INIT, Signal::KILL);
    }
}

fn set_up(outlet: &Outlet) -> anyhow::Result<Ready> {
    let credentials: PathBuf = env::var_os("CREDENTIALS_DIRECTORY").context("there are no credentials")?.into();
    let settings: GuestSettings = credential(&credentials, SETTINGS_CREDENTIAL)?;
    let mtu = super::network::set_up(&settings).context("cannot set up the network")?;
    outlet.report(What::NetworkReady);
    if let Some(docker) = &settings.docker {
        docker::set_up(Path::new(docker::DIRECTORY), docker, mtu)?;
    }
    if let Some(settings) = &settings.nix {
        nix::set_up(Path::new(nix::DIRECTORY), settings)?;
    }
    let read = |file| fs::read_to_string(file).with_context(|| format!("cannot read {file}"));
    let account = account::find(&settings.user, &read("/etc/passwd")?, &read("/etc/group")?)?;
    variables::keep_with_sudo(&settings)?;
    if let Some(gpu) = &settings.gpu {
        gpu::set_up(Path::new("/"), gpu).iter().for_each(|problem| eprintln!("guest: {problem}"));
    }
    if let (Some(_), Some(proxy)) = (&settings.docker, &settings.proxy) {
        docker::name_proxy(&account, proxy)?;
    }
    let runner = match credential(&credentials, GRANT_CREDENTIAL)? {
        Grant::GithubJit { encoded_jit_config } => github::prepare(&settings, &account, &encoded_jit_config)?,
        Grant::ActRunner(runner) => act::prepare(&settings, &account, &runner)?,
    };
    for directory in [&credentials, Path::new(CONTAINER_CREDENTIALS)] {
        // Best effort: systemd may have made them read-only. Only root can read them either way.
        let _ = fs::remove_file(directory.join(GRANT_CREDENTIAL));
    }
    if settings.docker.is_some() {
        docker::wait_for_socket(Path::new(docker::SOCKET), &account, docker::SOCKET_PATIENCE);
    }
    Ok(Ready { settings, account, runner })
}

fn credential<T: serde::de::DeserializeOwned>(directory: &Path, name: &str) -> anyhow::Result<T> {
    let bytes = fs::read(directory.join(name)).with_context(|| format!("cannot read credential {name}"))?;
    // serde's message may quote a secret.
    serde_json::from_slice(&bytes).map_err(|_| anyhow::anyhow!("credential {name} is not valid"))
}

async fn work(ready: Ready, outlet: &Outlet) -> anyhow::Result<GuestExit> {
    let Ready { settings, account, mut runner } = ready;
    let dialect = runner.dialect;
    let mut stop = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let (output, printer) = output::start();
    let limit = settings.job_limit.map(Duration::from_secs);
    let following = runner.pages.take().and_then(|pages| {
        pages::follow(pages, output.clone())
            .inspect_err(|error| output.try_print(&format!("guest: cannot follow the job's output: {error}")))
            .ok()
    });
    let start = || runner::start(&settings.runner, &runner, &account);
    let mut child = start()?;
    outlet.report(What::RunnerStarted);
    let way = Way::find(runner.forge.as_deref().and_then(|url| Place::of(url, &settings)));
    let mut again = 0;
    let (mut console, status) = loop {
        let (console, status) = live(&mut child, dialect, &mut stop, limit, &way, outlet, &output).await?;
        if again == MOST_RESTARTS || !dialect.may_pass(console.heard, status) {
            break (console, status);
        }
        again += 1;
        output.try_print(&format!(
            "guest: the runner ended with status {status}, which may pass; starting it again ({again} of {MOST_RESTARTS})"
        ));
        tokio::select! {
            () = tokio::time::sleep(RESTART_PAUSE) => {}
            _ = stop.recv() => break (console, status),
        }
        child = start()?;
    };
    if let Some(message) = runner.asks.then(|| hook::refusal(Path::new(hook::DIRECTORY))).flatten() {
        console.heard.note(Trouble::ForkRefused);
        outlet.report(What::Trouble { kind: Trouble::ForkRefused, message });
    }
    // One that was refused has reached it.
    let is_unexplained = matches!(console.heard.trouble, None | Some(Trouble::RunnerFailed));
    if let Some(message) = way.blocked().filter(|_| is_unexplained && !console.heard.listens) {
        console.heard.note(Trouble::NoNetwork);
        outlet.report(What::Trouble { kind: Trouble::NoNetwork, message });
    }
    let exit = verdict(console.heard, status);
    let (kind, message) = match exit {
        GuestExit::NoResult => (Trouble::NoResult, dialect.tells_result().then(|| NO_RESULT.to_owned())),
        // It gave up in words that nobody here knows.
        GuestExit::RunnerFailed if console.heard.trouble.is_none() => (Trouble::RunnerFailed, console.last.take()),
        _ => (Trouble::RunnerFailed, None),
    };
    if let Some(message) = message {
        outlet.report(What::Trouble { kind, message });
    }
    outlet.report(What::RunnerExited { status });
    if let Some(following) = following {
        following.finish(PAGES_PATIENCE).await;
    }
    output.try_print(&format!("guest: the runner ended with status {status}: {exit:?}"));
    drop(output);
    printer.finish(PRINT_PATIENCE).await;
    Ok(exit)
}

/// What a runner printed.
#[derive(Debug, Default)]
struct Console {
    heard: Heard,
    /// Its last line that says something.
    last: Option<String>,
}

/// Listens to the runner until it ends, and hastens that when the container is to stop. Gives what was heard and its
/// status, or 128 + signal.
async fn live(
    child: &mut Child,
    dialect: Dialect,
    stop: &mut tokio::signal::unix::Signal,
    limit: Option<Duration>,
    way: &Way,
    outlet: &Outlet,
    output: &Output,
) -> anyhow::Result<(Console, i32)> {
    let took_job = Notify::new();
    let console = RefCell::new(Console::default());
    let streams = (child.stdout.take(), child.stderr.take());
    let status = {
        let mut listening = std::pin::pin!(listen(streams, dialect, outlet, output, &console, &took_job));
        let mut done = false;
        let asked = async {
            tokio::select! {
                _ = stop.recv() => {
                    console.borrow_mut().heard.note_stop();
                    "the container is to stop"
                }
                () = reached(limit, &took_job) => {
                    console.borrow_mut().heard.note_limit();
                    "the job has reached its limit"
                }
            }
        };
        let mut life = std::pin::pin!(end(child, dialect, asked, way, output, &console));
        loop {
            tokio::select! {
                () = &mut listening, if !done => done = true,
                status = &mut life => {
                    if !done {
                        let _ = timeout(OUTPUT_PATIENCE, &mut listening).await;
                    }
                    break status?;
                }
            }
        }
    };
    Ok((console.into_inner(), status))
}

/// Waits until a job that was taken has run for so long. It holds also where nobody outside is there to say so.
async fn reached(limit: Option<Duration>, took_job: &Notify) {
    took_job.notified().await;
    match limit {
        Some(limit) => sleep(limit).await,
        None => pending().await,
    }
}

/// Waits for the runner's end, and hastens it once it is asked to end, for a reason to print, or has nothing to wait for.
async fn end(
    child: &mut Child,
    dialect: Dialect,
    asked: impl Future<Output = &'static str>,
    way: &Way,
    output: &Output,
    console: &RefCell<Console>,
) -> anyhow::Result<i32> {
    let status = tokio::select! {
        status = child.wait() => status?,
        () = hopeless(dialect, console) => {
            output.try_print("guest: the runner's registration is gone; killing it");
            kill(child).await?
        }
        () = cut_off(way, console) => {
            output.try_print("guest: the forge cannot be reached; killing the runner");
            kill(child).await?
        }
        why = asked => {
            if dialect.can_be_asked_to_stop() {
                output.try_print(&format!("guest: {why}; asking the runner to end"));
                interrupt(child, Signal::INT);
                match timeout(STOP_PATIENCE, child.wait()).await {
                    Ok(status) => status?,
                    Err(_) => {
                        output.try_print("guest: the runner did not end in time; killing it");
                        kill(child).await?
                    }
                }
            } else {
                output.try_print(&format!("guest: {why}; killing the runner"));
                console.borrow_mut().heard.killed = true;
                kill(child).await?
            }
        }
    };
    use std::os::unix::process::ExitStatusExt;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// Waits until a runner without a job has lost its registration and would go on asking for ever.
async fn hopeless(dialect: Dialect, console: &RefCell<Console>) {
    if dialect.gives_up() {
        std::future::pending::<()>().await;
    }
    while console.borrow().heard.trouble != Some(Trouble::RegistrationDeleted) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the forge was not reached for long, and the runner has no way of its own there.
async fn cut_off(way: &Way, console: &RefCell<Console>) {
    way.given_up().await;
    if console.borrow().heard.listens {
        pending::<()>().await;
    }
}

/// Kills the runner and all of its group.
async fn kill(child: &mut Child) -> anyhow::Result<std::process::ExitStatus> {
    if let Some(group) = pid(child) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    Ok(timeout(KILL_PATIENCE, child.wait()).await.context("the runner does not die")??)
}

fn pid(child: &Child) -> Option<Pid> {
    child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
}

fn interrupt(child: &Child, signal: Signal) {
    if let Some(pid) = pid(child) {
        // It may have ended this moment.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Reads both streams to their end.
async fn listen(
    (stdout, stderr): (Option<ChildStdout>, Option<ChildStderr>),
    dialect: Dialect,
    outlet: &Outlet,
    output: &Output,
    console: &RefCell<Console>,
    took_job: &Notify,
) {
    let (sender, mut lines) = tokio::sync::mpsc::channel(64);
    let read_all = async {
        tokio::join!(read(stdout, Stream::Output, sender.clone()), read(stderr, Stream::Error, sender.clone()));
        drop(sender);
    };
    let understand_all = async {
        while let Some((stream, line)) = lines.recv().await {
            output.try_print(&line);
            let mut console = console.borrow_mut();
            for said in parse(dialect, stream, &line) {
                understand(said, &line, dialect, outlet, &mut console.heard);
            }
            if console.heard.took_job {
                took_job.notify_one();
            }
            if !line.trim().is_empty() {
                console.last = Some(line);
            }
        }
    };
    tokio::join!(read_all, understand_all);
}

async fn read(
    from: Option<impl AsyncRead + Unpin>,
    stream: Stream,
    lines: tokio::sync::mpsc::Sender<(Stream, String)>,
) {
    let Some(mut from) = from else { return };
    let (mut cutter, mut piece) = (Lines::default(), [0; 4096]);
    loop {
        let mut found = Vec::new();
        match from.read(&mut piece).await {
            Ok(length) if length > 0 => cutter.feed(&piece[..length], |line| found.push(line)),
            _ => {
                if let Some(line) = cutter.rest() {
                    let _ = lines.send((stream, line)).await;
                }
                return;
            }
        }
        for line in found {
            let _ = lines.send((stream, line)).await;
        }
    }
}

/// What a line (without its line feed) says, if it is one of the known lines.
fn parse(dialect: Dialect, stream: Stream, line: &str) -> Vec<Said> {
    match (dialect, stream) {
        (Dialect::Github, _) => github::console::parse(line).into_iter().collect(),
        // The other stream is the job's.
        (Dialect::Gitea | Dialect::Forgejo, Stream::Error) => act::console::parse(line),
        (Dialect::Gitea | Dialect::Forgejo, Stream::Output) => Vec::new(),
    }
}

fn understand(said: Said, line: &str, dialect: Dialect, outlet: &Outlet, heard: &mut Heard) {
    match said {
        Said::Version(version) => outlet.report(What::RunnerVersion { version }),
        Said::Listening => {
            heard.listens = true;
            outlet.report(What::Listening);
        }
        Said::JobStarted { job, task } => {
            (heard.listens, heard.took_job) = (true, true);
            outlet.report(What::JobStarted { job, task });
        }
        Said::JobEnded(result) => {
            heard.result = Some(result);
            outlet.report(What::JobEnded { result });
        }
        // These forges forget a registration with its job, and their runners complain.
        Said::Trouble(_) if heard.took_job && !dialect.tells_result() => {}
        Said::Trouble(kind) => {
            heard.note(kind);
            outlet.report(What::Trouble { kind, message: line.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_prints_is_not_taken_for_what_its_runner_says() {
        let line = r#"time="2026-11-29T13:08:33Z" level=info msg="task 2 repo is acme/run""#;
        assert_eq!(parse(Dialect::Gitea, Stream::Error, line).len(), 1);
        assert_eq!(parse(Dialect::Gitea, Stream::Output, line), []);
        assert_eq!(parse(Dialect::Github, Stream::Error, line), []);
    }
}
