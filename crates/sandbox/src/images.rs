//! What stays of Docker's directory where a class keeps images: images, and what builds have cached of them.
//!
//! Containers, networks, volumes, plugins and a swarm go before the next container starts, whatever ended the last one:
//! a service that is to restart always would otherwise run in the next job, and anonymous volumes would pile up. Docker
//! itself does not run then, so what is removed is what it calls so:
//!
//! ```text
//! <store>/docker/image                                images of each storage driver
//!   <driver>/layerdb/mounts/<container>/mount-id      the layer that a container wrote to, and init-id the one below it
//! <store>/docker/<driver>/<layer>                     their files
//! <store>/docker/buildkit                             what builds have cached
//! ```
//!
//! All of it was written by a job that was root in its container, so a name that is read there is no more than that.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use anyhow::Context;
use kernel::remove;
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// Storage drivers, each with a directory of its own.
const DRIVERS: [&str; 6] = ["btrfs", "fuse-overlayfs", "overlay", "overlay2", "vfs", "zfs"];
/// What else stays: Docker's own containerd keeps images too.
const KEPT: [&str; 3] = ["buildkit", "containerd", "image"];
/// Of a store that is so full, in percent, nothing is kept: what it holds is not what jobs use, or it is too small for
/// them, and the next image would not fit.
const FULL: u64 = 80;
/// Longest name of a layer; Docker's have 64 digits and a suffix.
const LONGEST_NAME: u64 = 80;

/// Removes from Docker's directory what is not to be kept.
pub fn keep_alone(docker: &Path) -> anyhow::Result<()> {
    let removed = || -> io::Result<()> {
        for driver in DRIVERS {
            forget_containers(docker, driver)?;
        }
        for entry in fs::read_dir(docker)? {
            let name = entry?.file_name();
            let stays = DRIVERS.iter().chain(&KEPT).any(|kept| name == *kept);
            if !stays {
                remove::tree(docker, &name)?;
            }
        }
        Ok(())
    };
    removed().with_context(|| format!("cannot remove what a job left in {}", docker.display()))
}

/// Whether so much of the file system at `at` is used that nothing of it is worth keeping.
pub fn is_full(at: &Path) -> io::Result<bool> {
    let found = rustix::fs::statvfs(at)?;
    let used = |all: u64, free: u64| all > 0 && all.saturating_sub(free).saturating_mul(100) / all >= FULL;
    Ok(used(found.f_blocks, found.f_bfree) || used(found.f_files, found.f_ffree))
}

/// Removes the layers that containers wrote to, and what Docker knows of them.
fn forget_containers(docker: &Path, driver: &str) -> io::Result<()> {
    let database = ["image", driver, "layerdb"];
    let Some(mounts) = directory(docker, &[&database[..], &["mounts"]].concat())? else { return Ok(()) };
    let has_layers = directory(docker, &[driver])?.is_some();
    for container in entries(&mounts)? {
        for file in ["mount-id", "init-id"] {
            if let Some(layer) = layer_named_in(&mounts, &container, file)?.filter(|_| has_layers) {
                remove::tree(&docker.join(driver), &layer)?;
            }
        }
    }
    // No link is on the way there, and nobody else is at it.
    remove::tree(&docker.join(database.join("/")), OsStr::new("mounts"))
}

