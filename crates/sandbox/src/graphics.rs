//! Gives a container the graphics processors that were found for it.
//!
//! The nodes it gets are copies, made for it with its own root as the owner and usable by everybody in it: the host's
//! belong to groups that do not exist inside. What may be done with them is in the unit's device list as well.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid},
    io::Errno,
    mount::MountFlags,
};

use super::{
    devices,
    gpu::{Gpu, Seen},
    private::make_private,
    rootfs,
};

const DIRECTORY: &str = "gpu";

/// Makes the container's copies of the device nodes in `layers`, and the directories in its root that things are bound
/// in.
pub fn make(layers: &Path, gpu: &Gpu, uid_base: u32) -> anyhow::Result<()> {
    let directory = layers.join(DIRECTORY);
    make_private(&directory)?;
    // Nodes on the host's own file system might not be opened: it may be mounted so.
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("gha-runner-gpu", &directory, "tmpfs", flags, c"mode=0700,size=256k,nr_inodes=4096")
        .with_context(|| format!("cannot mount {}", directory.display()))?;
    for device in &gpu.devices {
        copy_node(&device.source, &copy_of(layers, device), uid_base)
            .with_context(|| format!("cannot copy {}", device.source.display()))?;
    }
    for parent in gpu.mounts.iter().filter_map(|mount| mount.inside.parent()) {
        make_parents(layers, parent, uid_base)
            .with_context(|| format!("cannot make {} in the container", parent.display()))?;
    }
    Ok(())
}

/// Makes the container's own copy of a node: everybody in it may use it.
pub fn copy_node(device: &Path, copy: &Path, uid_base: u32) -> anyhow::Result<()> {
    let found = fs::metadata(device)?;
    ensure!(found.file_type().is_char_device(), "it is not a character device");
    let parents: Vec<&Path> = copy.ancestors().skip(1).take_while(|path| !path.exists()).collect();
    parents.into_iter().rev().try_for_each(make_private)?;
    Ok(devices::put_node(copy, FileType::CharacterDevice, found.rdev(), uid_base)?)
}

/// As [`rootfs::make_directory`], but a link of the template on the way is followed, inside the container: `/lib` is one.
fn make_parents(layers: &Path, inside: &Path, uid_base: u32) -> rustix::io::Result<()> {
    let root = rootfs::root(layers)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let mut path = PathBuf::from("/");
    let mut parent = open(&path)?;
    for part in inside.components().skip(1) {
        path.push(part);
        parent = match open(&path) {
            Err(Errno::NOENT) => {
                let name = part.as_os_str();
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                let (uid, gid) = (Uid::from_raw(uid_base), Gid::from_raw(uid_base));
                rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                open(&path)?
            }
            found => found?,
        };
    }
    Ok(())
}

fn copy_of(layers: &Path, device: &Seen) -> PathBuf {
    layers.join(DIRECTORY).join(device.inside.strip_prefix("/").unwrap_or(&device.inside))
}

/// What is bound into the container, and where: writable nodes, and what cannot be written.
pub fn binds(layers: &Path, gpu: &Gpu) -> (Vec<Seen>, Vec<Seen>) {
    let copies =
        gpu.devices.iter().map(|device| Seen { source: copy_of(layers, device), inside: device.inside.clone() });
    (copies.collect(), gpu.mounts.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_container_sees_its_copies_where_the_hosts_nodes_are_and_files_as_they_are() {
        let seen = |source: &str, inside: &str| Seen { source: source.into(), inside: inside.into() };
        let gpu = Gpu {
            devices: vec![
                seen("/driver/dev/nvidia0", "/dev/nvidia0"),
                seen("/dev/dri/renderD128", "/dev/dri/renderD128"),
            ],
            mounts: vec![seen("/usr/lib64/libcuda.so.1", "/usr/lib64/libcuda.so.1")],
            ..Gpu::default()
        };
        let (devices, files) = binds(Path::new("/layers"), &gpu);
        assert_eq!(
            devices,
            [
                seen("/layers/gpu/dev/nvidia0", "/dev/nvidia0"),
                seen("/layers/gpu/dev/dri/renderD128", "/dev/dri/renderD128")
            ]
        );
        assert_eq!(files, gpu.mounts);
    }

    #[test]
    fn the_containers_node_is_a_copy_of_its_own_and_directories_are_its_own_behind_a_link_too() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can make device nodes");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let copy = home.path().join("gpu/dev/dri/renderD128");
        copy_node(Path::new("/dev/null"), &copy, 70_000).unwrap();
        let (made, null) = (fs::metadata(&copy).unwrap(), fs::metadata("/dev/null").unwrap());
        assert_eq!((made.rdev(), made.uid(), made.mode() & 0o777), (null.rdev(), 70_000, 0o666));
        assert!(copy_node(home.path(), &copy, 1).is_err());
        let root = home.path().join("root");
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        // It would lead out of the container.
        symlink("/tmp", root.join("opt")).unwrap();
        make_parents(home.path(), Path::new("/lib/firmware/nvidia"), 70_000).unwrap();
        let made = root.join("usr/lib/firmware/nvidia");
        assert_eq!(fs::metadata(made).unwrap().uid(), 70_000);
        assert!(make_parents(home.path(), Path::new("/opt/x"), 70_000).is_err() && !Path::new("/tmp/x").exists());
    }
}
