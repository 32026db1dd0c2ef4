//! `status`, also `runner-status`: what the controller on this host is doing.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use api::Health;
use controller::status::{ClassIntake, Finished, IntakeStatus, SetStatus, Status};
use settings::PRIVILEGED_COST;

use super::{
    client::Reach,
    containers,
    table::{or_dash, seconds, table},
};

/// Time between two looks of `--watch`.
const WATCH: Duration = Duration::from_secs(1);
/// Ended containers shown to people.
const ENDED_SHOWN: usize = 10;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the whole document for programs.
    #[arg(long)]
    json: bool,
    /// Show it again and again, until interrupted; with --json, a document a line.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Prints the status. Exit status 0 = healthy, 3 = not healthy, 1 = no answer.
pub fn main(args: Args) -> ExitCode {
    let shown = if args.watch {
        super::runtime().and_then(|runtime| runtime.block_on(watch(&args)))
    } else {
        super::block_on(show(&args))
    };
    super::conclude(shown.map(|healthy| if healthy { ExitCode::SUCCESS } else { ExitCode::from(3) }))
}

async fn watch(args: &Args) -> anyhow::Result<bool> {
    loop {
        if !args.json && std::io::stdout().is_terminal() {
            // To the top left, and everything below goes.
            print!("\u{1b}[H\u{1b}[2J");
        }
        show(args).await?;
        std::io::stdout().flush()?;
        tokio::time::sleep(WATCH).await;
    }
}

async fn show(args: &Args) -> anyhow::Result<bool> {
    let body = args.reach.text("/status").await?;
    let status: Status = serde_json::from_slice(&body).context("the answer is not a status document")?;
    let health = api::health(&status, api::now_ms());
    if args.json {
        println!("{}", String::from_utf8_lossy(&body));
    } else {
        print!("{}", for_people(&status, &health));
    }
    Ok(health.reasons.is_empty())
}

/// The status as text: health, containers, queue, the last ends.
pub fn for_people(status: &Status, health: &Health) -> String {
    let mut text = String::new();
    let intake = match (status.intake, status.drained) {
        (true, _) => "",
        (false, true) => ", drained: taking no new jobs",
        (false, false) => ", taking no new jobs",
    };
    let _ = writeln!(
        text,
        "gha-runner-controller {} on {}: {}{intake}, {} of {} containers",
        status.version,
        status.host,
        health.status,
        status.active_containers.len(),
        status.max_concurrent
    );
    for reason in &health.reasons {
        let _ = writeln!(text, "  ! {reason}");
    }
    for class in status.classes.iter().filter(|class| class.drained) {
        let _ = writeln!(text, "  class {} is drained: taking no new jobs", class.name);
    }
    for class in status.classes.iter().filter(|class| class.privileged) {
        let _ = writeln!(text, "  class {} is {PRIVILEGED_COST}", class.name);
    }
    for target in &status.targets {
        let polled =
            target.last_poll_age_seconds.map_or("never polled".to_owned(), |age| format!("polled {age} s ago"));
        let limit = target
            .rate_limit
            .map_or(String::new(), |limit| format!(", {} of {} calls left", limit.remaining, limit.limit));
        let _ = writeln!(text, "  {}: {} queued, {polled}{limit}", target.repo, target.queued);
    }
    for set in &status.sets {
        let _ = writeln!(text, "{}", set_shown(set));
    }
    for target in &status.targets {
        // Where there is a set, its line says it; where nothing was chosen, there is nothing to say.
        let is_said = |chosen: &ClassIntake| {
            chosen.reason == ClassIntake::AS_CONFIGURED
                || status.sets.iter().any(|set| set.class == chosen.class && set.scope == target.repo)
        };
        for chosen in target.intake.iter().filter(|chosen| !is_said(chosen)) {
            let intake = match chosen.intake {
                IntakeStatus::ScaleSet => "by scale set",
                IntakeStatus::Polling => "by polling",
                IntakeStatus::None => "not",
            };
            let _ = writeln!(
                text,
                "  class {} in {}: jobs are found {intake}: {}",
                chosen.class, target.repo, chosen.reason
            );
        }
    }
    if !status.active_containers.is_empty() {
        text.push_str(&containers::rows(&status.active_containers));
    }
    if !status.queue.is_empty() {
        let rows = status.queue.iter().map(|job| {
            vec![
                job.job_id.to_string(),
                job.repo.clone(),
                seconds(job.waiting_seconds),
                job.labels.join(","),
                job.name.clone(),
                job.reason.clone(),
            ]
        });
        text.push_str(&table(&["QUEUED JOB", "REPOSITORY", "FOR", "LABELS", "NAME", "NOT RUNNING BECAUSE"], rows));
    }
    if !status.finished.is_empty() {
        let rows = status.finished.iter().rev().take(ENDED_SHOWN).map(|ended| finished_row(ended));
        text.push_str(&table(&["ENDED", "CAUSE", "CLASS", "REPOSITORY", "JOB", "RAN", "NAME", "REASON"], rows));
    }
    text
}

/// How the jobs of a class are found where it could have a scale set, and why not by that.
fn set_shown(set: &SetStatus) -> String {
    let intake = match (set.intake, &set.reason) {
        (IntakeStatus::ScaleSet, _) => {
            format!("by scale set, {} assigned, {} of them running", set.assigned, set.running)
        }
        (IntakeStatus::Polling, None) => "by polling until its scale set is open".to_owned(),
        (IntakeStatus::Polling, Some(_)) => "by polling".to_owned(),
        (IntakeStatus::None, _) => "not: it has no scale set".to_owned(),
    };
    let reason = set.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("  class {} in {}: jobs are found {intake}{reason}", set.class, set.scope)
}

fn finished_row(ended: &Finished) -> Vec<String> {
    let timeline = &ended.timeline;
    let ran = match (timeline.job_started_ms, timeline.job_ended_ms.or(timeline.ended_ms)) {
        (Some(from), Some(to)) => seconds(to.saturating_sub(from) / 1000),
        _ => "-".into(),
    };
    vec![
        ended.name.clone(),
        ended.cause.to_string(),
        ended.class.clone(),
        ended.repo.clone(),
        or_dash(ended.job_id, |id| id.to_string()),
        ran,
        ended.job_name.clone(),
        ended.reason.clone().unwrap_or_default(),
    ]
}
