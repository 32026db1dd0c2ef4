//! A class that a switch of NixOS removes under its containers (nix/keep-classes.sh).

use std::{thread, time::Duration};

use contract::event::What;

use crate::{
    assert_nothing_left,
    host::{CLASS, Host},
};

const KEEP_CLASSES: &str = include_str!("../../../nix/keep-classes.sh");

#[test]
fn a_class_that_is_gone_keeps_its_unit_until_its_last_container_has_ended() {
    let Some(host) = Host::boot("trap 'exit 0' INT; say 'Listening for Jobs'; while :; do sleep 0.1; done") else {
        return;
    };
    let before = host.lab.leftovers().unwrap();
    let names = ["j0000900", "j0000901"];
    for (name, subnet) in names.into_iter().zip(0..) {
        host.hand_over(name, subnet);
        host.start(name).unwrap_or_else(|error| panic!("{error}"));
        host.wait_for(name, &What::Listening);
    }
    // The system a NixOS host runs, and one without the class.
    let unit = format!("gha-runner-{CLASS}@.service");
    host.lab
        .shell(&format!(
            "old=/generations/1/etc/systemd/system
             mkdir -p $old/{unit}.d /generations/1/sw /generations/2
             mv /etc/systemd/system/{unit} $old/
             printf '[Service]\\nEnvironment=KEPT=1\\n' > $old/{unit}.d/overrides.conf
             ln -s /usr/bin /generations/1/sw/bin
             ln -sfn /generations/1 /run/current-system
             systemConfig=/generations/2
             {KEEP_CLASSES}
             systemctl daemon-reload"
        ))
        .unwrap();
    let kept = || {
        let find = format!("find /run/systemd/system /nix/var/nix/gcroots -name '{unit}*' | sort");
        host.lab.shell(&find).unwrap()
    };
    let held = host.lab.shell(&format!("readlink -f /nix/var/nix/gcroots/{unit}/*")).unwrap();
    let files = [unit.clone(), format!("{unit}.d/overrides.conf")];
    assert_eq!(held, files.map(|file| format!("/generations/1/etc/systemd/system/{file}")).join("\n"));
    host.stop(names[0]);
    assert_eq!(host.ending(names[0]).left_behind, Vec::<String>::new());
    thread::sleep(Duration::from_secs(4));
    assert_ne!(kept(), "", "one container is left");
    let known =
        host.lab.shell(&format!("systemctl show -P Environment gha-runner-{CLASS}@{}.service", names[1])).unwrap();
    assert!(known.contains("KEPT=1"), "{known}");
    host.stop(names[1]);
    assert_eq!(host.ending(names[1]).left_behind, Vec::<String>::new());
    thread::sleep(Duration::from_secs(4));
    assert_eq!(kept(), "");
    assert_nothing_left(&host, &before);
}
