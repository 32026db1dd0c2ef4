//! A user namespace with a given mapping, as a descriptor to mount with.
//!
//! Only a process inside a new user namespace can make it, and only one outside may give it a range of ids that is
//! not its own. So this program starts itself once more ([`hold`] is what that one runs), writes the mapping, opens
//! the namespace and lets the helper go.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use kernel::syscall::{Namespace, unshare};
use rustix::event::{PollFd, PollFlags, Timespec};
use settings::IDS;

/// Longest wait for the helper.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// Arguments the helper is started with; the command line knows them as a hidden command.
pub const HELPER_ARGUMENTS: [&str; 2] = ["sandbox", "hold-user-namespace"];

/// A helper that was started and not yet asked for its namespace, so that the caller can do something else meanwhile.
#[derive(Debug)]
pub struct Starting(Child);

impl Starting {
    /// Starts `program` as the helper.
    pub fn start(program: &Path) -> anyhow::Result<Self> {
        let child = Command::new(program)
            .args(HELPER_ARGUMENTS)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self(child))
    }

    /// The namespace, with ids 0 to [`IDS`] - 1 mapped to `base` and up.
    pub fn finish(mut self, base: u32) -> anyhow::Result<OwnedFd> {
        let mut ready = self.0.stdout.take().context("the helper has no output")?;
        let mut polled = [PollFd::new(&ready, PollFlags::IN)];
        let answered = rustix::event::poll(&mut polled, Some(&PATIENCE)).context("cannot wait for the helper")?;
        ensure!(answered == 1, "the helper did not answer within {} s", PATIENCE.tv_sec);
        let mut byte = [0];
        ready.read_exact(&mut byte).context("the helper could not make a user namespace")?;
        let process = Path::new("/proc").join(self.0.id().to_string());
        let map = format!("0 {base} {IDS}\n");
        for file in ["uid_map", "gid_map"] {
            fs::write(process.join(file), &map).with_context(|| format!("cannot write {file}"))?;
        }
        Ok(File::open(process.join("ns/user")).context("cannot open the user namespace")?.into())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // Its input closes, so it ends by itself; the kill is for one that hangs before it gets there.
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the helper does: enters a new user namespace, says so with one byte, and stays until its input closes.
pub fn hold() -> io::Result<()> {
    unshare(Namespace::User)?;
    let mut output = io::stdout();
    output.write_all(b".")?;
    output.flush()?;
    let _ = io::stdin().read(&mut [0])?;
    Ok(())
}
