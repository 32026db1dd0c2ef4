//! The command line: one file a command, each with its arguments and an entry function that returns an exit code.

mod check;
mod cleanup;
mod guest;
mod plan;
mod run;
mod sandbox;
pub mod status;
mod units;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{
    config::{self, Problems, Settings},
    units as rendered,
};

/// One freshly booted container for each CI job.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The controller: watches the forge and boots a container for each queued job.
    Run(run::Args),
    /// Show what the controller on this host is doing.
    Status(status::Args),
    /// The root half, run by systemd for one container at a time.
    #[command(subcommand)]
    Sandbox(sandbox::Command),
    /// The half inside the container, run by the container's own systemd.
    Guest(guest::Args),
    /// Try everything that serving jobs needs, and name what is missing.
    Check(check::Args),
    /// Show what would be started now for what is queued now, and why not for the rest. Starts nothing.
    Plan(plan::Args),
    /// Remove what was left behind.
    #[command(subcommand)]
    Cleanup(cleanup::Command),
    /// Render the systemd units, the polkit rule and the settings every process reads.
    Units(units::Args),
}

/// Parses the arguments of the process and does what they say.
pub fn main() -> ExitCode {
    match Cli::parse_from(arguments(std::env::args_os())).command {
        Command::Run(args) => run::main(args),
        Command::Status(args) => status::main(args),
        Command::Sandbox(command) => sandbox::main(command),
        Command::Guest(args) => guest::main(args),
        Command::Check(args) => check::main(args),
        Command::Plan(args) => plan::main(args),
        Command::Cleanup(command) => cleanup::main(command),
        Command::Units(args) => units::main(args),
    }
}

/// Names the program is installed under besides its own, and the command each stands for.
const NAMES: [(&str, &[&str]); 2] =
    [("runner-status", &["status"]), ("cleanup-github-runners", &["cleanup", "runners"])];

/// Called by another name, the program is the command it stands for.
fn arguments(mut given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let program = given.next().unwrap_or_default();
    let called = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stands_for = NAMES.iter().find(|(name, _)| *name == called).map_or(&[] as &[&str], |(_, command)| command);
    std::iter::once(program.clone()).chain(stands_for.iter().map(OsString::from)).chain(given).collect()
}

/// The configuration a command works with.
#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// Configuration file; the environment overrides it [default: the installed settings, if there are any]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn load(&self) -> Result<Settings, Problems> {
        let installed = || Some(PathBuf::from(rendered::SETTINGS_PATH)).filter(|path| path.exists());
        config::load(self.config.clone().or_else(installed).as_deref(), |key| std::env::var(key).ok())
    }
}

/// Exit status for a configuration that is refused.
const REFUSED: u8 = 2;

/// The exit status of a command: its own, [`REFUSED`] with every problem printed, or 1 with the error.
fn conclude(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| match error.downcast_ref::<Problems>() {
        Some(problems) => {
            eprintln!("{problems}");
            ExitCode::from(REFUSED)
        }
        None => {
            complain(&error);
            ExitCode::FAILURE
        }
    })
}

/// Runs to its end what waits for a forge or a socket.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Prints an error with its causes on one line, as the journal likes it.
fn complain(error: &anyhow::Error) {
    eprintln!("{error:#}");
}
