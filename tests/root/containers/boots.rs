//! Hosts as they are: udev runs, and looks at every link. A container boots at the first try, every time.

use std::time::{Duration, Instant};

use contract::event::What;
use lab::{Recipe, Suite};

use crate::{
    assert_nothing_left,
    host::{Host, HostConfig},
};

/// Boots one after the other on each host; 200 by hand (`BOOTS=200`).
const IN_A_ROW: usize = 20;
const AT_ONCE: usize = 40;
const WAITS: &str = "say 'Listening for Jobs'; exec sleep 1000";

/// What *prepare* took for its steps, in milliseconds, from the line in the unit's journal.
fn step_ms(journal: &str, step: &str) -> f64 {
    let line = journal.lines().find_map(|line| line.split_once("steps in ms: ")).unwrap_or_default().1;
    let found = line.split(", ").find_map(|part| part.strip_prefix(step)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no step {step}:\n{journal}"))
}

fn boots_first_try(suite: Suite) {
    let config = HostConfig {
        job: WAITS.into(),
        host: Recipe::HOST.of(suite),
        tree: Recipe::documented("minimal", suite).unwrap(),
        top: format!("max_concurrent = {AT_ONCE}\n"),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    println!("{}", host.lab.shell("systemctl --version | head -n 1; systemctl is-active systemd-udevd").unwrap());
    let before = host.lab.leftovers().unwrap();
    let boots = std::env::var("BOOTS").map_or(IN_A_ROW, |boots| boots.parse().unwrap());
    let (mut waits, mut whole) = (Vec::new(), Vec::new());
    for boot in 0..boots {
        let name = format!("j{boot:07}");
        host.hand_over(&name, u32::try_from(boot % 100).unwrap());
        let begun = Instant::now();
        host.start(&name).unwrap();
        whole.push(begun.elapsed().as_secs_f64() * 1e3);
        waits.push(step_ms(&host.journal(&name), "udev"));
        host.wait_for(&name, &What::Listening);
        host.stop(&name);
        assert_eq!(host.ending(&name).error, None);
    }
    for (what, mut times) in [("waited for udev", waits), ("up", whole)] {
        times.sort_by(f64::total_cmp);
        println!(
            "{suite}: {boots} boots: {what} p50 {:.1} ms, p95 {:.1} ms, most {:.1} ms",
            times[times.len() / 2],
            times[times.len() * 95 / 100],
            times[times.len() - 1]
        );
    }
    let names: Vec<String> = (0..AT_ONCE).map(|index| format!("i{index:07}")).collect();
    for (subnet, name) in (0..).zip(&names) {
        host.hand_over(name, subnet);
    }
    let begun = Instant::now();
    host.start_all(&names);
    for name in &names {
        host.wait_for(name, &What::Listening);
    }
    println!("{suite}: {AT_ONCE} at once listen after {:.1?}", begun.elapsed());
    host.lab.shell("systemctl stop 'gha-runner-medium@*.service'").unwrap();
    for name in &names {
        let ending = host.ending(name);
        assert_eq!((ending.error, ending.left_behind.len()), (None, 0), "{name}");
    }
    assert_nothing_left(&host, &before);
}

#[test]
fn the_documented_tree_boots_first_try_on_systemd_252() {
    boots_first_try(Suite::Bookworm);
}

#[test]
fn the_documented_tree_boots_first_try_on_systemd_257() {
    boots_first_try(Suite::Trixie);
}

/// Its systemd-nspawn says which families of sockets it will leave to containers unless it is asked for more.
#[test]
fn the_documented_tree_boots_first_try_on_the_newest_systemd() {
    boots_first_try(Suite::NEWEST);
}

/// With such a systemd inside, what fails would otherwise stay for five seconds more.
#[test]
fn a_container_with_the_newest_systemd_inside_is_gone_at_once_whatever_its_guest_says() {
    let config = HostConfig {
        job: "say 'Listening for Jobs'; [ \"$(hostname)\" = j0000012 ] && sudo kill -9 $PPID; exit 7".into(),
        tree: Recipe::JOB.of(Suite::NEWEST),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let end = |name: &str| {
        host.hand_over(name, 0);
        host.start(name).unwrap();
        let exited = host.story(name).last().map(|event| event.at_ms).unwrap();
        let ending = host.ending(name);
        let lingered = ending.ended_at_ms.saturating_sub(exited);
        println!("{name}: status {:?}, gone {lingered} ms after the last word of its guest", ending.exit_status);
        (ending, lingered)
    };
    end("j0000010");
    let (ending, lingered) = end("j0000011");
    assert_eq!((ending.service_result.as_str(), ending.exit_status.as_deref()), ("exit-code", Some("13")));
    assert!(lingered < 2000, "{lingered} ms:\n{}", host.journal("j0000011"));
    // A guest that is killed still counts as failed, and takes the container down.
    host.hand_over("j0000012", 0);
    host.start("j0000012").unwrap();
    let ending = host.ending("j0000012");
    assert_eq!(ending.service_result, "exit-code", "{ending:?}");
    assert_ne!(ending.exit_status.as_deref(), Some("0"), "{ending:?}");
}

#[test]
fn udev_that_is_slow_is_waited_for_and_one_that_never_answers_is_named() {
    let Some(host) = Host::boot(WAITS) else { return };
    let before = host.lab.leftovers().unwrap();
    let signal = |signal: &str| {
        host.lab.shell(&format!("systemctl kill --kill-whom=all --signal={signal} systemd-udevd.service")).unwrap();
    };
    // Slow: it stands still for two seconds of a boot.
    host.hand_over("j0000001", 0);
    signal("STOP");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| host.start("j0000001"));
        std::thread::sleep(Duration::from_secs(2));
        signal("CONT");
        starting.join().unwrap().unwrap();
    });
    println!("up {:.1?} after a start with udev stopped for 2 s", begun.elapsed());
    assert!(begun.elapsed() > Duration::from_secs(2));
    let waited = step_ms(&host.journal("j0000001"), "udev");
    assert!((1000.0..4000.0).contains(&waited), "{waited}");
    host.wait_for("j0000001", &What::Listening);
    host.stop("j0000001");
    assert_eq!(host.ending("j0000001").error, None);
    // For good.
    signal("STOP");
    host.hand_over("j0000002", 1);
    assert!(host.start("j0000002").is_err());
    let ending = host.ending("j0000002");
    let error = ending.error.unwrap();
    assert!(error.contains("step udev: udev has not done with link gj-j0000002 after 5 s"), "{error}");
    assert!(error.contains("systemctl status systemd-udevd"), "{error}");
    assert_eq!(ending.left_behind, Vec::<String>::new());
    signal("CONT");
    host.lab.shell("udevadm settle --timeout=10").unwrap();
    assert_nothing_left(&host, &before);
    // Without its service at all.
    host.lab
        .shell("systemctl stop systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd.service")
        .unwrap();
    host.hand_over("j0000003", 2);
    assert!(host.start("j0000003").is_err());
    let error = host.ending("j0000003").error.unwrap();
    assert!(error.contains("udev has not done with link"), "{error}");
    host.lab.shell("systemctl start systemd-udevd.service").unwrap();
    host.hand_over("j0000004", 3);
    host.start("j0000004").unwrap();
    host.wait_for("j0000004", &What::Listening);
    host.stop("j0000004");
    assert_eq!(host.ending("j0000004").error, None);
}

