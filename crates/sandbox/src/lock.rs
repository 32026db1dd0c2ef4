//! One lock for all decisions that look at more than one container: who has which subnet, what may be swept.

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

/// Longest wait for the lock. It is held for a few milliseconds at a time.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);

/// Holds the lock until dropped.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "dropping it unlocks")] File);

/// Takes the lock of the records directory `records`.
pub fn take(records: &Path) -> anyhow::Result<Lock> {
    let path = records.join(".lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))
        .with_context(|| format!("cannot open {}", path.display()))?;
    let begun = Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock(file.into())),
            Err(Errno::WOULDBLOCK | Errno::INTR) if begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}
