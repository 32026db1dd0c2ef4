//! The life of the guest, from its first act to its exit status.

use std::{
    cell::RefCell,
    env, fs,
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
    time::timeout,
};

use super::{
    account,
    console::{self, Said},
    docker, grant, hook,
    lines::Lines,
    outlet::{self, Outlet},
    output::{self, Output},
    pages, runner, variables,
    verdict::{Heard, may_pass, verdict},
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
/// What is known of a runner that took a job and said no more.
const NO_RESULT: &str = "the runner took a job and ended without a word on how it went: the job was cancelled before it \
                         began, or the forge did not let the runner keep it";
/// systemd-nspawn's copy of the credentials in the container (systemd.exec(5), `LoadCredential=`).
const CONTAINER_CREDENTIALS: &str = "/run/host/credentials";

/// Everything that was made before the runner can start.
struct Ready {
    settings: GuestSettings,
    account: account::Account,
    root: PathBuf,
    pages: std::os::fd::OwnedFd,
    hook: Option<PathBuf>,
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
    let read = |file| fs::read_to_string(file).with_context(|| format!("cannot read {file}"));
    let account = account::find(&settings.user, &read("/etc/passwd")?, &read("/etc/group")?)?;
    let program = runner::resolved(&settings)?;
    let root = settings.runner_root(env::var_os("RUNNER_ROOT").map(PathBuf::from), &program);
    let pages = runner::lay_out(&root, &account)?;
    variables::set_up(&root, &settings)?;
    if let (Some(_), Some(proxy)) = (&settings.docker, &settings.proxy) {
        docker::name_proxy(&account, proxy)?;
    }
    let grant: Grant = credential(&credentials, GRANT_CREDENTIAL)?;
    let Grant::GithubJit { encoded_jit_config } = grant else { anyhow::bail!("this guest runs GitHub's runner only") };
    grant::write(&grant::files(&encoded_jit_config)?, &root, &account)?;
    let hook = match settings.allow_forks {
        true => None,
        false => Some(hook::install(Path::new(hook::DIRECTORY), &env::current_exe()?, &root)?),
    };
    for directory in [&credentials, Path::new(CONTAINER_CREDENTIALS)] {
        // Best effort: systemd may have made them read-only. Only root can read them either way.
        let _ = fs::remove_file(directory.join(GRANT_CREDENTIAL));
    }
    Ok(Ready { settings, account, root, pages, hook })
}

fn credential<T: serde::de::DeserializeOwned>(directory: &Path, name: &str) -> anyhow::Result<T> {
    let bytes = fs::read(directory.join(name)).with_context(|| format!("cannot read credential {name}"))?;
    // serde's message may quote a secret.
    serde_json::from_slice(&bytes).map_err(|_| anyhow::anyhow!("credential {name} is not valid"))
}

async fn work(ready: Ready, outlet: &Outlet) -> anyhow::Result<GuestExit> {
    let Ready { settings, account, root, pages, hook } = ready;
    let mut stop = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let (output, printer) = output::start();
    let following = pages::follow(pages, output.clone())
        .inspect_err(|error| output.try_print(&format!("guest: cannot follow the job's output: {error}")));
    let start = || runner::start(&settings, &root, &account, env::var("PATH").ok(), hook.as_deref());
    let mut child = start()?;
    outlet.report(What::RunnerStarted);
    let mut again = 0;
    let (mut console, status) = loop {
        let (console, status) = live(&mut child, &mut stop, outlet, &output).await?;
        if again == MOST_RESTARTS || !may_pass(console.heard, status) {
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
    if let Some(message) = hook.as_ref().and_then(|_| hook::refusal(Path::new(hook::DIRECTORY))) {
        console.heard.note(Trouble::ForkRefused);
        outlet.report(What::Trouble { kind: Trouble::ForkRefused, message });
    }
    let exit = verdict(console.heard, status);
    let (kind, message) = match exit {
        GuestExit::NoResult => (Trouble::NoResult, Some(NO_RESULT.to_owned())),
        // It gave up in words that nobody here knows.
        GuestExit::RunnerFailed if console.heard.trouble.is_none() => (Trouble::RunnerFailed, console.last.take()),
        _ => (Trouble::RunnerFailed, None),
    };
    if let Some(message) = message {
        outlet.report(What::Trouble { kind, message });
    }
    outlet.report(What::RunnerExited { status });
    if let Ok(following) = following {
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
    stop: &mut tokio::signal::unix::Signal,
    outlet: &Outlet,
    output: &Output,
) -> anyhow::Result<(Console, i32)> {
    let console = RefCell::new(Console::default());
    let streams = (child.stdout.take(), child.stderr.take());
    let status = {
        let mut listening = std::pin::pin!(listen(streams, outlet, output, &console));
        let mut done = false;
        let mut life = std::pin::pin!(end(child, stop, output, || console.borrow_mut().heard.note_stop()));
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

/// Waits for the runner's end, and hastens it when the container is to stop.
async fn end(
    child: &mut Child,
    stop: &mut tokio::signal::unix::Signal,
    output: &Output,
    stopped: impl FnOnce(),
) -> anyhow::Result<i32> {
    let status = tokio::select! {
        status = child.wait() => status?,
        _ = stop.recv() => {
            stopped();
            output.try_print("guest: the container is to stop; asking the runner to end");
            interrupt(child, Signal::INT);
            match timeout(STOP_PATIENCE, child.wait()).await {
                Ok(status) => status?,
                Err(_) => {
                    output.try_print("guest: the runner did not end in time; killing it");
                    interrupt(child, Signal::KILL);
                    timeout(KILL_PATIENCE, child.wait()).await.context("the runner does not die")??
                }
            }
        }
    };
    use std::os::unix::process::ExitStatusExt;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

fn interrupt(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid {
        // It may have ended this moment.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Reads both streams to their end.
async fn listen(
    (stdout, stderr): (Option<ChildStdout>, Option<ChildStderr>),
    outlet: &Outlet,
    output: &Output,
    console: &RefCell<Console>,
) {
    let (sender, mut lines) = tokio::sync::mpsc::channel(64);
    let read_all = async {
        tokio::join!(read(stdout, sender.clone()), read(stderr, sender.clone()));
        drop(sender);
    };
    let understand_all = async {
        while let Some(line) = lines.recv().await {
            output.try_print(&line);
            let mut console = console.borrow_mut();
            understand(&line, outlet, &mut console.heard);
            if !line.trim().is_empty() {
                console.last = Some(line);
            }
        }
    };
    tokio::join!(read_all, understand_all);
}

async fn read(stream: Option<impl AsyncRead + Unpin>, lines: tokio::sync::mpsc::Sender<String>) {
    let Some(mut stream) = stream else { return };
    let (mut cutter, mut piece) = (Lines::default(), [0; 4096]);
    loop {
        let mut found = Vec::new();
        match stream.read(&mut piece).await {
            Ok(length) if length > 0 => cutter.feed(&piece[..length], |line| found.push(line)),
            _ => {
                if let Some(line) = cutter.rest() {
                    let _ = lines.send(line).await;
                }
                return;
            }
        }
        for line in found {
            let _ = lines.send(line).await;
        }
    }
}

fn understand(line: &str, outlet: &Outlet, heard: &mut Heard) {
    match console::parse(line) {
        Some(Said::Version(version)) => outlet.report(What::RunnerVersion { version }),
        Some(Said::Listening) => outlet.report(What::Listening),
        Some(Said::JobStarted(job)) => {
            heard.took_job = true;
            outlet.report(What::JobStarted { job, task: None });
        }
        Some(Said::JobEnded(result)) => {
            heard.result = Some(result);
            outlet.report(What::JobEnded { result });
        }
        Some(Said::Trouble(kind)) => {
            heard.note(kind);
            outlet.report(What::Trouble { kind, message: line.to_owned() });
        }
        None => {}
    }
}
