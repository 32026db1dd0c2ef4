//! The lab proves itself before anything is proved in it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Kind, Lab, LabConfig, Place, Product, Recipe, Source, Suite, Template};
use rustix::fs::{FlockOperation, flock};

const IDMAP_MOUNT: &str = include_str!("by_hand/idmap-mount");
const BOOT_CONTAINER: &str = include_str!("by_hand/boot-container");
const UNIT: &str = "gha-runner-by@hand.service";
/// One of the kernel's settings that a host can change for the whole machine, and that nothing here needs: in seconds.
const SETTING: &str = "fs.lease-break-time";
const CHANGED: u32 = 47;

/// A lab, or `None` on a machine that cannot have one.
fn boot() -> Option<Lab> {
    if let Some(reason) = lab::missing_requirement() {
        println!("skipped: {reason}");
        return None;
    }
    Some(Lab::boot(LabConfig::default()).unwrap())
}

/// Boots a job container in the host without the product.
fn boot_container(lab: &Lab, template: &Template) {
    let path = lab.add_template(template).unwrap();
    lab.write_host("/usr/local/bin/idmap-mount", IDMAP_MOUNT.as_bytes(), 0o755).unwrap();
    lab.write_host("/usr/local/bin/boot-container", BOOT_CONTAINER.as_bytes(), 0o755).unwrap();
    let start = Instant::now();
    lab.exec(Place::Host, &["boot-container", UNIT, "hand", &path, "655360"]).unwrap().check().unwrap();
    println!("container up after {:.0?}", start.elapsed());
}

/// The release that a root directory says it is of.
const RELEASE: &str = "sed -n s/^VERSION_CODENAME=//p /etc/os-release";

/// Runs a command in the container called `hand`.
fn in_container(lab: &Lab, command: &str) -> String {
    lab.shell(&format!(
        "leader=$(machinectl show --property=Leader --value hand); nsenter --target \"$leader\" --all -- {command}"
    ))
    .unwrap()
}

#[test]
fn the_host_is_a_whole_systemd() {
    let start = Instant::now();
    let Some(lab) = boot() else { return };
    println!("lab up after {:.0?}", start.elapsed());
    let state = lab.exec(Place::Host, &["systemctl", "is-system-running"]).unwrap();
    assert_eq!(state.text(), "running", "{}", lab.shell("systemctl --failed").unwrap());
    // What a product that masquerades has to be able to do.
    lab.shell("echo 1 > /proc/sys/net/ipv4/ip_forward; nft add table inet probe; nft delete table inet probe").unwrap();

    lab.write_host("/etc/some/file", b"content", 0o600).unwrap();
    assert_eq!(lab.read_host("/etc/some/file").unwrap(), b"content");
    assert_eq!(std::fs::read(lab.host_path("/etc/some/file").unwrap()).unwrap(), b"content");
    assert_eq!(lab.exec_as("nobody", &["id", "-un"]).unwrap().text(), "nobody");
    assert!(!lab.exec_as("nobody", &["cat", "/etc/some/file"]).unwrap().success());
}

/// On a host with udev, nspawn takes no link that udev has not seen: a lab without it would hide who does not wait.
#[test]
fn a_link_is_good_for_a_container_when_udev_has_seen_it_which_takes_less_than_a_second() {
    let Some(lab) = boot() else { return };
    let template = lab.add_template(&Template::new()).unwrap();
    let container = format!(
        "systemd-run --quiet --wait --pipe --property=Delegate=yes systemd-nspawn --quiet --keep-unit --register=no \
         --read-only --pipe --directory={template} --network-interface=gp-probe"
    );
    lab.shell("udevadm control --stop-exec-queue; ip link add gp-probe type veth peer name host0").unwrap();
    let refused = lab.shell(&format!("{container} true")).unwrap_err().to_string();
    assert!(refused.contains("gp-probe is not initialized yet"), "{refused}");

    let start = Instant::now();
    lab.shell("udevadm control --start-exec-queue").unwrap();
    lab.shell("udevadm wait --initialized=yes --timeout=1 /sys/class/net/gp-probe /sys/class/net/host0").unwrap();
    println!("links initialised after {:.0?}", start.elapsed());
    let found = lab.shell(&format!("{container} ip -oneline link show gp-probe")).unwrap();
    assert!(found.contains("gp-probe"), "{found}");

    // The lab's own link, which was there before udev.
    let described =
        lab.shell("udevadm settle --timeout=10; udevadm info --query=property /sys/class/net/eth0").unwrap();
    assert!(described.lines().any(|line| line == "ID_NET_DRIVER=veth"), "{described}");
}

