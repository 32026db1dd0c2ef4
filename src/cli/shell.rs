//! `shell`: a shell in a container, through systemd-machined (org.freedesktop.machine1(5)).

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::Context;
use contract::ContainerName;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2},
    io::dup,
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};
use tokio::signal::unix::{SignalKind, signal};
use zbus::{OwnedObjectPath, proxy};

use super::conclude;

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
    /// A program and its arguments [default: the user's shell, as at a login]
    #[arg(last = true)]
    command: Vec<String>,
}

/// Runs what is asked for and writes its exit status to the file that the first argument names: machined does not tell
/// it. The file must not be there: the container's users cannot make this one write elsewhere. An interrupt ends what is
/// asked for, and not this.
const WRAPPER: &str = r#"
trap : INT QUIT
file=$1
shift
if [ $# -gt 0 ]; then "$@"; else "${SHELL:-/bin/sh}" -l; fi
status=$?
set -C
echo $status >"$file"
"#;

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
    fn get_machine(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
}

#[proxy(interface = "org.freedesktop.machine1.Machine", default_service = "org.freedesktop.machine1")]
trait Machine {
    /// Its process 1, as the host sees it.
    #[zbus(property)]
    fn leader(&self) -> zbus::Result<u32>;
}

/// Exit status: that of the shell or the program; 1 = there was none, or it was ended from outside.
pub(super) fn main(args: Args) -> ExitCode {
    conclude(run(&args).map(ExitCode::from))
}

fn run(args: &Args) -> anyhow::Result<u8> {
    let runtime = super::runtime()?;
    runtime.block_on(async {
        let opened = tokio::time::timeout(TIMEOUT, open(args)).await.context("no shell within 30 s")??;
        let OpenShell { terminal, root, file } = opened;
        converse(terminal).await?;
        status(&root, &file).with_context(|| format!("the shell in {} was ended from outside", args.container))
    })
}

/// A shell that runs.
struct OpenShell {
    terminal: OwnedFd,
    /// The container's root directory.
    root: OwnedFd,
    /// Where in it the exit status will be.
    file: String,
}

/// The exit status that the container wrote. What it may have put there instead is not followed, waited for or read whole.
fn status(root: impl AsFd, file: &str) -> anyhow::Result<u8> {
    let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let beneath = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(root, file, how, Mode::empty(), beneath).context("it left no exit status")?;
    anyhow::ensure!(FileType::from_raw_mode(fstat(&found)?.st_mode).is_file(), "it left no exit status");
    let mut text = String::new();
    File::from(found).take(8).read_to_string(&mut text)?;
    text.trim().parse().context("it left no exit status")
}

async fn open(args: &Args) -> anyhow::Result<OpenShell> {
    let bus = zbus::Connection::system().await.context("the system bus cannot be reached")?;
    let machines = MachinesProxy::new(&bus).await?;
    let file = format!("/tmp/.gha-runner-shell.{:016x}", RandomState::new().hash_one(std::process::id()));
    let wrapped = ["sh", "-c", WRAPPER, "sh", &file];
    // The container's systemd would put variables of its own in their place.
    let plain = |argument: &str| argument.replace('$', "$$");
    let arguments: Vec<String> =
        wrapped.into_iter().chain(args.command.iter().map(String::as_str)).map(plain).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let term = format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "vt220".to_owned()));
    let opened = async {
        let name = args.container.as_str();
        let machine = machines.get_machine(name).await?;
        let leader = MachineProxy::new(&bus, machine).await?.leader().await?;
        let root = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, format!("/proc/{leader}/root"), root, Mode::empty())?;
        let (terminal, _) = machines.open_machine_shell(name, &args.user, "/bin/sh", &arguments, &[&term]).await?;
        anyhow::Ok((terminal.into(), root))
    };
    let (terminal, root) = opened.await.with_context(|| {
        let remedy = "Remedy: be root, and see with `containers` that it runs; its template needs D-Bus";
        format!("no shell in {}. {remedy}", args.container)
    })?;
    Ok(OpenShell { terminal, root, file })
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
