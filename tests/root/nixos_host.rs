//! A NixOS host with the module, built of a nixpkgs with Debian's programs (tests/nix/host), in the lab beside the
//! simulated GitHub. Only where it was built: `make nixos-host NIXPKGS=TREE`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{env, time::Duration};

use github_sim::ControlClient;
use lab::{Lab, LabConfig, Recipe};
use stage::{SERVICE, Stage, StageConfig, TOKEN, scenario::Scenario};

/// The host's tree: next to nothing. `$system` is what was built; systemd-nspawn wants the rest.
const TREE: &str = r#"
    mkdir -p "$1/etc" "$1/sbin" "$1/usr/local" "$1/var/lib/secrets" "$1/nix/store" "$1/srv/templates" "$1/root"
    : >"$1/etc/os-release"
    ln -s "$system/init" "$1/sbin/init"
    ln -s /run/current-system/sw/bin "$1/usr/local/bin"
    printf %s "$token" >"$1/var/lib/secrets/github-token"
    chmod 600 "$1/var/lib/secrets/github-token"
"#;

/// Switches the host to what it booted, or to another configuration beside it.
fn switch(name: &str) -> String {
    let of = if name.is_empty() { String::new() } else { format!("/specialisation/{name}") };
    format!("/run/booted-system{of}/bin/switch-to-configuration test 2>&1")
}

#[test]
fn a_nixos_host_serves_jobs_through_switches_restarts_and_a_lost_power() {
    let (Ok(system), Ok(_)) = (env::var("GHA_LAB_HOST_SYSTEM"), env::var("GHA_LAB_STORE")) else {
        println!("skipped: no NixOS host was built for it (make nixos-host NIXPKGS=TREE)");
        return;
    };
    let script = format!("system={system} token={TOKEN}\n{TREE}").leak();
    let host = Recipe { name: "nixos-host", packages: &[], script, suite: None };
    let mut lab = Lab::boot(LabConfig { host, ..LabConfig::default() }).unwrap();
    let losing = StageConfig { simulator: vec!["--hurry".into(), "300".into()], ..StageConfig::default() };
    let socket = lab.shared().join("hub.sock");
    let _simulator = Stage::start_simulator(&lab, &losing, &socket).unwrap();
    let hub = ControlClient::connect_within(&socket, Duration::from_secs(10)).unwrap();
    let up = "for i in $(seq 300); do systemctl is-active -q gha-runner-controller && exit; sleep 0.1; done; exit 1";
    lab.shell(up).unwrap();
    println!("ok: {}", lab.shell("echo $(. /etc/os-release; echo $PRETTY_NAME) is up").unwrap());
    {
        let play = Scenario { hub: &hub, host: &lab };
        play.job().unwrap();
        println!("ok: a job, and the next one knows nothing of it");
        play.secrets(TOKEN).unwrap();
        println!("ok: the token shows to nobody but the controller");
        play.fence().unwrap();
        println!("ok: a job reaches neither the host nor the metadata of a cloud");
        play.inside().unwrap();
        println!("ok: sudo, tools, nix build, #!/bin/bash, nix-ld and Docker inside");
        for (what, command) in [
            ("a switch that changes its class", switch("changed")),
            ("a switch that removes its class", switch("without")),
            ("the module disabled and enabled", format!("{} && {}", switch("off"), switch(""))),
            ("a restart of the controller", format!("systemctl restart {SERVICE}")),
            ("a restart of D-Bus", "systemctl restart dbus.service || systemctl restart dbus-broker.service".into()),
        ] {
            play.undisturbed(&play.usual(), |_| lab.shell(&command)).unwrap();
            lab.shell(&switch("")).unwrap();
            play.nothing_left().unwrap();
            println!("ok: {what}, under a job that does not notice");
        }
        play.endless().unwrap();
    }
    lab.pull_the_plug().unwrap();
    lab.start_host().unwrap();
    lab.shell(up).unwrap();
    Scenario { hub: &hub, host: &lab }.afterwards().unwrap();
    println!("ok: the power lost under a job: nothing is left of it, and the next one runs");
}
