//! The process tree everything in a lab belongs to.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A lab's namespaces, for as long as they exist. Process 1 in them waits for this process to let go of a pipe, so they
/// end with it, however it ends; no signal has to be sent.
#[derive(Debug)]
pub struct Supervisor {
    child: Child,
    lifeline: Option<ChildStdin>,
    pid: u32,
}

impl Supervisor {
    /// Starts it for the lab in `directory`, where the host's disk is laid out and `cgroups` written.
    pub fn start(directory: &Path, keep: bool) -> Result<Self> {
        std::fs::write(directory.join("init.sh"), include_str!("scripts/init.sh"))?;
        let log = std::fs::File::create(directory.join("world.log"))?;
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(concat!(include_str!("scripts/settings.sh"), include_str!("scripts/supervisor.sh")))
            .arg("supervisor")
            .arg(directory)
            .arg(if keep { "keep" } else { "" })
            .env_clear()
            .envs(crate::exec::environment())
            .current_dir("/")
            // Its own process group: an interrupt typed at the terminal must not end it before it has cleaned up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start the lab's supervisor")?;
        let lifeline = child.stdin.take();
        let stdout = child.stdout.take().context("no output to read")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let Some(pid) = line.strip_prefix("ready ") else {
            drop(lifeline);
            let log = std::fs::read_to_string(directory.join("world.log")).unwrap_or_default();
            let _ = child.wait();
            bail!("the lab's world could not be made:\n{log}");
        };
        Ok(Self { pid: pid.trim().parse()?, child, lifeline })
    }

    /// The lab's process 1, as this process sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process outside the lab's namespaces that cleans up after them.
    pub fn cleaner(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Supervisor {
    /// Ends everything, and waits until it is gone.
    fn drop(&mut self) {
        self.lifeline.take();
        let deadline = Instant::now() + Duration::from_secs(20);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
