//! What became of each job, on one line each; and one job's output.

use std::sync::Arc;

use contract::unit_name;
use controller::status::{Finished, Status};
use github_sim::world::JobView;
use stage::{Stage, show};

use crate::cast::Part;

/// Lines shown of the output.
const LINES: usize = 12;

/// The ended container that had the job, or was booted for it and had none.
fn container<'a>(status: &'a Status, job: &JobView) -> Option<&'a Arc<Finished>> {
    let ran = |ended: &&Arc<Finished>| job.runner_name.as_deref() == Some(&ended.runner_name);
    let meant = |ended: &&Arc<Finished>| job.runner_name.is_none() && ended.job_id == Some(job.id.0);
    status.finished.iter().rev().find(ran).or_else(|| status.finished.iter().rev().find(meant))
}

/// Prints a line a job. Returns how many did not end as they should.
pub fn tell(parts: &[Part], jobs: &[JobView], status: &Status) -> usize {
    let mut wrong = 0;
    let mut rows = Vec::new();
    for part in parts {
        let Some(job) = jobs.iter().find(|job| job.id == part.id) else {
            wrong += 1;
            continue;
        };
        let met = part.fate.is_met(job);
        wrong += usize::from(!met);
        let ended = container(status, job);
        let zero = job.queued_at.map_or(0, ms);
        let offset = |at: Option<u64>| at.map_or("-".to_owned(), |at| format!("+{}", at.saturating_sub(zero)));
        let timeline = ended.map(|ended| ended.timeline.clone()).unwrap_or_default();
        let result = match (job.conclusion, job.exit_code) {
            (Some(end), Some(code)) if code != 0 => format!("{} ({code})", end.as_str()),
            (Some(end), _) => end.as_str().to_owned(),
            (None, _) => job.status.as_str().to_owned(),
        };
        rows.push(vec![
            part.name.to_owned(),
            ended.map_or("-".to_owned(), |ended| ended.name.clone()),
            ended.map_or("-".to_owned(), |ended| ended.class.clone()),
            result,
            ended.map_or("-".to_owned(), |ended| ended.cause.to_string()),
            if met { "ok".to_owned() } else { format!("WRONG, expected {}", part.fate.expectation()) },
            offset(timeline.visible_ms),
            offset(timeline.recorded_ms),
            offset(timeline.runner_started_ms),
            offset(job.started_at.map(ms)),
            offset(job.completed_at.map(ms)),
            offset(timeline.ended_ms),
        ]);
    }
    let head = [
        "JOB",
        "CONTAINER",
        "CLASS",
        "AT THE FORGE",
        "CAUSE",
        "",
        "VISIBLE",
        "REQUESTED",
        "RUNNER",
        "STARTED",
        "FINISHED",
        "GONE",
    ];
    println!(
        "Milliseconds since the forge queued the job: seen by the controller (it polls each second), container\n\
         requested, runner program started, job started, job finished, container gone.\n"
    );
    for line in show::table(&head, &rows, 6) {
        println!("{line}");
    }
    wrong
}

/// Prints what a job printed, and where the host keeps it.
pub fn quote(stage: &Stage, part: &Part, jobs: &[JobView], status: &Status) -> anyhow::Result<()> {
    let found = jobs.iter().find(|job| job.id == part.id).and_then(|job| container(status, job));
    let Some(ended) = found else { return Ok(()) };
    show::headline(&format!("Output of \"{}\"", part.name));
    let unit = unit_name::container_unit(&ended.class, &ended.name.parse()?);
    println!("From the host's journal: journalctl --namespace='*' --unit {unit}");
    let journal =
        stage.lab.shell(&format!("journalctl --namespace='*' --no-pager --quiet --output=cat --unit {unit}"))?;
    let lines = journal.lines().map(show::plain).skip_while(|line| !line.contains("host name ") || line.contains('$'));
    let own = lines.take_while(|line| !line.contains("completed with result"));
    for line in own.take(LINES) {
        println!("  {line}");
    }
    Ok(())
}

fn ms(at: std::time::Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}
