//! Real jobs, six at a time, while something fails every few seconds: each is accounted for, none runs twice, nothing is
//! left, and the controller does not grow.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use controller::{cause::Cause, status::Finished};
use github_sim::{
    rest::Call,
    world::{Conclusion, Fault, JobStatus, What},
};
use lab::Place;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use stage::{SERVICE, Stage, StageConfig};

const AT_ONCE: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// What the controller's memory may differ by between two moments of rest, KiB.
const SLACK: u64 = 4096;
/// Little room for the controller's own files.
const SMALL_DISK: &str = "mkdir -p /var/lib/gha-runner-controller && \
     mount -t tmpfs -o size=48m,mode=0700 small-disk /var/lib/gha-runner-controller";

/// What fails: its name, and a script on the host. None = at the forge.
const FAULTS: [(&str, Option<&str>); 9] = [
    ("controller killed", Some("systemctl kill --signal=KILL --kill-whom=main gha-runner-controller.service || true")),
    ("nspawn killed", Some("pid=$(pgrep systemd-nspawn | shuf -n 1); [ -z \"$pid\" ] || kill -9 $pid || true")),
    ("guest killed", Some("pid=$(pgrep gha-runner-gues | shuf -n 1); [ -z \"$pid\" ] || kill -9 $pid || true")),
    ("machined killed", Some("systemctl kill --signal=KILL systemd-machined.service || true")),
    ("bus restarted", Some("systemctl restart dbus.service")),
    (
        "disk full",
        Some(
            "dd if=/dev/zero of=/var/lib/gha-runner-controller/fill bs=64k 2>/dev/null || true; \
             sleep 3; \
             rm -f /var/lib/gha-runner-controller/fill",
        ),
    ),
    ("forge out of order", None),
    ("forge slow", None),
    ("link down", None),
];

fn fails(stage: &Stage, rng: &mut StdRng) -> &'static str {
    let (name, script) = *FAULTS.choose(rng).unwrap();
    let calls = [Call::Mint, Call::ListRuns, Call::ListJobs, Call::ListRunners, Call::GetJob, Call::DeleteRunner];
    let call = *calls.choose(rng).unwrap();
    let what = match name {
        "forge out of order" => What::Status { code: 502, message: "bad gateway".into(), headers: vec![] },
        _ => What::Slow { ms: 5_000 },
    };
    match (script, name) {
        // A bus that is restarted again and again is not started any more.
        (Some(script), _) => drop(stage.lab.shell(&format!("systemctl reset-failed || true; {script}")).unwrap()),
        (None, "link down") => {
            let script =
                "ip link set eth0 down; sleep 3; ip link set eth0 up; ip route replace default via 203.0.113.1";
            stage.lab.exec(Place::Forge, &["sh", "-c", script]).unwrap().check().unwrap();
        }
        (None, _) => stage.hub.inject(Fault::times(rng.random_range(1..6), call, what)).unwrap(),
    }
    name
}

/// Resident memory of the controller, KiB.
fn memory(stage: &Stage) -> u64 {
    let pid = stage.property(SERVICE, "MainPID").unwrap();
    stage.lab.shell(&format!("awk '/^VmRSS/ {{print $2}}' /proc/{pid}/status")).unwrap().parse().unwrap()
}

fn rest(stage: &Stage) -> u64 {
    stage.wait_until_clean(5 * MINUTE).unwrap();
    memory(stage)
}

/// How a job that ran its only command may have ended, while its host failed.
fn is_the_hosts(cause: Cause) -> bool {
    !matches!(cause, Cause::JobFailed | Cause::JobCancelled | Cause::TimedOut | Cause::OutOfMemory | Cause::ForkRefused)
}

/// Adds the containers that ended last, by runner. Killed controllers forget what they showed; the history does not.
fn add_history(stage: &Stage, ends: &mut BTreeMap<String, Finished>) {
    let text = stage
        .lab
        .exec(Place::Host, &["/usr/local/bin/gha-runner-controller", "history", "--json", "--limit", "1000"])
        .unwrap()
        .check()
        .unwrap()
        .text();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    for entry in document["entries"].as_array().unwrap() {
        let ended: Finished = serde_json::from_value(entry.clone()).unwrap();
        ends.insert(ended.runner_name.clone(), ended);
    }
}

