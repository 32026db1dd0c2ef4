//! The host: the outer nspawn, booted and gone.

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Variable with the directory of a Nix store that the host is to have.
const STORE: &str = "GHA_LAB_STORE";

/// One boot of the host.
#[derive(Debug)]
pub struct Host {
    /// The `nsenter` that became the outer nspawn's parent.
    child: Child,
    pid: u32,
}

impl Host {
    /// Boots the host of the lab in `directory` and waits until its systemd says that it is up.
    pub fn boot(directory: &Path, world: u32, group: &Path, templates: &Path, timeout: Duration) -> Result<Self> {
        let notify = directory.join("notify");
        let _ = std::fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).context("cannot listen for the host's word")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;

        let log = File::options().create(true).append(true).open(directory.join("host.log"))?;
        let enter: Vec<OsString> = ["--mount", "--net", "--pid", "--uts", "--ipc"]
            .iter()
            .map(OsString::from)
            .chain([format!("--target={world}").into()])
            .collect();
        let script = include_str!("scripts/host.sh");
        let store = std::env::var_os(STORE).unwrap_or_default();
        let arguments: [&std::ffi::OsStr; 8] = [
            "sh".as_ref(),
            "-c".as_ref(),
            script.as_ref(),
            "host".as_ref(),
            directory.as_ref(),
            group.as_ref(),
            templates.as_ref(),
            store.as_ref(),
        ];
        let mut child = crate::exec::entering(&enter, &[], &arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the host")?;

        let deadline = Instant::now() + timeout;
        let up = await_ready(&socket, &mut child, deadline);
        let found =
            up.and_then(|()| find_init(world).context("the host says it is up, but its process 1 is not to be found"));
        match found {
            Ok(pid) => Ok(Self { child, pid }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let log = std::fs::read_to_string(directory.join("host.log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = &lines[lines.len().saturating_sub(30)..];
                Err(error.context(format!("the host did not boot:\n{}", tail.join("\n"))))
            }
        }
    }

    /// The host's process 1, as this process sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the host has shut down.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        crate::exec::wait(&mut self.child, timeout)?
            .with_context(|| format!("the host did not shut down within {timeout:?}"))
    }
}

impl Drop for Host {
    /// The lab's world has ended before, so this only collects the child; a kill would leave nspawn itself running.
    fn drop(&mut self) {
        let _ = crate::exec::wait(&mut self.child, Duration::from_secs(5));
    }
}

fn await_ready(socket: &UnixDatagram, child: &mut Child, deadline: Instant) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let message = String::from_utf8_lossy(&buffer[..length]);
                if message.lines().any(|line| line == "READY=1") {
                    return Ok(());
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status}");
        }
        if Instant::now() > deadline {
            bail!("it did not say that it is up");
        }
    }
}

/// The direct children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// The process that is number 1 one process namespace below the world's: the only one whose list of numbers is one
/// longer than that of the world's process 1, ends in 1, and starts in the world's namespace.
fn find_init(world: u32) -> Option<u32> {
    let world_numbers = numbers(world)?;
    let world_namespace = namespace(world)?;
    std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(
        |&pid| {
            numbers(pid).is_some_and(|own| {
                own.len() == world_numbers.len() + 1
                    && own.last() == Some(&1)
                    && parent(pid).and_then(namespace).as_ref() == Some(&world_namespace)
            })
        },
    )
}

fn status_field(pid: u32, field: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix(field).map(str::to_owned))
}

fn numbers(pid: u32) -> Option<Vec<u32>> {
    status_field(pid, "NSpid:")?.split_whitespace().map(|word| word.parse().ok()).collect()
}

fn parent(pid: u32) -> Option<u32> {
    status_field(pid, "PPid:")?.trim().parse().ok()
}

fn namespace(pid: u32) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}
