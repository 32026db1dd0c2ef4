//! The kernel's own doors: tunables, modules, mounts, control groups, keyrings.

use super::shell;
use crate::{Found, Probe, raw, targets};

/// All of them.
pub const PROBES: &[Probe] = &[
    Probe {
        name: "tunable",
        tried: "write back /proc/sys/kernel/core_pattern, remounted or on a new proc",
        run: |_| tunable("sys/kernel/core_pattern"),
    },
    Probe {
        name: "tunable-vm",
        tried: "write back /proc/sys/vm/overcommit_memory, likewise",
        run: |_| tunable("sys/vm/overcommit_memory"),
    },
    Probe {
        name: "sysrq",
        tried: "open /proc/sysrq-trigger for writing, likewise",
        run: |_| of_kernel("/proc/sysrq-trigger", || in_proc(": >> $p/sysrq-trigger")),
    },
    Probe {
        name: "kcore",
        tried: "open the machine's memory, /proc/kcore, likewise",
        run: |_| of_kernel("/proc/kcore", || in_proc(": < $p/kcore")),
    },
    Probe {
        name: "kmsg",
        tried: "open the kernel's log, /proc/kmsg, likewise",
        run: |_| in_proc("test ! -p $p/kmsg && : < $p/kmsg"),
    },
    Probe {
        name: "kernel-log",
        tried: "ask for the kernel's log by syslog(2)",
        run: |_| Found::of(raw::kernel_log(), "answered"),
    },
    Probe {
        name: "sysfs",
        tried: "open a switch in /sys for writing, remounted or on a sysfs of one's own",
        run: |_| {
            shell(
                "f=kernel/mm/transparent_hugepage/enabled; (: >> /sys/$f) && exit 0
               mount -o remount,bind,rw /sys && (: >> /sys/$f) && exit 0
               mkdir -p /tmp/gha-sys; mount -t sysfs sysfs /tmp/gha-sys || exit 1; mount -o remount,rw /tmp/gha-sys
               (: >> /tmp/gha-sys/$f); r=$?; umount /tmp/gha-sys; exit $r",
            )
        },
    },
    Probe {
        name: "module",
        tried: "load a kernel module",
        run: |_| of_kernel("/proc/modules", || Found::of(raw::load_module(), "the kernel looked at it")),
    },
    Probe {
        name: "clock",
        tried: "adjust the machine's clock (by nothing)",
        run: |_| Found::of(raw::set_clock(), "adjusted"),
    },
    Probe { name: "io-uring", tried: "make an io_uring", run: |_| Found::of(raw::io_uring(), "made") },
    Probe { name: "family-vsock", tried: "open a socket to the hypervisor (VSOCK)", run: |_| family("AF_VSOCK", 40) },
    Probe { name: "family-alg", tried: "open a socket to the kernel's ciphers (ALG)", run: |_| family("ALG", 38) },
    Probe { name: "family-rxrpc", tried: "open a socket of the family RXRPC", run: |_| family("RXRPC", 33) },
    Probe { name: "family-key", tried: "open a socket to IPsec's keys (KEY)", run: |_| family("KEY", 15) },
    Probe { name: "family-tipc", tried: "open a socket of the family TIPC", run: |_| family("TIPC", 30) },
    Probe { name: "bpf", tried: "make a BPF map", run: |_| Found::of(raw::bpf(), "made") },
    Probe { name: "mount-debugfs", tried: "mount the kernel's debug file system", run: |_| mount("debugfs") },
    Probe { name: "mount-tracefs", tried: "mount the kernel's trace file system", run: |_| mount("tracefs") },
    Probe { name: "mount-securityfs", tried: "mount the security modules' file system", run: |_| mount("securityfs") },
    Probe {
        name: "mount-in-nested",
        tried: "mount debugfs in a nested user namespace",
        run: |_| {
            shell(
                "mkdir -p /tmp/gha-n; unshare -Urm mount -t debugfs x /tmp/gha-n || mount -t debugfs x /tmp/gha-n && umount /tmp/gha-n",
            )
        },
    },
    Probe {
        name: "mount-spreads",
        tried: "mount something that the host then sees",
        run: |word| match shell(&format!(
            "mkdir -p /run/gha-spread && mount --make-rshared / ; mount -t tmpfs -o size=4k {word} /run/gha-spread"
        )) {
            Found { outcome: crate::Outcome::Succeeded, seen } => Found::witness(word, seen),
            refused => refused,
        },
    },
    Probe {
        name: "cgroup-sibling",
        tried: "find another container's control group, on a mount of one's own too",
        run: |_| {
            shell(&format!("mkdir -p /tmp/gha-cg; mount -t cgroup2 cgroup2 /tmp/gha-cg
                        d=$(find /sys/fs/cgroup /tmp/gha-cg -type d -name '*{}*' 2>/dev/null | head -n 1); umount /tmp/gha-cg
                        test -n \"$d\" && echo $d", targets::NEIGHBOUR))
        },
    },
    Probe {
        name: "cgroup-freeze",
        tried: "write to the control group the container is in, from above",
        run: |_| {
            shell(
                "f=$(find /sys/fs/cgroup -maxdepth 3 -name cgroup.freeze -path '*gha-runner.slice*' | head -n 1)
               test -n \"$f\" && echo 0 > $f",
            )
        },
    },
    Probe {
        name: "cgroup-depth",
        tried: "make control groups in each other, 64 deep",
        run: |_| {
            in_own_group(
                "for i in $(seq 64); do mkdir gha-d || break; cd gha-d; done; n=$(pwd -P | grep -o gha-d | wc -l)
                 while [ \"$(pwd -P)\" != \"$own\" ]; do d=$(pwd -P); cd \"${d%/*}\"; rmdir \"$d\"; done; test $n -eq 64",
            )
        },
    },
    Probe {
        name: "cgroup-number",
        tried: "make 6,000 control groups",
        run: |_| {
            in_own_group(
                "seq -f gha-%.0f 6000 | xargs mkdir; n=$(ls -d gha-* | wc -l); ls -d gha-* | xargs rmdir; test $n -eq 6000",
            )
        },
    },
    Probe {
        name: "keyring",
        tried: "find a key of the host's root",
        run: |_| Found::of(raw::find_key(targets::KEY), "found"),
    },
    Probe {
        name: "keys-listing",
        tried: "find that key in /proc/keys",
        run: |_| shell(&format!("grep -q {} /proc/keys", targets::KEY)),
    },
    Probe {
        name: "shared-memory",
        tried: "find shared memory of the host",
        run: |_| Found::of(raw::shared_memory(targets::SHARED_MEMORY, false), "found"),
    },
];

/// On the container's own proc as it is, after a remount, and on a new one.
fn in_proc(action: &str) -> Found {
    shell(&format!(
        "try() {{ p=$1; ({action}); }}
         try /proc && exit 0
         mount -o remount,bind,rw /proc/sys; mount -o remount,bind,rw /proc/sysrq-trigger; try /proc && exit 0
         mkdir -p /tmp/gha-proc; mount -t proc proc /tmp/gha-proc || exit 1
         try /tmp/gha-proc; r=$?; umount /tmp/gha-proc; exit $r"
    ))
}

/// A family that the kernel has not loaded proves nothing: it refuses everybody.
fn family(protocol: &str, number: i32) -> Found {
    let protocols = std::fs::read_to_string("/proc/net/protocols").unwrap_or_default();
    match protocols.lines().any(|line| line.split_whitespace().next() == Some(protocol)) {
        true => Found::of(raw::open_family(number), "opened"),
        false => Found::skipped(format!("this kernel has not loaded {protocol}")),
    }
}

/// In the control group this process is in.
fn in_own_group(action: &str) -> Found {
    shell(&format!("cd /sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup) || exit 1; own=$(pwd -P); {action}"))
}

/// Not every kernel has everything.
fn of_kernel(path: &str, action: impl Fn() -> Found) -> Found {
    match std::path::Path::new(path).exists() {
        true => action(),
        false => Found::skipped(format!("this kernel has no {path}")),
    }
}

fn tunable(path: &str) -> Found {
    in_proc(&format!("v=$(cat $p/{path}) && echo \"$v\" > $p/{path}"))
}

fn mount(kind: &str) -> Found {
    shell(&format!("mkdir -p /tmp/gha-fs; mount -t {kind} x /tmp/gha-fs && umount /tmp/gha-fs"))
}