#[test]
fn what_hosts_set_in_the_kernel_is_set_back_when_the_last_lab_ends() {
    let Some(first) = boot() else { return };
    let second = boot().unwrap();
    let before = setting();
    first.write_host("/etc/sysctl.d/60-probe.conf", format!("{SETTING} = {CHANGED}\n").as_bytes(), 0o644).unwrap();
    first.shell("systemctl restart systemd-sysctl").unwrap();
    assert_eq!(setting(), CHANGED, "the host does not share it with this machine");
    drop(first);
    assert_eq!(setting(), CHANGED, "taken away from a lab that runs");
    drop(second);
    await_setting(before);
}

/// udev receives the events of all devices of the machine, as every udev does that is in no user namespace.
#[test]
fn udev_leaves_the_devices_of_the_machine_alone() {
    let before = machine();
    let Some(lab) = boot() else { return };
    // What it asked the kernel to report. Others on this machine may use a file as a disk meanwhile.
    let known = lab.shell("udevadm settle --timeout=10; ls /run/udev/data").unwrap();
    assert!(known.lines().any(|device| device.starts_with('n')), "{known}");
    assert!(known.lines().all(|device| device.starts_with('n') || device.starts_with("b7:")), "{known}");

    let disk = lab
        .shell(
            "truncate --size=16M /var/probe; mke2fs -q /var/probe; mount -o loop /var/probe /mnt
             number=$(mountpoint --fs-devno /mnt); udevadm settle --timeout=10; cat /run/udev/data/b$number; umount /mnt",
        )
        .unwrap();
    assert!(!disk.contains("ID_FS"), "it was read: {disk}");
    drop(lab);
    let after = machine();
    assert!(before.is_subset(&after), "{:?}", before.difference(&after).collect::<Vec<_>>());
}

#[test]
fn a_container_boots_on_an_id_mapped_template_and_leaves_what_the_inventory_sees() {
    let Some(lab) = boot() else { return };
    let before = lab.leftovers().unwrap();
    assert_eq!(lab.leftovers().unwrap().since(&before).to_string(), "nothing");

    let template = Template::new()
        .unit(
            "probe.service",
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/opt/actions-runner/bin/Runner.Listener\n",
            "multi-user.target",
        )
        .runner(Source::Bytes(b"#!/bin/sh\nid > /run/probe\n".to_vec()));
    boot_container(&lab, &template);
    assert!(in_container(&lab, "cat /run/probe").starts_with("uid=0(root)"));
    assert_eq!(in_container(&lab, "stat -c %U /opt/actions-runner/bin/Runner.Listener"), "runner");
    assert_eq!(
        in_container(&lab, "cat /proc/self/uid_map").split_whitespace().collect::<Vec<_>>(),
        ["0", "655360", "65536"]
    );
    assert_eq!(in_container(&lab, "systemctl is-system-running"), "running");
    println!("{}", in_container(&lab, "systemd-analyze critical-chain"));

    let during = lab.leftovers().unwrap().since(&before);
    println!("while it runs:\n{during}");
    for (kind, name) in [
        (Kind::Unit, "gha-runner-by@hand.service active"),
        (Kind::Machine, "hand"),
        (Kind::Mount, "/var/lib/by-hand/hand/root (overlay)"),
        (Kind::Link, "gj-hand"),
    ] {
        assert!(during.of(kind).any(|found| found == name), "{kind:?} {name} is missing");
    }
    // What file system lies under the cache is this machine's own affair.
    assert!(during.of(Kind::Mount).any(|name| name.starts_with("/var/lib/by-hand/hand/lower (")));
    assert!(during.of(Kind::Process).any(|name| name.ends_with("systemd-nspawn")));
    assert!(during.of(Kind::Process).any(|name| name.ends_with("dbus-daemon")));
    assert!(during.of(Kind::Cgroup).any(|name| name.ends_with(UNIT)));

    // nspawn's own part goes with it, ours does not: the inventory has to tell the two apart.
    lab.exec(Place::Host, &["systemctl", "stop", UNIT]).unwrap().check().unwrap();
    let after = lab.leftovers().unwrap().since(&before);
    assert_eq!(after.of(Kind::Machine).count(), 0, "{after}");
    assert_eq!(after.of(Kind::Unit).count(), 0, "{after}");
    assert_eq!(after.of(Kind::Process).count(), 0, "{after}");
    assert_eq!(after.of(Kind::Link).count(), 0, "{after}");
    assert!(after.of(Kind::Mount).any(|name| name.contains("/var/lib/by-hand/hand/root")));
}

