//! Limits where the kernel enforces them: containers in a virtual machine whose control groups have every controller.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use contract::{ContainerRecord, Ending, GRANT_FILE, Grant, HANDOVER_DIR, RECORD_FILE, VERSION};
use lab::{Errand, Source, Template};

const BINARY: &str = env!("CARGO_BIN_EXE_gha-runner-controller");
const MIB: u64 = 1 << 20;

const CONFIG: &str = r#"
token_file = "/etc/token"
[[target]]
repo = "octo-org/hello"
[template.default]
path = "/srv/template"
[limits]
memory = "400M"
[class.memory]
memory = "160M"
[class.tasks]
tasks = 64
[class.short]
timeout = "20s"
[class.one]
cpus = 1.0
[class.free]
"#;

/// What runs in place of the runner: what is tried depends on the container.
const JOB: &str = r#"#!/bin/bash
say() { echo "$(date -u '+%Y-%m-%d %H:%M:%SZ'): $*"; }
say "Listening for Jobs"
say "Running job: limits"
case "$(hostname)" in
# Ends when asked to, as the runner does.
j0000001) tail /dev/zero; exec sleep 1000;;
j0000002)
    perl -e 'for (1..500) { my $p = fork; if (!defined $p) { print "refused: $_\n"; kill 9, @p; exit }
             if (!$p) { sleep 600; exit } push @p, $p } print "refused: never\n"; kill 9, @p';;
j0000003) exec sleep 1000;;
j0000004|j0000005)
    usage() { while read -r key value; do [ "$key" != usage_usec ] || echo "$value"; done < /sys/fs/cgroup/cpu.stat; }
    for loop in 1 2; do (while :; do :; done) & done
    begin=$(usage) clock=$(date +%s%N)
    sleep 5
    echo "percent: $(( ($(usage) - begin) * 100000 / ($(date +%s%N) - clock) ))"
    kill %1 %2;;
# Half of what all may use, and a bit: alone it would do.
j0000006|j0000007) head -c 230M /dev/zero | tail -c 230M | { sleep 15; wc -c; };;
j0000009)
    sudo prlimit --pid $$ --core=unlimited 2>&1 | sed 's/^/raise: /'; ulimit -c unlimited 2>&1 | sed 's/^/raise: /'
    echo "cores of at most: $(ulimit -H -c) blocks"
    TOLD=swordfish bash -c 'kill -SEGV $$'; echo "killed: $?";;
# What all containers share with the host: control groups, and instances of inotify.
j0000010)
    sudo perl -e 'sub top { chdir q(/sys/fs/cgroup) } my ($n, $g) = (0, 0); top(); $n++ while $n < 1500 and mkdir q(d) and chdir q(d);
        top(); $g++ while $g < 20000 and mkdir qq(g$g); print "deep: $n \ngroups: $g \n"'
    ulimit -n $(ulimit -Hn)
    perl -e 'my $n = 0; $n++ while $n < 50000 and syscall(294, 0) >= 0; print "inotify: $n \n"';;
# More than its memory, kept where programs put what they do not keep; and more than a journal should have to take.
j0000011)
    head -c 300M /dev/zero > /tmp/fill; stat -c 'bytes: %s ' /tmp/fill; rm /tmp/fill
    timeout 10 bash -c 'base64 --wrap=0 /dev/urandom | sudo tee /dev/console > /dev/null'; echo;;
j0000008) head -c 80M /dev/zero | tail -c 80M | wc -c;;
esac
say "Job limits completed with result: Succeeded"
"#;

