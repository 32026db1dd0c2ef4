//! The capabilities and system calls a container has, each with its reason: the one place where they are decided.
//!
//! systemd-nspawn's defaults (systemd-nspawn(1), `--capability=`, `--system-call-filter=`) are the beginning; nothing
//! beyond them is kept unless Docker needs it, and what neither a job nor Docker has a use for is dropped. In a user
//! namespace a capability counts only for what the namespace owns, so this is the second line, not the first.

use std::{ffi::OsString, fmt::Write};

/// Which containers have a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptBy {
    /// All of them.
    Always,
    /// Those whose class has Docker.
    Docker,
    /// Those whose class has Docker and a user namespace.
    DockerUnprivileged,
    /// None.
    Never,
}

use KeptBy::{Always, Docker, DockerUnprivileged, Never};

/// Every capability of systemd-nspawn's default set.
pub const CAPABILITIES: [(&str, KeptBy, &str); 27] = [
    ("CAP_AUDIT_CONTROL", Never, "the audit subsystem is the host's"),
    ("CAP_AUDIT_WRITE", Docker, "asked for by `docker run`; sudo and PAM do without"),
    ("CAP_CHOWN", Always, "package managers, tar, sudo"),
    ("CAP_DAC_OVERRIDE", Always, "root inside is expected to write any file inside"),
    ("CAP_DAC_READ_SEARCH", DockerUnprivileged, "opens files by handle: a way out where root is the host's"),
    ("CAP_FOWNER", Always, "package managers, tar"),
    ("CAP_FSETID", Always, "package managers, tar"),
    ("CAP_IPC_OWNER", Never, "no job needs others' System V objects"),
    ("CAP_KILL", Always, "root and systemd inside end what others started"),
    ("CAP_LEASE", Never, "file leases: file servers only"),
    ("CAP_LINUX_IMMUTABLE", Never, "honoured on the host alone, where it would keep teardown from removing files"),
    ("CAP_MKNOD", Docker, "asked for by `docker run`; the kernel or the device list refuses each device"),
    (
        "CAP_NET_ADMIN",
        Always,
        "the guest addresses its link; Docker makes bridges and rules, in the container's own network",
    ),
    ("CAP_NET_BIND_SERVICE", Always, "test servers on ports below 1024"),
    ("CAP_NET_BROADCAST", Never, "the kernel does not ask for it"),
    ("CAP_NET_RAW", Always, "ping; what it forges the fence drops"),
    ("CAP_SETFCAP", Always, "packages and images with file capabilities"),
    ("CAP_SETGID", Always, "sudo, systemd"),
    ("CAP_SETPCAP", Always, "systemd and Docker drop capabilities of what they start"),
    ("CAP_SETUID", Always, "sudo, systemd"),
    ("CAP_SYS_ADMIN", Always, "systemd inside mounts and makes control groups and namespaces; Docker likewise"),
    ("CAP_SYS_BOOT", Always, "ends the container, and nothing else: the host's process namespace is not its own"),
    ("CAP_SYS_CHROOT", Always, "build tools, Nix, Docker"),
    ("CAP_SYS_NICE", Always, "schedulers of test programs; bounded by the control group"),
    ("CAP_SYS_PTRACE", Always, "debuggers; sees the container's processes only"),
    ("CAP_SYS_RESOURCE", Always, "systemd and sudo set limits of what they start; bounded by the control group"),
    ("CAP_SYS_TTY_CONFIG", Never, "there is no terminal"),
];

/// What `docker run --privileged` asks for: all that there are. Given in a user namespace only.
const ALL: &str = "all";

/// System calls beyond systemd-nspawn's list.
pub const ALLOWED_CALLS: [(&str, KeptBy, &str); 1] =
    [("@keyring", Docker, "runc gives each container a session keyring; keyrings belong to a user namespace")];