#[test]
fn hosts_of_other_releases_boot_job_containers_of_other_releases() {
    if let Some(reason) = lab::missing_requirement() {
        println!("skipped: {reason}");
        return;
    }
    for host in [Suite::Bookworm, Suite::Trixie] {
        for job in [Suite::Bookworm, Suite::Trixie, Suite::NEWEST] {
            let start = Instant::now();
            let config = LabConfig { host: Recipe::HOST.of(host), job: Recipe::JOB.of(job), ..LabConfig::default() };
            let lab = Lab::boot(config).unwrap();
            println!("{host} up after {:.0?}, to boot a job of {job}:", start.elapsed());
            boot_container(&lab, &Template::new());
            assert_eq!(lab.shell(RELEASE).unwrap(), host.name());
            assert_eq!(lab.shell("systemctl is-system-running").unwrap(), "running");
            assert_eq!(in_container(&lab, RELEASE), job.name());
            assert_eq!(in_container(&lab, "systemctl is-system-running"), "running");
        }
    }
}

#[test]
fn a_variable_chooses_the_release_of_hosts() {
    if let Some(reason) = lab::missing_requirement() {
        println!("skipped: {reason}");
        return;
    }
    let release_of = |suite: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.env("GHA_LAB_SUITE", suite).args(["shell", "--", "sh", "-c", RELEASE]);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    };
    assert_eq!(release_of("trixie").as_deref(), Ok("trixie"));
    let refused = release_of("trixy").unwrap_err();
    assert!(refused.contains("GHA_LAB_SUITE") && refused.contains("bookworm, trixie"), "{refused}");
}

#[test]
fn the_inventory_sees_each_kind_of_leftover() {
    let Some(lab) = boot() else { return };
    let before = lab.leftovers().unwrap();
    lab.shell(
        "ip link add planted type bridge; ip netns add planted; nft add table inet planted
         mkdir -p /run/gha-runner-controller/containers/planted /var/lib/gha-runner-controller/planted
         mount -t tmpfs tmpfs /mnt
         systemd-run --quiet --unit=gha-runner-small@planted.service sleep 60",
    )
    .unwrap();
    let planted = lab.leftovers().unwrap().since(&before);
    for (kind, name) in [
        (Kind::Link, "planted"),
        (Kind::Namespace, "/run/netns/planted"),
        (Kind::Table, "inet planted"),
        (Kind::Path, "/run/gha-runner-controller/containers/planted"),
        (Kind::Path, "/var/lib/gha-runner-controller/planted"),
        (Kind::Mount, "/mnt (tmpfs)"),
        (Kind::Unit, "gha-runner-small@planted.service active"),
    ] {
        assert!(planted.of(kind).any(|found| found == name), "{kind:?} {name} is not among\n{planted}");
    }
    assert!(planted.without(|_, _| true).is_empty());
}

