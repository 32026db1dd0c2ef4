//! Jobs that take all they can get of something that containers share, and what it does to the host and the next job.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use contract::event::What;
use zbus::{Connection, connection, proxy};

use crate::{
    assert_nothing_left,
    host::{Host, HostConfig, PATIENCE},
};

/// How long the host's PID 1 may be silent.
const SILENCE: Duration = Duration::from_millis(100);
/// How often it may be silent for longer, as on any machine that is busy; and how long then.
const HICCUPS: usize = 3;
const LONGEST: Duration = Duration::from_secs(1);
/// How much later than usual the next container may listen: the job before it has only just ended.
const LATER: Duration = Duration::from_millis(500);
/// The kernel has one number for all terminals, and what they take is not all in the taker's memory, so that it must be a
/// limit. While one job has them all, no other begins (docs/configuration.md#what-all-containers-share).
const TERMINALS: &str = "pseudoterminals";
/// How long a job holds what it took.
const HELD: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// What a job takes, and how: it prints how often it got it, and holds it for a while. Numbers are x86-64's.
const KINDS: [(&str, &str); 14] = [
    (
        "inotify instances",
        "perl -e 'my $n = 0; $n++ while $n < 1e5 and syscall(294, 0) >= 0; print qq(took $n\n); sleep 2'",
    ),
    (
        TERMINALS,
        "for process in 1 2 3 4; do perl -e 'my @f; while (@f < 1e5 and open my $f, q(+<), q(/dev/ptmx)) { push @f, $f } print qq(took ) . @f . qq(\n); sleep 2' & done; wait",
    ),
    (
        "namespaces",
        "sudo prlimit --nofile=$(ulimit -n) perl -e 'my @f; while (@f < 1e5 and syscall(272, 0x04000000) == 0 and open my $f, q(<), q(/proc/self/ns/uts)) { push @f, $f } print qq(took ) . @f . qq(\n); sleep 2'",
    ),
    (
        "user namespaces",
        "perl -e 'my $n = 0; while ($n < 400 and defined(my $p = fork)) { syscall(272, 0x10000000), sleep 2, exit unless $p; $n++ } print qq(took $n\n); sleep 2'",
    ),
    (
        "asynchronous requests",
        "perl -e 'my $n = 0; my $c; do { $c = pack q(Q), 0; $n++ } while $n < 1e4 and syscall(206, 4096, $c) == 0; print qq(took $n\n); sleep 2'",
    ),
    (
        "timers",
        "perl -e 'my $n = 0; my $c; do { $c = pack q(Q), 0; $n++ } while $n < 1e6 and syscall(222, 1, 0, $c) == 0; print qq(took $n\n); sleep 2'",
    ),
    (
        "message queues",
        "perl -e 'my $n = 0; $n++ while $n < 1e5 and syscall(240, my $q = qq(q$n), 0102, 0600, 0) >= 0; print qq(took $n\n); sleep 2'",
    ),
    (
        "System V queues and semaphores",
        "perl -e 'my $n = 0; $n++ while $n < 1e6 and syscall(68, 0, 01600) >= 0; $n++ while $n < 2e6 and syscall(64, 0, 250, 01600) >= 0; print qq(took $n\n); sleep 2'",
    ),
    (
        "memory files",
        "perl -e 'my $n = 0; my $m = qq(m); $n++ while $n < 2e5 and syscall(319, $m, 0) >= 0; print qq(took $n\n); sleep 2'",
    ),
    (
        "processes",
        "perl -e 'my $n = 0; while ($n < 500 and defined(my $p = fork)) { sleep 2, exit unless $p; $n++ } print qq(took $n\\n); sleep 2'",
    ),
    (
        "control groups",
        "sudo bash -c 'n=0; cd /sys/fs/cgroup; for i in $(seq 20000); do mkdir g$i 2> /dev/null || break; n=$i; done; d=0; while mkdir d 2> /dev/null && cd d && [ $d -lt 2000 ]; do d=$((d + 1)); done; echo took $n and $d deep'",
    ),
    (
        "the console",
        "timeout 4 bash -c 'base64 --wrap=0 /dev/urandom | sudo tee /dev/console > /dev/null'; echo; echo took it",
    ),
    (
        "links",
        "sudo bash -c 'n=0; while [ $n -lt 300 ] && ip link add v$n type veth peer name w$n; do n=$((n + 1)); done; echo took $n'",
    ),
    (
        "files",
        "bash -c 'mkdir /tmp/many; cd /tmp/many; n=0; for i in $(seq 60000); do : > $i || break; n=$i; done 2> /dev/null; echo took $n'",
    ),
];

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn get_default_target(&self) -> zbus::Result<String>;
}