/// What the file says, if it is the name of a layer: it leads nowhere else.
fn layer_named_in(mounts: &File, container: &OsStr, file: &str) -> io::Result<Option<OsString>> {
    let path = Path::new(container).join(file);
    let opened = rustix::fs::openat2(mounts, &path, FILE, Mode::empty(), WITHIN);
    let mut text = String::new();
    match opened {
        Ok(file) => File::from(file).take(LONGEST_NAME).read_to_string(&mut text).map(drop),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
    .or_else(|error| if error.kind() == io::ErrorKind::InvalidData { Ok(()) } else { Err(error) })?;
    let name = text.trim();
    let is_layer = name.len() >= 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    Ok(is_layer.then(|| name.into()))
}

// Not to wait for whoever opens a pipe's other end.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const WITHIN: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// A directory below `top`; `None` if it is not there, or a link is on the way.
fn directory(top: &Path, parts: &[&str]) -> io::Result<Option<File>> {
    let top = rustix::fs::openat(CWD, top, DIRECTORY, Mode::empty())?;
    match rustix::fs::openat2(&top, parts.join("/"), DIRECTORY, Mode::empty(), WITHIN) {
        Ok(found) => Ok(Some(found.into())),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn entries(directory: &File) -> io::Result<Vec<OsString>> {
    use std::os::unix::ffi::OsStrExt;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    fn fill(docker: &Path, files: &[&str]) {
        for file in files {
            let path = docker.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
    }

    #[test]
    fn images_and_what_builds_cached_stay_and_everything_else_goes() {
        let home = tempfile::tempdir().unwrap();
        let docker = home.path().join("docker");
        let (image, written) = ("a".repeat(64), "b".repeat(64));
        let init = format!("{written}-init");
        let layer = |name: &str| format!("overlay2/{name}/diff/file");
        let kept = [&layer(&image), "image/overlay2/repositories.json", "buildkit/cache.db"];
        fill(&docker, &kept);
        fill(&docker, &[&layer(&written), &layer(&init), "engine-id", "containers/c/config.v2.json"]);
        fill(&docker, &["volumes/v/_data/file", "network/files/local-kv.db", "swarm/state.json", "plugins/p/rootfs/x"]);
        let mounts = docker.join("image/overlay2/layerdb/mounts/c");
        fs::create_dir_all(&mounts).unwrap();
        fs::write(mounts.join("mount-id"), &written).unwrap();
        fs::write(mounts.join("init-id"), &init).unwrap();
        keep_alone(&docker).unwrap();
        for file in kept {
            assert!(docker.join(file).exists(), "{file}");
        }
        for gone in [&format!("overlay2/{written}"), &format!("overlay2/{init}"), "image/overlay2/layerdb/mounts"] {
            assert!(!docker.join(gone).exists(), "{gone}");
        }
        let mut left: Vec<_> = fs::read_dir(&docker).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["buildkit", "image", "overlay2"]);
        keep_alone(&docker).unwrap();
    }

    #[test]
    fn what_a_job_wrote_there_leads_nowhere_else() {
        let home = tempfile::tempdir().unwrap();
        let (docker, precious) = (home.path().join("docker"), home.path().join("precious"));
        fill(home.path(), &["precious/file"]);
        fill(&docker, &["overlay2/x"]);
        let mounts = docker.join("image/overlay2/layerdb/mounts");
        for (container, name) in [("c1", "../../precious"), ("c2", "/"), ("c3", ""), ("c4", "..")] {
            fs::create_dir_all(mounts.join(container)).unwrap();
            fs::write(mounts.join(container).join("mount-id"), name).unwrap();
        }
        fs::create_dir_all(mounts.join("c5")).unwrap();
        symlink(precious.join("file"), mounts.join("c5/mount-id")).unwrap();
        symlink(&precious, mounts.join("c6")).unwrap();
        symlink(&precious, docker.join("volumes")).unwrap();
        // A driver's directory, and the way to its database, that lead out.
        symlink(&precious, docker.join("vfs")).unwrap();
        fs::create_dir_all(docker.join("image/vfs/layerdb/mounts/c")).unwrap();
        fs::write(docker.join("image/vfs/layerdb/mounts/c/mount-id"), "f".repeat(64)).unwrap();
        symlink(&precious, docker.join("image/zfs")).unwrap();
        keep_alone(&docker).unwrap();
        assert!(precious.join("file").exists());
        assert!(docker.join("volumes").symlink_metadata().is_err());
        assert!(docker.join("overlay2/x").exists());
    }
}
