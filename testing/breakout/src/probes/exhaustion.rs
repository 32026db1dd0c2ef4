//! Using up what the host has.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use lab::Place;

use super::shell;
use crate::{Found, Probe, raw, targets};

/// All of them.
pub const PROBES: &[Probe] = &[
    Probe { name: "connections", tried: "have four times as many connections as a container may", run: connections },
    Probe { name: "open-files", tried: "raise the limit of open files", run: |_| open_files() },
    Probe {
        name: "event-directory",
        tried: "fill the directory shared with the host",
        run: |_| {
            shell("cd /run/gha-runner-events && head -c 1000000 /dev/zero > gha-fill; r=$?; rm -f gha-fill; exit $r")
        },
    },
    Probe {
        name: "event-inodes",
        tried: "fill it with empty files",
        run: |_| {
            shell(
                "cd /run/gha-runner-events && for i in $(seq 100); do : > gha-$i || { rm -f gha-*; exit 1; }; done; rm -f gha-*",
            )
        },
    },
    Probe { name: "tasks", tried: "more tasks than the class may have", run: |_| limited("pids") },
    Probe { name: "memory", tried: "more memory than the class may have", run: |_| limited("memory") },
    Probe {
        name: "disk",
        tried: "more disk than the class may have",
        run: |_| shell("head -c 100M /dev/zero > /var/tmp/gha-fill; r=$?; rm -f /var/tmp/gha-fill; exit $r"),
    },
    Probe {
        name: "inodes",
        tried: "more files than the class may have",
        run: |_| {
            shell(
                "mkdir /var/tmp/gha-many && cd /var/tmp/gha-many && seq 20000 | xargs touch; r=$?; rm -rf /var/tmp/gha-many; exit $r",
            )
        },
    },
];

fn open_files() -> Found {
    // CAP_SYS_RESOURCE. A lab may run on a machine that itself does not have it, which shows where there is no fence.
    let bounding = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = bounding.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapBnd:")?.trim(), 16).ok());
    let may = bounding.is_some_and(|set| set & (1 << 24) != 0);
    if !may && Path::new(targets::MARKER).exists() {
        return Found::skipped("this machine itself may not raise it");
    }
    Found::of(raw::more_files(), "raised")
}

fn connections(word: &str) -> Found {
    let count = || -> io::Result<usize> {
        let target = (targets::address(Place::Internet), 80);
        let sockets = (0..4 * targets::CONNECTIONS)
            .map(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
            .collect::<io::Result<Vec<_>>>()?;
        for socket in &sockets {
            socket.set_nonblocking(true)?;
            // Refused by the fence or sent; the answers are what counts.
            let _ = socket.send_to(word.as_bytes(), target);
        }
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut answered = vec![false; sockets.len()];
        while Instant::now() < deadline && answered.contains(&false) {
            for (socket, answered) in sockets.iter().zip(&mut answered) {
                *answered |= match socket.recv(&mut [0; 64]) {
                    Ok(_) => true,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                    Err(_) => false,
                };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(answered.iter().filter(|answered| **answered).count())
    };
    match count() {
        Ok(count) if count > targets::CONNECTIONS => Found::succeeded(format!("{count} were answered")),
        Ok(count) => Found::refused(format!("{count} were answered")),
        Err(error) => Found::skipped(error),
    }
}

/// Whether the kernel counts it here at all. The machine's control groups decide, not the container's.
fn limited(controller: &str) -> Found {
    let offered = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if offered.split_whitespace().any(|found| found == controller) {
        return Found::skipped(format!("left to the virtual machine, which enforces {controller}"));
    }
    Found::skipped(format!("this machine's control groups do not offer {controller}; the virtual machine's do"))
}
