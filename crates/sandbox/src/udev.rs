//! udev, which looks at every link that appears on a host (docs/nspawn.md#udev-and-links).
//!
//! systemd-nspawn refuses a link that udev has not done with ("not initialized yet", "is being renamed"), and what udev
//! does late it does to a link that is in use. So *prepare* waits for it. How udev keeps what it knows of a link is
//! its own affair, and stable all the same: systemd's and others' libudev read the same file, `n<index>`.

use std::{
    fs, io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::fs::{StatVfsMountFlags, statvfs};

/// Longest wait. udev normally takes some milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(1);
/// Lines that say udev is not done yet.
const UNDONE: [&str; 2] = ["E:ID_RENAMING=1", "E:ID_PROCESSING=1"];

/// Where udev and the kernel keep what is asked for here.
#[derive(Debug, Clone)]
pub struct Udev {
    /// The kernel's own file system. systemd takes one that cannot be written for a machine without udev.
    sys: PathBuf,
    /// What udev knows.
    data: PathBuf,
}

impl Default for Udev {
    fn default() -> Self {
        Self { sys: "/sys".into(), data: "/run/udev/data".into() }
    }
}

impl Udev {
    /// Whether udev runs here, as systemd-nspawn sees it.
    pub fn is_expected(&self) -> anyhow::Result<bool> {
        let found = statvfs(&self.sys).with_context(|| format!("cannot look at {}", self.sys.display()))?;
        Ok(!found.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    /// Waits until udev has done with these links, given by name and index, or for `patience`.
    pub fn settle(&self, links: &[(String, u32)], patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        for (name, index) in links {
            while !self.is_done(*index).with_context(|| format!("cannot read what udev knows of link {name}"))? {
                if Instant::now() >= deadline {
                    bail!(
                        "udev has not done with link {name} after {} s, and systemd-nspawn would refuse it. Remedy: see \
                         systemctl status systemd-udevd",
                        patience.as_secs()
                    );
                }
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn is_done(&self, index: u32) -> io::Result<bool> {
        match fs::read_to_string(self.data.join(format!("n{index}"))) {
            Ok(known) => Ok(!known.lines().any(|line| UNDONE.contains(&line))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn links() -> [(String, u32); 2] {
        [("gj-j1234567".into(), 7), ("gp-j1234567".into(), 8)]
    }

    #[test]
    fn both_ends_are_waited_for_and_one_that_is_being_renamed_is_not_done() {
        let home = tempfile::tempdir().unwrap();
        let udev = Udev { sys: home.path().into(), data: home.path().into() };
        assert!(udev.is_expected().unwrap());
        let write = |index: u32, text: &str| fs::write(home.path().join(format!("n{index}")), text).unwrap();
        let short = Duration::from_millis(20);
        write(7, "I:123\nE:ID_NET_DRIVER=veth\n");
        let error = udev.settle(&links(), short).unwrap_err().to_string();
        assert!(error.contains("udev has not done with link gp-j1234567"), "{error}");
        write(8, "I:124\nE:ID_RENAMING=1\n");
        assert!(udev.settle(&links(), short).is_err());
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(short);
                write(8, "I:124\nE:NM_UNMANAGED=1\n");
            });
            udev.settle(&links(), PATIENCE).unwrap();
        });
    }
}
