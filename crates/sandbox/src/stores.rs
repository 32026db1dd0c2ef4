//! What outlives containers does not outlive its use: image stores and caches that nobody has used for long go, and the
//! longest unused ones go where the disk is nearly full. Each is only as good as the time it saves.

use std::{
    cmp::Reverse,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{ContainerPlan, Paths, caches, docker, lock, record, sized};

/// What was not used for so long goes.
const LONGEST_UNUSED: Duration = Duration::from_secs(30 * 86_400);
/// What is to be free of the disk before another container writes to what is kept: a tenth of it, and of a large one so
/// many bytes.
const FREE: (u64, u64) = (10, 10 << 30);
/// How deep files lie: `<class>/<store>`, `<class>/caches/<cache>`.
const DEPTH: usize = 3;

/// A file with a file system in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFile {
    /// Its path.
    pub file: PathBuf,
    /// What it takes of the disk, bytes.
    pub bytes: u64,
    unused: Duration,
}

/// Removes what is used no more, before a container with this plan, which is on disk, takes what it uses. That it cannot
/// be removed is no reason not to start: it is said.
pub fn make_room(paths: &Paths, plan: &ContainerPlan) -> anyhow::Result<()> {
    if plan.store.is_none() && plan.caches.is_empty() || !paths.stores.exists() {
        return Ok(());
    }
    // Whoever takes one has said so in its plan under this lock.
    let _lock = lock::take(&paths.records)?;
    let disk = rustix::fs::statvfs(&paths.stores)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    free(paths, bytes(disk.f_blocks / FREE.0).min(FREE.1).saturating_sub(bytes(disk.f_bavail))).map(drop)
}

/// Removes what no container uses until so many bytes more are free, and what was not used for too long anyway. To be
/// called under the lock of the records. Gives what went.
pub fn free(paths: &Paths, missing: u64) -> anyhow::Result<Vec<StoreFile>> {
    let used: Vec<PathBuf> = record::plans(&paths.records)?
        .iter()
        .flat_map(|plan| docker::kept(paths, plan).into_iter().chain(caches::kept(paths, plan)))
        .collect();
    let mut kept = Vec::new();
    find(&paths.stores, DEPTH, SystemTime::now(), &mut kept)?;
    kept.retain(|kept| !used.iter().any(|used| kept.file == *used || kept.file == sized::unfinished(used)));
    let mut removed = Vec::new();
    for victim in victims(kept, missing) {
        let (file, days) = (victim.file.display(), victim.unused.as_secs() / 86_400);
        match fs::remove_file(&victim.file) {
            Ok(()) => {
                println!("removed {file}: {} MiB, not used for {days} days", victim.bytes >> 20);
                removed.push(victim);
            }
            Err(error) => eprintln!("cannot remove {file}: {error}"),
        }
    }
    Ok(removed)
}

/// Notes that it is used now.
pub fn touch(file: &Path) -> io::Result<()> {
    File::options().write(true).open(file)?.set_modified(SystemTime::now())
}

/// Which go so that so many bytes more are free: those unused for too long anyway, then the longest unused.
fn victims(mut kept: Vec<StoreFile>, missing: u64) -> Vec<StoreFile> {
    kept.sort_by_key(|kept| Reverse(kept.unused));
    let mut freed = 0_u64;
    let goes = |kept: &StoreFile| {
        let goes = kept.unused > LONGEST_UNUSED || freed < missing;
        freed = freed.saturating_add(if goes { kept.bytes } else { 0 });
        goes
    };
    kept.into_iter().filter(goes).collect()
}

fn find(directory: &Path, depth: usize, now: SystemTime, found: &mut Vec<StoreFile>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let stat = entry.metadata()?;
        if stat.is_dir() && depth > 1 {
            find(&entry.path(), depth - 1, now, found)?;
        } else if stat.is_file() {
            let unused = now.duration_since(stat.modified()?).unwrap_or_default();
            found.push(StoreFile { file: entry.path(), bytes: stat.blocks() * 512, unused });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kept(file: &str, bytes: u64, days: u32) -> StoreFile {
        StoreFile { file: file.into(), bytes, unused: Duration::from_secs(86_400) * days }
    }

    fn victims(kept: Vec<StoreFile>, missing: u64) -> Vec<PathBuf> {
        super::victims(kept, missing).into_iter().map(|victim| victim.file).collect()
    }

    #[test]
    fn what_nobody_used_for_a_month_goes_even_where_there_is_room() {
        let all = || vec![kept("new", 5, 1), kept("old", 5, 31), kept("older", 5, 90)];
        assert_eq!(victims(all(), 0), [PathBuf::from("older"), PathBuf::from("old")]);
    }

    #[test]
    fn where_room_is_missing_the_longest_unused_go_and_no_more_than_needed() {
        let all = || vec![kept("c", 5, 1), kept("a", 5, 9), kept("b", 5, 3)];
        assert_eq!(victims(all(), 0), [] as [PathBuf; 0]);
        assert_eq!(victims(all(), 1), [PathBuf::from("a")]);
        assert_eq!(victims(all(), 6), [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(victims(all(), 99).len(), 3);
    }

    #[test]
    fn stores_and_caches_are_found_with_what_they_take_and_since_when() {
        let home = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for (file, age) in [("medium/octo-org+hello.0", 40), ("medium/caches/mine@octo-org+hello", 0)] {
            let path = home.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, [1; 5000]).unwrap();
            let at = now - Duration::from_secs(86_400) * age;
            File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        }
        let mut found = Vec::new();
        find(home.path(), DEPTH, now, &mut found).unwrap();
        assert!(found.iter().all(|kept| kept.bytes >= 5000), "{found:?}");
        let old = home.path().join("medium/octo-org+hello.0");
        assert_eq!(victims(found.clone(), 0), std::slice::from_ref(&old));
        touch(&old).unwrap();
        found.clear();
        find(home.path(), DEPTH, now, &mut found).unwrap();
        assert_eq!((found.len(), victims(found, 0).len()), (2, 0));
    }
}
