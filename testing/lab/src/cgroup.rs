//! The lab's own control group: two systemd hosts in one would tear each other's services down.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Control groups made for one lab.
#[derive(Debug)]
pub struct Cgroup {
    /// In the unified hierarchy: where the host's nspawn starts.
    pub unified: PathBuf,
    /// All that may have to be removed: on machines with both kinds, nspawn repeats ours in the older hierarchy.
    pub all: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes a group called `name` below the one this process is in.
    pub fn create(name: &str) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let unified = mount_point(&mounts, "cgroup2", "")
            .context("this machine has no unified control group hierarchy mounted")?;
        let below = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .context("this process is in no unified control group")?;
        let path = Path::new(below).join(name);
        let created = unified.join(&path);
        std::fs::create_dir_all(&created).with_context(|| format!("cannot create {}", created.display()))?;
        let mut all = vec![created.clone()];
        if let Some(older) = mount_point(&mounts, "cgroup", "name=systemd") {
            all.push(older.join(&path));
        }
        Ok(Self { unified: created, all })
    }
}

/// Where a file system of this type, with this word among its options, is mounted from its root.
fn mount_point(mountinfo: &str, kind: &str, option: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut back = back.split(' ');
        let matches =
            back.next() == Some(kind) && (option.is_empty() || back.nth(1)?.split(',').any(|word| word == option));
        matches.then(|| front.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hierarchies_are_found() {
        let text = "30 25 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                    31 25 0:27 / /sys/fs/cgroup/pids rw shared:3 - cgroup cgroup rw,pids\n\
                    32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(text, "cgroup2", ""), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point(text, "cgroup", "name=systemd"), Some("/sys/fs/cgroup/systemd".into()));
        assert_eq!(mount_point(text, "cgroup", "memory"), None);
    }
}
