//! `plan`: what would be started now, and why not for the rest.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use serde_json::json;

use super::{ConfigFile, block_on, conclude, table::table};
use crate::controller::{
    host_name::host_name,
    ledger::{drains_in, records_in},
    open_forge::open_forge,
    rehearsal::{Boot, Rehearsal, rehearse},
    status::WaitingFor,
};

/// How long repositories are looked at, at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Print one document for programs.
    #[arg(long)]
    json: bool,
}

/// Exit status 0 = everything was looked at, 1 = something could not be, 2 = the configuration is refused.
pub(super) fn main(args: Args) -> ExitCode {
    conclude(decide(&args).map(|rehearsal| {
        print(&rehearsal, args.json);
        if rehearsal.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }))
}

fn decide(args: &Args) -> anyhow::Result<Rehearsal> {
    let settings = args.config.load()?;
    let host = host_name(&settings);
    let records = records_in(&settings.state_dir)
        .context("which containers there are cannot be told. Remedy: run this as root")?;
    let drains = drains_in(&settings.state_dir).context("what is drained cannot be told")?;
    block_on(async { Ok(rehearse(open_forge(&settings)?, settings, host, records, drains, PATIENCE).await) })
}

fn print(rehearsal: &Rehearsal, json: bool) {
    if json {
        let boots: Vec<_> = rehearsal
            .boots
            .iter()
            .map(|boot| {
                let (repo, job) = boot.job.as_ref().map(|(repo, job)| (repo, job)).unzip();
                json!({"class": boot.class, "scope": boot.scope, "repo": repo, "job_id": job})
            })
            .collect();
        let document = json!({
            "boots": boots, "queue": rehearsal.queue, "active": rehearsal.active, "problems": rehearsal.problems,
        });
        println!("{document}");
        return;
    }
    for Boot { class, scope, job } in &rehearsal.boots {
        let reason = match job {
            Some((repo, job)) => format!("for job {job} of {repo}"),
            None => "to have one ready".to_owned(),
        };
        println!("would boot a container of class {class}, registered with {scope}, {reason}");
    }
    let waiting = rehearsal.queue.iter().filter(|job| job.waiting != WaitingFor::Runner);
    let rows: Vec<Vec<String>> = waiting
        .map(|job| {
            vec![job.job_id.to_string(), job.repo.clone(), job.labels.join(","), job.name.clone(), job.reason.clone()]
        })
        .collect();
    if !rows.is_empty() {
        print!("{}", table(&["QUEUED JOB", "REPOSITORY", "LABELS", "NAME", "NOT RUNNING BECAUSE"], rows.into_iter()));
    }
    println!("{} queued, {} to boot now", rehearsal.queue.len(), rehearsal.boots.len());
    for problem in &rehearsal.problems {
        eprintln!("{problem}");
    }
}
