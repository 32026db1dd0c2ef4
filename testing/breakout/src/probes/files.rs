//! Files, sockets and devices of the host.

use super::shell;
use crate::{Found, Probe, raw, targets};

/// All of them.
pub const PROBES: &[Probe] = &[
    Probe { name: "forge-token", tried: "read the forge's token", run: |_| secret(0) },
    Probe { name: "controller-credentials", tried: "read the controller's credentials", run: |_| secret(1) },
    Probe { name: "hand-over", tried: "read what the controller handed over", run: |_| secret(2) },
    Probe { name: "sandbox-records", tried: "read the sandbox's records", run: |_| secret(3) },
    Probe {
        name: "neighbours-grant",
        tried: "read another job's grant",
        run: |_| shell(&format!("test -s /run/gha-runner-sandbox/{}/grant.json", targets::NEIGHBOUR)),
    },
    Probe {
        name: "neighbours-files",
        tried: "list another container's root",
        run: |_| shell(&format!("ls /var/lib/gha-runner-sandbox/{}/root/etc", targets::NEIGHBOUR)),
    },
    Probe {
        name: "neighbours-events",
        tried: "connect to another guest's event socket",
        run: |_| shell(&format!("ls /run/gha-runner-events/{}", targets::NEIGHBOUR)),
    },
    Probe {
        name: "host-journal",
        tried: "find the host's words in a journal",
        run: |_| shell(&format!("grep -rqa {} /var/log/journal /run/log/journal /run/host 2>&1", targets::SECRET)),
    },
    Probe {
        name: "root-of-init",
        tried: "the host's files by /proc/1/root and by setns",
        run: |_| shell(&format!("test -e /proc/1/root{0} || nsenter -t 1 -m -- test -e {0}", targets::MARKER)),
    },
    Probe {
        name: "root-of-any",
        tried: "the host's files by any process's /proc/PID/root or cwd",
        run: |_| {
            shell(&format!(
                "for p in /proc/[0-9]*; do for d in root cwd; do test -e $p/$d{} && exit 0; done; done; exit 1",
                targets::MARKER
            ))
        },
    },
    Probe {
        name: "open-by-handle",
        tried: "open a file by its handle, past all directories",
        run: |_| {
            let file = "/run/gha-handle";
            let opened = std::fs::write(file, "").and_then(|()| raw::open_by_handle(file));
            let _ = std::fs::remove_file(file);
            Found::of(opened, "opened")
        },
    },
    Probe {
        name: "host-templates",
        tried: "reach the host's directory of templates",
        run: |_| shell("t=$(ls -d /srv/templates/* | head -n 1) && test -d \"$t\" && stat \"$t/etc\""),
    },
    Probe {
        name: "kernel-log-device",
        tried: "open /dev/kmsg, or make it and open it",
        run: |_| device("kmsg", 1, 11),
    },
    Probe {
        name: "block-device",
        tried: "make a block device",
        run: |_| shell("mknod /tmp/gha-block b 7 200; r=$?; rm -f /tmp/gha-block; exit $r"),
    },
    Probe {
        name: "character-device",
        tried: "make and open a device that is on nobody's list (hwrng)",
        run: |_| device("gha-hwrng", 10, 183),
    },
    Probe { name: "tty-device", tried: "make and open the host's console", run: |_| device("gha-console", 5, 1) },
    Probe {
        name: "system-bus",
        tried: "ask the host's systemd for another container's unit",
        run: |_| {
            shell(&format!(
                "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager \
                        GetUnit s gha-runner-{}@{}.service",
                targets::NEIGHBOUR_CLASS,
                targets::NEIGHBOUR
            ))
        },
    },
    Probe {
        name: "start-unit",
        tried: "ask the host's systemd to start a unit",
        run: |_| {
            shell(
                "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager \
               StartUnit ss gha-breakout-target.service replace",
            )
        },
    },
    Probe {
        name: "machined",
        tried: "ask machined for another container",
        run: |_| {
            shell(&format!(
                "busctl call org.freedesktop.machine1 /org/freedesktop/machine1 org.freedesktop.machine1.Manager \
                        GetMachine s {}",
                targets::NEIGHBOUR
            ))
        },
    },
    Probe {
        name: "machined-open",
        tried: "ask machined for the leader of another container",
        run: |_| {
            shell(&format!(
                "busctl get-property org.freedesktop.machine1 /org/freedesktop/machine1/machine/{} \
                        org.freedesktop.machine1.Machine Leader",
                targets::NEIGHBOUR
            ))
        },
    },
    Probe {
        name: "host-journal-socket",
        tried: "ask the host's journal, through journalctl, for its boot",
        run: |_| shell(&format!("journalctl --no-pager --quiet --merge | grep -q {}", targets::SECRET)),
    },
];

fn secret(index: usize) -> Found {
    let (_, path) = targets::SECRET_FILES[index];
    shell(&format!("grep -q {} {path}", targets::SECRET))
}

/// Opens without reading or writing. A device that the kernel does not have would have been opened.
fn device(name: &str, major: u32, minor: u32) -> Found {
    shell(&format!(
        "for d in /dev/{name} /tmp/{name}; do
            test -e $d || mknod $d c {major} {minor} || continue
            error=$( (: < $d) 2>&1); result=$?
            case $d in /tmp/*) rm -f $d;; esac
            case $error in *'No such device'*|*'No such file or directory'*|*busy*) exit 0;; esac
            test $result = 0 && exit 0
            echo \"$error\" >&2
         done; exit 1"
    ))
}