/// System calls no container may make, whatever its capabilities would bring along.
pub const REFUSED_CALLS: [(&str, &str); 11] = [
    ("@clock", "the clock is the host's"),
    ("@cpu-emulation", "nothing but an attack surface"),
    ("@module", "the kernel is the host's"),
    ("@obsolete", "nothing but an attack surface"),
    ("@raw-io", "the machine is the host's"),
    ("@swap", "swap is the host's"),
    ("acct", "accounting is the host's"),
    ("io_uring_enter", "as `io_uring_setup`"),
    ("io_uring_register", "as `io_uring_setup`"),
    ("io_uring_setup", "its operations pass by every other filter of system calls; programs fall back to epoll"),
    ("syslog", "the kernel's log is the host's"),
];

/// The options of systemd-nspawn that say so.
pub fn options(docker: bool, privileged: bool) -> Vec<OsString> {
    let has = |kept: KeptBy| match kept {
        Always => true,
        Docker => docker,
        DockerUnprivileged => docker && !privileged,
        Never => false,
    };
    let mut options = Vec::new();
    if docker && !privileged {
        options.push(format!("--capability={ALL}").into());
    } else {
        let dropped: Vec<&str> =
            CAPABILITIES.iter().filter(|(_, kept, _)| !has(*kept)).map(|(name, ..)| *name).collect();
        options.push(format!("--drop-capability={}", dropped.join(",")).into());
    }
    let allowed = ALLOWED_CALLS.iter().filter(|(_, kept, _)| has(*kept)).map(|(calls, ..)| (*calls).to_owned());
    let refused = REFUSED_CALLS.iter().map(|(calls, _)| format!("~{calls}"));
    options.extend(allowed.chain(refused).map(|calls| format!("--system-call-filter={calls}").into()));
    options
}

/// The tables of docs/security.md, which a test compares.
pub fn tables() -> String {
    let mut text = String::from("| capability | kept | why |\n|---|---|---|\n");
    let kept = |kept: KeptBy| match kept {
        Always => "yes",
        Docker => "with Docker",
        DockerUnprivileged => "with Docker, in a user namespace",
        Never => "no",
    };
    // Writing to a String does not fail.
    for (name, when, why) in CAPABILITIES {
        let _ = writeln!(text, "| `{name}` | {} | {why} |", kept(when));
    }
    let _ = writeln!(
        text,
        "| all others | {} | `docker run --privileged` asks for all; the kernel bounds them there |",
        kept(DockerUnprivileged)
    );
    text.push_str("\n| system calls | may be made | why |\n|---|---|---|\n");
    for (calls, when, why) in ALLOWED_CALLS {
        let _ = writeln!(text, "| `{calls}` | {} | {why} |", kept(when));
    }
    for (calls, why) in REFUSED_CALLS {
        let _ = writeln!(text, "| `{calls}` | no | {why} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_what_the_program_gives() {
        let documented = include_str!("../../../docs/security.md");
        assert!(documented.contains(&tables()), "put this into docs/security.md:\n{}", tables());
    }

    #[test]
    fn only_docker_in_a_user_namespace_gets_more_than_the_list() {
        let text = |docker, privileged| format!("{:?}", options(docker, privileged));
        assert!(text(true, false).contains("--capability=all"));
        for (docker, privileged) in [(false, false), (false, true), (true, true)] {
            let options = text(docker, privileged);
            assert!(!options.contains("--capability="), "{options}");
            assert!(options.contains("CAP_LEASE") && options.contains("CAP_DAC_READ_SEARCH"), "{options}");
            assert_eq!(options.contains("CAP_MKNOD"), !docker, "{options}");
            assert_eq!(options.contains("@keyring"), docker, "{options}");
        }
        for (calls, _) in REFUSED_CALLS {
            assert!(
                [(true, false), (true, true), (false, false)]
                    .iter()
                    .all(|(d, p)| text(*d, *p).contains(&format!("~{calls}")))
            );
        }
    }
}
