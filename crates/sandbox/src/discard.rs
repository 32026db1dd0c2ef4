//! What a container leaves on the disk, out of the way first and removed after it.
//!
//! A job may leave hundreds of thousands of files, and *teardown* has a time limit. So its directory is renamed in one
//! step, and from then on name, subnet and ids are free. Whoever removes the files holds a lock on the directory, and
//! what nobody finished the next teardown or sweep does.

use std::{fs, io, os::fd::OwnedFd, path::Path};

use contract::ContainerName;
use kernel::remove;
use rustix::{
    fs::{FlockOperation, Mode, OFlags, RenameFlags},
    io::Errno,
};

/// How a directory's name begins that is to be removed; no container's does.
const PREFIX: &str = ".discarded-";
/// How many of one name may wait.
const MOST: u32 = 1000;

/// Renames the directory of `name` in `parent`. It is fine if there is none.
pub fn set_aside(parent: &Path, name: &ContainerName) -> io::Result<()> {
    let directory = match rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        result => result?,
    };
    for number in 0..MOST {
        let aside = format!("{PREFIX}{name}-{number}");
        match rustix::fs::renameat_with(&directory, name.as_str(), &directory, &aside, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{MOST} directories of {name} wait for their removal")))
}

/// Whether something of this container waits for its removal.
pub fn waits(parent: &Path, name: &ContainerName) -> bool {
    entries(parent).is_ok_and(|entries| entries.iter().any(|entry| owner(entry).as_ref() == Some(name)))
}

/// Removes what was set aside: `own` first, and waits where somebody else is removing it; then what of others nobody is
/// removing. Returns the containers of which nothing is left, and what could not be removed, one line each.
pub fn remove_all(parent: &Path, own: Option<&ContainerName>) -> (Vec<ContainerName>, Vec<String>) {
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    let mut entries = match entries(parent) {
        Ok(entries) => entries,
        Err(error) => return (gone, vec![format!("cannot list {}: {error}", parent.display())]),
    };
    let is_own = |entry: &String| own.is_some() && owner(entry).as_ref() == own;
    entries.sort_by_key(|entry| !is_own(entry));
    for entry in entries {
        let path = parent.join(&entry);
        let how = if is_own(&entry) { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        let result = match lock(&path, how) {
            Ok(Some(_lock)) => remove::tree(parent, entry.as_ref()),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => gone.extend(owner(&entry)),
            Err(error) => left.push(format!("{}: {error}", path.display())),
        }
    }
    gone.retain(|name| !waits(parent, name));
    (gone, left)
}

/// Held until dropped; `None` if somebody else holds it, or the directory is gone.
fn lock(path: &Path, how: FlockOperation) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        result => result?,
    };
    match rustix::fs::flock(&directory, how) {
        Err(Errno::WOULDBLOCK) => Ok(None),
        result => Ok(result.map(|()| Some(directory))?),
    }
}

fn entries(parent: &Path) -> io::Result<Vec<String>> {
    let found = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut names = Vec::new();
    for entry in found {
        let name = entry?.file_name();
        names.extend(name.to_str().filter(|name| owner(name).is_some()).map(str::to_owned));
    }
    Ok(names)
}

fn owner(entry: &str) -> Option<ContainerName> {
    entry.strip_prefix(PREFIX)?.rsplit_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_is_free_at_once_and_the_files_go_later() {
        let home = tempfile::tempdir().unwrap();
        let name: ContainerName = "j1234567".parse().unwrap();
        for _ in 0..2 {
            fs::create_dir_all(home.path().join("j1234567/upper/deep")).unwrap();
            set_aside(home.path(), &name).unwrap();
            assert!(!home.path().join("j1234567").exists() && waits(home.path(), &name));
        }
        set_aside(home.path(), &name).unwrap();
        let aside = home.path().join(".discarded-j1234567-0");
        let removing = lock(&aside, FlockOperation::LockExclusive).unwrap().unwrap();
        assert_eq!(remove_all(home.path(), None), (vec![], vec![]), "somebody else removes one of the two");
        assert!(aside.exists() && !home.path().join(".discarded-j1234567-1").exists());
        let ends = std::thread::scope(|scope| {
            let own = scope.spawn(|| remove_all(home.path(), Some(&name)));
            std::thread::sleep(Duration::from_millis(100));
            assert!(!own.is_finished(), "its own files are still being removed");
            remove::tree(home.path(), ".discarded-j1234567-0".as_ref()).unwrap();
            drop(removing);
            own.join().unwrap()
        });
        assert_eq!(ends, (vec![name.clone()], vec![]));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
        set_aside(Path::new("/nonexistent"), &name).unwrap();
    }
}