#[test]
fn the_world_is_reached_and_knows_no_way_to_containers() {
    let Some(lab) = boot() else { return };
    let server = "use IO::Socket::INET; $| = 1;
        my $s = IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => 80, Listen => 9, ReuseAddr => 1) or die $!;
        while (my $c = $s->accept) { my $l = <$c>; while (<$c>) { last if /^\\r?$/ }
            print $c \"HTTP/1.0 200 OK\\r\\n\\r\\nfrom \" . $c->peerhost; close $c }";
    let places = [Place::Forge, Place::Internet, Place::Lan, Place::Metadata];
    let _servers: Vec<_> = places.iter().map(|&place| lab.spawn_in(place, &["perl", "-e", server]).unwrap()).collect();
    for place in places {
        let url = format!("http://{}/", place.address());
        let answer = lab
            .exec(
                Place::Host,
                &[
                    "curl",
                    "--silent",
                    "--show-error",
                    "--max-time",
                    "5",
                    "--retry",
                    "20",
                    "--retry-delay",
                    "0",
                    "--retry-connrefused",
                    &url,
                ],
            )
            .unwrap()
            .check()
            .unwrap();
        assert_eq!(answer.text(), "from 192.168.50.2", "{place}");
    }
    // What a container's address is good for out there: nothing, until the host stands in for it.
    lab.shell(
        "echo 1 > /proc/sys/net/ipv4/ip_forward
         ip netns add inner; ip link add gj-inner type veth peer name host0 netns inner
         ip address add 192.168.100.1/24 dev gj-inner; ip link set gj-inner up
         ip -netns inner address add 192.168.100.2/24 dev host0; ip -netns inner link set host0 up
         ip -netns inner route add default via 192.168.100.1",
    )
    .unwrap();
    let fetch = "ip netns exec inner curl --silent --max-time 1 http://203.0.113.10/";
    assert!(lab.shell(fetch).is_err(), "answered without masquerading");
    lab.shell(
        "nft 'add table ip probe; add chain ip probe out { type nat hook postrouting priority srcnat; }
         add rule ip probe out ip saddr 192.168.100.0/24 masquerade'",
    )
    .unwrap();
    assert_eq!(lab.shell(fetch).unwrap(), "from 192.168.50.2");

    // A neighbour of the host's cannot be mistaken for a way out, and there is none.
    let routes = lab.exec(Place::Router, &["ip", "route", "show", "default"]).unwrap().check().unwrap();
    assert_eq!(routes.text(), "");
    let to_pool = lab.exec(Place::Forge, &["ip", "route", "get", "192.168.100.2"]).unwrap();
    assert!(to_pool.success(), "the forge asks its router");
    let to_pool = lab.exec(Place::Router, &["ip", "route", "get", "192.168.100.2"]).unwrap();
    assert!(!to_pool.success(), "the router knows a way to the pool");
}

#[test]
fn a_disk_survives_a_reboot_and_a_power_cut_and_run_does_not() {
    let Some(mut lab) = boot() else { return };
    let boot_id = |lab: &Lab| lab.shell("cat /proc/sys/kernel/random/boot_id").unwrap();
    for cut in [false, true] {
        let before = boot_id(&lab);
        lab.shell("touch /run/volatile /etc/kept /var/lib/kept; sync").unwrap();
        if cut {
            lab.pull_the_plug().unwrap();
            assert!(lab.exec(Place::Host, &["true"]).is_err());
            lab.start_host().unwrap();
        } else {
            lab.reboot_host().unwrap();
        }
        lab.shell("test -e /etc/kept; test -e /var/lib/kept; test ! -e /run/volatile; ip link show eth0").unwrap();
        assert_ne!(boot_id(&lab), before);
        lab.shell("rm /etc/kept /var/lib/kept").unwrap();
    }
    lab.poweroff().unwrap();
    assert!(lab.host_pid().is_err());
}