const SCRIPT: &str = r#"
set -ex
grep -w memory /sys/fs/cgroup/cgroup.controllers
install -D -m 755 program /usr/local/bin/gha-runner-controller
install -D -m 755 guest /usr/local/bin/gha-runner-guest
install -D config.toml /etc/gha-runner-controller/config.toml
install -m 400 /dev/null /etc/token; echo t > /etc/token
gha-runner-controller units --config /etc/gha-runner-controller/config.toml --output /etc
systemd-sysusers; systemd-tmpfiles --create; systemctl daemon-reload; systemctl restart systemd-sysctl
systemctl start gha-runner-sweep.service gha-runner-firewall.service
user=gha-runner-controller
install -d -m 750 -o $user -g $user /run/$user
cp -r handover /run/$user/containers; chown -R $user: /run/$user; chmod -R go= /run/$user/containers
unit() { echo "gha-runner-$1@$2.service"; }
start() { systemctl --no-block start "$(unit "$1" "$2")"; }
await() {
    for _ in $(seq 900); do
        state=$(systemctl is-active "$(unit "$1" "$2")" || true)
        case "$state" in inactive|failed) [ ! -e "/run/gha-runner-endings/$2.json" ] || return 0;; esac
        sleep 0.2
    done
    echo "$2 does not end"; return 1
}
mkdir results
# A handler as systemd-coredump is: a program that the kernel starts on the host, and that gets all that the process has.
cat > /usr/local/bin/core-handler <<'HANDLER'
#!/bin/sh
tr '\0' '\n' < "/proc/$1/environ" >> /run/cores; head -c 4 >> /run/cores
HANDLER
chmod 755 /usr/local/bin/core-handler; echo '|/usr/local/bin/core-handler %P' > /proc/sys/kernel/core_pattern
TOLD=sturgeon bash -c 'kill -SEGV $$' || true
keep() { journalctl --namespace='*' --no-pager --unit "$(unit "$1" "$2")" > "results/$2.journal"; cp "/run/gha-runner-endings/$2.json" results/; }
both() { start "$1" "$2"; start "$3" "$4"; await "$1" "$2"; await "$3" "$4"; keep "$1" "$2"; keep "$3" "$4"; }
one() { start "$1" "$2"; await "$1" "$2"; keep "$1" "$2"; }
journal() { du --summarize --block-size=1M --total /run/log/journal/$1 /var/log/journal/$1 2> /dev/null | tail -n 1 | cut -f 1; }
journal '*[0-9a-f]' > results/journal-before
one free j0000010
one memory j0000011
journalctl --sync
journal '*[0-9a-f]' > results/journal-after
both memory j0000001 tasks j0000002
one memory j0000008
one free j0000009
cp /run/cores results/cores
cat /sys/fs/cgroup/gha.slice/gha-runner.slice/memory.max > results/together
one one j0000004
one free j0000005
both free j0000006 free j0000007
one short j0000003
"#;

