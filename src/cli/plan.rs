//! `plan`: what would be started now, and why not for the rest.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::Context;
use controller::{
    host_name::host_name,
    ledger::{drains_in, records_in},
    rehearsal::{Boot, Rehearsal, rehearse},
    status::{QueuedJob, WaitingFor},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ConfigFile, block_on, conclude, document, table::table};
use crate::open_forge::open_forge;

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

/// What `plan --json` prints.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Planned {
    /// Containers that would be booted now.
    boots: Vec<PlannedBoot>,
    /// Every queued job, and what it waits for.
    queue: Vec<QueuedJob>,
    /// Containers there are, by class.
    active: BTreeMap<String, usize>,
    /// What could not be looked at, and whatever else is wrong.
    problems: Vec<String>,
}

/// A container that would be booted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlannedBoot {
    /// Its class.
    class: String,
    /// Where its runner would be registered.
    scope: String,
    /// `owner/repository` of the job that is the reason; absent where the class is to have one ready.
    repo: Option<String>,
    /// The forge's id of that job.
    job_id: Option<u64>,
}

/// Exit status 0 = everything was looked at, 1 = something could not be, 2 = the configuration is refused.
pub(super) fn main(args: Args) -> ExitCode {
    conclude(decide(&args).and_then(|rehearsal| {
        let good = rehearsal.problems.is_empty();
        if args.json {
            document::print(&Planned::from(rehearsal))?;
        } else {
            print(&rehearsal);
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }))
}

fn decide(args: &Args) -> anyhow::Result<Rehearsal> {
    let settings = args.config.load()?;
    let host = host_name(&settings);
    let records = records_in(&settings.state_dir)
        .context("cannot find out which containers there are. Remedy: run this as root")?;
    let drains = drains_in(&settings.state_dir).context("cannot find out what is drained")?;
    block_on(async { Ok(rehearse(open_forge(&settings)?, settings, host, records, drains, PATIENCE).await) })
}

impl From<Rehearsal> for Planned {
    fn from(Rehearsal { boots, queue, problems, active }: Rehearsal) -> Self {
        let planned = |Boot { class, scope, job }| {
            let (repo, job_id) = job.unzip();
            PlannedBoot { class, scope, repo, job_id }
        };
        Self { boots: boots.into_iter().map(planned).collect(), queue, active, problems }
    }
}

fn print(rehearsal: &Rehearsal) {
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
