//! The container's root file system: the template, its ids shifted by a mount attribute, under an overlay whose upper
//! layer is thrown away (NSPAWN 1.1).
//!
//! ```text
//! <roots>/<name>/lower   template, id-mapped, read-only; only until the overlay holds it
//! <roots>/<name>/upper   what the job writes
//! <roots>/<name>/work    the overlay's own
//! <roots>/<name>/root    the overlay: what systemd-nspawn boots
//! ```

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, chown},
    },
    path::Path,
};

use anyhow::{Context, ensure};
use rustix::{
    fs::CWD,
    mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

use super::syscall;

const LOWER: &str = "lower";
const UPPER: &str = "upper";
const WORK: &str = "work";
const ROOT: &str = "root";

/// Makes the directories of a container, which must not exist yet, in `layers`. The root directory of an overlay has
/// the owner and mode of its upper layer, so that one belongs to the container's root.
pub fn directories(layers: &Path, uid_base: u32) -> anyhow::Result<()> {
    let make = |path: &Path, mode| {
        DirBuilder::new().mode(mode).create(path).with_context(|| format!("cannot make {}", path.display()))
    };
    make(layers, 0o700)?;
    for part in [LOWER, UPPER, WORK, ROOT] {
        make(&layers.join(part), 0o755)?;
    }
    let upper = layers.join(UPPER);
    chown(&upper, Some(uid_base), Some(uid_base)).with_context(|| format!("cannot give away {}", upper.display()))
}

/// Mounts `template` as the lower layer, its ids shifted by `user_namespace`.
pub fn mount_lower(layers: &Path, template: &Path, user_namespace: &OwnedFd) -> anyhow::Result<()> {
    let shown = template.display();
    let is_directory = fs::metadata(template).with_context(|| format!("cannot use template {shown}"))?.is_dir();
    ensure!(is_directory, "template {shown} is not a directory");
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, template, clone).with_context(|| format!("cannot clone {shown}"))?;
    syscall::map_ids(tree.as_fd(), user_namespace.as_fd())
        .with_context(|| format!("cannot shift the ids of {shown}; does its file system support id-mapped mounts?"))?;
    let lower = layers.join(LOWER);
    rustix::mount::move_mount(&tree, "", CWD, &lower, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .with_context(|| format!("cannot mount {}", lower.display()))
}

/// Mounts the overlay, after which the lower layer needs no place of its own any more: the overlay holds it.
pub fn mount_overlay(layers: &Path) -> anyhow::Result<()> {
    let part = |part| layers.join(part);
    let (lower, root) = (part(LOWER), part(ROOT));
    // Volatile: nothing in the upper layer is to survive anything, so a job's fsync() need not reach the disk
    // (Linux, Documentation/filesystems/overlayfs.rst). Device files mean nothing in a user namespace anyway.
    let options = format!(
        "lowerdir={},upperdir={},workdir={},volatile",
        lower.display(),
        part(UPPER).display(),
        part(WORK).display()
    );
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount("overlay", &root, "overlay", MountFlags::NODEV, options.as_c_str())
        .with_context(|| format!("cannot mount the overlay {}", root.display()))?;
    rustix::mount::unmount(&lower, UnmountFlags::NOFOLLOW)
        .with_context(|| format!("cannot unmount {}", lower.display()))
}

/// Mounts the directory of the event socket: a file system of its own, so small that filling it harms nobody, and the
/// only thing the host and the container share for writing.
pub fn mount_events(directory: &Path, uid_base: u32) -> anyhow::Result<()> {
    let parent = directory.parent().context("the event directory has no parent")?;
    for (path, mode) in [(parent, 0o755), (directory, 0o755)] {
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
            _ => {}
        }
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = format!("mode=0755,uid={uid_base},gid={uid_base},size=64k,nr_inodes=16");
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount("gha-runner-events", directory, "tmpfs", flags, options.as_c_str())
        .with_context(|| format!("cannot mount {}", directory.display()))
}
