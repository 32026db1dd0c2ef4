//! Control groups inside a container: as many as builds need, and no more.
//!
//! systemd on the host looks at every group below a unit when the unit starts and ends, and removes them one by one. A
//! job that makes them by the thousand, or in each other without end, would keep the host's PID 1 busy for minutes.

use anyhow::Context;
use contract::{ContainerName, unit_name::container_unit};
use kernel::cgroup;

/// How deep groups may lie below the unit's: a cluster of containers in Docker (kind) takes about ten levels.
const DEPTH: u32 = 32;
/// How many there may be: such a cluster with a hundred pods has about a thousand.
const DESCENDANTS: u32 = 4096;

/// Bounds the groups of the container's unit, which this process belongs to. Where somebody runs it by hand there is no
/// such unit, and nothing to bound.
pub fn bound(class: &str, name: &ContainerName) -> anyhow::Result<()> {
    let group = cgroup::own_unit().context(
        "this process is in no control group of version 2. Remedy: boot the host with systemd.unified_cgroup_hierarchy=1",
    )?;
    if group.file_name() != Some(container_unit(class, name).as_ref()) {
        return Ok(());
    }
    cgroup::bound(&group, DEPTH, DESCENDANTS).with_context(|| format!("cannot bound control group {}", group.display()))
}