#[test]
fn networkd_udev_and_sysctls_of_the_host_leave_the_links_alone() {
    let config = HostConfig {
        job: WAITS.into(),
        // An administrator's network for whatever there is, and switches for each link.
        setup: "printf '[Match]\\nType=ether\\n[Network]\\nDHCP=yes\\nLinkLocalAddressing=yes\\n' > /etc/systemd/network/50-all.network
                printf '[Match]\\nName=*\\n[Network]\\nAddress=10.9.9.9/24\\n' > /etc/systemd/network/60-any.network
                printf 'net.ipv4.conf.*.rp_filter = 2\\nnet.ipv4.conf.*.accept_redirects = 1\\n' > /etc/sysctl.d/99-own.conf"
            .into(),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    host.lab.shell("systemctl start systemd-networkd.service").unwrap();
    host.hand_over("j0000001", 0);
    host.start("j0000001").unwrap();
    host.wait_for("j0000001", &What::Listening);
    // What networkd does, it does within moments.
    std::thread::sleep(Duration::from_secs(2));
    let links = host.lab.shell("networkctl list --no-legend --no-pager").unwrap();
    let ours = links.lines().find(|line| line.contains("gj-j0000001")).unwrap();
    assert!(ours.ends_with("unmanaged"), "{links}");
    assert_eq!(
        host.lab.shell("ip -json -4 address show dev gj-j0000001 | jq -r '.[].addr_info[].local'").unwrap(),
        "192.168.100.1"
    );
    let switches = host
        .lab
        .shell(
            "cd /proc/sys/net/ipv4/conf/gj-j0000001; cat rp_filter accept_redirects; ls /sys/class/net | grep -c gj-",
        )
        .unwrap();
    assert_eq!(switches, "1\n0\n1", "as *prepare* has set them");
    let units =
        host.lab.shell("systemctl list-units --all --no-legend --no-pager '*gj*.device' '*gp*.device'").unwrap();
    assert_eq!(units, "", "systemd makes units for them");
    host.stop("j0000001");
    host.ending("j0000001");
}