/// Asks the host's PID 1 the same again and again until `done`; how long it was silent, the longest first.
fn silences(bus: &str, done: &AtomicBool) -> Vec<Duration> {
    let deadline = Instant::now() + 4 * PATIENCE;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connection: Connection = connection::Builder::address(bus).build().await.unwrap();
        let manager = ManagerProxy::new(&connection).await.unwrap();
        let mut silences = Vec::new();
        while !done.load(Ordering::Relaxed) && Instant::now() < deadline {
            let asked = Instant::now();
            manager.get_default_target().await.unwrap();
            silences.push(asked.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        silences.sort();
        silences.reverse();
        silences
    })
}

#[test]
fn after_a_job_that_takes_everything_the_host_answers_and_the_next_container_boots() {
    let cases: String =
        KINDS.iter().enumerate().map(|(number, (_, job))| format!("j00020{number:02}) {job};;\n")).collect();
    let config = HostConfig {
        job: format!(
            "ulimit -n $(ulimit -Hn); say 'Listening for Jobs'; say 'Running job: all'\ncase $(hostname) in\n{cases}*) sleep 0.5;;\nesac\n\
             say 'Job all completed with result: Succeeded'"
        ),
        class: "disk = \"256M\"\ntasks = 512".into(),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let before = host.lab.leftovers().unwrap();
    let bus = format!("unix:path={}", host.lab.host_path("/run/dbus/system_bus_socket").unwrap().display());
    // From the order to the runner's first line.
    let boot = |name: String| -> Result<Duration, String> {
        let begun = Instant::now();
        host.hand_over(&name, 1);
        host.start(&name)?;
        let listening = host.says(&name, &What::Listening);
        let took = begun.elapsed();
        let ending = host.ending(&name);
        if listening && ending.error.is_none() { Ok(took) } else { Err(format!("{ending:?}\n{}", host.journal(&name))) }
    };
    let usual = (0..8).map(|number| boot(format!("i000200{number}")).unwrap()).max().unwrap();
    println!("a container usually listens after {usual:.0?} at most");
    let mut faults = Vec::new();
    for (number, (kind, _)) in KINDS.iter().enumerate() {
        let name = format!("j00020{number:02}");
        let done = AtomicBool::new(false);
        let (silences, beside, after) = thread::scope(|scope| {
            let asked = scope.spawn(|| silences(&bus, &done));
            host.hand_over(&name, 0);
            host.start(&name).unwrap();
            // While the job holds it all.
            thread::sleep(HELD / 2);
            let beside = boot(format!("i00021{number:02}"));
            let ending = host.ending(&name);
            assert_eq!(ending.left_behind, Vec::<String>::new(), "{kind}");
            let after = boot(format!("i00022{number:02}"));
            done.store(true, Ordering::Relaxed);
            (asked.join().unwrap(), beside, after)
        });
        let journal = host.journal(&name);
        let took = journal.lines().find_map(|line| line.split_once("took ")).map_or("?", |(_, took)| took);
        let silence = silences[0];
        println!("{kind}: took {took}; PID 1 silent for {silence:.0?} at most; the next one {beside:.0?}, {after:.0?}");
        if took == "?" {
            faults.push(format!("{kind}: {journal}"));
        }
        if silence > LONGEST || silences.get(HICCUPS).is_some_and(|silence| *silence > SILENCE) {
            faults.push(format!("{kind}: the host's PID 1 was silent for {:.0?}", &silences[..=HICCUPS]));
        }
        let beside = Some(beside).filter(|_| *kind != TERMINALS);
        for next in beside.into_iter().chain([after]) {
            match next {
                Ok(took) if took <= 2 * usual + LATER => {}
                Ok(took) => faults.push(format!("{kind}: the next container needed {took:.0?}, usually {usual:.0?}")),
                Err(why) => faults.push(format!("{kind}: the next container did not boot: {why}")),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_nothing_left(&host, &before);
}
