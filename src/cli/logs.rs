//! `logs`: what the journal has of a container, also of one that is gone.

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use api::v1::{Containers, Entries};
use contract::ContainerName;
use controller::record::Timeline;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    block_on,
    client::Reach,
    conclude,
    journal::{Journal, Query},
    runtime,
};

/// Lines from so long before a container was recorded belong to it, and from so long after it ended.
const MARGIN: Duration = Duration::from_secs(5);

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A container's name, or the forge's id of a job.
    #[arg(value_name = "JOB|CONTAINER")]
    what: String,
    /// Go on with what is written from now on, until interrupted. A runner writes its job's output in blocks of 4 KiB,
    /// and the rest when a step ends.
    #[arg(short, long)]
    follow: bool,
    /// Print a document a line for programs.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What `logs --json` prints for each line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Line {
    /// When it was written, in milliseconds since the Unix epoch.
    at_ms: u64,
    /// Who wrote it: the container (`gha-runner-NAME`), the controller, systemd.
    by: String,
    /// What. A job's console may hold anything.
    message: String,
}

/// Exit status 0 = shown, 1 = nobody knows it, or the journal cannot be read.
pub(super) fn main(args: Args) -> ExitCode {
    conclude(show(&args).map(|()| ExitCode::SUCCESS))
}

fn show(args: &Args) -> anyhow::Result<()> {
    let query = block_on(find(args))?;
    runtime()?.block_on(print(&query, args.json))
}

async fn print(query: &Query, json: bool) -> anyhow::Result<()> {
    let mut journal = Journal::open(query)?;
    let mut out = std::io::stdout();
    while let Some(line) = journal.line().await? {
        let at_ms = line.at_us / 1000;
        let text = if json {
            serde_json::to_string(&Line { at_ms, by: line.by, message: line.message })?
        } else {
            let at = humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + Duration::from_millis(at_ms));
            // A job's console may hold anything: only what moves nothing on a terminal is shown.
            let plain: String = line.message.chars().filter(|c| !c.is_control() || *c == '\t').collect();
            format!("{at} {} {plain}", line.by)
        };
        match writeln!(out, "{text}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

/// The last container of that name, or of that job.
async fn find(args: &Args) -> anyhow::Result<Query> {
    let job: Option<u64> = args.what.parse().ok();
    let name: Option<ContainerName> = args.what.parse().ok();
    anyhow::ensure!(job.is_some() || name.is_some(), "{:?} is neither a job's id nor a container's name", args.what);
    let now: Containers = args.reach.get("/api/v1/containers").await?;
    let is_it = |of: Option<u64>, named: &str| job.is_some() && of == job || named == args.what;
    if let Some(found) = now.containers.iter().find(|container| is_it(container.job_id, &container.name)) {
        return query(&found.name, &found.timeline, None, args.follow);
    }
    let filter = match job {
        Some(job) => format!("job_id={job}"),
        None => format!("container={}", args.what),
    };
    let then: Entries = args.reach.get(&format!("/api/v1/history?{filter}&limit=1")).await?;
    let found = then.entries.first().with_context(|| {
        let remedy = "Remedy: gha-runner-controller history shows what there was";
        format!("no container of {} is known here. {remedy}", args.what)
    })?;
    let until = Some(found.concluded_ms).filter(|_| !args.follow);
    query(&found.name, &found.timeline, until, args.follow)
}

fn query(name: &str, timeline: &Timeline, until_ms: Option<u64>, follow: bool) -> anyhow::Result<Query> {
    let name: ContainerName = name.parse()?;
    let margin = u64::try_from(MARGIN.as_micros())?;
    let since = timeline.recorded_ms.or(timeline.unit_started_ms).unwrap_or_default();
    Ok(Query {
        // What its unit writes (and through it its console), what systemd says of its unit, what the controller says of
        // it.
        either: [format!("SYSLOG_IDENTIFIER=gha-runner-{name}"), format!("F_CONTAINER={name}")],
        since_us: since.saturating_mul(1000).saturating_sub(margin),
        until_us: until_ms.map(|until| until.saturating_mul(1000).saturating_add(margin)),
        follow,
    })
}
