//! Limits of the kernel that all containers share with each other and with the host.
//!
//! A user namespace has no share of its own in them: what a container takes counts for the host's root, who made the
//! namespace, or for the whole kernel. With the kernel's defaults the fourteenth idle container finds no inotify instance
//! left, and one job can take all terminals.
//!
//! Where the kernel counts what it hands out in the memory of the taker's control group, that is the limit of each
//! container, which its root cannot lift; the number here is then so high that none is reached. Any lower one, whatever
//! its share for each, is one that a single job can use up.
//!
//! Not among them, because no tunable of the host reaches them:
//!
//! - POSIX timers and queued signals (`RLIMIT_SIGPENDING`), bytes in POSIX message queues (`RLIMIT_MSGQUEUE`) and locked
//!   memory (`RLIMIT_MEMLOCK`) also count for the host's root, against the limit that systemd-nspawn had: they are
//!   `LimitSIGPENDING=` and its like of the container's unit.
//! - `fs.mqueue.*`, `kernel.sem`, `kernel.shm*` and `kernel.msg*` belong to an IPC namespace; each begins with the
//!   kernel's defaults.
//! - `kernel.pty.reserve` stays: the last 1,024 terminals are for the host's own `/dev/pts`.

use std::fmt::Write;

use settings::Settings;

use super::MARKER;

/// The file. It sorts low: a value in a later file counts instead.
pub const FILE: &str = "sysctl.d/60-gha-runner-controller.conf";

/// One of these limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// As sysctl.d(5) writes it. No part of these names has a dot in it.
    pub key: &'static str,
    /// What one container needs at most.
    pub each: u64,
    /// The host's own share.
    pub host: u64,
    /// What is written at least: the most a kernel chooses by itself, on whatever machine, or the most it takes.
    pub least: u64,
}

impl Shared {
    /// What so many containers need beside the host.
    pub fn needed(&self, containers: usize) -> u64 {
        self.each * containers as u64 + self.host
    }

    /// What is written.
    pub fn written(&self, containers: usize) -> u64 {
        self.needed(containers).max(self.least)
    }
}

/// Namespaces of one kind. A kernel grants half as many as it grants threads: one for each 256 KiB of memory, and never
/// more than 2^29. What they take is counted in the memory of the container, so this need not be a limit.
const fn namespaces(key: &'static str) -> Shared {
    Shared { key, each: 4096, host: 4096, least: 1 << 29 }
}

/// What is counted in the memory of the container that takes it. The kernel refuses higher numbers for most of these.
const fn in_memory(key: &'static str, each: u64, host: u64) -> Shared {
    Shared { key, each, host, least: i32::MAX as u64 }
}

/// All of them.
pub const LIMITS: [Shared; 20] = [
    // A container has nine when it is idle. A job gets what a GitHub-hosted runner has, which is what clusters in containers
    // (kind) ask for.
    in_memory("fs.inotify.max_user_instances", 1280, 128),
    // The same.
    in_memory("fs.inotify.max_user_watches", 655_360, 65_536),
    // A machine of one's own has as many.
    in_memory("fs.fanotify.max_user_groups", 128, 128),
    in_memory("fs.fanotify.max_user_marks", 65_536, 65_536),
    // Likewise: a database takes some thousands.
    in_memory("fs.aio-max-nr", 65_536, 65_536),
    // Likewise.
    Shared { key: "kernel.pty.max", each: 4096, host: 4096, least: 4096 },
    // Of each user, so of each user of each container. Docker joins a keyring for each process it starts.
    Shared { key: "kernel.keys.maxkeys", each: 0, host: 20_000, least: 200 },
    Shared { key: "kernel.keys.maxbytes", each: 0, host: 2_000_000, least: 20_000 },
    // Root of a privileged container is the host's.
    Shared { key: "kernel.keys.root_maxkeys", each: 20_000, host: 1_000_000, least: 1_000_000 },
    Shared { key: "kernel.keys.root_maxbytes", each: 2_000_000, host: 25_000_000, least: 25_000_000 },
    // Neighbours in all network namespaces together: the containers themselves, and those of Docker in them.
    Shared { key: "net.ipv4.neigh.default.gc_thresh3", each: 1024, host: 1024, least: 1024 },
    // Of each process, and no job can raise it. Elasticsearch and OpenSearch do not start with less than 262,144; this
    // is what Fedora, Ubuntu and NixOS choose.
    Shared { key: "vm.max_map_count", each: 0, host: 1_048_576, least: 65_530 },
    namespaces("user.max_cgroup_namespaces"),
    namespaces("user.max_ipc_namespaces"),
    namespaces("user.max_mnt_namespaces"),
    namespaces("user.max_net_namespaces"),
    namespaces("user.max_pid_namespaces"),
    namespaces("user.max_time_namespaces"),
    namespaces("user.max_user_namespaces"),
    namespaces("user.max_uts_namespaces"),
];

/// The file's text.
pub fn conf(settings: &Settings) -> String {
    let containers = settings.max_concurrent;
    let mut text = format!(
        "{MARKER}

# What the host and all its containers share, of which there are at most {containers} at once (max_concurrent). These values are
# meant to raise limits, and systemd-sysctl cannot know whether they do. To have more of one, write it into a file that
# sorts behind this one, such as /etc/sysctl.d/70-local.conf: of two values the later file's counts.
"
    );
    for limit in &LIMITS {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} = {}", limit.key, limit.written(containers));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_that_are_documented_are_those_that_are_written() {
        let documented = include_str!("../../docs/configuration.md");
        let (namespaces, others): (Vec<&Shared>, Vec<&Shared>) =
            LIMITS.iter().partition(|limit| limit.key.ends_with("_namespaces"));
        let row = |names: &str, of: &Shared| format!("| {names} | {} | {} | {} |\n", of.each, of.host, of.least);
        let mut rows: Vec<String> = others.iter().map(|limit| row(&format!("`{}`", limit.key), limit)).collect();
        let kinds =
            namespaces.iter().map(|limit| limit.key.trim_end_matches("_namespaces").trim_start_matches("user.max_"));
        let kinds: Vec<String> = kinds.map(|kind| format!("`{kind}`")).collect();
        let names = format!("`{}`, {}", namespaces[0].key, kinds[1..].join(", "));
        rows.push(row(&names, namespaces[0]));
        for row in rows {
            assert!(documented.contains(&row), "{row} is not in docs/configuration.md");
        }
        assert!(namespaces.iter().all(|limit| Shared { key: "", ..**limit } == Shared { key: "", ..*namespaces[0] }));
    }
}
