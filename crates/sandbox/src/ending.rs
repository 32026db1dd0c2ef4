//! Writes down how a container ended, for a controller that may be away.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::SystemTime,
};

use anyhow::Context;
use contract::{ContainerName, ENDINGS_KEPT, Ending};

/// Writes `<name>.json` in `endings`, in one step for readers, in place of an earlier one.
pub fn write(endings: &Path, ending: &Ending) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o755).create(endings) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", endings.display()));
        }
        _ => {}
    }
    let path = endings.join(format!("{}.json", ending.name));
    let fresh = endings.join(format!(".{}.new", ending.name));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&fresh)?;
        file.write_all(&serde_json::to_vec(ending)?)?;
        fs::rename(&fresh, &path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Nothing of the container is left any more: says so in its ending, if there is one.
pub fn clear(endings: &Path, name: &ContainerName) -> anyhow::Result<()> {
    let path = endings.join(format!("{name}.json"));
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let mut ending: Ending = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    if !ending.left_behind.is_empty() {
        ending.left_behind.clear();
        write(endings, &ending)?;
    }
    Ok(())
}

/// Removes the oldest endings beyond [`ENDINGS_KEPT`].
pub fn prune(endings: &Path) -> io::Result<()> {
    let mut found = Vec::new();
    for entry in fs::read_dir(endings)? {
        let entry = entry?;
        // One that vanished was pruned by somebody else.
        let Ok(metadata) = entry.metadata() else { continue };
        found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
    }
    found.sort();
    let surplus = found.len().saturating_sub(ENDINGS_KEPT);
    for (_, path) in &found[..surplus] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_newest_endings_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let endings = home.path().join("endings");
        let count = ENDINGS_KEPT + 3;
        for i in 0..count {
            let ending = Ending {
                name: format!("j{i:07}").parse().unwrap(),
                class: "medium".into(),
                service_result: "success".into(),
                exit_code: None,
                exit_status: None,
                error: None,
                last_words: None,
                asked_to_stop: false,
                memory_peak: None,
                oom_kills: None,
                cpu_us: None,
                ended_at_ms: 0,
                teardown_us: 0,
                left_behind: Vec::new(),
            };
            write(&endings, &ending).unwrap();
            let file = fs::File::open(endings.join(format!("j{i:07}.json"))).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(i as u64);
            file.set_modified(time).unwrap();
        }
        prune(&endings).unwrap();
        assert_eq!(fs::read_dir(&endings).unwrap().count(), ENDINGS_KEPT);
        assert!(!endings.join("j0000002.json").exists());
        assert!(endings.join("j0000003.json").exists());
    }
}
