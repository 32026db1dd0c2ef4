//! `sandbox …`: the root half.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use contract::{ContainerName, PRUNINGS_FILE};
use sandbox::{
    Paths, firewall, launcher, nspawn,
    prepare::{self, Step},
    prune, renew, sweep, teardown, user_namespace,
};
use settings::renewable::RENEWED_DIR;

use super::complain;

#[derive(Debug, Subcommand)]
pub(super) enum SandboxCommand {
    /// Make everything a container needs (`ExecStartPre=`).
    Prepare {
        #[command(flatten)]
        container: Container,
        /// Fail when this step is done: for tests of what follows. Only who may change the unit can pass it.
        #[arg(long, hide = true, value_name = "STEP")]
        fail_after: Option<Step>,
    },
    /// Become the container (`ExecStart=`).
    Run {
        #[command(flatten)]
        container: Container,
    },
    /// Remove everything of a container and write down how it ended (`ExecStopPost=`).
    Teardown {
        #[command(flatten)]
        container: Container,
    },
    /// Remove what is left of containers whose unit is gone.
    Sweep,
    /// Start and stop containers at the controller's order, on the socket that systemd passes.
    Launch {
        /// The resolved settings.
        #[arg(long, value_name = "FILE")]
        settings: PathBuf,
    },
    /// Remove image stores and caches that no container uses where the disk is short.
    Prune {
        /// The resolved settings.
        #[arg(long, value_name = "FILE")]
        settings: PathBuf,
    },
    /// Bring secrets that were renewed to the controller (`ExecReload=`).
    Renew {
        /// The resolved settings.
        #[arg(long, value_name = "FILE")]
        settings: PathBuf,
    },
    /// Load the table that keeps containers away from everything but the internet.
    Firewall {
        /// The resolved settings.
        #[arg(long, value_name = "FILE", required_unless_present = "remove")]
        settings: Option<PathBuf>,
        /// Remove the table instead.
        #[arg(long)]
        remove: bool,
    },
    /// Keep a user namespace open until standard input closes; `prepare` starts it.
    #[command(hide = true)]
    HoldUserNamespace,
}

#[derive(Debug, Args)]
pub(super) struct Container {
    /// The resolved settings. Only `prepare` reads them.
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
    /// The class in the unit's name.
    #[arg(long)]
    class: String,
    /// The container: the unit's instance.
    name: ContainerName,
}

pub(super) fn main(command: SandboxCommand) -> ExitCode {
    let result = match command {
        SandboxCommand::Prepare { container, fail_after } => prepare(&container, fail_after),
        SandboxCommand::Run { container } => Err(nspawn::run(&Paths::default(), &container.name)),
        SandboxCommand::Teardown { container } => {
            // Without it the mounts stay, which it reports.
            if let Err(error) = sandbox::join_host() {
                eprintln!("teardown of {}: cannot join the host's mounts: {error}", container.name);
            }
            let clean = teardown::teardown(&Paths::default(), &container.class, &container.name);
            return if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        SandboxCommand::Sweep => sweep(),
        SandboxCommand::Launch { settings } => launcher::serve(&settings),
        SandboxCommand::Prune { settings } => prune(&settings),
        SandboxCommand::Renew { settings } => renew(&settings),
        SandboxCommand::Firewall { remove: true, .. } => firewall::remove(),
        SandboxCommand::Firewall { settings, .. } => load_firewall(settings.as_deref()),
        SandboxCommand::HoldUserNamespace => user_namespace::hold().context("cannot make a user namespace"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn prepare(container: &Container, fail_after: Option<Step>) -> anyhow::Result<()> {
    sandbox::join_host().context("cannot join the host's mounts")?;
    prepare::prepare(prepare::Request {
        paths: &Paths::default(),
        settings: &container.settings,
        class: &container.class,
        name: &container.name,
        fail_after,
    })
    .map(drop)
}

fn sweep() -> anyhow::Result<()> {
    let left = sweep::sweep(&Paths::default())?;
    anyhow::ensure!(left.is_empty(), "not everything could be removed: {}", left.join("; "));
    Ok(())
}

fn prune(settings: &Path) -> anyhow::Result<()> {
    let settings = settings::resolved::read(settings).context("settings")?;
    prune::prune(&Paths::default(), &settings, Path::new(PRUNINGS_FILE))
}

fn renew(settings: &Path) -> anyhow::Result<()> {
    let settings = settings::resolved::read(settings).context("settings")?;
    renew::renew(&settings, Path::new(RENEWED_DIR))
}

fn load_firewall(settings: Option<&Path>) -> anyhow::Result<()> {
    let settings = settings::resolved::read(settings.context("--settings is missing")?).context("settings")?;
    firewall::load(&settings, &Paths::default().records)
}
