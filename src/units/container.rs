//! The template unit of a class: one instance is one container.

use std::time::Duration;

use contract::unit_name::{JOURNAL_NAMESPACE, class_slice};
use sandbox::{devices, gpu, nspawn::MOST_FILES};
use settings::{Class, Settings};

use super::{MARKER, Places, limits};

/// How long a container may take to stop: what the guest grants the runner
/// ([`STOP_PATIENCE`](contract::guest_settings::STOP_PATIENCE)), and time for the container's own end.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// systemd-nspawn's own units have this value.
const DEFAULT_TASKS: u64 = 16_384;
/// Least time to prepare and start, whatever the settings say of the whole boot.
const START_TIMEOUT_MIN: Duration = Duration::from_secs(60);

/// The unit.
pub fn service(settings: &Settings, class: &Class, places: &Places) -> String {
    let binary = places.binary.display();
    let step = |step: &str| {
        format!("{binary} sandbox {step} --settings {} --class {} %i", places.settings.display(), class.name)
    };
    let (prepare, run, teardown) = (step("prepare"), step("run"), step("teardown"));
    let start = settings.boot_timeout.max(START_TIMEOUT_MIN).as_secs();
    let limits = limits::directives(&class.limits(), Some(DEFAULT_TASKS));
    let devices = device_list(class);
    let name = &class.name;
    let slice = class_slice(name);
    let runtime = settings.longest_life(class).as_secs();
    let stop = STOP_TIMEOUT.as_secs();
    let files = MOST_FILES;
    format!(
        "{MARKER}

[Unit]
Description=Job container %i (class {name})
# The firewall is wanted, not required: a container without its table does not start (prepare looks), and replacing or
# restarting that unit must not stop jobs.
Wants=gha-runner-firewall.service gha-runner-sweep.service
After=gha-runner-firewall.service gha-runner-sweep.service network.target
# It ends by itself when no machine is left; so it starts again beside prepare, and not only when systemd-nspawn asks.
Wants=systemd-machined.service
# Every container is a unit of its own that starts once; the controller decides how often.
StartLimitIntervalSec=0
CollectMode=inactive-or-failed
# A new version of this file, or its absence, is for the next container: what NixOS does when it switches to another
# configuration (switch-to-configuration reads each word in the section where it stands here).
X-StopOnRemoval=false

[Service]
X-RestartIfChanged=false
X-StopIfChanged=false
Type=notify
NotifyAccess=main
ExecStartPre={prepare}
ExecStart={run}
ExecStopPost={teardown}
Slice={slice}
KillMode=mixed
Delegate=yes
# The job's own limit counts from its start: controller and guest keep it. This one holds without either.
RuntimeMaxSec={runtime}
TimeoutStartSec={start}
TimeoutStopSec={stop}
# The container's control groups and /proc/sys/net are its own business, and its /tmp is disk like the rest.
Environment=SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network SYSTEMD_NSPAWN_TMPFS_TMP=0
DevicePolicy=closed
DeviceAllow=char-pts rw
# Newer versions of systemd-nspawn make these nodes and refuse to go on where they may not; nothing inside opens them.
DeviceAllow=/dev/net/tun m
DeviceAllow=/dev/fuse m
{devices}# Out of memory: end in good order, so that the runner can still report, and with a cause (Result=oom-kill).
OOMPolicy=stop
OOMScoreAdjust=500
# What the container may hand on, and no more than that.
LimitNOFILE={files}
LimitMEMLOCK=infinity
# Families of sockets that builds use; all others are the kernel's least tried code. What systemd-nspawn does needs no more.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
# A job's lines come by the console: they choose neither their own priority nor to flood the journal. They have a
# journal to themselves, so that no job drives older lines out of the host's.
LogNamespace={JOURNAL_NAMESPACE}
SyslogIdentifier=gha-runner-%i
SyslogLevelPrefix=no
LogRateLimitIntervalSec=10s
LogRateLimitBurst=50000
{limits}"
    )
}

/// Devices beyond the usual ones. The rules are the whole unit's. Loop devices are for *prepare*: the container could use
/// them as well if it had them, but there is no such node in it, and nobody in a user namespace can make one.
fn device_list(class: &Class) -> String {
    let mut lines = String::new();
    if class.uses_loop_devices() {
        lines.push_str("DeviceAllow=/dev/loop-control rw\nDeviceAllow=block-loop rw\n");
    }
    lines.push_str(&devices::device_allow(&class.devices));
    lines.extend(gpu::device_allow(&class.gpu).into_iter().map(|line| line + "\n"));
    lines
}
