//! Where trees and labs lie on this machine, outside any work tree.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

const DEFAULT: &str = "/var/cache/gha-runner-controller-lab";
const VARIABLE: &str = "GHA_LAB_CACHE";

/// The directory that holds built trees and the labs that run. Hard links join the two, so they share a file system,
/// and that must be a real one (ext4, xfs, btrfs): overlays and id-mapped mounts are laid on it.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache of this machine: `$GHA_LAB_CACHE`, or a directory under `/var/cache`.
    pub fn open() -> Result<Self> {
        let root = std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from);
        Self::at(root)
    }

    /// The cache in this directory, which is made if it is missing.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self> {
        let cache = Self { root: root.into() };
        for directory in [cache.trees(), cache.templates(), cache.images(), cache.labs()] {
            std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        }
        Ok(cache)
    }

    /// Where built trees lie.
    #[must_use]
    pub fn trees(&self) -> PathBuf {
        self.root.join("trees")
    }

    /// Where job templates lie.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        self.root.join("templates")
    }

    /// Where disk images of virtual machines lie.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Where the directories of running labs lie.
    #[must_use]
    pub fn labs(&self) -> PathBuf {
        self.root.join("labs")
    }

    /// Waits for, and takes, the lock called `name`; dropping the file gives it back.
    pub fn lock(&self, name: &str) -> Result<File> {
        let file = open_lock(&self.root.join(format!("{name}.lock")))?;
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {name}"))?;
        Ok(file)
    }
}

/// Takes the lock file at `path` without waiting; `None` when someone holds it.
pub fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = open_lock(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}
