//! The same job through what people use instead, on the same host in the same run: by turns, then twenty at once. Each
//! peer is started by a few lines of shell the moment a job is queued, as if its own controller had known at once.

use std::{
    collections::BTreeMap,
    fs::File,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use github_sim::world::{HookSpec, JobId, JobSpec, JobStatus, JobView, RunSpec, Scope};
use lab::{Kind, Place, Recipe, Running};
use stage::{REPO, SERVICE, Stage, StageConfig, TOKEN, program, show};

use crate::{
    report::Report,
    stats::{Sample, between, ms},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long one job may take.
const TO_RUN: Duration = Duration::from_secs(20);
/// At once.
const BURST: usize = 20;
const SECRET: &str = "bench-webhook-secret";
/// What a job leaves running, by its argument.
const LEFT_RUNNING: &str = "sleep 98765";
/// How a peer's script is called in the host.
const SCRIPT: &str = "/srv/peers";
/// What the peers print, in the lab's directory.
const LOG: &str = "peers.log";

/// What runs jobs.
#[derive(Debug)]
struct Peer {
    /// In the tables.
    name: &'static str,
    /// The label of its runners, and its branch in `peers/start.sh`; ours has none.
    label: &'static str,
}

const OURS: Peer = Peer { name: "gha-runner-controller", label: "linux" };

const PEERS: [Peer; 8] = [
    Peer { name: "four runners that always listen", label: "always" },
    Peer { name: "docker run", label: "docker" },
    Peer { name: "docker run, systemd in it", label: "docker-systemd" },
    Peer { name: "podman run", label: "podman" },
    Peer { name: "podman run, systemd in it", label: "podman-systemd" },
    Peer { name: "LXC", label: "lxc" },
    Peer { name: "systemd-nspawn --volatile=overlay", label: "nspawn-overlay" },
    Peer { name: "systemd-nspawn --ephemeral", label: "nspawn" },
];

/// What was seen of a peer.
#[derive(Debug, Default)]
struct Seen {
    /// Queued until the job's first line, in milliseconds.
    first_line: Sample,
    /// The same of the last of all that were queued at once; None if not all of them ran.
    burst: Option<f64>,
    /// Memory of what runs while nothing is queued, MiB.
    idle: f64,
    /// What jobs found out, and what was left after them.
    found: BTreeMap<&'static str, String>,
}

/// Runs so many jobs through each, prints the tables.
pub fn measure(jobs: usize, report: Report) -> Result<()> {
    let Some(stage) = boot()? else { anyhow::bail!("the host cannot be booted here") };
    let _lan = listener(&stage)?;
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    let mut missing = vec![microvm()];
    let with = memory(&stage)?;
    stage.lab.shell(&format!("systemctl stop {SERVICE}"))?;
    let without = memory(&stage)?;
    stage.lab.shell(&format!("systemctl start {SERVICE}"))?;
    stage.wait_for("the controller serves", PATIENCE, |_| true)?;
    seen.entry(OURS.label).or_default().idle = with - without;
    for peer in &PEERS {
        let before = memory(&stage)?;
        let set_up = show::doing(&format!("Setting up: {}", peer.name), || call(&stage, "set-up", peer));
        match set_up {
            Ok(()) => seen.entry(peer.label).or_default().idle = memory(&stage)? - before,
            Err(error) => {
                println!("{}: {error:#}", peer.name);
                missing.push(format!("{}: it cannot be set up here", peer.name));
            }
        }
    }
    let mut there: Vec<&Peer> =
        std::iter::once(&OURS).chain(&PEERS).filter(|peer| seen.contains_key(peer.label)).collect();
    // The first one warms up caches, and shows who can run a job here at all.
    there.retain(|peer| match one(&stage, peer, 0) {
        Ok(_) => true,
        Err(error) => {
            println!("{}: {error:#}\n{}", peer.name, said(&stage));
            missing.push(format!("{}: it runs no job on this host", peer.name));
            false
        }
    });
    ensure!(there.iter().any(|peer| is_ours(peer)), "the controller ran no job");
    println!("{jobs} jobs through each of {}, by turns …", there.len());
    for round in 1..=jobs {
        for peer in &there {
            let job = one(&stage, peer, round).with_context(|| format!("{}: {}", peer.name, said(&stage)))?;
            let into = seen.entry(peer.label).or_default();
            into.first_line.add(first_line(&job)?);
            note(&mut into.found, &job.output);
        }
    }
    for peer in &there {
        // What the jobs by turns left.
        stage.lab.shell(&format!("pkill -f '^{LEFT_RUNNING}' || true"))?;
        let before = stage.lab.leftovers()?;
        let disk = disk(&stage)?;
        let burst = show::doing(&format!("{BURST} at once: {}", peer.name), || burst(&stage, peer));
        if let Err(error) = &burst {
            println!("{}: {error:#}\n{}", peer.name, said(&stage));
            missing.push(format!("{}: {BURST} at once, of which not all ran", peer.name));
        }
        let into = seen.entry(peer.label).or_default();
        into.burst = burst.ok();
        let left = stage.lab.leftovers()?.since(&before);
        let count = |kind| left.of(kind).count();
        let running = stage.lab.shell(&format!("ps -e -o args= | grep -c '^{LEFT_RUNNING}' || true"))?;
        // By their names, which no other peer's have.
        stage.lab.shell(&format!("pkill -f '^{LEFT_RUNNING}' || true"))?;
        into.found.insert("processes left", running);
        into.found.insert("mounts, links left", format!("{}, {}", count(Kind::Mount), count(Kind::Link)));
        into.found.insert("disk left, MiB", format!("{:.0}", self::disk(&stage)? - disk));
    }
    for peer in &PEERS {
        call(&stage, "remove", peer)?;
    }
    print(&there, &seen, &missing, report);
    show::doing("Taking it down", || drop(stage));
    Ok(())
}

fn print(there: &[&Peer], seen: &BTreeMap<&str, Seen>, missing: &[String], report: Report) {
    let ours = &seen[OURS.label];
    let base = (ours.first_line.percentile(50).max(1.0), ours.burst.unwrap_or_default().max(1.0));
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
    let rows: Vec<Vec<String>> = there
        .iter()
        .map(|peer| {
            let Seen { first_line, burst, idle, .. } = &seen[peer.label];
            let p50 = first_line.percentile(50);
            vec![
                peer.name.to_owned(),
                format!("{p50:.0}"),
                format!("{:.0}", first_line.percentile(95)),
                format!("{:.2}", p50 / base.0),
                shown(burst.map(|burst| burst / 1000.0)),
                shown(burst.map(|burst| burst / base.1)),
                format!("{idle:.0}"),
            ]
        })
        .collect();
    let head = ["", "p50 ms", "p95 ms", "ratio", "20 at once: the last, s", "ratio", "memory idle, MiB"];
    report.table("Queued → first line of the job's output", &head, &rows, 1);
    let columns = [
        "root in it is root of the host",
        "reaches the LAN",
        "finds what the job before left",
        "processes left",
        "mounts, links left",
        "disk left, MiB",
    ];
    let rows: Vec<Vec<String>> = there
        .iter()
        .map(|peer| {
            let found = |column: &&str| seen[peer.label].found.get(column).cloned().unwrap_or_else(|| "?".into());
            std::iter::once(peer.name.to_owned()).chain(columns.iter().map(found)).collect()
        })
        .collect();
    let head: Vec<&str> = std::iter::once("").chain(columns).collect();
    report.table("What a job can do there, and what is left after 20", &head, &rows, 1);
    for line in missing {
        println!("not measured: {line}");
    }
}

/// A host with the controller, a webhook, and the peers' packages.
fn boot() -> Result<Option<Stage>> {
    let packages = ["podman", "crun", "docker.io", "?exact-name(docker-cli)", "lxc", "iptables", "bash"];
    let packages = [Recipe::HOST.packages, &packages].concat();
    let script = [Recipe::HOST.script, include_str!("peers/host-tree.sh")].concat();
    let job = [Recipe::JOB.script, include_str!("peers/job-tree.sh")].concat();
    let config = StageConfig {
        host: Recipe { name: "peers", packages: packages.leak(), script: script.leak(), suite: None },
        top: format!(
            "max_concurrent = {BURST}\nidle_grace = \"3s\"\nboot_timeout = \"60s\"\nregistration_linger = \"3s\"\n"
        ),
        targets: format!(
            "[webhook]\naddress = \"0.0.0.0\"\nsecret_file = \"/etc/gha-runner-controller/hook\"\n\
             [[target]]\nrepo = \"{REPO}\"\n"
        ),
        files: vec![("/etc/gha-runner-controller/hook".into(), SECRET.into(), 0o400)],
        tree: Recipe { name: "peers-job", packages: Recipe::JOB.packages, script: job.leak(), suite: None },
        ..StageConfig::default()
    };
    let Some(stage) = show::doing("Booting a host with the controller and the others on it", || Stage::boot(&config))?
    else {
        return Ok(None);
    };
    let scope = Scope::Repo(stage.hub.add_repo(REPO)?);
    let url = format!("http://{}:8081/webhook", Place::Host.address());
    stage.hub.set_hook(HookSpec { scope, url, secret: SECRET.into() })?;
    stage.lab.write_host(&format!("{SCRIPT}/peer.sh"), include_bytes!("peers/peer.sh"), 0o755)?;
    stage.lab.write_host(&format!("{SCRIPT}/token"), TOKEN.as_bytes(), 0o600)?;
    let runner = std::fs::read(program("fakerunner")?)?;
    stage.lab.write_host(&format!("{SCRIPT}/runner/bin/Runner.Listener"), &runner, 0o755)?;
    let tree = stage.lab.shell("sed -n 's/^path = \"\\(.*\\)\"$/\\1/p' /etc/gha-runner-controller/config.toml")?;
    stage.lab.write_host(&format!("{SCRIPT}/tree"), tree.as_bytes(), 0o644)?;
    Ok(Some(stage))
}

/// Something on the LAN that answers.
fn listener(stage: &Stage) -> Result<Running> {
    stage.lab.spawn_in(Place::Lan, &["python3", "-m", "http.server", "80", "--directory", "/var/empty"])
}

/// Memory of all processes of the host, each page counted once, in MiB.
fn memory(stage: &Stage) -> Result<f64> {
    // What was just started settles.
    std::thread::sleep(Duration::from_secs(3));
    let sum = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ { sum += $2 } END { print sum / 1024 }'";
    stage.lab.shell(sum)?.parse().context("the sum of memory")
}

/// What lies in `/var`, in MiB.
fn disk(stage: &Stage) -> Result<f64> {
    let used =
        "du -s -B1 -x /var/lib /var/tmp /var/cache 2>/dev/null | awk '{ sum += $1 } END { print sum / 1048576 }'";
    stage.lab.shell(used)?.parse().context("the sum of files")
}

fn microvm() -> String {
    if std::path::Path::new("/dev/kvm").exists() {
        "a microVM of the same tree: no recipe has been written for it".to_owned()
    } else {
        "a microVM of the same tree: this machine has no /dev/kvm".to_owned()
    }
}

fn call(stage: &Stage, what: &str, peer: &Peer) -> Result<()> {
    let output = stage.lab.exec(Place::Host, &["sh", &format!("{SCRIPT}/peer.sh"), what, peer.label])?;
    output.check().map(drop)
}

/// The line a job begins with, then what it finds out, then what it leaves.
fn script() -> String {
    format!(
        "date +first=%s%3N\necho map=$(head -1 /proc/self/uid_map)\n\
         timeout 1 bash -c '</dev/tcp/{}/80' 2>/dev/null && echo lan=yes || echo lan=no\n\
         test -e /var/tmp/left && echo left=yes || echo left=no\n: >/var/tmp/left\n\
         env -i setsid {LEFT_RUNNING} </dev/null >/dev/null 2>&1 &\n",
        Place::Lan.address()
    )
}

fn note(found: &mut BTreeMap<&'static str, String>, output: &str) {
    let field = |name: &str| output.lines().find_map(|line| line.split_once(name).map(|(_, value)| value.trim()));
    if let Some(map) = field("map=") {
        let first: Vec<&str> = map.split_whitespace().collect();
        let same = first.first() == Some(&"0") && first.get(1) == Some(&"0");
        found.insert("root in it is root of the host", if same { "yes" } else { "no" }.into());
    }
    for (name, column) in [("lan=", "reaches the LAN"), ("left=", "finds what the job before left")] {
        if let Some(value) = field(name) {
            found.insert(column, value.into());
        }
    }
}

/// From when a job was queued until its first line, in milliseconds. All clocks are one kernel's.
fn first_line(job: &JobView) -> Result<f64> {
    let at = job.output.lines().find_map(|line| line.split_once("first=")?.1.trim().parse::<u64>().ok());
    let at = at.with_context(|| format!("the job's first line is missing: {}", job.output))?;
    Ok(between(job.queued_at.map(ms).context("it was not queued")?, at))
}

fn is_ours(peer: &Peer) -> bool {
    peer.label == OURS.label
}

fn queue(stage: &Stage, peer: &Peer, jobs: usize) -> Result<Vec<JobId>> {
    let labels = ["self-hosted", peer.label];
    let specs = (0..jobs).map(|number| JobSpec::new(&format!("{} {number}", peer.label), &labels, &[&script()]));
    Ok(stage.hub.queue_run(REPO, RunSpec::push(specs.collect()))?.job_ids)
}

/// Starts what runs one job.
fn start(stage: &Stage, peer: &Peer, number: usize) -> Result<Child> {
    let (script, number) = (format!("{SCRIPT}/peer.sh"), number.to_string());
    // In a unit, as what starts a person's containers is: they want a control group of their own.
    let unit = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--property=Delegate=yes", "--"];
    let command = [unit.as_slice(), &["sh", &script, "run", peer.label, &number]].concat();
    let mut command = stage.lab.command_in(Place::Host, &command)?;
    let log = File::options().create(true).append(true).open(stage.lab.shared().join(LOG))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("nsenter")
}

/// How the output of the peers ends.
fn said(stage: &Stage) -> String {
    let log = std::fs::read_to_string(stage.lab.shared().join(LOG)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
}

fn one(stage: &Stage, peer: &Peer, round: usize) -> Result<JobView> {
    let job = queue(stage, peer, 1)?.first().copied().context("no job")?;
    let started = (!is_ours(peer)).then(|| start(stage, peer, round)).transpose()?;
    let view = stage.hub.wait_completed(job, TO_RUN)?;
    over(stage, started.into_iter().collect(), std::slice::from_ref(&view))?;
    Ok(view)
}

fn burst(stage: &Stage, peer: &Peer) -> Result<f64> {
    let jobs = queue(stage, peer, BURST)?;
    let started =
        if is_ours(peer) { Vec::new() } else { (0..BURST).map(|n| start(stage, peer, n)).collect::<Result<_>>()? };
    let deadline = Instant::now() + PATIENCE;
    let views = loop {
        let mut views = stage.hub.jobs()?;
        views.retain(|job| jobs.contains(&job.id));
        if views.iter().all(|job| job.status == JobStatus::Completed) {
            break views;
        }
        ensure!(Instant::now() < deadline, "{}: the jobs do not end", peer.name);
        std::thread::sleep(Duration::from_millis(200));
    };
    over(stage, started, &views)?;
    views.iter().map(first_line).try_fold(0.0, |last: f64, at| Ok(last.max(at?)))
}

/// Waits until what ran these jobs has ended.
fn over(stage: &Stage, started: Vec<Child>, jobs: &[JobView]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for mut child in started {
        while child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "a container does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let ours = |name: &&str| name.starts_with("lab.");
    let names: Vec<&str> = jobs.iter().filter_map(|job| job.runner_name.as_deref()).filter(ours).collect();
    stage.wait_for("the containers have ended", PATIENCE, |status| {
        names.iter().all(|name| status.finished.iter().any(|ended| ended.runner_name == *name))
            && status.active_containers.is_empty()
    })?;
    Ok(())
}
