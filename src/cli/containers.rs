//! `containers`: those there are, from the request to the end.

use std::process::ExitCode;

use api::v1::Containers;
use controller::status::ActiveContainer;

use super::{
    block_on,
    client::Reach,
    conclude, document,
    table::{bytes, or_dash, seconds, table},
};

/// Arguments of `containers`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
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
    let all: Containers = args.reach.get("/api/v1/containers").await?;
    if args.json {
        document::print(&all)?;
    } else {
        println!("{} containers", all.containers.len());
        if !all.containers.is_empty() {
            print!("{}", rows(&all.containers));
        }
    }
    Ok(())
}

/// As a table.
pub(super) fn rows(containers: &[ActiveContainer]) -> String {
    let rows = containers.iter().map(|container| {
        vec![
            container.name.clone(),
            container.phase.to_string(),
            container.class.clone(),
            container.repo.clone(),
            or_dash(container.job_id, |id| id.to_string()),
            seconds(container.running_seconds),
            or_dash(container.memory, bytes),
            or_dash(container.cpu_us, |us| seconds(us / 1_000_000)),
            container.subnet.clone(),
            container.job_name.clone(),
        ]
    });
    table(&["CONTAINER", "PHASE", "CLASS", "REPOSITORY", "JOB", "FOR", "MEMORY", "CPU", "SUBNET", "NAME"], rows)
}