#[test]
fn the_kernel_keeps_every_limit_and_the_ending_tells_which() {
    if let Some(reason) = lab::missing_machine_requirement() {
        println!("skipped: {reason}");
        return;
    }
    let template = Template::new().runner(Source::Bytes(JOB.into()));
    let mut files = vec![
        ("program".to_owned(), Source::File(BINARY.into())),
        ("guest".to_owned(), Source::File(sandbox::guest::beside(BINARY.as_ref()))),
        ("config.toml".to_owned(), Source::Bytes(CONFIG.into())),
    ];
    for (number, class) in [
        (1, "memory"),
        (2, "tasks"),
        (3, "short"),
        (4, "one"),
        (5, "free"),
        (6, "free"),
        (7, "free"),
        (8, "memory"),
        (9, "free"),
        (10, "free"),
        (11, "memory"),
    ] {
        files.extend(hand_over(number, class));
    }
    let errand = Errand { template: &template, files, script: SCRIPT.to_owned(), timeout: Duration::from_secs(1200) };
    let report = errand.run().unwrap();
    let journal = |number: u32| report.read(&format!("results/j{number:07}.journal")).unwrap();
    let ending = |number: u32| -> Ending {
        let ending = serde_json::from_str(&report.read(&format!("results/j{number:07}.json")).unwrap()).unwrap();
        println!("{ending:?}");
        ending
    };
    let said = |number: u32, what: &str| -> u64 {
        let journal = journal(number);
        let word = journal.split(what).nth(1).and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
        word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {what:?} in {journal}"))
    };
    // Control groups: bounded, and none is left. The containers after it have booted.
    let (deep, groups) = (said(10, "deep: "), said(10, "groups: "));
    // What the kernel counts in the container's memory is no limit of the host's.
    let inotify = said(10, "inotify: ");
    println!("control groups: {deep} deep, {groups} in all; {inotify} instances of inotify");
    assert_eq!(inotify, 50_000, "{}", journal(10));
    assert!(deep <= 32 && (1..=4096).contains(&groups), "{}", journal(10));
    assert_eq!((ending(10).service_result.as_str(), ending(10).left_behind.len()), ("success", 0));
    // What lies in /tmp is disk, and a flood of lines is not the host's journal's.
    let kept = ending(11);
    assert_eq!((kept.service_result.as_str(), kept.oom_kills), ("success", Some(0)), "{}", journal(11));
    assert_eq!(said(11, "bytes: "), 300 * MIB);
    let mebibytes =
        |when: &str| report.read(&format!("results/journal-{when}")).unwrap().trim().parse::<u64>().unwrap();
    let (before, after) = (mebibytes("before"), mebibytes("after"));
    println!("the host's journal: {before} MiB before the flood, {after} MiB after");
    assert!(after <= before + 16, "{before} MiB before, {after} after");
    // Memory: the cause is known, and how much it was.
    let memory = ending(1);
    assert_eq!(memory.service_result, "oom-kill", "{}", journal(1));
    assert!(memory.oom_kills.unwrap() >= 1, "{memory:?}");
    let peak = memory.memory_peak.unwrap();
    assert!((150 * MIB..=161 * MIB).contains(&peak), "{peak}");
    assert_eq!(memory.left_behind, Vec::<String>::new());
    // A job that stays below its limit is told with at least what it used.
    let modest = ending(8);
    assert_eq!(modest.service_result, "success", "{}", journal(8));
    let peak = modest.memory_peak.unwrap();
    assert!((80 * MIB..=160 * MIB).contains(&peak) && modest.oom_kills == Some(0), "{modest:?}");
    // Cores: the host's handler is started for a process of the host, and for none of a job.
    let cores = report.read("results/cores").unwrap();
    assert!(cores.contains("TOLD=sturgeon"), "the handler is never started: {cores}");
    assert!(!cores.contains("swordfish"), "{cores}");
    assert!(journal(9).contains("killed: 139"), "{}", journal(9));
    // Tasks: refused before the limit is passed.
    assert!(said(2, "refused: ") < 64, "{}", journal(2));
    assert_eq!(ending(2).service_result, "success");
    // Lifetime.
    assert_eq!(ending(3).exit_status.as_deref(), Some("22"), "{}", journal(3));
    // Processor: one of two; without a limit both.
    let (limited, free) = (said(4, "percent: "), said(5, "percent: "));
    println!("percent of a processor: {limited} limited to 100, {free} free");
    // The machine has two, unless the one under it is busy.
    assert!((80..=110).contains(&limited) && free > limited + 15, "{limited} and {free}");
    // All together: each for itself is small enough, both are not.
    assert_eq!(report.read("results/together").unwrap().trim(), (400 * MIB).to_string());
    let killed = [ending(6), ending(7)].iter().filter(|ending| ending.service_result == "oom-kill").count();
    assert!(killed >= 1, "{}\n{}", journal(6), journal(7));
}

/// What the controller hands over, below `handover/`, as the machine copies it.
fn hand_over(number: u8, class: &str) -> [(String, Source); 2] {
    let name = format!("j{number:07}");
    let record = ContainerRecord {
        version: VERSION,
        name: name.parse().unwrap(),
        class: class.into(),
        subnet: format!("192.168.{}.0/24", 100 + number).parse().unwrap(),
        scope: "octo-org/hello".into(),
        job_id: None,
        runner_name: format!("machine-{name}"),
        allow_forks: false,
        set: false,
    };
    let files: serde_json::Map<String, serde_json::Value> = [".runner", ".credentials", ".credentials_rsaparams"]
        .map(|file| (file.to_owned(), BASE64_STANDARD.encode("{}").into()))
        .into_iter()
        .collect();
    let grant = Grant::GithubJit { encoded_jit_config: BASE64_STANDARD.encode(serde_json::to_vec(&files).unwrap()) };
    assert!(HANDOVER_DIR.ends_with("/containers"), "{HANDOVER_DIR}");
    [
        (format!("handover/{name}/{RECORD_FILE}"), Source::Bytes(serde_json::to_vec(&record).unwrap())),
        (format!("handover/{name}/{GRANT_FILE}"), Source::Bytes(serde_json::to_vec(&grant).unwrap())),
    ]
}
