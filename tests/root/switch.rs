//! NixOS' own `switch-to-configuration` decides what happens to jobs that run during a switch: here it switches the
//! lab's host from one configuration to another. Only where it was built; GHA_LAB_SWITCH names it (tests/README.md).
#![allow(clippy::unwrap_used, missing_docs)]

use std::{env, fs};

use lab::Place;
use stage::{
    SERVICE, Stage, StageConfig,
    scenario::{Scenario, Waiting},
};

const PROGRAM: &str = "/usr/local/bin/gha-runner-controller";
const NEWER: &str = "/opt/newer/gha-runner-controller";
const CONFIG: &str = "/etc/gha-runner-controller/config.toml";
/// The module's part of a switch.
const KEEP_CLASSES: &str = include_str!("../../nix/keep-classes.sh");

/// Makes the host a configuration like those of NixOS, and the one it runs.
const FIRST: &str = "
    mkdir -p /generations/1/etc/systemd /generations/1/sw /opt/newer
    ln -s /usr/bin /generations/1/sw/bin
    cp /usr/local/bin/gha-runner-controller /opt/newer/
    rm -f /etc/systemd/system/systemd-logind.service /etc/systemd/system/dbus-org.freedesktop.login1.service
    cd /generations/1
    mv /etc/systemd/system etc/systemd/system
    ln -s /run/current-system/etc/systemd/system /etc/systemd/system
    ln -s /etc/systemd/system.conf etc/systemd/system.conf
    echo '[Unit]' > etc/systemd/system/sysinit-reactivation.target
    touch init-interface-version
    ln -s /generations/1 /run/current-system
    systemctl daemon-reload
    systemctl start systemd-logind";

/// What a switch to `generation`, made of the configuration file by the newer program, prints.
fn switch(stage: &Stage, generation: u32) -> String {
    let to = format!("/generations/{generation}");
    let activate = format!(
        "#!/bin/sh -eu\nsystemConfig={to}\n{KEEP_CLASSES}\ncp -a {to}/etc/gha-runner-controller /etc/\n\
         ln -sfn {to} /run/current-system\n"
    );
    stage.lab.shell(&format!("cp -a /generations/1 {to}")).unwrap();
    stage.lab.write_host(&format!("{to}/activate"), activate.as_bytes(), 0o755).unwrap();
    let script = format!(
        "{NEWER} units --config {CONFIG} --output {to}/etc --binary {NEWER} >/dev/null
         OUT={to} TOPLEVEL={to} DISTRO_ID=debian PRE_SWITCH_CHECK=true INSTALL_BOOTLOADER=true SYSTEMD=/usr \
         NIXOS_NO_SYNC=1 /usr/local/bin/switch-to-configuration test 2>&1"
    );
    let output = stage.lab.exec(Place::Host, &["sh", "-euc", &script]).unwrap();
    let said = output.text();
    println!("{said}");
    output.check().unwrap();
    said
}

#[test]
fn a_switch_replaces_the_controller_and_no_job_also_when_its_class_has_changed_or_is_gone() {
    let Ok(program) = env::var("GHA_LAB_SWITCH") else {
        println!("skipped: switch-to-configuration was not built for it (GHA_LAB_SWITCH)");
        return;
    };
    let class = |name: &str, more: &str| format!("[class.{name}]\nlabels = [\"self-hosted\", \"{name}\"]\n{more}");
    let classes = class("changed", "") + &class("gone", "");
    let Some(stage) = Stage::boot(&StageConfig { classes: classes.clone(), ..StageConfig::default() }).unwrap() else {
        return;
    };
    stage.lab.write_host("/usr/local/bin/switch-to-configuration", &fs::read(program).unwrap(), 0o755).unwrap();
    stage.lab.shell(FIRST).unwrap();
    let pid = |unit: &str| stage.property(unit, "MainPID").unwrap();
    let controller = pid(SERVICE);
    let play = Scenario { hub: &stage.hub, host: &stage.lab };
    let written = String::from_utf8(stage.lab.read_host(CONFIG).unwrap()).unwrap();
    let head = written.strip_suffix(classes.as_str()).unwrap();
    let next = format!("{head}{}", class("changed", "memory = \"700M\"\n"));
    let labels = [["self-hosted", "changed"], ["self-hosted", "gone"]];
    play.undisturbed(&labels, |running| {
        stage.lab.write_host(CONFIG, next.as_bytes(), 0o644)?;
        let said = switch(&stage, 2);
        assert!(said.contains("NOT restarting the following changed units: gha-runner-changed@"), "{said}");
        assert_ne!(pid(SERVICE), controller, "the controller is the newer program");
        // Again, without a change: nothing has to be done twice.
        switch(&stage, 3);
        // What the older program started, the newer one tears down, unless its class is unknown to the newer one.
        for (waiting, program) in running.iter().zip([NEWER, PROGRAM]) {
            let teardown = stage.property(&waiting.unit, "ExecStopPost")?;
            assert!(teardown.contains(program), "{teardown}");
        }
        Ok(())
    })
    .unwrap();
    // A collection of garbage leaves what the class that is gone still names.
    let held = stage.lab.shell("readlink -f /nix/var/nix/gcroots/gha-runner-gone@.service/*@.service").unwrap();
    assert_eq!(held.trim(), "/generations/1/etc/systemd/system/gha-runner-gone@.service");
    let limit = |waiting: &[Waiting]| stage.property(&waiting[0].unit, "MemoryMax");
    let limit = play.undisturbed(&labels[..1], limit).unwrap();
    assert_eq!(limit.trim(), (700 << 20).to_string(), "the next job's container is of the new configuration");
    play.nothing_left().unwrap();
}
