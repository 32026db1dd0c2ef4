//! `jobs`: what waits, and why it does not run, and what runs.

use std::process::ExitCode;

use api::v1::Jobs;

use super::{
    block_on,
    client::Reach,
    conclude, document,
    table::{seconds, table},
};

/// Arguments of `jobs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    reach: Reach,
    /// Only this repository's.
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<String>,
    /// Print one document for programs.
    #[arg(long)]
    json: bool,
}

/// Exit status 0 = answered, 1 = no answer.
pub(super) fn main(args: Args) -> ExitCode {
    conclude(block_on(show(&args)).map(|()| ExitCode::SUCCESS))
}

async fn show(args: &Args) -> anyhow::Result<()> {
    let mut jobs: Jobs = args.reach.get("/api/v1/jobs").await?;
    if let Some(wanted) = &args.repo {
        jobs.queued.retain(|job| job.repo.eq_ignore_ascii_case(wanted));
        jobs.running.retain(|container| container.repo.eq_ignore_ascii_case(wanted));
    }
    if args.json {
        document::print(&jobs)?;
        return Ok(());
    }
    print!("{}", for_people(&jobs));
    Ok(())
}

fn for_people(jobs: &Jobs) -> String {
    let mut text = format!("{} queued, {} running\n", jobs.queued.len(), jobs.running.len());
    if !jobs.queued.is_empty() {
        let rows = jobs.queued.iter().map(|job| {
            vec![
                job.job_id.to_string(),
                job.repo.clone(),
                job.name.clone(),
                job.labels.join(","),
                seconds(job.waiting_seconds),
                job.reason.clone(),
            ]
        });
        text.push_str(&table(&["QUEUED JOB", "REPOSITORY", "NAME", "LABELS", "FOR", "NOT RUNNING BECAUSE"], rows));
    }
    if !jobs.running.is_empty() {
        let rows = jobs.running.iter().map(|container| {
            vec![
                container.job_id.map_or("-".into(), |id| id.to_string()),
                container.repo.clone(),
                container.job_name.clone(),
                container.name.clone(),
                container.class.clone(),
                container.phase.to_string(),
                seconds(container.running_seconds),
            ]
        });
        text.push_str(&table(&["RUNNING JOB", "REPOSITORY", "NAME", "CONTAINER", "CLASS", "PHASE", "FOR"], rows));
    }
    text
}
