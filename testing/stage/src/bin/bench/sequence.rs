//! Jobs one after the other: where the time goes.

use std::time::{Duration, Instant};

use anyhow::Context;
use controller::{record::Timeline, status::Finished};
use github_sim::world::{JobSpec, JobView};
use stage::{REPO, Stage};

use crate::{
    report::{Report, TIMES, times},
    stats::{Sample, between, ms},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Jobs before those that count: caches, services started on first use.
const WARM_UP: usize = 2;

type Moment = fn(&Timeline) -> Option<u64>;

/// What lies between two moments of a timeline.
const STEPS: [(&str, Moment, Moment, &str); 13] = [
    ("queued at the forge → visible (poll each second)", |t| t.queued_ms, |t| t.visible_ms, ""),
    ("visible → record written", |t| t.visible_ms, |t| t.recorded_ms, ""),
    ("record → registration answered", |t| t.recorded_ms, |t| t.minted_ms, ""),
    ("registration → unit start accepted", |t| t.minted_ms, |t| t.unit_started_ms, ""),
    ("start accepted → unit active", |t| t.unit_started_ms, |t| t.active_ms, ""),
    ("unit active → guest runs", |t| t.active_ms, |t| t.booted_ms, ""),
    ("guest runs → network ready", |t| t.booted_ms, |t| t.network_ms, ""),
    ("network → runner program started", |t| t.network_ms, |t| t.runner_started_ms, ""),
    ("runner started → listening (stand-in runner)", |t| t.runner_started_ms, |t| t.listening_ms, ""),
    ("listening → job started", |t| t.listening_ms, |t| t.job_started_ms, ""),
    ("VISIBLE → RUNNER PROGRAM STARTED", |t| t.visible_ms, |t| t.runner_started_ms, "p50 ≤ 450, p95 ≤ 900"),
    ("VISIBLE → JOB STARTED", |t| t.visible_ms, |t| t.job_started_ms, ""),
    ("job ended → unit gone", |t| t.job_ended_ms, |t| t.ended_ms, ""),
];

/// Runs so many jobs, prints the table, and gives the median from visible to the runner's start.
pub fn measure(stage: &Stage, jobs: usize, report: Report) -> anyhow::Result<f64> {
    let mut done = Vec::new();
    for number in 0..WARM_UP + jobs {
        let ended = one(stage, number)?;
        if number >= WARM_UP {
            done.push(ended);
        }
    }
    let mut rows = Vec::new();
    for (what, from, to, aim) in STEPS {
        let times_between = |(ended, job): &(Finished, JobView)| -> Option<f64> {
            let mut timeline = ended.timeline.clone();
            // The forge tells whole seconds; the simulator knows better.
            timeline.queued_ms = job.queued_at.map(ms);
            Some(between(from(&timeline)?, to(&timeline)?))
        };
        let sample: Sample = done.iter().filter_map(times_between).collect();
        rows.push(times(what, &sample, aim));
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let teardown: Sample =
        done.iter().filter_map(|(ended, _)| ended.timeline.teardown_us).map(|us| us as f64 / 1000.0).collect();
    rows.push(times("teardown", &teardown, "p95 ≤ 300"));
    report.table(&format!("{} jobs, one after the other", done.len()), &TIMES, &rows, 1);
    let total =
        |(ended, _): &(Finished, JobView)| Some(between(ended.timeline.visible_ms?, ended.timeline.runner_started_ms?));
    Ok(done.iter().filter_map(total).collect::<Sample>().percentile(50))
}

/// Runs one job; how it went here and at the forge, once its container is gone.
pub fn one(stage: &Stage, number: usize) -> anyhow::Result<(Finished, JobView)> {
    let spec = JobSpec::new(&format!("job {number}"), &["self-hosted", "linux"], &["true"]);
    let (_, id) = stage.hub.queue_job(REPO, spec)?;
    let job = stage.hub.wait_completed(id, PATIENCE)?;
    let runner = job.runner_name.clone().context("no runner had the job")?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Seldom: each question costs a process.
        std::thread::sleep(Duration::from_millis(250));
        let status = stage.status()?;
        if let Some(ended) = status.finished.iter().rev().find(|ended| ended.runner_name == runner) {
            return Ok((ended.as_ref().clone(), job));
        }
        anyhow::ensure!(Instant::now() < deadline, "the container of {runner} does not end");
    }
}