#[test]
fn every_job_is_accounted_for_while_its_host_fails_all_the_while() {
    let number = |key: &str| std::env::var(key).ok().and_then(|text| text.parse::<u64>().ok());
    let jobs = usize::try_from(number("SOAK_JOBS").unwrap_or(200)).unwrap();
    let seed = number("SOAK_SEED").unwrap_or_else(rand::random);
    println!("{jobs} jobs; the same faults again: SOAK_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let config = StageConfig {
        top: format!(
            "poll_interval = \"1s\"\nidle_grace = \"3s\"\nboot_timeout = \"20s\"\nregistration_linger = \"3s\"\n\
             max_concurrent = {AT_ONCE}\nadmission.min_free_disk = 0\n"
        ),
        // What was killed is noticed within seconds, and as many questions as it takes are answered.
        simulator: ["--hurry", "100", "--rate-limit", "0"].map(str::to_owned).to_vec(),
        start: false,
        ..StageConfig::default()
    };
    let Some(mut stage) = Stage::boot(&config).unwrap() else { return };
    stage.lab.shell(SMALL_DISK).unwrap();
    stage.before = stage.lab.leftovers().unwrap();
    stage.systemctl(&["start", SERVICE]).unwrap();
    let (begun, mut queued, mut failed) = (Instant::now(), Vec::new(), BTreeMap::<&str, u32>::new());
    let (mut early, mut busiest, mut next_fault) = (None, 0, Instant::now());
    let (mut ends, mut read) = (BTreeMap::new(), 0);
    loop {
        let open = stage.hub.jobs().unwrap().iter().filter(|job| job.status != JobStatus::Completed).count();
        busiest = busiest.max(open);
        if queued.len() == jobs && open == 0 {
            break;
        }
        // A quarter of them is enough to have made what is made once and for all.
        if queued.len() >= jobs / 4 && early.is_none() {
            stage.hub.clear_faults().unwrap();
            early = Some(rest(&stage));
        }
        // The program shows 1,000 at most.
        if queued.len() >= read + 300 && stage.status().is_ok() {
            read = queued.len();
            add_history(&stage, &mut ends);
        }
        for _ in open..AT_ONCE.min(open + jobs - queued.len()) {
            let seconds = f64::from(rng.random_range(0..30)) / 10.0;
            let script = format!("sleep {seconds}; echo soaked-{}-$((0))", queued.len());
            queued.push(stage.queue_small(&format!("soak {}", queued.len()), &script).unwrap().1);
        }
        if Instant::now() >= next_fault && open > 0 {
            *failed.entry(fails(&stage, &mut rng)).or_default() += 1;
            next_fault = Instant::now() + Duration::from_millis(rng.random_range(1_000..5_000));
        }
        let limit = 5 * MINUTE + MINUTE / 6 * u32::try_from(jobs).unwrap();
        assert!(begun.elapsed() < limit, "{open} jobs still open after {limit:?}: {failed:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    stage.hub.clear_faults().unwrap();
    let (early, late) = (early.unwrap(), rest(&stage));
    stage.wait_for("well again", 2 * MINUTE, |status| status.problems.is_empty()).unwrap();
    let journal = stage.lab.shell("journalctl --namespace='*' --no-pager --output=cat").unwrap();
    add_history(&stage, &mut ends);
    let mut lost = BTreeMap::<String, u32>::new();
    for (index, job) in queued.iter().enumerate() {
        let view = stage.hub.job(*job).unwrap();
        let line = format!("soaked-{index}-0");
        let ran = journal.lines().filter(|found| found.ends_with(&line)).count();
        assert!(ran <= 1, "job {index} ran {ran} times");
        // Of the runner that had it; it may have been meant for another.
        let runner = view.runner_name.clone().unwrap_or_else(|| panic!("nobody took job {index}: {view:#?}"));
        let ended = ends.get(&runner).unwrap_or_else(|| panic!("job {index} is not in the history: {view:#?}"));
        if view.conclusion == Some(Conclusion::Success) {
            assert_eq!(ended.cause, Cause::Succeeded, "{ended:#?}, {view:#?}");
        } else {
            assert!(is_the_hosts(ended.cause), "job {index} is blamed for its host: {ended:#?}, {view:#?}");
            *lost.entry(ended.cause.to_string()).or_default() += 1;
        }
    }
    println!(
        "{jobs} jobs in {:.0?}, up to {busiest} at once; faults: {failed:?}; jobs lost to them: {lost:?}; memory {early} KiB, \
         in the end {late} KiB",
        begun.elapsed()
    );
    assert!(late <= early + SLACK, "the controller grew from {early} to {late} KiB");
}
