//! Real containers on a real systemd host: what the units promise, from start to nothing left.
#![allow(clippy::unwrap_used, missing_docs)]

mod boots;
mod classes;
mod devices;
mod docker;
mod everything;
mod fence;
mod gpu;
mod host;
mod nix;
mod oci;
mod recipes;
mod room;
mod served;

use std::time::{Duration, Instant};

use contract::{
    Ending,
    event::{JobResult, What},
    order::{Answer, Verb},
};
use host::{Host, RUNNER};
use lab::Kind;
use sandbox::prepare::Step;

/// A job that succeeds, and what its runner prints meanwhile.
const SUCCEEDS: &str = r#"
echo "√ Connected to GitHub"
say "Listening for Jobs"
say "Running job: x completed with result: Succeeded"
echo "id $(id -u) $(id -G) environment $(env | cut -d= -f1 | sort | tr '\n' ' ')"
echo "arguments $*"
echo "network $(cat /proc/net/route | wc -l) $(grep -c nameserver /etc/resolv.conf)"
echo "files $(stat -c '%U %a' .runner .credentials | tr '\n' ' ')"
grep -o '"DisableUpdate":true' .runner
ls -l /proc/self/fd | grep -c -- '->'
cat /run/credentials/*/* /run/host/credentials/* 2>&1 | head -3
page=_diag/pages/11111111-1111-4111-8111-111111111111_22222222-2222-4222-8222-222222222222_1.log
printf '\357\273\2772026-11-21T08:00:00.0000000Z hello from the job\n' > $page
sleep 0.1
echo '2026-11-21T08:00:00.0000000Z and its last words' >> $page
rm $page
say "Job x completed with result: Succeeded completed with result: Succeeded"
"#;

#[test]
fn a_container_runs_its_job_and_leaves_nothing() {
    let Some(host) = Host::boot(SUCCEEDS) else { return };
    let before = host.lab.leftovers().unwrap();
    host.hand_over("j0000001", 0);
    let start = Instant::now();
    host.start("j0000001").unwrap();
    println!("start request answered after {:.0?}", start.elapsed());
    let story = host.story("j0000001");
    let ending = host.ending("j0000001");
    println!("ended after {:.0?}, teardown {} us", start.elapsed(), ending.teardown_us);
    let journal = host.journal("j0000001");
    println!("{journal}");
    let told: Vec<What> = story.into_iter().map(|event| event.what).collect();
    assert_eq!(
        told,
        [
            What::Booted,
            What::NetworkReady,
            What::RunnerStarted,
            What::Listening,
            What::JobStarted { job: "x completed with result: Succeeded".into(), task: None },
            What::JobEnded { result: JobResult::Succeeded },
            What::RunnerExited { status: 0 },
        ]
    );
    assert_eq!((ending.service_result.as_str(), ending.exit_status.as_deref()), ("success", Some("0")));
    assert_eq!((ending.error.as_deref(), ending.left_behind.len()), (None, 0));
    for line in [
        "id 1001 1001",
        "arguments run",
        "\"DisableUpdate\":true",
        "files runner 600 runner 600",
        "hello from the job",
        "and its last words",
        "network 3 2",
    ] {
        assert!(journal.contains(line), "{line}");
    }
    assert!(!journal.contains("CREDENTIALS_DIRECTORY") && !journal.contains(host::SECRET), "{journal}");
    assert_nothing_left(&host, &before);
}

#[test]
fn every_ending_arrives_and_nothing_is_left() {
    let Some(host) = Host::boot(
        r#"
        case "$(hostname)" in
        j0000010) say "Listening for Jobs"; say "Running job: a"; say "Job a completed with result: Failed";;
        j0000011) echo "The runner no longer exists on the server. Cleaning up local configuration.";;
        j0000012) exit 7;;
        j0000013) kill -9 $$;;
        j0000014) trap 'exit 0' INT; sudo poweroff; while :; do sleep 0.1; done;;
        j0000015) trap 'echo interrupted; exit 0' INT; say "Listening for Jobs"; while :; do sleep 0.1; done;;
        j0000016) trap '' INT TERM; say "Listening for Jobs"; sudo mkdir -p /a/b/c; sudo mknod /fifo p; sleep 1000;;
        j0000017) sudo kill -9 -1; sleep 60;;
        j0000018) trap 'exit 0' INT; sudo systemctl start --no-block reboot.target; while :; do sleep 0.1; done;;
        esac
        "#,
    ) else {
        return;
    };
    let before = host.lab.leftovers().unwrap();
    let check = |name: &str, subnet, result: &str, status: &str| {
        host.hand_over(name, subnet);
        let start = Instant::now();
        host.start(name).unwrap();
        match name {
            "j0000015" => {
                host.wait_for(name, &What::Listening);
                let stop = Instant::now();
                host.stop(name);
                println!("{name}: stopped in {:.0?}", stop.elapsed());
            }
            "j0000016" => {
                host.wait_for(name, &What::Listening);
                host.kill(name);
            }
            _ => {}
        }
        let ending = host.ending(name);
        println!("{name}: {ending:?} after {:.0?}", start.elapsed());
        let found = (ending.service_result.as_str(), ending.exit_status.as_deref().unwrap_or("-"));
        assert_eq!(found, (result, status), "{name}:\n{}", host.journal(name));
        assert_eq!(ending.left_behind, Vec::<String>::new());
    };
    check("j0000010", 0, "exit-code", "10");
    check("j0000011", 1, "exit-code", "14");
    check("j0000012", 2, "exit-code", "13");
    check("j0000013", 3, "exit-code", "16");
    // Code in the container can end it as it likes: the guest is asked to stop, or is killed.
    check("j0000014", 4, "exit-code", "12");
    check("j0000017", 7, "exit-code", "255");
    check("j0000018", 8, "exit-code", "12");
    check("j0000015", 5, "exit-code", "12");
    assert!(host.journal("j0000015").contains("interrupted"));
    check("j0000016", 6, "signal", "KILL");
    assert_nothing_left(&host, &before);
}

#[test]
fn what_does_not_end_when_it_is_asked_to_holds_no_container_up() {
    let Some(host) = Host::boot(
        r#"
        sudo systemd-run --quiet bash -c "trap '' TERM; while :; do sleep 1; done"
        say "Listening for Jobs"
        say "Running job: x"
        case "$(hostname)" in
        j0000020) say "Job x completed with result: Succeeded"; exit 0;;
        # Nobody is left who kills what does not end, but PID 1.
        j0000022) sleep 1; sudo systemctl kill --kill-whom=main --signal=KILL gha-runner-guest.service;;
        esac
        trap 'exit 0' INT; while :; do sleep 0.1; done
        "#,
    ) else {
        return;
    };
    let before = host.lab.leftovers().unwrap();
    for (name, subnet, status) in [("j0000020", 0, "0"), ("j0000021", 1, "21"), ("j0000022", 2, "255")] {
        host.hand_over(name, subnet);
        host.start(name).unwrap();
        host.wait_for(name, &What::JobStarted { job: "x".into(), task: None });
        let begun = Instant::now();
        if name == "j0000021" {
            host.stop(name);
        }
        let ending = host.ending(name);
        println!("{name}: ended in {:.1?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
        assert_eq!(ending.exit_status.as_deref(), Some(status), "{name}:\n{}", host.journal(name));
        assert_eq!(ending.left_behind, Vec::<String>::new());
    }
    assert_nothing_left(&host, &before);
}

#[test]
fn a_prepare_that_fails_anywhere_leaves_nothing_and_says_why() {
    let Some(host) = Host::boot(SUCCEEDS) else { return };
    let before = host.lab.leftovers().unwrap();
    for (index, step) in Step::ALL.iter().enumerate() {
        let name = format!("j{:07}", 100 + index);
        host.fail_after(step.name());
        host.hand_over(&name, 7);
        assert!(host.start(&name).is_err(), "{}", step.name());
        let ending = host.ending(&name);
        assert_eq!(ending.service_result, "exit-code", "{ending:?}");
        assert_eq!(
            ending.error.as_deref(),
            Some(&*format!("prepare: step {} was to be the last (--fail-after)", step.name()))
        );
        assert_eq!(ending.left_behind, Vec::<String>::new());
        assert_nothing_left(&host, &before);
    }
    host.fail_after("");
    for _ in 0..2 {
        // Without settings, without a class, of a container that never was.
        host.lab
            .shell(&format!("{} sandbox teardown --settings /nonexistent --class gone j7777777", host::PROGRAM))
            .unwrap();
    }
    host.hand_over("j0000200", 7);
    host.start("j0000200").unwrap();
    assert_eq!(host.ending("j0000200").service_result, "success", "the same subnet can be used again");
}

#[test]
fn a_sweep_removes_what_a_crash_left_and_nothing_that_lives() {
    let Some(host) = Host::boot("say 'Listening for Jobs'; exec sleep 1000") else { return };
    let before = host.lab.leftovers().unwrap();
    host.hand_over("j0000300", 0);
    host.start("j0000300").unwrap();
    host.wait_for("j0000300", &What::Listening);
    let alive = host.lab.leftovers().unwrap();
    for (index, step) in Step::ALL.iter().enumerate() {
        let name = format!("j{:07}", 310 + index);
        host.hand_over(&name, 1);
        // By hand, outside of any unit: nobody tears it down.
        let prepared = host.prepare_by_hand(&name, step.name());
        assert!(!prepared.success());
        assert!(!host.lab.leftovers().unwrap().since(&alive).is_empty(), "{}", step.name());
        host.lab.shell(&format!("{} sandbox sweep", host::PROGRAM)).unwrap();
        let left = host.lab.leftovers().unwrap().since(&alive).without(is_shared);
        assert!(left.is_empty(), "{}: {left}", step.name());
    }
    host.lab.shell("systemctl is-active gha-runner-medium@j0000300.service").unwrap();
    host.stop("j0000300");
    host.ending("j0000300");
    assert_nothing_left(&host, &before);
}

#[test]
fn a_subnet_in_use_is_refused_and_the_one_who_has_it_does_not_notice() {
    let Some(host) = Host::boot("say 'Listening for Jobs'; exec sleep 1000") else { return };
    host.hand_over("j0000400", 4);
    host.start("j0000400").unwrap();
    host.wait_for("j0000400", &What::Listening);
    host.hand_over("j0000401", 4);
    assert!(host.start("j0000401").is_err());
    let error = host.ending("j0000401").error.unwrap();
    assert!(error.contains("belongs to container j0000400"), "{error}");
    host.lab.shell("ip addr add 192.168.105.9/24 dev lo").unwrap();
    host.hand_over("j0000402", 5);
    assert!(host.start("j0000402").is_err());
    let error = host.ending("j0000402").error.unwrap();
    assert!(error.contains("collides with 192.168.105.9/24, which the host reaches by lo"), "{error}");
    host.lab.shell("nft delete table inet gha_runner").unwrap();
    host.hand_over("j0000403", 6);
    assert!(host.start("j0000403").is_err());
    let error = host.ending("j0000403").error.unwrap();
    assert!(error.contains("`inet gha_runner` is not loaded"), "{error}");
    host.lab.shell("systemctl is-active gha-runner-medium@j0000400.service").unwrap();
}

#[test]
fn the_controllers_user_may_start_and_stop_containers_and_nothing_else() {
    let Some(host) = Host::boot("say 'Listening for Jobs'; exec sleep 1000") else { return };
    for (verb, unit) in [
        ("start", "gha-runner-controller.service"),
        ("stop", "dbus.service"),
        ("start", "gha-runner-large@j0000001.service"),
        ("start", "gha-runner-medium@j0000001.service"),
        ("stop", "gha-runner-medium@j0000001.service"),
        ("restart", "gha-runner-medium@j0000001.service"),
        ("kill", "gha-runner-medium@j0000001.service"),
    ] {
        let output = host.as_controller(&["systemctl", "--no-ask-password", verb, unit]);
        assert!(!output.success(), "{verb} {unit}");
    }
    host.hand_over("j0000501", 1);
    assert_eq!(host.order(Verb::Start, "j0000501"), Answer::Done);
    host.wait_for("j0000501", &What::Listening);
    for _ in 0..2 {
        // The second time there is nothing to stop, or it is stopping.
        assert_eq!(host.order(Verb::Stop, "j0000501"), Answer::Done);
    }
    assert_eq!(host.ending("j0000501").left_behind, Vec::<String>::new());
    // Root's own files cannot be handed to a job by a link.
    host.hand_over("j0000500", 0);
    host.lab.shell("cd /run/gha-runner-controller/containers/j0000500; ln -sf /etc/shadow grant.json").unwrap();
    assert_eq!(host.order(Verb::Start, "j0000500"), Answer::Done, "systemd has queued it");
    let ending: Ending = host.ending("j0000500");
    assert!(ending.error.as_deref().unwrap().contains("grant.json: is a symbolic link"), "{ending:?}");
}

#[test]
fn a_container_reaches_the_internet_and_nothing_else() {
    let Some(host) = Host::boot(
        r#"
        say "Listening for Jobs"
        [ "$(hostname)" = j0000701 ] || exec sleep 1000
        probe() {
            heard=$(timeout 1 bash -c "exec 3<>/dev/tcp/$2/${3:-80}; head -n 1 <&3" 2>/dev/null)
            echo "probe $1: $? $heard"
        }
        probe internet 198.51.100.7
        probe forge 203.0.113.10
        probe resolver 192.168.50.10 53
        probe lan 192.168.50.10
        probe router 192.168.50.1
        probe metadata 169.254.169.254
        probe host 192.168.50.2
        probe gateway 192.168.101.1
        probe sibling 192.168.100.2
        "#,
    ) else {
        return;
    };
    // Whoever connects is told the address it comes from.
    let serve = "use IO::Socket::INET; $s = IO::Socket::INET->new(Listen => 5, LocalPort => $ARGV[0], ReuseAddr => 1) \
                 or die; while ($c = $s->accept) { print $c $c->peerhost, \"\\n\"; close $c }";
    let _servers: Vec<_> = lab::Place::ALL
        .iter()
        .copied()
        .flat_map(|place| ["53", "80"].map(|port| host.lab.spawn_in(place, &["perl", "-e", serve, port]).unwrap()))
        .collect();
    host.set_dns("192.168.50.10");
    host.hand_over("j0000700", 0);
    host.start("j0000700").unwrap();
    host.wait_for("j0000700", &What::Listening);
    host.hand_over("j0000701", 1);
    host.start("j0000701").unwrap();
    host.ending("j0000701");
    let journal = host.journal("j0000701");
    // 124: it took too long, as a packet that is dropped does; a refusal would be 1.
    for expected in [
        "probe internet: 0 192.168.50.2",
        "probe forge: 0 192.168.50.2",
        "probe resolver: 0 192.168.50.2",
        "probe lan: 124",
        "probe router: 124",
        "probe metadata: 124",
        "probe host: 124",
        "probe gateway: 124",
        "probe sibling: 124",
    ] {
        assert!(journal.contains(expected), "{expected}:\n{journal}");
    }
}

#[test]
fn many_at_once_do_not_get_in_each_others_way() {
    const MANY: u32 = 20;
    let Some(host) = Host::boot("say 'Listening for Jobs'; exec sleep 1000") else { return };
    let before = host.lab.leftovers().unwrap();
    let names: Vec<String> = (0..MANY).map(|index| format!("i{index:07}")).collect();
    for (subnet, name) in (0..).zip(&names) {
        host.hand_over(name, subnet);
    }
    let start = Instant::now();
    host.start_all(&names);
    for name in &names {
        host.wait_for(name, &What::Listening);
    }
    println!("{MANY} listen after {:.0?}", start.elapsed());
    // First id on the host, and how many, of every user namespace that begins with its own root.
    let ranges =
        host.lab.shell("cat /proc/[0-9]*/uid_map | awk '$1 == 0 && $2 > 0 { print $2, $3 }' | sort -u").unwrap();
    let ranges: Vec<&str> = ranges.lines().collect();
    assert_eq!(ranges.len(), MANY as usize, "each has a range of its own: {ranges:?}");
    let is_whole =
        |range: &&str| range.strip_suffix(" 65536").is_some_and(|first| first.parse::<u32>().unwrap() % 65_536 == 0);
    assert!(ranges.iter().all(is_whole), "and no two overlap: {ranges:?}");
    let start = Instant::now();
    host.lab.shell("systemctl stop 'gha-runner-medium@*.service'").unwrap();
    println!("{MANY} gone after {:.0?}", start.elapsed());
    for name in &names {
        let ending = host.ending(name);
        let journal = host.journal(name);
        let waits = journal.lines().find_map(|line| line.split_once("removal in ms, ")).unwrap_or_default().1;
        println!("{name}: teardown {} ms, {waits}", ending.teardown_us / 1000);
        assert_eq!((ending.error, ending.left_behind.len()), (None, 0), "{name}");
    }
    assert_nothing_left(&host, &before);
}

