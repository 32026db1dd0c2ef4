//! What there is in the host that a job could have left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{lab::Lab, place::Place};

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A unit of a job container that systemd still knows.
    Unit,
    /// A machine that machined knows.
    Machine,
    /// A mount point in the host's mount namespace.
    Mount,
    /// A network link in the host's network namespace.
    Link,
    /// A named network namespace of the host.
    Namespace,
    /// A file or directory below the product's own directories.
    Path,
    /// An nspawn, or a process of a container.
    Process,
    /// A table of nftables.
    Table,
    /// A control group of a job container.
    Cgroup,
}

/// A list of all such things at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    found: BTreeMap<Kind, BTreeSet<String>>,
}

/// Paths below which the product may leave something. Shell patterns.
const DIRECTORIES: &str = "/run/gha-runner* /var/lib/gha-runner* /var/lib/private/gha-runner* /var/cache/gha-runner* \
     /run/systemd/nspawn /run/systemd/machines /tmp/gha-* /var/tmp/gha-*";

impl Inventory {
    pub(crate) fn take(lab: &Lab) -> Result<Self> {
        let mut inventory = Self::default();
        inventory.put(Kind::Unit, units(lab)?);
        inventory.put(Kind::Machine, machines(lab)?);
        inventory.put(Kind::Mount, mounts(lab)?);
        inventory.put(Kind::Link, links(lab)?);
        inventory.put(Kind::Table, tables(lab)?);
        inventory.put(Kind::Process, processes(lab)?);
        inventory.put(Kind::Namespace, lines(lab, "find /run/netns -mindepth 1 2>/dev/null || true")?);
        inventory.put(Kind::Path, lines(lab, &format!("find {DIRECTORIES} -maxdepth 4 2>/dev/null || true"))?);
        inventory
            .put(Kind::Cgroup, lines(lab, "find /sys/fs/cgroup -type d -name 'gha-runner-*@*' 2>/dev/null || true")?);
        Ok(inventory)
    }

    /// What was found of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.found.get(&kind).into_iter().flatten().map(String::as_str)
    }

    /// What is here and was not in `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut new = Self::default();
        for (kind, names) in &self.found {
            let known = before.found.get(kind);
            let names = names.iter().filter(|name| known.is_none_or(|known| !known.contains(*name)));
            new.put(*kind, names.cloned());
        }
        new
    }

    /// Without what `expected` says is meant to be there.
    #[must_use]
    pub fn without(&self, expected: impl Fn(Kind, &str) -> bool) -> Self {
        let mut rest = Self::default();
        for (kind, names) in &self.found {
            let names = names.iter().filter(|name| !expected(*kind, name));
            rest.put(*kind, names.cloned());
        }
        rest
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn put(&mut self, kind: Kind, names: impl IntoIterator<Item = String>) {
        let names: BTreeSet<String> = names.into_iter().collect();
        if !names.is_empty() {
            self.found.insert(kind, names);
        }
    }
}

impl fmt::Display for Inventory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return formatter.write_str("nothing");
        }
        for (kind, names) in &self.found {
            for name in names {
                writeln!(formatter, "{kind:?}: {name}")?;
            }
        }
        Ok(())
    }
}

fn lines(lab: &Lab, script: &str) -> Result<Vec<String>> {
    Ok(lab.shell(script)?.lines().map(str::to_owned).collect())
}

/// An answer of `busctl --json`.
#[derive(Deserialize)]
struct Reply<T> {
    data: T,
}

fn bus<T: for<'de> Deserialize<'de>>(lab: &Lab, call: &[&str]) -> Result<T> {
    let mut arguments = vec!["busctl", "--json=short", "--", "call"];
    arguments.extend(call);
    json::<Reply<T>>(lab, &arguments).map(|reply| reply.data)
}

fn json<T: for<'de> Deserialize<'de>>(lab: &Lab, arguments: &[&str]) -> Result<T> {
    let output = lab.exec(Place::Host, arguments)?.check()?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("cannot understand {}", output.text()))
}

fn units(lab: &Lab) -> Result<Vec<String>> {
    let call = [
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "ListUnitsByPatterns",
        "asas",
        "0",
        "1",
        "gha-runner-*@*",
    ];
    let (rows,): (Vec<Vec<serde_json::Value>>,) = bus(lab, &call)?;
    let text = |row: &[serde_json::Value], column: usize| {
        row.get(column).and_then(serde_json::Value::as_str).unwrap_or("?").to_owned()
    };
    Ok(rows.iter().map(|row| format!("{} {}", text(row, 0), text(row, 3))).collect())
}

fn machines(lab: &Lab) -> Result<Vec<String>> {
    let call =
        ["org.freedesktop.machine1", "/org/freedesktop/machine1", "org.freedesktop.machine1.Manager", "ListMachines"];
    let (rows,): (Vec<(String, String, String, String)>,) = bus(lab, &call)?;
    // machined lists the host it runs on, too.
    Ok(rows.into_iter().map(|row| row.0).filter(|name| name != ".host").collect())
}

fn mounts(lab: &Lab) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{}/mountinfo", lab.host_pid()?))?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let point = front.split(' ').nth(4)?;
            let kind = back.split(' ').next()?;
            Some(format!("{point} ({kind})"))
        })
        .collect())
}

fn links(lab: &Lab) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Link {
        ifname: String,
    }
    let links: Vec<Link> = json(lab, &["ip", "-json", "link", "show"])?;
    Ok(links.into_iter().map(|link| link.ifname).collect())
}

fn tables(lab: &Lab) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        table: Option<Table>,
    }
    #[derive(Deserialize)]
    struct Table {
        family: String,
        name: String,
    }
    let listing: Listing = json(lab, &["nft", "--json", "list", "tables"])?;
    Ok(listing
        .nftables
        .into_iter()
        .filter_map(|entry| entry.table)
        .map(|table| format!("{} {}", table.family, table.name))
        .collect())
}

/// What systemd-nspawn makes once on a host, for the first container of any kind, and leaves there.
pub const OF_NSPAWN: [&str; 4] = [
    "/run/systemd/nspawn",
    "/run/systemd/nspawn/locks",
    "/run/systemd/nspawn/propagate",
    "/run/systemd/nspawn/unix-export",
];

/// Every nspawn, and every process that lives in another process namespace than the host's.
fn processes(lab: &Lab) -> Result<Vec<String>> {
    let rows = lab.shell("ps -e -o pidns=,pid=,comm=")?;
    let mut rows = rows.lines().map(|row| {
        let mut words = row.split_whitespace();
        let namespace = words.next().unwrap_or_default().to_owned();
        (namespace, words.collect::<Vec<_>>().join(" "))
    });
    // The first is process 1.
    let own = rows.next().map(|row| row.0).unwrap_or_default();
    Ok(rows
        .filter(|(namespace, name)| *namespace != own || name.ends_with("systemd-nspawn"))
        .map(|(_, name)| name)
        .collect())
}
