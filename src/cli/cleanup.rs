//! `cleanup runners`, also `cleanup-github-runners`: removes registrations of this host that no container claims.
//! `cleanup containers`, also (with `--all`) `cleanup-all-containers`: ends containers and removes what they left.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use contract::unit_name;
use controller::{
    clock::RealClock,
    ghosts::{Found, find},
    host_name::host_name,
    ledger::records_in,
    ports::{Clock, Systemd, Unit, UnitState},
    systemd::SystemdBus,
};
use forge::{Deletion, Forge, Runner};
use sandbox::{Paths, sweep::sweep};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ConfigFile, block_on, conclude, document};
use crate::{open_forge::open_forge, units::container::STOP_TIMEOUT};

/// What is cleaned up.
#[derive(Debug, clap::Subcommand)]
pub(super) enum CleanupCommand {
    /// Registrations of this host at the forge that no container claims, are offline and have no job. Others' are never
    /// touched. The controller does the same every ten minutes.
    Runners(Args),
    /// Containers that no record of the controller explains, and what ended ones left behind. As root, with or without a
    /// controller.
    Containers(ContainersArgs),
}

/// Arguments of `cleanup containers`.
#[derive(Debug, clap::Args)]
pub(super) struct ContainersArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Every container on this host, whatever it does. Their jobs fail at the forge.
    #[arg(long)]
    all: bool,
    /// Only show what would be ended.
    #[arg(long)]
    dry_run: bool,
    /// Print one document for programs.
    #[arg(long)]
    json: bool,
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

/// What `cleanup containers --json` prints.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ContainersCleaned {
    /// Names of the containers that were ended, or with `--dry-run` would be.
    containers: Vec<String>,
    /// Nothing was ended.
    dry_run: bool,
    /// What is left that should not be, for people.
    left: Vec<String>,
}

/// What `cleanup runners --json` prints.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunnersCleaned {
    /// Host part of this host's runner names.
    host: String,
    /// Places looked at.
    scopes: usize,
    /// This host's registrations that no container claims.
    ghosts: Vec<Ghost>,
    /// What could not be looked at, for people.
    errors: Vec<String>,
}

/// A registration that no container claims.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ghost {
    /// Where it is registered.
    scope: String,
    /// The runner's name.
    runner_name: String,
    /// The runner's id at the forge.
    runner_id: u64,
    /// `would be removed`, `removed`, `gone by itself`, or why not.
    outcome: String,
}

/// Exit status 0 = nothing is left to remove, 1 = something could not be listed or removed, 2 = the configuration is
/// refused.
pub(super) fn main(command: CleanupCommand) -> ExitCode {
    let good = match command {
        CleanupCommand::Runners(args) => block_on(clean(&args)),
        CleanupCommand::Containers(args) => end_containers(&args),
    };
    conclude(good.map(|good| if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

fn end_containers(args: &ContainersArgs) -> anyhow::Result<bool> {
    let settings = args.config.load()?;
    let known = records_in(&settings.state_dir)
        .context("cannot find out which containers the controller knows. Remedy: run this as root")?;
    let known: BTreeSet<_> = known.into_iter().map(|record| record.name).collect();
    let (ended, still): (Vec<Unit>, Vec<Unit>) = block_on(async {
        let systemd = SystemdBus::connect().await.map_err(anyhow::Error::new)?;
        let mut units = there(&systemd).await?;
        units.retain(|unit| args.all || !known.contains(&unit.name));
        if args.dry_run {
            return Ok((units, Vec::new()));
        }
        for unit in &units {
            systemd.stop(&unit.class, &unit.name).await.with_context(|| {
                format!(
                    "{} is not stopped. Remedy: run this as root",
                    unit_name::container_unit(&unit.class, &unit.name)
                )
            })?;
        }
        let deadline = tokio::time::Instant::now() + STOP_TIMEOUT * 2;
        let names: BTreeSet<_> = units.iter().map(|unit| unit.name.clone()).collect();
        loop {
            let mut still = there(&systemd).await?;
            still.retain(|unit| names.contains(&unit.name));
            if still.is_empty() || tokio::time::Instant::now() > deadline {
                return Ok((units, still));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })?;
    let mut left: Vec<String> = still.iter().map(|unit| format!("{} does not stop", unit.name)).collect();
    if !args.dry_run {
        left.extend(sweep(&Paths::default())?);
    }
    let good = left.is_empty();
    let names: Vec<String> = ended.iter().map(|unit| unit.name.to_string()).collect();
    if args.json {
        document::print(&ContainersCleaned { containers: names, dry_run: args.dry_run, left })?;
    } else {
        let done = if args.dry_run { "would be ended" } else { "ended" };
        for name in &names {
            println!("{name}  {done}");
        }
        println!("{} containers {done}", names.len());
        for line in &left {
            eprintln!("{line}");
        }
    }
    Ok(good)
}

/// Containers that run, or are about to.
async fn there(systemd: &SystemdBus) -> anyhow::Result<Vec<Unit>> {
    let mut units = systemd.list().await.map_err(anyhow::Error::new)?;
    units.retain(|unit| !matches!(unit.state, UnitState::Inactive | UnitState::Failed));
    Ok(units)
}

async fn clean(args: &Args) -> anyhow::Result<bool> {
    let settings = args.config.load()?;
    let host = host_name(&settings);
    let forge = open_forge(&settings)?;
    let state_dir = args.state_dir.as_ref().unwrap_or(&settings.state_dir);
    let now = RealClock::start().wall();
    let Found { ghosts, scopes, errors } = find(&forge, &settings, &host, || records_in(state_dir), now)
        .await
        .context("cannot find out which registrations have a container. Remedy: run this as root")?;
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
        let Runner { name, id, .. } = ghost;
        rows.push(Ghost { scope: scope.to_string(), runner_name: name.clone(), runner_id: *id, outcome });
    }
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if args.json {
        document::print(&RunnersCleaned { host, scopes, ghosts: rows, errors })?;
    } else {
        for Ghost { scope, runner_name, outcome, .. } in &rows {
            println!("{scope}  {runner_name}  {outcome}");
        }
        println!("{} of this host's registrations in {scopes} places have no container", rows.len());
        for error in &errors {
            eprintln!("not looked at: {error}");
        }
    }
    Ok(good)
}
