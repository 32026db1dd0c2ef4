//! What the kernel counts for a control group (cgroups v2).

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the groups are.
const ROOT: &str = "/sys/fs/cgroup";

/// What a control group and those below it use now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory, in bytes; none = not counted.
    pub memory: Option<u64>,
    /// Processor time since its beginning, in microseconds; none = not counted.
    pub cpu_us: Option<u64>,
}

impl Usage {
    /// Of the group of a unit in a slice, as everybody may read it.
    pub fn of_unit(slice: &str, unit: &str) -> Self {
        let group = path(Path::new(ROOT), slice, unit);
        let read = |file| fs::read_to_string(group.join(file)).ok();
        Self {
            memory: read("memory.current").and_then(|text| text.trim().parse().ok()),
            cpu_us: read("cpu.stat").as_deref().and_then(cpu_us),
        }
    }
}

/// Where a unit's group is: a hyphen in a slice's name means nesting (systemd.slice(5)).
fn path(root: &Path, slice: &str, unit: &str) -> PathBuf {
    let name = slice.trim_end_matches(".slice");
    let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
    ends.map(|end| format!("{}.slice", &name[..end])).fold(root.to_owned(), |path, slice| path.join(slice)).join(unit)
}

/// Processor time of a group and those below it, from its `cpu.stat`.
pub fn cpu_us(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_group_lies_in_its_slices() {
        assert_eq!(
            path(Path::new("/c"), "gha-runner-nix_big.slice", "u.service"),
            Path::new("/c/gha.slice/gha-runner.slice/gha-runner-nix_big.slice/u.service")
        );
    }

    #[test]
    fn what_is_not_counted_is_not_told() {
        assert_eq!(Usage::of_unit("no-such.slice", "u.service"), Usage::default());
        assert_eq!(cpu_us("usage_usec 1234\nuser_usec 1000\n"), Some(1234));
        assert_eq!(cpu_us(""), None);
    }
}
