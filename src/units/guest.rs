//! The unit inside the container, for whoever builds a template.

use std::path::Path;

use contract::{
    event::GuestExit,
    guest_settings::{GRANT_CREDENTIAL, SETTINGS_CREDENTIAL},
};

use super::MARKER;

/// Where a template keeps this program unless its builder says otherwise.
pub const PROGRAM: &str = "/usr/lib/gha-runner-controller/gha-runner-controller";

/// The unit; `binary` is this program's path inside the container.
///
/// It starts with the first units there are and takes the container down with it, whichever way it ends.
pub fn unit(binary: &Path) -> String {
    let binary = binary.display();
    let own: Vec<String> =
        GuestExit::ALL.iter().map(|exit| exit.code()).filter(|code| *code != 0).map(|code| code.to_string()).collect();
    let own = own.join(" ");
    format!(
        "{MARKER}

[Unit]
Description=Job of this container
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
# What starts on first use is not waited for, and when the container is stopped it outlives the job that uses it.
After=docker.service containerd.service nix-daemon.service
ConditionVirtualization=container
SuccessAction=exit-force
FailureAction=exit-force

[Service]
Type=exec
ExecStart={binary} guest
LoadCredential={GRANT_CREDENTIAL}
LoadCredential={SETTINGS_CREDENTIAL}
# What the guest says by them is no failure of this unit, after which systemd 258 and newer keeps the container for
# five seconds more. Either action takes the status to the host.
SuccessExitStatus={own}
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
# The runner is asked first and gets 60 seconds; what is left is killed.
KillMode=mixed
TimeoutStopSec=75
# A process of the job that runs out of memory is the job's business.
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=524288
Delegate=yes

[Install]
WantedBy=basic.target
"
    )
}
