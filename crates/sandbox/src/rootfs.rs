//! The container's root file system: what is shared, its ids shifted by a mount attribute, under an overlay whose upper
//! layer is thrown away (docs/nspawn.md#id-mapped-root).
//!
//! ```text
//! <roots>/<name>/lower   what is shared, id-mapped, read-only; only until the overlay holds it
//! <roots>/<name>/upper   what the job writes
//! <roots>/<name>/work    the overlay's own
//! <roots>/<name>/root    what systemd-nspawn boots
//! ```
//!
//! A tree is shared as a whole: the overlay is the root. A Nix store that it is to see as well is a second overlay, with
//! layers of its own in `<roots>/<name>/nix`. Of a NixOS system only the store is shared: the root is an
//! empty directory, the overlay lies on `nix/store` in it, and the system fills the rest when it boots. A runner that
//! the host keeps unpacked is a second overlay, with layers of its own in `<roots>/<name>/runner`.

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, PermissionsExt, chown},
    },
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, ensure};
use kernel::syscall::{self, Access, DeviceFiles};
use rustix::{
    fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid},
    io::Errno,
    mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};
use settings::{NIX_STORE, RUNNER_MOUNT, Root};

use super::{machine_id, private::make_private, tree};

const LOWER: &str = "lower";
const UPPER: &str = "upper";
const WORK: &str = "work";
const ROOT: &str = "root";
const RUNNER: &str = "runner";
const NIX: &str = "nix";

/// What the empty root of a system must have before systemd-nspawn takes it, and what nspawn would otherwise make as
/// somebody who does not exist inside (docs/nspawn.md#empty-root). Parents come first.
const SKELETON: [&str; 5] = ["etc", "nix", "nix/store", tree::TMP, "usr"];
const MACHINE_ID: &str = "etc/machine-id";

/// Something of the host that a container sees as its own and can write to without anybody else seeing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// What is shared.
    pub source: PathBuf,
    /// The directory of its layers.
    pub layers: PathBuf,
    /// Where it is mounted.
    pub at: PathBuf,
    /// Whether programs in it may change who they run as where there is no user namespace: only where the root is.
    pub suid: bool,
}

/// The overlays of a container in `layers`, in the order they are mounted.
pub fn overlays(layers: &Path, root: &Root, nix_store: Option<&Path>) -> Vec<Overlay> {
    let at = layers.join(ROOT);
    let inside = |path: &str| at.join(path.trim_start_matches('/'));
    match root {
        Root::Tree(path) => {
            let store = nix_store.map(|store| Overlay {
                source: store.to_owned(),
                layers: layers.join(NIX),
                at: inside(NIX_STORE),
                suid: false,
            });
            let tree = Overlay { source: path.clone(), layers: layers.to_owned(), at: at.clone(), suid: true };
            std::iter::once(tree).chain(store).collect()
        }
        Root::System { runner_dir, .. } => {
            let store =
                Overlay { source: NIX_STORE.into(), layers: layers.to_owned(), at: inside(NIX_STORE), suid: false };
            let runner = runner_dir.iter().map(|directory| Overlay {
                source: directory.clone(),
                layers: layers.join(RUNNER),
                at: inside(RUNNER_MOUNT),
                suid: false,
            });
            std::iter::once(store).chain(runner).collect()
        }
    }
}

/// Makes the directories of a container in `layers`, which holds nothing yet. The root directory of an overlay has
/// the owner and mode of its upper layer, so that one belongs to the container's root.
pub fn directories(layers: &Path, root: &Root, nix_store: Option<&Path>, uid_base: u32) -> anyhow::Result<()> {
    let make = |path: &Path, mode| {
        DirBuilder::new().mode(mode).create(path).with_context(|| format!("cannot make {}", path.display()))
    };
    let give = |path: &Path| {
        chown(path, Some(uid_base), Some(uid_base)).with_context(|| format!("cannot give away {}", path.display()))
    };
    make_private(layers)?;
    let boots = layers.join(ROOT);
    make(&boots, 0o755)?;
    for overlay in overlays(layers, root, nix_store) {
        if overlay.layers != layers {
            make(&overlay.layers, 0o755)?;
        }
        for part in [LOWER, UPPER, WORK] {
            make(&overlay.layers.join(part), 0o755)?;
        }
        give(&overlay.layers.join(UPPER))?;
    }
    if let Root::System { runner_dir, .. } = root {
        give(&boots)?;
        let runner = runner_dir.iter().flat_map(|_| ["opt", RUNNER_MOUNT.trim_start_matches('/')]);
        for path in SKELETON.into_iter().chain(runner).map(|path| boots.join(path)) {
            make(&path, 0o755)?;
            give(&path)?;
        }
        // The job may be there before the system has made it.
        let tmp = boots.join(tree::TMP);
        fs::set_permissions(&tmp, fs::Permissions::from_mode(tree::TMP_MODE))
            .with_context(|| format!("cannot open {} to everybody", tmp.display()))?;
        // Without one the system takes this for its first boot and sets itself up.
        let file = boots.join(MACHINE_ID);
        let id = machine_id::random().context("cannot make a random machine id")?;
        fs::write(&file, format!("{id:032x}\n")).with_context(|| format!("cannot write {}", file.display()))?;
        give(&file)?;
    }
    Ok(())
}

