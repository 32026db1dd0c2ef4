//! The launcher: root's side of the one socket by which the controller starts and stops containers.

use contract::order::LAUNCHER_SOCKET;

use super::{MARKER, Places, USER};

/// The socket. Nobody but root and the controller's user, the only one in its group, may connect.
pub fn socket() -> String {
    format!(
        "{MARKER}

[Unit]
Description=Orders of the job container controller

[Socket]
ListenStream={LAUNCHER_SOCKET}
# Root's, so that its mode is not the controller's to change.
SocketUser=root
SocketGroup={USER}
SocketMode=0660
"
    )
}

/// The program behind it: started by the first order, it ends when no more come.
pub fn service(places: &Places) -> String {
    let launch = format!("{} sandbox launch --settings {}", places.binary.display(), places.settings.display());
    format!(
        "{MARKER}

[Unit]
Description=Starts and stops job containers for the controller
Requires=gha-runner-launcher.socket
# It ends and starts all the time; the socket limits how often.
StartLimitIntervalSec=0

[Service]
# An order that is being carried out is carried out to its end; the next one meets the new program (NixOS).
X-RestartIfChanged=false
ExecStart={launch}
StandardInput=socket
StandardOutput=journal
StandardError=journal
TimeoutStopSec=30
MemoryMax=128M
TasksMax=16

CapabilityBoundingSet=
IPAddressDeny=any
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateNetwork=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
"
    )
}
