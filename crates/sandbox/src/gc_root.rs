//! Keeps Nix's garbage collector away from the system a container runs on.
//!
//! The generation it belongs to may be deleted while the job runs, so each container holds its system by a root of its
//! own (nix-store(1), `--gc`: links in the directory of roots).

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::Path,
};

use anyhow::{Context, ensure};
use contract::ContainerName;

/// Where the roots of containers lie.
pub const ROOTS_DIR: &str = "/nix/var/nix/gcroots/gha-runner";

/// Holds `system` for the container. Where there is no directory of roots there is no collector either: a store that
/// was copied there by hand.
pub fn hold(directory: &Path, name: &ContainerName, system: &Path) -> anyhow::Result<()> {
    let parent = directory.parent().context("the directory of roots has no parent")?;
    if parent.is_dir() {
        let shown = directory.display();
        match DirBuilder::new().mode(0o755).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {shown}"));
            }
            _ => {}
        }
        symlink(system, directory.join(name.as_str())).with_context(|| format!("cannot make a root in {shown}"))?;
    }
    // Only now: what a collection that began before has removed shows here, and not half-way through the boot.
    ensure!(system.join("init").exists(), "{} is no NixOS system, or was removed", system.display());
    Ok(())
}

/// Lets go of it, if the container holds one.
pub fn release(directory: &Path, name: &ContainerName) -> io::Result<()> {
    match fs::remove_file(directory.join(name.as_str())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_system_is_held_from_before_the_boot_until_it_is_released() {
        let home = tempfile::tempdir().unwrap();
        let system = home.path().join("system");
        fs::create_dir(&system).unwrap();
        fs::write(system.join("init"), "").unwrap();
        let name: ContainerName = "j1234567".parse().unwrap();
        let gcroots = home.path().join("gcroots");
        let roots = gcroots.join("gha-runner");
        // No collector, no root.
        hold(&roots, &name, &system).unwrap();
        assert!(!gcroots.exists());
        fs::create_dir(&gcroots).unwrap();
        hold(&roots, &name, &system).unwrap();
        assert_eq!(fs::read_link(roots.join("j1234567")).unwrap(), system);
        for _ in 0..2 {
            release(&roots, &name).unwrap();
            assert!(roots.join("j1234567").symlink_metadata().is_err());
        }
        fs::remove_file(system.join("init")).unwrap();
        assert!(hold(&roots, &name, &system).unwrap_err().to_string().contains("removed"));
    }
}