/// Prints how long a container takes to get to its runner; run with --release on a quiet machine.
#[test]
#[ignore = "a measurement"]
fn how_long_it_takes() {
    let Some(host) = Host::boot("say 'Listening for Jobs'") else { return };
    let rounds = std::env::var("ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let mut found: Vec<[Duration; 6]> = Vec::new();
    for round in 0..rounds {
        let name = format!("j{:07}", 600 + round);
        host.hand_over(&name, round % 50);
        let (start, wall) = (Instant::now(), std::time::SystemTime::now());
        host.start(&name).unwrap();
        let active = start.elapsed();
        let story = host.story(&name);
        let at = |what: &What| {
            let event = story.iter().find(|event| event.what == *what).unwrap();
            let at = std::time::UNIX_EPOCH + Duration::from_millis(event.at_ms);
            at.duration_since(wall).unwrap_or_default()
        };
        let ending = host.ending(&name);
        let teardown = Duration::from_micros(ending.teardown_us);
        let times =
            [active, at(&What::Booted), at(&What::NetworkReady), at(&What::RunnerStarted), start.elapsed(), teardown];
        println!(
            "active {:.0?}, booted {:.0?}, network {:.0?}, runner {:.0?}, gone {:.0?}, teardown {:.1?}",
            times[0], times[1], times[2], times[3], times[4], times[5]
        );
        if round > 0 {
            found.push(times);
        }
    }
    for (index, what) in ["active", "booted", "network", "runner started", "gone", "teardown"].iter().enumerate() {
        let mut times: Vec<Duration> = found.iter().map(|times| times[index]).collect();
        times.sort();
        println!(
            "{what}: p50 {:.1?}, least {:.1?}, most {:.1?}",
            times[times.len() / 2],
            times[0],
            times[times.len() - 1]
        );
    }
    println!(
        "{}",
        host.lab.shell("journalctl --namespace='*' -o cat --no-pager | grep -E '^(prepared|removed)'").unwrap()
    );
}

/// What is nobody's in particular: the controller's own files, endings kept on purpose, the lock, and directories that
/// systemd-nspawn makes once.
fn is_shared(_: Kind, what: &str) -> bool {
    what.starts_with("/run/gha-runner-controller")
        || what.starts_with("/run/gha-runner-endings/")
        || what == "/run/gha-runner-sandbox/.lock"
        || lab::OF_NSPAWN.contains(&what)
}

fn assert_nothing_left(host: &Host, before: &lab::Inventory) {
    let left = host.lab.leftovers().unwrap().since(before).without(is_shared);
    assert!(left.is_empty(), "{left}");
    assert!(!host.lab.exec(lab::Place::Host, &["test", "-e", RUNNER]).unwrap().success());
}
