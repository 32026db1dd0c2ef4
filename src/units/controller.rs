//! The unprivileged daemon's unit and user.

use contract::paths::CONTROL_DIR;
use settings::{Settings, token_file::secret_files};

use super::{MARKER, Places, USER};

/// The unit.
pub fn service(settings: &Settings, places: &Places) -> String {
    let credentials: String = secret_files(settings)
        .iter()
        .map(|file| format!("LoadCredential={}:{}\n", file.credential, file.path.display()))
        .collect();
    let binary = places.binary.display();
    let settings_path = places.settings.display();
    // The default place is systemd's to make; another one must exist, be the user's, and be named.
    let state = settings.state_dir.display();
    let state = match settings.state_dir.strip_prefix("/var/lib") {
        Ok(below) => format!("StateDirectory={}\nStateDirectoryMode=0700", below.display()),
        Err(_) => format!("ReadWritePaths={state}"),
    };
    format!(
        "{MARKER}

[Unit]
Description=Boots a fresh container for each CI job
Wants=gha-runner-launcher.socket gha-runner-firewall.service gha-runner-sweep.service network-online.target
# The one would otherwise start with the first container and make it wait.
Wants=systemd-machined.service gha-runner-prune.path
After=gha-runner-launcher.socket gha-runner-firewall.service gha-runner-sweep.service network-online.target dbus.socket
After=systemd-machined.service
StartLimitIntervalSec=300
StartLimitBurst=20

[Service]
Type=notify
NotifyAccess=main
User={USER}
Group={USER}
ExecStart={binary} run --config {settings_path}
# Root reads secrets that were renewed, as systemd did at the start.
ExecReload=+{binary} sandbox renew --settings {settings_path}
{credentials}# Kept over a restart: containers live on, and what was handed over for them with them.
RuntimeDirectory={USER}
RuntimeDirectoryMode=0750
RuntimeDirectoryPreserve=yes
ReadWritePaths=-{CONTROL_DIR}
{state}
UMask=0077
WatchdogSec=60
TimeoutStartSec=60
TimeoutStopSec=30
Restart=on-failure
RestartSec=2
# Containers are units of their own; nothing of this one outlives it but them.
KillMode=mixed
LimitNOFILE=16384
TasksMax=256
MemoryMax=1G
# A core of this process would hold the token and the App's key.
LimitCORE=0

CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
"
    )
}

/// The group of those who may operate, the user and the group of the same name.
pub fn sysusers(settings: &Settings) -> String {
    let operators = &settings.operators;
    format!("{MARKER}\ng {operators} -\nu {USER} - \"Job container controller\" /var/lib/{USER} -\n")
}
