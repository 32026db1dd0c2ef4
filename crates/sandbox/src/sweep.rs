//! Removes what is left of containers whose unit is gone: after a crash, a reboot, or a teardown that was killed.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context;
use contract::ContainerName;
use kernel::netlink::Netlink;

use super::{Paths, firewall, link, lock, private::make_private, record, service_manager, teardown};

/// Sweeps; what could not be removed, one line each.
///
/// A container whose unit systemd does not call inactive is left alone. Whether it is live is asked under the lock
/// that *prepare* holds when it makes a record, so a container that is just starting is either not swept or starts
/// clean.
pub fn sweep(paths: &Paths) -> anyhow::Result<Vec<String>> {
    make_private(&paths.records)?;
    let netlink = Netlink::open()?;
    let mut left = Vec::new();
    for name in candidates(paths, &netlink)? {
        let _lock = lock::take(&paths.records)?;
        // Without a record no *prepare* has run since the last boot, so there is nothing to ask systemd for, which
        // may not even answer yet.
        let live = paths.record(&name).symlink_metadata().is_ok()
            && service_manager::ask_once(async |manager| manager.is_live(&name).await)?;
        if live {
            continue;
        }
        let problems = teardown::remove(paths, &name, Some(&netlink));
        if problems.is_empty() {
            println!("swept {name}");
        }
        left.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
    }
    left.extend(teardown::remove_discarded(paths, None));
    Ok(left)
}

fn candidates(paths: &Paths, netlink: &Netlink) -> anyhow::Result<BTreeSet<ContainerName>> {
    let mut names: BTreeSet<ContainerName> = netlink.links()?.iter().filter_map(|link| link::owner(link)).collect();
    let in_directory =
        |directory: &Path| record::names(directory).with_context(|| format!("cannot list {}", directory.display()));
    for directory in [&paths.records, &paths.roots, &paths.disks, &paths.events, &paths.gc_roots] {
        names.extend(in_directory(directory)?);
    }
    names.extend(firewall::admitted()?);
    Ok(names)
}
