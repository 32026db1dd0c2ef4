//! Processes of the host and of other containers.

use super::shell;
use crate::{Found, Probe, targets};

/// All of them.
pub const PROBES: &[Probe] = &[
    Probe { name: "see-host-process", tried: "find a process of the host by its name", run: |_| victim("true") },
    Probe {
        name: "signal-host-process",
        tried: "signal a process of the host (with signal 0)",
        run: |_| victim("kill -0 $p"),
    },
    Probe {
        name: "environment",
        tried: "read the environment of a process of the host",
        run: |_| victim("head -c 1 /proc/$p/environ | grep -q ."),
    },
    Probe {
        name: "enter-host-process",
        tried: "enter the network of a process of the host",
        run: |_| victim("nsenter -t $p -n true"),
    },
    Probe {
        name: "enter-pid-namespace",
        tried: "enter the process namespace of a process of the host",
        run: |_| victim("nsenter -t $p -p true"),
    },
    Probe {
        name: "see-neighbour",
        tried: "find the processes of another container",
        run: |_| shell("pgrep -f '[b]reakout-probe neighbour'"),
    },
    Probe {
        name: "signal-neighbour",
        tried: "signal them (with signal 0)",
        run: |_| shell("p=$(pgrep -f '[b]reakout-probe neighbour' | head -n 1) && kill -0 $p"),
    },
    Probe {
        name: "priority",
        tried: "raise the priority of a process of the host (to what it is)",
        run: |_| victim("renice -n 0 -p $p"),
    },
];

fn victim(action: &str) -> Found {
    shell(&format!("for p in $(pgrep -x {}); do {action} && exit 0; done; exit 1", targets::VICTIM))
}
