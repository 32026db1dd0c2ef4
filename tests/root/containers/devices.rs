//! Devices of the host that a class asks for.

use contract::event::What;

use crate::{
    assert_nothing_left,
    host::{Host, HostConfig},
};

const JOB: &str = r#"
say "Listening for Jobs"
echo "nodes: $(ls /dev/fuse /dev/net/tun /dev/loop[0-9]* 2> /dev/null | wc -l);"
(: <> /dev/fuse) 2> /dev/null && echo "fuse;"
sudo ip tuntap add mode tun name t0 && echo "tun: $(ls -d /sys/class/net/t0 | wc -l);"
truncate --size 1M /var/tmp/disk
loop=$(ls /dev/loop[0-9]* | head -n 1)
sudo losetup $loop /var/tmp/disk && echo "loop: $loop;" \
    && echo mine | sudo dd of=$loop status=none && sudo head -c 5 /var/tmp/disk
# Until the host stops it, with the loop device attached.
say "Running job: devices"
exec sleep 1000
"#;

#[test]
fn a_class_has_the_devices_it_names_and_what_a_job_left_attached_is_detached() {
    let config = HostConfig {
        job: JOB.into(),
        class: "devices = [\"fuse\", \"tun\", \"loop\"]".into(),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let before = host.lab.leftovers().unwrap();
    host.hand_over("j0000001", 1);
    host.start("j0000001").unwrap_or_else(|error| panic!("{error}"));
    host.wait_for("j0000001", &What::JobStarted { job: "devices".into(), task: None });
    let attached = host.lab.shell("ls -d /sys/block/loop*/loop | grep -c 'loop[0-9][0-9][0-9][0-9]' || true").unwrap();
    host.kill("j0000001");
    assert_eq!(host.ending("j0000001").left_behind, Vec::<String>::new());
    let journal = host.journal("j0000001");
    for line in ["fuse;", "tun: 1;", "loop: /dev/loop", "mine"] {
        assert!(journal.contains(line), "{line}:\n{journal}");
    }
    assert_eq!(attached, "1", "{journal}");
    assert_eq!(host.lab.shell("losetup --all | grep -c /var/tmp/disk || true").unwrap(), "0");
    let used = journal.split("loop: /dev/").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    assert!(!std::path::Path::new(&format!("/sys/block/{used}")).exists(), "{used} is still there");
    assert_nothing_left(&host, &before);
}

#[test]
fn a_class_that_names_none_has_none() {
    let Some(host) = Host::boot(JOB) else { return };
    host.hand_over("j0000002", 1);
    host.start("j0000002").unwrap();
    host.wait_for("j0000002", &What::JobStarted { job: "devices".into(), task: None });
    host.stop("j0000002");
    host.ending("j0000002");
    let journal = host.journal("j0000002");
    for line in ["fuse;", "tun: 1;", "loop: "] {
        assert!(!journal.contains(line), "{line}:\n{journal}");
    }
}
