//! What the host settles in a directory tree, so that no template has to: what a workflow expects of any machine.
//!
//! A NixOS system has the same from its configuration (`nix/container.nix`), and its `/tmp` from [`rootfs`].

use std::path::Path;

use anyhow::Context;
use rustix::{
    fs::{AtFlags, Gid, Mode, Uid},
    io::Errno,
};

use super::{
    guest,
    nspawn::{MOST_FILES, USUAL_FILES, USUAL_LOCKED},
    rootfs,
};

/// Directory for everybody's files.
pub const TMP: &str = "tmp";
/// Its mode: everybody may put files there, and remove only their own.
pub const TMP_MODE: u32 = 0o1777;
/// The unit that would put a file system in memory there (some releases of Debian enable it), and where it is masked.
const TMP_UNIT: (&str, &str) = ("etc/systemd/system", "tmp.mount");
/// Takes the place of the file of the same name by which Debian empties the directory in the middle of a boot, when the
/// job may be using it (tmpfiles.d(5)).
const TMPFILES: (&str, &str) = ("etc/tmpfiles.d/tmp.conf", "q /tmp 1777 root root -\nq /var/tmp 1777 root root -\n");
/// What PID 1 lets its services have unless they ask: newer versions lower what they were given. And how long it waits at
/// the end for what does not end, where the guest, which kills that, was killed itself.
const MANAGER: &str = "etc/systemd/system.conf.d/50-gha-runner.conf";

/// Puts all of it into the container's root file system in `layers`.
pub fn settle(layers: &Path, uid_base: u32) -> anyhow::Result<()> {
    make_tmp(layers, uid_base).context("cannot make /tmp in the container")?;
    let (directory, unit) = TMP_UNIT;
    let units = rootfs::make_directory(layers, Path::new(directory), uid_base)?;
    match rustix::fs::unlinkat(&units, unit, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error).with_context(|| format!("cannot replace {unit} in the container")),
    }
    rustix::fs::symlinkat("/dev/null", &units, unit).with_context(|| format!("cannot mask {unit} in the container"))?;
    let (file, content) = TMPFILES;
    guest::write(layers, Path::new(file), content.as_bytes(), uid_base)?;
    guest::write(layers, Path::new(MANAGER), manager().as_bytes(), uid_base)
}

fn manager() -> String {
    format!(
        "[Manager]\nDefaultLimitNOFILE={USUAL_FILES}:{MOST_FILES}\nDefaultLimitMEMLOCK={USUAL_LOCKED}:infinity\n\
         DefaultTimeoutStopSec=5s\n"
    )
}

/// What the template has under this name is left as it is, a link as well.
fn make_tmp(layers: &Path, uid_base: u32) -> rustix::io::Result<()> {
    let root = rootfs::root(layers)?;
    match rustix::fs::mkdirat(&root, TMP, Mode::from_raw_mode(TMP_MODE)) {
        Err(Errno::EXIST) => Ok(()),
        result => {
            result?;
            let (uid, gid) = (Uid::from_raw(uid_base), Gid::from_raw(uid_base));
            rustix::fs::chownat(&root, TMP, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            // Making it heeded this process's mask.
            rustix::fs::chmodat(&root, TMP, Mode::from_raw_mode(TMP_MODE), AtFlags::empty())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn tmp_is_a_directory_of_the_tree_that_no_unit_covers_or_empties_whatever_the_template_has() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give files away");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("root");
        fs::create_dir_all(root.join("etc/systemd/system")).unwrap();
        fs::write(root.join("etc/systemd/system/tmp.mount"), "[Mount]\nWhat=tmpfs\nWhere=/tmp\n").unwrap();
        for _ in 0..2 {
            settle(home.path(), 70_000).unwrap();
            let tmp = fs::metadata(root.join("tmp")).unwrap();
            assert_eq!((tmp.mode() & 0o7777, tmp.uid(), tmp.gid()), (TMP_MODE, 70_000, 70_000));
            let masked = fs::read_link(root.join("etc/systemd/system/tmp.mount")).unwrap();
            assert_eq!(masked, Path::new("/dev/null"));
            let rules = fs::read_to_string(root.join("etc/tmpfiles.d/tmp.conf")).unwrap();
            assert!(rules.lines().all(|line| line.starts_with("q ")), "{rules}");
            fs::write(root.join("tmp/mine"), "").unwrap();
        }
        assert!(root.join("tmp/mine").exists());
    }
}
