//! Directories, and files, that are costly to make, kept for the next lab.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::cache::{Cache, try_lock};

const STAMP: &str = "used";

/// Kept directories of one kind. What a directory is made from is in its key: it is never changed.
#[derive(Debug)]
pub struct Shelf<'a> {
    /// The cache it belongs to, for its lock.
    pub cache: &'a Cache,
    /// The directory they lie in.
    pub directory: PathBuf,
    /// What their names start with.
    pub name: &'a str,
    /// How many of them stay, beyond those in use.
    pub kept: usize,
}

/// A kept directory. While this lives, in any process, it stays.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    _hold: File,
}

impl Kept {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Shelf<'_> {
    /// The directory for `key`: found, or made by `build`, which is given a path that does not exist yet.
    pub fn get(&self, key: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<Kept> {
        let path = self.directory.join(format!("{}-{key}", self.name));
        // Looked for under the lock only, so that two test processes make it once.
        let _lock = self.cache.lock(self.name)?;
        if !path.exists() {
            let scratch = tempfile::Builder::new().prefix(&self.scratch_prefix()).tempdir_in(&self.directory)?;
            let new = scratch.path().join("new");
            build(&new)?;
            fs::rename(&new, &path).with_context(|| format!("cannot move to {}", path.display()))?;
        }
        let hold = File::options().create(true).truncate(false).write(true).open(stamp(&path))?;
        hold.set_modified(SystemTime::now())?;
        flock(&hold, FlockOperation::LockShared)?;
        self.prune()?;
        Ok(Kept { path, _hold: hold })
    }

    fn scratch_prefix(&self) -> String {
        format!(".{}-", self.name)
    }

    /// Removes those that were not used for longest, and what makers that died left behind.
    fn prune(&self) -> Result<()> {
        let prefix = format!("{}-", self.name);
        let mut idle = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&self.scratch_prefix()) {
                // Under this shelf's lock nobody else is making one.
                fs::remove_dir_all(&path)?;
            } else if name.starts_with(&prefix)
                && path.extension().is_none_or(|extension| extension != STAMP)
                && let Some(lock) = try_lock(&stamp(&path))?
            {
                idle.push((lock.metadata()?.modified()?, path, lock));
            }
        }
        idle.sort_by_key(|found| Reverse(found.0));
        for (_, path, _lock) in idle.into_iter().skip(self.kept) {
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
                .with_context(|| format!("cannot remove {}", path.display()))?;
            fs::remove_file(stamp(&path))?;
        }
        Ok(())
    }
}

/// The file beside a directory that says when it was last used, and is locked while it is.
fn stamp(path: &Path) -> PathBuf {
    path.with_extension(STAMP)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays_and_the_oldest_of_the_rest_go() {
        let scratch = tempfile::tempdir().unwrap();
        let cache = Cache::at(scratch.path()).unwrap();
        let shelf = Shelf { cache: &cache, directory: cache.trees(), name: "thing", kept: 1 };
        let make = |path: &Path| Ok(fs::create_dir(path)?);
        let held = shelf.get("1", make).unwrap();
        for key in ["2", "3", "4"] {
            drop(shelf.get(key, make).unwrap());
        }
        let there = |key: &str| cache.trees().join(format!("thing-{key}")).exists();
        assert_eq!(["1", "2", "3", "4"].map(there), [true, false, true, true]);
        assert!(held.path().exists());
        // Found again, not made again.
        shelf.get("4", |_| anyhow::bail!("made twice")).unwrap();
    }

    #[test]
    fn a_shelf_leaves_others_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let cache = Cache::at(scratch.path()).unwrap();
        let make = |path: &Path| Ok(fs::create_dir(path)?);
        for name in ["thing-bookworm", "thing-trixie", "thing-bookworm"] {
            let shelf = Shelf { cache: &cache, directory: cache.trees(), name, kept: 0 };
            drop(shelf.get("1", make).unwrap());
        }
        let left = fs::read_dir(cache.trees()).unwrap().flatten().filter(|entry| entry.path().is_dir());
        let mut left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["thing-bookworm-1", "thing-trixie-1"]);
    }

    #[test]
    fn a_failed_make_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let cache = Cache::at(scratch.path()).unwrap();
        let shelf = Shelf { cache: &cache, directory: cache.trees(), name: "thing", kept: 1 };
        let failed = shelf.get("1", |path| {
            fs::create_dir(path)?;
            anyhow::bail!("half made")
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(cache.trees()).unwrap().count(), 0);
    }
}
