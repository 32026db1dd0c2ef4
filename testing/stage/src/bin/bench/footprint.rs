//! What the controller itself uses, and what it asks of the forge.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use stage::{SERVICE, Stage};

use crate::report::Report;

/// The controller's process.
#[derive(Debug)]
pub struct Controller {
    proc: PathBuf,
}

/// What it used at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Use {
    /// Resident memory, MiB.
    pub rss: f64,
    /// The most there ever was, MiB.
    pub peak: f64,
    /// Of it, not backed by a file, MiB.
    pub anonymous: f64,
    /// Processor time so far.
    pub cpu: Duration,
    /// Threads.
    pub threads: u64,
}

impl Controller {
    /// The one that runs now.
    pub fn find(stage: &Stage) -> anyhow::Result<Self> {
        let pid = stage.lab.shell(&format!("systemctl show --property MainPID --value {SERVICE}"))?;
        Ok(Self { proc: stage.lab.host_path(format!("/proc/{pid}"))? })
    }

    /// What it uses now.
    pub fn used(&self) -> anyhow::Result<Use> {
        let status = std::fs::read_to_string(self.proc.join("status")).context("the controller is gone")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok()).unwrap_or_default()
        };
        let mut cpu = Duration::ZERO;
        for task in std::fs::read_dir(self.proc.join("task"))?.flatten() {
            // Nanoseconds on a processor, nanoseconds waiting for one, time slices. A thread may end meanwhile.
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let spent = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default();
            cpu += Duration::from_nanos(spent);
        }
        let mib = |kib: u32| f64::from(kib) / 1024.0;
        Ok(Use {
            rss: mib(field("VmRSS:")),
            peak: mib(field("VmHWM:")),
            anonymous: mib(field("RssAnon:")),
            threads: field("Threads:").into(),
            cpu,
        })
    }
}

/// One idle window: memory, processor time, calls.
pub fn idle(stage: &Stage, window: Duration, report: Report) -> anyhow::Result<()> {
    let controller = Controller::find(stage)?;
    // Begins just after a look, so that the window holds as many as it should.
    let looks = stage.hub.traffic()?.total.requests;
    while stage.hub.traffic()?.total.requests == looks {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    stage.hub.reset_traffic()?;
    let before = controller.used()?;
    std::thread::sleep(window);
    let (after, traffic) = (controller.used()?, stage.hub.traffic()?);
    let seconds = window.as_secs_f64();
    let spent = (after.cpu.saturating_sub(before.cpu)).as_secs_f64();
    report.figures(
        &format!("The controller, idle for {seconds:.0} s, one repository, a poll each 10 s"),
        &[
            ("resident memory, MiB", format!("{:.1}", after.rss), "≤ 20"),
            ("… of it anonymous, MiB", format!("{:.1}", after.anonymous), ""),
            ("… at its most, MiB", format!("{:.1}", after.peak), ""),
            ("threads", after.threads.to_string(), ""),
            ("processor, ms a second", format!("{:.2}", spent * 1000.0 / seconds), ""),
        ],
    );
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let hourly = |count: u64| format!("{:.0}", count as f64 * 3600.0 / seconds);
    let row = |what: String, tally: github_sim::world::Tally| {
        vec![what, hourly(tally.requests), hourly(tally.not_modified), hourly(tally.requests - tally.not_modified)]
    };
    let mut rows: Vec<Vec<String>> =
        traffic.calls.iter().map(|(call, tally)| row(format!("{call:?}"), *tally)).collect();
    rows.push(row("all".into(), traffic.total));
    let head = ["calls an idle hour", "all", "answered 304 (free)", "against the rate limit"];
    report.table(&format!("REST calls, {seconds:.0} s measured and scaled to an hour"), &head, &rows, 1);
    Ok(())
}