#[test]
fn a_program_that_hangs_is_ended() {
    if let Some(reason) = lab::missing_requirement() {
        println!("skipped: {reason}");
        return;
    }
    let config = LabConfig { exec_timeout: Duration::from_millis(500), ..LabConfig::default() };
    let lab = Lab::boot(config).unwrap();
    let error = lab.exec(Place::Host, &["sh", "-c", "echo here; exec sleep 4711"]).unwrap_err();
    assert!(error.to_string().contains("here"), "{error}");
    let left = lab.exec(Place::Host, &["pgrep", "-f", "sleep 4711"]).unwrap();
    assert_eq!(left.text(), "");

    let mut running = lab.spawn_in(Place::Internet, &["sleep", "4712"]).unwrap();
    assert!(running.wait(Duration::from_millis(100)).unwrap().is_none());
    let pid = running.pid().unwrap();
    running.kill();
    assert!(!alive(pid));
}

#[test]
fn a_product_is_installed_as_its_documentation_says() {
    let Some(lab) = boot() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let stub = scratch.path().join("stub");
    std::fs::write(scratch.path().join("gha-runner-guest"), "").unwrap();
    // Renders what the product would, in the same layout, and serves as the daemon.
    std::fs::write(
        &stub,
        r#"#!/bin/sh
set -eu
[ "$1" = units ] || exec sleep 1000
[ "$2 $3 $4 $5" = "--config /etc/gha-runner-controller/config.toml --output /etc" ]
grep -q probe "$3"
mkdir -p /etc/systemd/system /etc/tmpfiles.d /etc/sysusers.d /etc/polkit-1/rules.d
echo 'u gha-runner-controller -' >/etc/sysusers.d/gha-runner-controller.conf
echo 'd /run/gha-runner-controller 0750 gha-runner-controller gha-runner-controller' >/etc/tmpfiles.d/gha-runner-controller.conf
cat >/etc/polkit-1/rules.d/50-gha-runner-controller.rules <<'EOF'
polkit.addRule(function(action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "gha-runner-controller"
        && /^gha-runner-[a-z]+@[a-z]+\.service$/.test(action.lookup("unit"))) return polkit.Result.YES;
});
EOF
printf '[Service]\nUser=gha-runner-controller\nExecStart=/usr/local/bin/gha-runner-controller run\n' \
    >/etc/systemd/system/gha-runner-controller.service
printf '[Service]\nExecStart=/bin/sleep 1000\n' >/etc/systemd/system/gha-runner-small@.service
"#,
    )
    .unwrap();
    let product = Product::new(&stub, "# probe\n").with_file("/etc/gha-runner-controller/token", "secret", 0o600);
    lab.install_product(&product).unwrap();

    let user = "gha-runner-controller";
    let state = |unit: &str| lab.exec(Place::Host, &["systemctl", "is-active", unit]).unwrap().text();
    assert_eq!(state("gha-runner-controller.service"), "active");
    // Its user may start what the rule names, over D-Bus and polkit, and nothing else.
    let start = |unit: &str| lab.exec_as(user, &["systemctl", "--no-ask-password", "start", unit]).unwrap();
    start("gha-runner-small@one.service").check().unwrap();
    assert_eq!(state("gha-runner-small@one.service"), "active");
    assert!(!start("gha-runner-controller-other.service").success());
    assert!(!start("systemd-machined.service").success());
    assert!(!lab.exec_as(user, &["cat", "/etc/gha-runner-controller/token"]).unwrap().success());

    // One that cannot be installed says why.
    std::fs::write(&stub, "#!/bin/sh\necho no such key: probe >&2; exit 1\n").unwrap();
    let error = format!("{:#}", lab.install_product(&product).unwrap_err());
    assert!(error.contains("no such key: probe"), "{error}");
}

/// Boots a lab, says where it is and waits for ever; run by the test below in a process of its own, to be killed.
#[test]
#[ignore = "run by a_killed_test_leaves_nothing"]
fn victim() {
    let lab = Lab::boot(LabConfig::default()).unwrap();
    boot_container(&lab, &Template::new());
    lab.shell(&format!("sysctl --write {SETTING}={CHANGED}")).unwrap();
    let _server = lab.spawn_in(Place::Forge, &["sleep", "4713"]).unwrap();
    println!("victim {} {} {}", lab.host_pid().unwrap(), lab.cleaner_pid(), lab.shared().display());
    std::thread::sleep(Duration::from_secs(120));
}

