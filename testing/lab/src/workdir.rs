//! The directory of one lab: the host's disk, templates, sockets and logs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::cache::{Cache, try_lock};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A lab's directory. The supervisor holds a lock in it for as long as anything of the lab lives, and removes it then;
/// one whose lock is free belongs to a lab whose supervisor was killed too.
#[derive(Debug)]
pub struct Workdir {
    path: PathBuf,
    name: String,
}

impl Workdir {
    /// Makes a new one, after removing what dead labs left. The lock keeps others from taking ours for dead: it is to
    /// be held until the supervisor has its own.
    pub fn create(cache: &Cache) -> Result<(Self, File)> {
        let lock = cache.lock("labs")?;
        sweep(cache)?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let path = cache.labs().join(&name);
        for directory in ["host/root", "host/upper", "host/work", "shared"] {
            let directory = path.join(directory);
            std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        }
        Ok((Self { path, name }, lock))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name that no other lab on this machine has.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Removes directories and control groups of labs that nothing is left of.
fn sweep(cache: &Cache) -> Result<()> {
    for entry in std::fs::read_dir(cache.labs())? {
        let path = entry?.path();
        let Some(_lock) = try_lock(&path.join("lock"))? else {
            continue;
        };
        let groups = std::fs::read_to_string(path.join("cgroups")).unwrap_or_default();
        for group in groups.lines() {
            remove_group(Path::new(group));
        }
        std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Control groups hold files that cannot be removed, only their directories can, from the innermost out.
fn remove_group(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(path);
}
