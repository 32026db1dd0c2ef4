//! What a tree is made of.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::suite::Suite;

/// How to build one Debian tree. Changing anything in it, or in its script, gives a new tree.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// Names the tree's directory.
    pub name: &'static str,
    /// Debian packages beyond the minimal base.
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

    /// The template that docs/templates.md builds, but for what a test puts there itself: nothing is masked in it.
    pub const DOCUMENTED: Self = Self {
        name: "documented",
        packages: &[
            "systemd",
            "systemd-sysv",
            "dbus",
            "iproute2",
            "sudo",
            "git",
            "curl",
            "ca-certificates",
            "jq",
            "libicu72",
        ],
        script: include_str!("scripts/documented-tree.sh"),
        suite: Some(Suite::Bookworm),
    };

    /// The same with Docker in it, started on first use, and what images can be made of without a registry.
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
