//! What the kernel counts and bounds for a control group (cgroups v2).

use std::{
    fs, io,
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

/// The group of the unit that this process belongs to; `None` where there is no hierarchy of version 2.
pub fn own_unit() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    Some(Path::new(ROOT).join(unit_of(&groups)?))
}

fn unit_of(groups: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Commands around a unit with delegation run in a sub-group of it (systemd, CGROUP_DELEGATION).
    Some(Path::new(path).components().filter(|part| part.as_os_str() != ".control").collect())
}

/// Bounds how many groups there may be below `group` and how deep they may lie. Who owns groups below cannot change it.
pub fn bound(group: &Path, depth: u32, descendants: u32) -> io::Result<()> {
    fs::write(group.join("cgroup.max.depth"), depth.to_string())?;
    fs::write(group.join("cgroup.max.descendants"), descendants.to_string())
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
    fn a_command_beside_the_main_process_belongs_to_the_same_unit() {
        let expected = Path::new("gha.slice/u.service");
        assert_eq!(unit_of("1:name=systemd:/x\n0::/gha.slice/u.service/.control\n").as_deref(), Some(expected));
        assert_eq!(unit_of("0::/gha.slice/u.service\n").as_deref(), Some(expected));
        assert_eq!(unit_of("1:name=systemd:/x\n"), None);
    }

    #[test]
    fn what_is_not_counted_is_not_told() {
        assert_eq!(Usage::of_unit("no-such.slice", "u.service"), Usage::default());
        assert_eq!(cpu_us("usage_usec 1234\nuser_usec 1000\n"), Some(1234));
        assert_eq!(cpu_us(""), None);
    }
}