#[test]
fn a_killed_test_leaves_nothing() {
    if let Some(reason) = lab::missing_requirement() {
        println!("skipped: {reason}");
        return;
    }
    let before = setting();
    for cleaner_too in [false, true] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "victim"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(victim.stdout.take().unwrap());
        let mut line = String::new();
        let words: Vec<String> = loop {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the victim died");
            if let Some((_, rest)) = line.split_once("victim ") {
                let words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
                if words.len() == 3 {
                    break words;
                }
            }
        };
        let host: u32 = words[0].parse().unwrap();
        let cleaner: u32 = words[1].parse().unwrap();
        let directory = Path::new(&words[2]).parent().unwrap();
        let group = std::fs::read_to_string(directory.join("cgroups")).unwrap();
        let groups: Vec<&str> = group.lines().collect();
        let namespace = std::fs::read_link(format!("/proc/{host}/ns/pid")).unwrap();
        let members = members(&namespace);
        assert_eq!(setting(), CHANGED);
        assert!(members.len() > 3, "the host has hardly any processes");
        assert!(alive(host) && alive(cleaner));

        if cleaner_too {
            kill(cleaner);
        }
        kill(victim.id());
        victim.wait().unwrap();
        // Whatever holds the test's output open would keep it from ending.
        let mut rest = Vec::new();
        output.read_to_end(&mut rest).unwrap();

        let deadline = Instant::now() + Duration::from_secs(15);
        while members.iter().any(|&pid| alive(pid))
            || is_locked(&directory.join("lock"))
            || (!cleaner_too && (directory.exists() || groups.iter().any(|g| Path::new(g).exists())))
        {
            assert!(
                Instant::now() < deadline,
                "left: processes {:?}, {}, {groups:?}",
                members.iter().filter(|&&pid| alive(pid)).collect::<Vec<_>>(),
                directory.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(directory.to_str().unwrap()), "{mounts}");
        if cleaner_too {
            // Nobody was left to remove these: the next lab does.
            assert!(directory.exists());
            drop(boot());
            assert!(!directory.exists());
            assert!(!groups.iter().any(|group| Path::new(group).exists()));
        }
        await_setting(before);
    }
    std::io::stdout().flush().unwrap();
}

fn setting() -> u32 {
    let path = format!("/proc/sys/{}", SETTING.replace('.', "/"));
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// Whether another process holds a lock on this file.
fn is_locked(path: &Path) -> bool {
    std::fs::File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
}

/// Fails unless the setting is `expected` once no lab runs; labs of others on this machine may keep it a while.
fn await_setting(expected: u32) {
    let settings = Path::new("/run/gha-lab-settings");
    let deadline = Instant::now() + Duration::from_secs(60);
    while setting() != expected {
        let turn = std::fs::File::open(settings.join("turn")).unwrap();
        flock(&turn, FlockOperation::LockExclusive).unwrap();
        let left = setting();
        assert!(left == expected || is_locked(&settings.join("borrowed")), "{SETTING} was left at {left}");
        drop(turn);
        if Instant::now() > deadline {
            println!("skipped: other labs run on this machine");
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What udev's rules change of a machine: modes and owners of device nodes, and settings of devices.
fn machine() -> BTreeSet<String> {
    let script = "find /dev -xdev -printf '%p %M %U %G %l\n'
        find /sys/devices -path '*/power/control' -exec grep --with-filename '' {} +
        grep -rs --with-filename '' /sys/module/block/parameters /sys/block/*/events_poll_msecs";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let lines: BTreeSet<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert!(lines.len() > 10, "{lines:?}");
    lines
}

fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// All processes of a process namespace.
fn members(namespace: &Path) -> Vec<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|found| found == namespace))
        .collect()
}
