//! Directories that outlive containers and are used by all that run at the same time.
//!
//! Each is a file system of limited size in a file ([`sized`]), `<stores>/<class>/caches/<name>[@<target>]`. A container
//! that has it mounts it, which for all but the first means to see what is mounted already, and its ids shifted: what
//! the job's user of one container wrote belongs to that user in the next. The last one that goes takes the mount and
//! the loop device with it.
//!
//! Where jobs of forks may run it is read-only: they could leave something there for jobs that are trusted.

use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use kernel::syscall::Access;
use settings::{Cache, Sharing};

use super::{ContainerPlan, Paths, lock, private::make_private, rootfs, sized};

const DIRECTORY: &str = "caches";
/// Where the file system is mounted for the container.
const WHOLE: &str = "whole";
/// The directory in it that the container sees, and where that is mounted for it. The root of the file system holds what
/// is none of the container's (`lost+found`).
const CONTENT: &str = "content";
/// Every user of the container may put things there, and remove only their own.
const MODE: u32 = 0o1777;

/// The files of the caches it uses.
pub fn kept(paths: &Paths, plan: &ContainerPlan) -> Vec<PathBuf> {
    let kept = paths.stores.join(&plan.class).join(DIRECTORY);
    plan.caches.iter().filter_map(|cache| Some(kept.join(file_name(cache, plan).ok()?))).collect()
}

/// Mounts the caches of a container, and makes the mount points in its root.
pub fn make(paths: &Paths, plan: &ContainerPlan, user_namespace: &OwnedFd) -> anyhow::Result<()> {
    let layers = paths.layers(&plan.name);
    let access = if plan.allow_forks { Access::ReadOnly } else { Access::ReadWrite };
    let class = paths.stores.join(&plan.class);
    let kept = class.join(DIRECTORY);
    for cache in &plan.caches {
        let place = layers.join(DIRECTORY).join(&cache.name);
        let (whole, seen) = (place.join(WHOLE), place.join(CONTENT));
        for directory in [&paths.stores, &class, &kept, &layers.join(DIRECTORY), &place, &whole, &seen] {
            make_private(directory)?;
        }
        {
            // Two at once would each make it, or attach it to a loop device of their own.
            let _lock = lock::take(&paths.records)?;
            sized::mount_kept(&kept.join(file_name(cache, plan)?), cache.size, &whole)?;
        }
        let content = whole.join(CONTENT);
        make_private(&content)?;
        fs::set_permissions(&content, fs::Permissions::from_mode(MODE))
            .with_context(|| format!("cannot open {} to the container", content.display()))?;
        rootfs::mount_shifted(&content, &seen, user_namespace, access, rootfs::device_files(plan.privileged))?;
        rootfs::make_directory(&layers, &cache.at, plan.uid_base)?;
    }
    Ok(())
}

/// A name has no `@`, so no two caches have the same.
fn file_name(cache: &Cache, plan: &ContainerPlan) -> anyhow::Result<String> {
    Ok(match cache.per {
        Sharing::Class => cache.name.clone(),
        Sharing::Target => {
            let target = plan.target.as_ref().context("the target of the container is not known")?;
            format!("{}@{target}", cache.name)
        }
    })
}

/// What is bound into the container, and where.
pub fn binds(layers: &Path, caches: &[Cache]) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    caches.iter().map(move |cache| (layers.join(DIRECTORY).join(&cache.name).join(CONTENT), cache.at.clone()))
}
