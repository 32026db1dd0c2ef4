//! `shell`: a shell in a container, through systemd-machined (org.freedesktop.machine1(5)).

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::Context;
use rustix::{
    io::dup,
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};
use tokio::signal::unix::{SignalKind, signal};
use zbus::proxy;

use super::conclude;
use crate::handover::ContainerName;

/// Longest wait for the shell to be there.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `shell`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The container.
    container: ContainerName,
    /// As this user of the container.
    #[arg(long, default_value = "root")]
    user: String,
    /// A program and its arguments [default: the user's shell]
    #[arg(last = true)]
    command: Vec<String>,
}

#[proxy(
    interface = "org.freedesktop.machine1.Manager",
    default_service = "org.freedesktop.machine1",
    default_path = "/org/freedesktop/machine1"
)]
trait Machines {
    /// Gives the terminal's master and the name of its other side.
    fn open_machine_shell(
        &self,
        name: &str,
        user: &str,
        path: &str,
        arguments: &[&str],
        environment: &[&str],
    ) -> zbus::Result<(zbus::OwnedFd, String)>;
}

/// Exit status 0 = the shell ended, 1 = there was none.
pub(super) fn main(args: Args) -> ExitCode {
    conclude(run(&args).map(|()| ExitCode::SUCCESS))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = super::runtime()?;
    runtime.block_on(async {
        let terminal = tokio::time::timeout(TIMEOUT, open(args)).await.context("no shell within 30 s")??;
        converse(terminal).await
    })
}

async fn open(args: &Args) -> anyhow::Result<OwnedFd> {
    let bus = zbus::Connection::system().await.context("the system bus cannot be reached")?;
    let machines = MachinesProxy::new(&bus).await?;
    let arguments: Vec<&str> = args.command.iter().map(String::as_str).collect();
    let path = arguments.first().copied().unwrap_or_default();
    let term = format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "vt220".to_owned()));
    let opened = machines.open_machine_shell(args.container.as_str(), &args.user, path, &arguments, &[&term]).await;
    let (terminal, _) = opened.with_context(|| {
        let remedy = "Remedy: be root, and see with `containers` that it runs; its template needs D-Bus";
        format!("no shell in {}. {remedy}", args.container)
    })?;
    Ok(terminal.into())
}

/// What is typed goes there and what it says comes here, until it ends.
async fn converse(terminal: OwnedFd) -> anyhow::Result<()> {
    let _raw = Raw::set();
    let (mut from, mut to) = (File::from(dup(&terminal)?), File::from(dup(&terminal)?));
    // Ends with the process: nothing interrupts a read of standard input.
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
    let (done, mut ended) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        // The end of the other side is an error (EIO).
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut out = std::io::stdout().lock();
            if out.write_all(&buffer[..count]).and_then(|()| out.flush()).is_err() {
                break;
            }
        }
        let _ = done.send(());
    });
    let mut resized = signal(SignalKind::window_change())?;
    loop {
        if let Ok(size) = tcgetwinsize(std::io::stdout()) {
            let _ = tcsetwinsize(&terminal, size);
        }
        tokio::select! {
            _ = &mut ended => return Ok(()),
            _ = resized.recv() => {}
        }
    }
}

/// The person's terminal passes every key on; put back as it was at the end.
struct Raw(Option<Termios>);

impl Raw {
    fn set() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(mut raw) = before.clone() {
            raw.make_raw();
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &raw);
        }
        Self(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
