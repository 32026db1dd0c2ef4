//! The same container without a controller: what is handed over is there already, one `systemctl start` does the rest. Measured
//! from the moment systemd starts the unit: what the controller adds before that is the rest of its figure.

use std::{
    io::{BufRead, BufReader},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use contract::{
    ContainerRecord, GRANT_FILE, HANDOVER_DIR, RECORD_FILE, VERSION,
    event::{EVENTS_DIR, Event, SOCKET_FILE, What},
    unit_name,
};
use gha_runner_controller::units;
use lab::Place;
use stage::{REPO, SERVICE, Stage};

use crate::{
    report::{Report, TIMES, times},
    stats::{Sample, between},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for a guest that can be listened to.
const TO_LISTEN: Duration = Duration::from_secs(5);
/// Configuration of a runner that will find no forge: it is started, which is what counts here. Base64 of
/// `{".runner":"e30=",".credentials":"e30=",".credentials_rsaparams":"e30="}`.
const GRANT: &str = r#"{"kind":"github-jit","encoded_jit_config":"eyIucnVubmVyIjoiZTMwPSIsIi5jcmVkZW50aWFscyI6ImUzMD0iLCIuY3JlZGVudGlhbHNfcnNhcGFyYW1zIjoiZTMwPSJ9"}"#;

/// Stops the controller, starts so many containers by hand, prints the table with the ratio.
pub fn measure(stage: &Stage, containers: usize, through_controller: f64, report: Report) -> anyhow::Result<()> {
    stage.lab.shell(&format!("systemctl stop {SERVICE}"))?;
    let (mut booted, mut runner) = (Sample::default(), Sample::default());
    for number in 0..=containers {
        let started = one(stage, "small", number)?;
        // The first one warms up.
        if number > 0 {
            booted.add(started.booted);
            runner.add(started.runner);
        }
    }
    let rows = [
        times("systemd starts the unit → guest runs", &booted, ""),
        times("systemd starts the unit → runner program started", &runner, ""),
    ];
    report.table(&format!("{} containers started by hand, without a controller", runner.len()), &TIMES, &rows, 1);
    let by_hand = runner.percentile(50);
    report.figures(
        "What the controller adds",
        &[
            ("by hand, p50 ms", format!("{by_hand:.0}"), ""),
            ("visible → runner started, p50 ms", format!("{through_controller:.0}"), "≤ 450"),
            ("ratio", format!("{:.2}", through_controller / by_hand.max(1.0)), ""),
        ],
    );
    Ok(())
}

/// How long one took, in milliseconds from the moment systemd started its unit.
#[derive(Debug)]
pub struct Started {
    /// Until the guest ran.
    pub booted: f64,
    /// Until it started the runner program.
    pub runner: f64,
    /// What *prepare* said of its steps.
    steps: String,
}

impl Started {
    /// What a step of *prepare* took.
    pub fn step(&self, name: &str) -> Option<f64> {
        let found = self.steps.split([':', ',']).find_map(|step| step.trim().strip_prefix(name)?.strip_prefix(' '))?;
        found.trim().parse().ok()
    }
}

/// Starts one of this class, and waits for its end. Its runner ends at once, so that now and then it is gone before
/// anybody has listened to it: then another is started.
pub fn one(stage: &Stage, class: &str, number: usize) -> anyhow::Result<Started> {
    let again = |_| started(stage, class, number);
    started(stage, class, number).or_else(again).or_else(again)
}

fn started(stage: &Stage, class: &str, number: usize) -> anyhow::Result<Started> {
    let name = format!("j{number:07}");
    let record = ContainerRecord {
        version: VERSION,
        name: name.parse()?,
        class: class.into(),
        subnet: "192.168.100.0/24".parse()?,
        scope: REPO.into(),
        job_id: None,
        runner_name: format!("by-hand-{name}"),
        allow_forks: false,
        set: false,
    };
    let directory = format!("{HANDOVER_DIR}/{name}");
    stage.lab.write_host(&format!("{directory}/{RECORD_FILE}"), &serde_json::to_vec(&record)?, 0o600)?;
    stage.lab.write_host(&format!("{directory}/{GRANT_FILE}"), GRANT.as_bytes(), 0o600)?;
    stage.lab.shell(&format!("chown -R {0}:{0} {directory}", units::USER))?;
    let unit = unit_name::container_unit(class, &name.parse()?);
    stage.lab.shell(&format!("exec systemctl --no-block start {unit}"))?;
    let story = story(stage, &name).with_context(|| stage.lab.journal(&unit).unwrap_or_default());
    if story.is_err() {
        stage.lab.shell(&format!("systemctl stop {unit}; rm -r {directory}"))?;
    }
    let (booted, runner) = story?;
    // systemd's own word on when it began: getting a command into the host takes longer than the command.
    let journal = stage.lab.shell(&format!("journalctl --namespace='*' -q -u {unit} -o short-unix --since=-1min"))?;
    let begun = journal.lines().rfind(|line| line.contains(": Starting ")).unwrap_or_default();
    let begun = begun.split_whitespace().next().and_then(|stamp| stamp.parse::<f64>().ok());
    // Milliseconds since the epoch are exact in 53 bits.
    let begun = (begun.context("the journal has no line of the unit")? * 1000.0).round() as u64;
    let deadline = Instant::now() + PATIENCE;
    while stage.lab.exec(Place::Host, &["systemctl", "is-active", "--quiet", &unit])?.success() {
        anyhow::ensure!(Instant::now() < deadline, "{unit} does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    stage.lab.shell(&format!("systemctl stop {unit}; rm -r {directory}"))?;
    let steps = journal.lines().rfind(|line| line.contains("steps in ms")).unwrap_or_default();
    let steps = steps.split_once("steps in ms").map(|(_, steps)| steps.to_owned()).unwrap_or_default();
    Ok(Started { booted: between(begun, booted), runner: between(begun, runner), steps })
}

/// When the guest ran, and when it started the runner.
fn story(stage: &Stage, name: &str) -> anyhow::Result<(u64, u64)> {
    let path = stage.lab.host_path(format!("{EVENTS_DIR}/{name}/{SOCKET_FILE}"))?;
    let deadline = Instant::now() + TO_LISTEN;
    let stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > deadline => return Err(error).context("the guest does not listen"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut booted = 0;
    for line in BufReader::new(stream).lines() {
        let event: Event = serde_json::from_str(&line?)?;
        match event.what {
            What::Booted => booted = event.at_ms,
            What::RunnerStarted => return Ok((booted, event.at_ms)),
            _ => {}
        }
    }
    bail!("{name}: no runner was started")
}
