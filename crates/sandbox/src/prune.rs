//! Room on a disk that is short of it: what containers left, then image stores and caches that no container uses, the
//! longest unused first, and no more than are needed.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use contract::{Pruning, Prunings};
use settings::Settings;

use super::{Paths, lock, stores, teardown};

/// Longest file of earlier prunings that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// Makes room if the disk of what outlives containers has less free than `admission.min_free_disk`, until a quarter more
/// is free; containers start again then. Writes down what went into `prunings`.
pub fn prune(paths: &Paths, settings: &Settings, prunings: &Path) -> anyhow::Result<()> {
    let Some(threshold) = settings.admission.min_free_disk else { return Ok(()) };
    let watched = [&settings.state_dir, &paths.roots, &paths.disks, &paths.stores];
    let missing = || missing(&paths.stores, &watched.map(PathBuf::as_path), threshold);
    if missing() == 0 {
        return Ok(());
    }
    for problem in teardown::remove_discarded(paths, None) {
        eprintln!("{problem}");
    }
    let missing = missing();
    if missing == 0 || !paths.stores.exists() {
        return Ok(());
    }
    let removed = {
        // Whoever takes one has said so in its plan under this lock.
        let _lock = lock::take(&paths.records)?;
        stores::free(paths, missing)?
    };
    if removed.is_empty() {
        println!("nothing that could be removed to make room: {} MiB are missing", missing >> 20);
        return Ok(());
    }
    let freed_bytes = removed.iter().map(|removed| removed.bytes).sum();
    println!("removed {} files, {} MiB, to make room", removed.len(), freed_bytes >> 20);
    let shown = |path: &Path| path.strip_prefix(&paths.stores).unwrap_or(path).display().to_string();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let pruning = Pruning {
        at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        freed_bytes,
        removed: removed.iter().map(|removed| shown(&removed.file)).collect(),
    };
    write(prunings, &read(prunings).and(pruning)).with_context(|| format!("cannot write {}", prunings.display()))
}

/// Bytes to free in the file system of `stores`, if one of the `watched` directories in it has too few.
fn missing(stores: &Path, watched: &[&Path], threshold: u64) -> u64 {
    let device = |path: &Path| path.ancestors().find_map(|path| fs::metadata(path).ok()).map(|found| found.dev());
    let free = |path: &Path| {
        let found = path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok())?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    };
    let own = device(stores);
    let least = watched.iter().filter(|path| own.is_some() && device(path) == own).filter_map(|path| free(path)).min();
    least.filter(|free| *free < threshold).map_or(0, |free| threshold.saturating_add(threshold / 4) - free)
}

/// Those before; none where the file is not there or not understood.
fn read(prunings: &Path) -> Prunings {
    let mut text = Vec::new();
    let read = File::open(prunings).and_then(|file| file.take(LIMIT).read_to_end(&mut text));
    read.ok().and_then(|_| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn write(path: &Path, prunings: &Prunings) -> anyhow::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().context("no directory")?)?;
    file.write_all(&serde_json::to_vec(prunings)?)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn room_is_missing_up_to_a_quarter_more_than_the_threshold_where_less_is_free() {
        let home = tempfile::tempdir().unwrap();
        let stat = rustix::fs::statvfs(home.path()).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let below = home.path().join("not/yet");
        let missing = |threshold| super::missing(&below, &[home.path()], threshold);
        assert_eq!(missing(free / 2), 0);
        let wanted = free * 2;
        let found = missing(wanted);
        // Others write to this disk as well.
        assert!(found.abs_diff(wanted + wanted / 4 - free) < free / 4, "{found} of {free}");
        assert_eq!(super::missing(Path::new("/proc"), &[home.path()], wanted), 0, "another file system");
    }

    #[test]
    fn what_was_removed_is_written_down_beside_what_was_before() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("prunings.json");
        for number in 0..30 {
            let pruning = Pruning { at_ms: number, freed_bytes: 10, removed: vec!["medium/store".to_owned()] };
            write(&file, &read(&file).and(pruning)).unwrap();
        }
        let known = read(&file);
        assert_eq!((known.freed_bytes, known.last.len(), known.last[0].at_ms), (300, 20, 10));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        fs::write(&file, "{").unwrap();
        assert_eq!(read(&file), Prunings::default());
    }
}
