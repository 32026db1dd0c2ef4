//! Where Docker inside a container keeps its images: Docker's own storage is an overlay, which cannot lie on another,
//! so it gets directories of a real file system beside the container's root.
//!
//! ```text
//! <roots>/<name>/docker/docker      /var/lib/docker
//! <roots>/<name>/docker/containerd  /var/lib/containerd
//! ```
//!
//! They are thrown away with the container. Where the class keeps them, they are two directories of a file system of
//! limited size in a file ([`sized`]), `<stores>/<class>/<target>.<slot>`, their ids shifted for each container that
//! uses it, one at a time. The images ([`images`]) that a job left there are what the next job of that class and target
//! finds: whoever keeps them trusts all of these jobs to the same degree.

use std::{
    fs::DirBuilder,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, chown},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use kernel::syscall::{Access, Namespace, unshare};
use rustix::mount::MountFlags;

use super::{ContainerPlan, Paths, images, plan::Store, private::make_private, rootfs, sized};

const DIRECTORY: &str = "docker";
/// In it, and where the container sees each.
const PARTS: [(&str, &str); 2] = [("docker", "/var/lib/docker"), ("containerd", "/var/lib/containerd")];
/// And a whole /sys: see [`mount_sys`]. Directly in `/run`, where systemd-nspawn may make the mount point.
const SYS: (&str, &str) = ("sys", "/run/gha-runner-sys");

/// Which store a container continues: of those of its class and target, the first that none of `others` uses. None
/// where nothing is kept, or where jobs of forks may run, who could leave something there for jobs that are trusted.
pub fn store(plan: &ContainerPlan, others: &[ContainerPlan]) -> Option<Store> {
    let keeps = plan.docker.as_ref().is_some_and(|docker| docker.keep.is_some()) && !plan.allow_forks;
    let target = plan.target.as_ref().filter(|_| keeps)?;
    let name = format!("{}/{target}", plan.class);
    let used = |slot| others.iter().any(|other| other.store == Some(Store { name: name.clone(), slot }));
    (0..).find(|slot| !used(*slot)).map(|slot| Store { name, slot })
}

/// The file of the store it continues, if one is kept.
pub fn kept(paths: &Paths, plan: &ContainerPlan) -> Option<PathBuf> {
    plan.store.as_ref().map(|store| paths.stores.join(format!("{}.{}", store.name, store.slot)))
}

/// Makes or mounts the directories, and the mount points in the container's root.
pub fn make(paths: &Paths, plan: &ContainerPlan, user_namespace: &OwnedFd) -> anyhow::Result<()> {
    let Some(docker) = &plan.docker else { return Ok(()) };
    let layers = paths.layers(&plan.name);
    let directory = layers.join(DIRECTORY);
    make_private(&directory)?;
    if let (Some(file), Some(size)) = (kept(paths, plan), docker.keep) {
        make_private(&paths.stores)?;
        make_private(file.parent().context("a store has no name")?)?;
        sized::mount_kept(&file, size, &directory)?;
        if let Err(error) = keep_images_alone(&directory) {
            println!("store {} is made anew: {error:#}", file.display());
            sized::mount_anew(&file, size, &directory)?;
        }
    }
    for (part, inside) in PARTS {
        let path = directory.join(part);
        if plan.store.is_some() {
            make_private(&path)?;
            let device_files = rootfs::device_files(plan.privileged);
            rootfs::mount_shifted(&path, &path, user_namespace, Access::ReadWrite, device_files)?;
        } else {
            DirBuilder::new().mode(0o711).create(&path).with_context(|| format!("cannot make {}", path.display()))?;
            chown(&path, Some(plan.uid_base), Some(plan.uid_base))
                .with_context(|| format!("cannot give away {}", path.display()))?;
        }
        rootfs::make_directory(&layers, Path::new(inside), plan.uid_base)?;
    }
    let sys = directory.join(SYS.0);
    make_private(&sys)?;
    mount_sys(&sys).with_context(|| format!("cannot mount {}", sys.display()))
}

/// Leaves nothing in a store but what is to be found by the next job. An error is a reason to begin with an empty one.
fn keep_images_alone(store: &Path) -> anyhow::Result<()> {
    let [(docker, _), _] = PARTS;
    let docker = store.join(docker);
    if docker.exists() {
        images::keep_alone(&docker)?;
    }
    ensure!(!images::is_full(store)?, "it is nearly full");
    Ok(())
}

/// Mounts a /sys that is whole.
///
/// `docker run --privileged` mounts a /sys of its own. Inside a user namespace the kernel allows that only where one is
/// already seen as a whole and writable (`mount_too_revealing` in Linux, fs/namespace.c), and systemd-nspawn shows
/// pieces of one. This one belongs to a network namespace that nobody is in, so it shows no link of the host; the files
/// in it belong to the host's root, who is nobody in the container.
fn mount_sys(at: &Path) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let mounting = scope.spawn(|| -> anyhow::Result<()> {
            unshare(Namespace::Network)?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            Ok(rustix::mount::mount("sysfs", at, "sysfs", flags, None)?)
        });
        mounting.join().unwrap_or_else(|_| bail!("the mounting thread panicked"))
    })
}

/// What is bound into the container, and where.
pub fn binds(layers: &Path) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    let directory = layers.join(DIRECTORY);
    PARTS.into_iter().chain([SYS]).map(move |(part, inside)| (directory.join(part), inside.into()))
}
