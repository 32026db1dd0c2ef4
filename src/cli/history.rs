//! `history`: what ended, and sums over it.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use api::{now_ms, v1::Entries};
use controller::{
    cause::Cause,
    history::{Filter, Spread, Summary},
    status::Finished,
};

use super::{
    block_on,
    client::Reach,
    conclude, document,
    table::{bytes, milliseconds, or_dash, seconds, table},
};

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this repository's.
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<String>,
    /// Only this class's.
    #[arg(long)]
    class: Option<String>,
    /// Only what ended so, e.g. out-of-memory.
    #[arg(long, value_enum, hide_possible_values = true)]
    cause: Option<Cause>,
    /// Only this job's, by the forge's id.
    #[arg(long)]
    job: Option<u64>,
    /// Only containers of this name.
    #[arg(long)]
    container: Option<String>,
    /// Only what ended within this time, e.g. 12h; with --summary, what is summed up [default there: 1day]
    #[arg(long, value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// Most entries.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// How long jobs waited, who keeps the host busy, what ran out of memory.
    #[arg(long, conflicts_with_all = ["repo", "class", "cause", "job", "container"])]
    summary: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print one document for programs.
    #[arg(long)]
    json: bool,
}

/// Exit status 0 = answered, 1 = no answer.
pub(super) fn main(args: Args) -> ExitCode {
    conclude(block_on(show(&args)).map(|()| ExitCode::SUCCESS))
}

async fn show(args: &Args) -> anyhow::Result<()> {
    if args.summary {
        let hours = args.since.map_or(24, |since| since.as_secs().div_ceil(3600).max(1));
        let summary: Summary = args.reach.get(&format!("/api/v1/history/summary?hours={hours}")).await?;
        if args.json {
            document::print(&summary)?;
        } else {
            print!("{}", sums(&summary, hours));
        }
        return Ok(());
    }
    let since_ms =
        args.since.map(|since| now_ms().saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)));
    let filter = Filter {
        repo: args.repo.clone(),
        class: args.class.clone(),
        cause: args.cause,
        job_id: args.job,
        container: args.container.clone(),
        since_ms,
        before_ms: None,
        limit: Some(args.limit),
    };
    let entries: Entries = args.reach.get(&format!("/api/v1/history?{}", filter.query())).await?;
    if args.json {
        document::print(&entries)?;
    } else {
        println!("{} ended", entries.entries.len());
        if !entries.entries.is_empty() {
            print!("{}", table(&HEAD, entries.entries.iter().map(row)));
        }
    }
    Ok(())
}

const HEAD: [&str; 11] =
    ["ENDED", "CONTAINER", "CAUSE", "CLASS", "REPOSITORY", "JOB", "WAITED", "RAN", "MEMORY", "NAME", "REASON"];

fn row(ended: &Finished) -> Vec<String> {
    let timeline = &ended.timeline;
    let at = timeline.ended_ms.unwrap_or(ended.concluded_ms);
    vec![
        humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_millis(at)).to_string(),
        ended.name.clone(),
        ended.cause.to_string(),
        ended.class.clone(),
        ended.repo.clone(),
        or_dash(ended.job_id, |id| id.to_string()),
        or_dash(timeline.waited_ms(), milliseconds),
        or_dash(timeline.ran_ms(), milliseconds),
        or_dash(ended.memory_peak, bytes),
        ended.job_name.clone(),
        ended.reason.clone().unwrap_or_default(),
    ]
}

fn sums(summary: &Summary, hours: u64) -> String {
    let spread = |spread: &Spread| {
        let [half, most, longest] = [spread.p50_ms, spread.p95_ms, spread.max_ms].map(milliseconds);
        format!("p50 {half}, p95 {most}, longest {longest}")
    };
    let mut text = format!(
        "{} containers ended in the last {}, {} with a job\n",
        summary.containers,
        seconds(hours * 3600),
        summary.jobs
    );
    if summary.truncated {
        text.push_str("there were more: only the latest are summed up\n");
    }
    if summary.jobs > 0 {
        let _ = writeln!(text, "waited: {}", spread(&summary.waits));
        let _ = writeln!(text, "ran:    {}", spread(&summary.runs));
    }
    if !summary.causes.is_empty() {
        let rows = summary.causes.iter().map(|cause| vec![cause.cause.clone(), cause.count.to_string()]);
        text.push_str(&table(&["CAUSE", "CONTAINERS"], rows));
    }
    if !summary.repositories.is_empty() {
        let rows = summary.repositories.iter().map(|repo| {
            let [half, most] = [repo.waits.p50_ms, repo.waits.p95_ms].map(milliseconds);
            vec![repo.repo.clone(), repo.jobs.to_string(), seconds(repo.run_seconds), half, most]
        });
        text.push_str(&table(&["BUSIEST REPOSITORY", "JOBS", "RAN", "WAIT P50", "WAIT P95"], rows));
    }
    if !summary.memory.is_empty() {
        let rows = summary.memory.iter().map(|suspect| {
            let suggested = match (&suspect.suggested_class, suspect.suggested_memory) {
                (Some(class), _) => format!("class {class}"),
                (None, Some(memory)) => format!("memory = \"{}M\" for class {}", memory >> 20, suspect.class),
                (None, None) => "-".to_owned(),
            };
            vec![
                suspect.repo.clone(),
                suspect.job_name.clone(),
                suspect.class.clone(),
                suspect.out_of_memory.to_string(),
                suspect.near_limit.to_string(),
                or_dash(suspect.memory_peak, bytes),
                or_dash(suspect.class_memory, bytes),
                suggested,
            ]
        });
        let head = ["SHORT OF MEMORY", "JOB", "CLASS", "KILLED", "NEAR", "PEAK", "LIMIT", "SUGGESTED"];
        text.push_str(&table(&head, rows));
    }
    text
}
