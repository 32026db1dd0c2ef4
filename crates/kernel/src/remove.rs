//! Removes a directory tree whose content was written by strangers.
//!
//! Names are resolved relative to descriptors of directories that were opened without following links and without
//! crossing a mount, so nothing outside the tree can be reached, and a tree of any depth is removed with a bounded
//! number of descriptors and stack frames: what lies too deep is first moved to the top.

use std::{
    ffi::{CStr, OsStr},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};

/// How deep the removal descends before it moves a directory to the top.
const DEPTH: usize = 24;
/// How often a directory is emptied that does not become empty.
const PASSES: usize = 3;

/// Removes `name` in `parent`, whatever it is, and everything in it. It is fine if there is none.
pub fn tree(parent: &Path, name: &OsStr) -> io::Result<()> {
    let parent = match rustix::fs::open(parent, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        result => result?,
    };
    let name = std::ffi::CString::new(name.as_bytes())?;
    let top = match enter(parent.as_fd(), &name) {
        Err(Errno::NOENT) => return Ok(()),
        // A link or a file.
        Err(Errno::LOOP | Errno::NOTDIR) => return Ok(rustix::fs::unlinkat(&parent, &name, AtFlags::empty())?),
        result => result?,
    };
    let mut moved = 0;
    loop {
        let before = moved;
        Removal { top: top.as_fd(), moved: &mut moved }.empty(&top, 0)?;
        if moved == before {
            break;
        }
    }
    Ok(rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)?)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn enter(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let within =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(parent, name, DIRECTORY, Mode::empty(), within)
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    /// How many directories were moved to the top.
    moved: &'a mut u64,
}

impl Removal<'_> {
    /// Removes what is in `directory`; carries on after an error and returns the first.
    fn empty(&mut self, directory: &OwnedFd, depth: usize) -> io::Result<()> {
        let mut first = Ok(());
        for _ in 0..PASSES {
            first = Ok(());
            let mut seen = false;
            // Its own description, because reading moves a position in it.
            for entry in Dir::read_from(directory)? {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                seen = true;
                if let (Err(error), Ok(())) = (self.remove(directory, name, depth), &first) {
                    first = Err(io::Error::new(error.kind(), format!("{}: {error}", name.to_string_lossy())));
                }
            }
            if !seen {
                return Ok(());
            }
        }
        first
    }

    fn remove(&mut self, directory: &OwnedFd, name: &CStr, depth: usize) -> io::Result<()> {
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            // Linux says ISDIR, POSIX says PERM.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(Errno::NOENT) => return Ok(()),
            result => return Ok(result?),
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(()),
            result => return Ok(result?),
        }
        if depth >= DEPTH {
            return self.lift(directory, name);
        }
        let inner = enter(directory.as_fd(), name)?;
        self.empty(&inner, depth + 1)?;
        match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Moves a directory to the top under a name nobody has.
    fn lift(&mut self, directory: &OwnedFd, name: &CStr) -> io::Result<()> {
        loop {
            *self.moved += 1;
            let fresh = format!(".lifted-{}", *self.moved);
            match rustix::fs::renameat_with(directory, name, self.top, &fresh, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                result => return Ok(result?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_tree_of_any_depth_goes_and_what_its_links_point_to_stays() {
        let home = tempfile::tempdir().unwrap();
        let outside = home.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "").unwrap();
        fs::create_dir(home.path().join("tree")).unwrap();
        // Deeper than a path may be long, built by moving what there is into a new parent.
        for level in 0..200 {
            let (old, new) = (home.path().join("tree"), home.path().join("next"));
            fs::create_dir(&new).unwrap();
            symlink(&outside, new.join("link")).unwrap();
            fs::write(new.join("file"), "").unwrap();
            // A name the removal itself would choose.
            fs::create_dir_all(new.join(format!(".lifted-{level}/full"))).unwrap();
            fs::rename(old, new.join("d".repeat(100))).unwrap();
            fs::rename(new, home.path().join("tree")).unwrap();
        }
        tree(home.path(), OsStr::new("tree")).unwrap();
        assert!(!home.path().join("tree").exists());
        assert!(outside.join("precious").exists());
        tree(home.path(), OsStr::new("tree")).unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_tree_is_removed_itself() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("outside/precious")).unwrap();
        symlink(home.path().join("outside"), home.path().join("tree")).unwrap();
        tree(home.path(), OsStr::new("tree")).unwrap();
        assert!(home.path().join("tree").symlink_metadata().is_err());
        assert!(home.path().join("outside/precious").exists());
    }
}
