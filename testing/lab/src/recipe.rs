//! What a tree is made of.

use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, ensure};

use crate::suite::Suite;

/// The first line of every recipe in docs/templates.md.
const DOCUMENTED_FIRST: &str = "SUITE=trixie T=/var/lib/machines/gha-runner";

/// How to build one Debian tree. Changing anything in it, or in its script, gives a new tree.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// Names the tree's directory.
    pub name: &'static str,
    /// Debian packages beyond the minimal base; none = the script builds the tree by itself.
    pub packages: &'static [&'static str],
    /// Shell script that finishes the tree; its first argument is the tree.
    pub script: &'static str,
    /// The release it is of; `None` for the same as this machine.
    pub suite: Option<Suite>,
}

impl Recipe {
    /// The host: what a small server with systemd has.
    pub const HOST: Self = Self {
        name: "host",
        packages: &[
            "systemd",
            "systemd-sysv",
            "systemd-container",
            "dbus",
            "polkitd",
            "udev",
            "iproute2",
            "nftables",
            "procps",
            "util-linux",
            "mount",
            "e2fsprogs",
            "ca-certificates",
            "curl",
            "jq",
            "perl-base",
        ],
        script: concat!(include_str!("scripts/host-tree.sh"), include_str!("scripts/box-tree.sh")),
        suite: None,
    };

    /// The same as a virtual machine, with Debian's kernel.
    pub const MACHINE: Self = Self {
        name: "machine",
        packages: &[
            "systemd",
            "systemd-sysv",
            "systemd-container",
            "dbus",
            "polkitd",
            "udev",
            "iproute2",
            "nftables",
            "procps",
            "util-linux",
            "mount",
            "e2fsprogs",
            "jq",
            "perl-base",
            "linux-image-cloud-amd64",
        ],
        script: concat!(include_str!("scripts/host-tree.sh"), include_str!("scripts/machine-tree.sh")),
        suite: None,
    };

    /// The job template: what a job runs in.
    pub const JOB: Self = Self {
        name: "job",
        packages: &[
            "systemd",
            "systemd-sysv",
            "dbus",
            "bash",
            "coreutils",
            "iproute2",
            "procps",
            "util-linux",
            "curl",
            "ca-certificates",
            "git",
            "sudo",
        ],
        script: include_str!("scripts/job-tree.sh"),
        suite: None,
    };

    /// The same with Docker in it, started on first use, and what images can be made of without a registry; and a
    /// registry, which no job starts.
    pub const DOCKER: Self = Self {
        name: "docker",
        packages: &[
            "systemd",
            "systemd-sysv",
            "dbus",
            "bash",
            "coreutils",
            "iproute2",
            "procps",
            "util-linux",
            "curl",
            "ca-certificates",
            "git",
            "sudo",
            "docker.io",
            // A package of its own since trixie.
            "?exact-name(docker-cli)",
            "docker-compose",
            "docker-registry",
            "busybox-static",
        ],
        script: concat!(include_str!("scripts/job-tree.sh"), include_str!("scripts/docker-tree.sh")),
        suite: None,
    };

    /// The same with Nix in it; the host's store that its database knows lies at `/srv/host-nix/nix/store`.
    pub const NIX: Self = Self {
        name: "nix",
        packages: &[
            "systemd",
            "systemd-sysv",
            "dbus",
            "bash",
            "coreutils",
            "iproute2",
            "procps",
            "util-linux",
            "ca-certificates",
            "git",
            "sudo",
            "nix-bin",
            "nix-setup-systemd",
            "busybox-static",
        ],
        script: concat!(include_str!("scripts/job-tree.sh"), include_str!("scripts/nix-tree.sh")),
        suite: None,
    };

    /// The tree that a recipe of docs/templates.md builds, to the letter but for its first line, which says what to build
    /// and where, and for what a test puts there itself; `name` is the recipe's there: `full` or `minimal`.
    pub fn documented(name: &'static str, suite: Suite) -> anyhow::Result<Self> {
        let heading = format!("### The {name} recipe\n");
        let text = include_str!("../../../docs/templates.md");
        let block = text.split_once(&heading).and_then(|(_, rest)| rest.split("```\n").nth(1));
        let block = block.with_context(|| format!("docs/templates.md has no {name} recipe"))?;
        let (first, steps) = block.split_once('\n').context("the recipe has one line")?;
        ensure!(first == DOCUMENTED_FIRST, "the recipe begins with {first:?}");
        let script = format!("SUITE={suite} T=$1\n{steps}\n{}", include_str!("scripts/documented-tree.sh"));
        Ok(Self { name, packages: &[], script: script.leak(), suite: Some(suite) })
    }

    /// The same of this release.
    #[must_use]
    pub const fn of(self, suite: Suite) -> Self {
        Self { suite: Some(suite), ..self }
    }

    /// The same, of this release if it names none itself.
    pub(crate) fn or(self, suite: Option<Suite>) -> Self {
        Self { suite: self.suite.or(suite), ..self }
    }

    /// Names what a tree is built from, but for the release: the same recipe with the same release has the same one.
    #[must_use]
    pub(crate) fn key(&self) -> String {
        // The hasher's result may change with the compiler; then a tree is built once more.
        let mut hasher = DefaultHasher::new();
        (self.name, self.packages, self.script).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_package_gives_another_tree() {
        let more = Recipe { packages: &["docker.io"], ..Recipe::JOB };
        assert_ne!(more.key(), Recipe::JOB.key());
        assert_eq!(Recipe::JOB.key(), Recipe::JOB.key());
    }
}