/// Mounts what is shared as the lower layer, its ids shifted by `user_namespace`.
pub fn mount_lower(overlay: &Overlay, user_namespace: &OwnedFd) -> anyhow::Result<()> {
    let source = &overlay.source;
    let shown = source.display();
    let is_directory = fs::metadata(source).with_context(|| format!("cannot use template {shown}"))?.is_dir();
    ensure!(is_directory, "template {shown} is not a directory");
    // The overlay's own word counts, not this one's.
    mount_shifted(source, &overlay.layers.join(LOWER), user_namespace, Access::ReadOnly, DeviceFiles::Refused)
}

/// What mounts of a container say of device files.
///
/// Docker binds what a container has, and a flag that was set outside cannot be left out inside a user namespace
/// (docs/nspawn.md#locked-mount-flags), so there none is set: the kernel lets nobody in a user namespace make a device
/// node. Where there is no user namespace the flag holds nobody up, and root can take it away; then it is the unit's
/// device list that keeps a node from being opened, as it does for those a template may have brought.
pub fn device_files(privileged: bool) -> DeviceFiles {
    if privileged { DeviceFiles::Refused } else { DeviceFiles::Allowed }
}

/// Mounts the directory `source` at `at`, its ids shifted by `user_namespace`.
pub fn mount_shifted(
    source: &Path,
    at: &Path,
    user_namespace: &OwnedFd,
    access: Access,
    device_files: DeviceFiles,
) -> anyhow::Result<()> {
    let shown = source.display();
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, source, clone).with_context(|| format!("cannot clone {shown}"))?;
    syscall::map_ids(tree.as_fd(), user_namespace.as_fd(), access, device_files)
        .with_context(|| format!("cannot shift the ids of {shown}; does its file system support id-mapped mounts?"))?;
    rustix::mount::move_mount(&tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .with_context(|| format!("cannot mount {}", at.display()))
}

/// Makes a directory inside the container, if it is missing, with the parents that are missing. All
/// that is made belongs to the container's root: what systemd-nspawn made would belong to nobody
/// (docs/nspawn.md#mount-points). A link on the way is refused: it could lead out of the container. Gives the directory.
pub fn make_directory(layers: &Path, inside: &Path, uid_base: u32) -> anyhow::Result<OwnedFd> {
    let (uid, gid) = (Uid::from_raw(uid_base), Gid::from_raw(uid_base));
    let make = || -> rustix::io::Result<OwnedFd> {
        let mut parent = self::root(layers)?;
        for part in inside.components() {
            let Component::Normal(part) = part else { continue };
            match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => {}
                result => {
                    result?;
                    rustix::fs::chownat(&parent, part, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                }
            }
            parent = rustix::fs::openat2(&parent, part, DIRECTORY, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
        }
        Ok(parent)
    };
    make().with_context(|| format!("cannot make {} in the container, or a link is on the way to it", inside.display()))
}

/// The container's root directory.
pub fn root(layers: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(layers.join(ROOT), DIRECTORY, Mode::empty())
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Mounts the overlay, after which the lower layer needs no place of its own any more: the overlay holds it.
pub fn mount_overlay(overlay: &Overlay, device_files: DeviceFiles) -> anyhow::Result<()> {
    let part = |part| overlay.layers.join(part);
    let (lower, at) = (part(LOWER), &overlay.at);
    // Volatile: nothing in the upper layer is to survive anything, so a job's fsync() need not reach the disk
    // (Linux, Documentation/filesystems/overlayfs.rst).
    let options = format!(
        "lowerdir={},upperdir={},workdir={},volatile",
        lower.display(),
        part(UPPER).display(),
        part(WORK).display()
    );
    let options = std::ffi::CString::new(options)?;
    let flags = match (device_files, overlay.suid) {
        // Inside a user namespace a program changes who it runs as within the namespace only.
        (DeviceFiles::Allowed, _) => MountFlags::empty(),
        (DeviceFiles::Refused, true) => MountFlags::NODEV,
        (DeviceFiles::Refused, false) => MountFlags::NODEV | MountFlags::NOSUID,
    };
    rustix::mount::mount("overlay", at, "overlay", flags, options.as_c_str())
        .with_context(|| format!("cannot mount the overlay {}", at.display()))?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn system() -> Root {
        Root::System { closure: "/nix/store/abc-nixos-system-job".into(), runner_dir: Some("/srv/runner".into()) }
    }

    #[test]
    fn a_system_shares_the_store_and_the_runner_and_neither_changes_who_a_program_runs_as() {
        let overlays = overlays(Path::new("/l"), &system(), None);
        let seen: Vec<_> = overlays.iter().map(|o| (o.source.to_str().unwrap(), o.at.to_str().unwrap())).collect();
        assert_eq!(seen, [("/nix/store", "/l/root/nix/store"), ("/srv/runner", "/l/root/opt/actions-runner")]);
        assert!(overlays.iter().all(|overlay| !overlay.suid));
        assert_ne!(overlays[0].layers, overlays[1].layers);
    }

    #[test]
    fn the_empty_root_of_a_system_is_the_containers_own_and_has_an_id() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give files away");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let mut ids = Vec::new();
        for name in ["one", "two"] {
            let layers = home.path().join(name);
            directories(&layers, &system(), None, 70_000).unwrap();
            let root = layers.join("root");
            for path in [".", "etc", "usr", "nix", "nix/store", "opt/actions-runner", "etc/machine-id"] {
                let found = fs::metadata(root.join(path)).unwrap();
                assert_eq!((found.uid(), found.gid()), (70_000, 70_000), "{path}");
            }
            ids.push(fs::read_to_string(root.join("etc/machine-id")).unwrap());
        }
        assert!(ids[0].trim_end().len() == 32 && ids[0] != ids[1], "{ids:?}");
    }
}
