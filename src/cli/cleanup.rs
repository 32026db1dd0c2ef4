//! `cleanup runners`, also `cleanup-github-runners`: removes registrations of this host that no container claims.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use serde_json::json;

use super::{ConfigFile, block_on, conclude};
use crate::{
    controller::{
        clock::RealClock,
        edges::Clock,
        ghosts::{Found, find},
        host_name::host_name,
        ledger::records_in,
        open_forge::open_forge,
    },
    forge::{Deletion, Forge},
};

/// What is cleaned up.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Registrations of this host at the forge that no container claims, are offline and have no job. Others' are never
    /// touched. The controller does the same every ten minutes.
    Runners(Args),
}

/// Arguments of `cleanup runners`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// The controller's state, where the configuration does not say.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Only show what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Print one document for programs.
    #[arg(long)]
    json: bool,
}

/// Exit status 0 = nothing is left to remove, 1 = something could not be listed or removed, 2 = the configuration is
/// refused.
pub(super) fn main(command: Command) -> ExitCode {
    let Command::Runners(args) = command;
    conclude(block_on(clean(&args)).map(|good| if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

async fn clean(args: &Args) -> anyhow::Result<bool> {
    let settings = args.config.load()?;
    let host = host_name(&settings);
    let forge = open_forge(&settings)?;
    let state_dir = args.state_dir.as_ref().unwrap_or(&settings.state_dir);
    let now = RealClock::start().wall();
    let Found { ghosts, scopes, errors } = find(&forge, &settings, &host, || records_in(state_dir), now)
        .await
        .context("which registrations have a container cannot be told. Remedy: run this as root")?;
    let mut good = errors.is_empty();
    let mut rows = Vec::new();
    for (scope, ghost) in &ghosts {
        let outcome = if args.dry_run {
            "would be removed".to_owned()
        } else {
            match forge.delete_runner(scope, ghost.id).await {
                Ok(Deletion::Deleted) => "removed".to_owned(),
                Ok(Deletion::AlreadyGone) => "gone by itself".to_owned(),
                Ok(Deletion::Busy) => "kept: the forge says it has a job".to_owned(),
                Err(error) => {
                    good = false;
                    format!("not removed: {error}")
                }
            }
        };
        rows.push((scope, ghost, outcome));
    }
    if args.json {
        let ghosts: Vec<_> = rows
            .iter()
            .map(|(scope, ghost, outcome)| {
                json!({"scope": scope, "runner_name": ghost.name, "runner_id": ghost.id, "outcome": outcome})
            })
            .collect();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        println!("{}", json!({"host": host, "scopes": scopes, "ghosts": ghosts, "errors": errors}));
    } else {
        for (scope, ghost, outcome) in &rows {
            println!("{scope}  {}  {outcome}", ghost.name);
        }
        println!("{} of this host's registrations in {scopes} places have no container", rows.len());
        for error in &errors {
            eprintln!("not looked at: {error}");
        }
    }
    Ok(good)
}
