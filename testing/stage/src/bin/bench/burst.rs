//! Many jobs at once.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::ensure;
use controller::status::Finished;
use github_sim::world::{JobSpec, JobStatus, JobView, RunSpec};
use stage::{REPO, Stage};

use crate::{
    footprint::Controller,
    report::{Report, TIMES, times},
    stats::{Sample, between, ms},
};

const PATIENCE: Duration = Duration::from_secs(120);
/// When all of them end, counted from when they are queued: long after the last has begun.
const END_AFTER: Duration = Duration::from_secs(15);

/// A job's script that ends at this time, in milliseconds since the epoch.
pub fn until(end: u64) -> String {
    format!(
        "ms=$(( {end} - $(date +%s%3N) )); if [ $ms -gt 0 ]; then sleep $((ms / 1000)).$(printf %03d $((ms % 1000))); fi"
    )
}

/// What came of a burst.
#[derive(Debug)]
pub struct Burst {
    /// When the jobs were told to end, in milliseconds since the epoch.
    end: u64,
    /// The jobs, as the forge has them.
    views: Vec<JobView>,
    /// Their containers.
    ended: Vec<Arc<Finished>>,
    /// The controller's resident memory at its most, MiB.
    rss: f64,
    /// The controller's processor time.
    pub cpu: Duration,
}

impl Burst {
    /// From the moment the first is seen to each job's start, in milliseconds.
    pub fn started(&self) -> Sample {
        let visible = self.ended.iter().filter_map(|ended| ended.timeline.visible_ms).min().unwrap_or_default();
        let starts = self.views.iter().filter_map(|job| job.started_at);
        starts.map(|at| between(visible, ms(at)).max(0.0)).collect()
    }
}

/// Queues them and waits for the end of all.
pub fn run(stage: &Stage, jobs: usize) -> anyhow::Result<Burst> {
    let controller = Controller::find(stage)?;
    let before = controller.used()?;
    let end = ms(SystemTime::now().duration_since(UNIX_EPOCH)? + END_AFTER);
    let script = until(end);
    let specs = (0..jobs)
        .map(|number| JobSpec::new(&format!("burst {number}"), &["self-hosted", "linux"], &[&script]))
        .collect();
    let ids = stage.hub.queue_run(REPO, RunSpec::push(specs))?.job_ids;
    let deadline = Instant::now() + PATIENCE;
    let mut rss: f64 = 0.0;
    let views = loop {
        std::thread::sleep(Duration::from_millis(100));
        rss = rss.max(controller.used()?.rss);
        let mut views = stage.hub.jobs()?;
        views.retain(|job| ids.contains(&job.id));
        if views.iter().all(|job| job.status == JobStatus::Completed) {
            break views;
        }
        ensure!(Instant::now() < deadline, "the jobs do not end");
    };
    let cpu = controller.used()?.cpu.saturating_sub(before.cpu);
    let names: Vec<&str> = views.iter().filter_map(|job| job.runner_name.as_deref()).collect();
    let status = stage.wait_for("the burst's containers ended", PATIENCE, |status| {
        names.iter().all(|name| status.finished.iter().any(|ended| ended.runner_name == *name))
    })?;
    let mut ended = status.finished;
    ended.retain(|ended| names.contains(&ended.runner_name.as_str()));
    Ok(Burst { end, views, ended, rss, cpu })
}

/// Runs them and prints the tables.
pub fn measure(stage: &Stage, jobs: usize, report: Report) -> anyhow::Result<()> {
    let burst = run(stage, jobs)?;
    let started = burst.started();
    let Burst { end, views, ended, rss, cpu } = burst;
    let gone = ended.iter().filter_map(|ended| ended.timeline.ended_ms).max().unwrap_or_default();
    let together = views.iter().filter_map(|job| job.started_at).map(ms).max().is_some_and(|last| last < end);
    let all = started.percentile(100) / 1000.0;
    #[allow(clippy::cast_precision_loss, reason = "a few dozen")]
    let rate = jobs as f64 / all.max(0.001);
    report.figures(
        &format!("{jobs} jobs at once"),
        &[
            ("visible → all of them run, s", format!("{all:.2}"), "≤ 4.5"),
            ("jobs started a second", format!("{rate:.1}"), ""),
            ("all ran at the same time", if together { "yes" } else { "no" }.to_owned(), "yes"),
            ("all jobs end → all units gone, s", format!("{:.2}", between(end, gone) / 1000.0), ""),
            ("the controller's resident memory, MiB", format!("{rss:.1}"), "≤ 20"),
            (
                "the controller's processor time a job, ms",
                #[allow(clippy::cast_precision_loss, reason = "a few dozen")]
                {
                    format!("{:.1}", cpu.as_secs_f64() * 1000.0 / jobs as f64)
                },
                "",
            ),
        ],
    );
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let teardown: Sample =
        ended.iter().filter_map(|ended| ended.timeline.teardown_us).map(|us| us as f64 / 1000.0).collect();
    let ending: Sample = ended
        .iter()
        .filter_map(|ended| Some(between(ended.timeline.job_ended_ms?, ended.timeline.ended_ms?)))
        .collect();
    let rows = [
        times("visible → job started", &started, ""),
        times("job ended → unit gone", &ending, ""),
        times("teardown", &teardown, "p95 ≤ 300"),
    ];
    report.table("… of them, each", &TIMES, &rows, 1);
    Ok(())
}
