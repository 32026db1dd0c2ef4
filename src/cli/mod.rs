//! The command line: one file a command, each with its arguments and an entry function that returns an exit code.

mod check;
mod cleanup;
mod client;
mod containers;
mod document;
mod generate;
mod history;
mod import;
mod jobs;
mod journal;
mod logs;
mod mcp;
mod operate;
mod plan;
mod run;
mod sandbox;
mod shell;
pub mod status;
mod table;
mod units;

use std::{
    ffi::OsString,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use settings::{Problems, Settings};

use crate::units as rendered;

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
    /// Show queued jobs, each with the reason why it does not run, and running ones.
    Jobs(jobs::Args),
    /// Show containers, from the request to the end.
    Containers(containers::Args),
    /// Show what the journal has of a container, also after it is gone.
    Logs(logs::Args),
    /// Open a shell in a container.
    Shell(shell::Args),
    /// Show ended jobs, or sums over them: waits, busiest repositories, jobs that run out of memory.
    History(history::Args),
    /// Take no new jobs, over restarts as well; running jobs go on, idle containers go.
    Drain(operate::PartArgs),
    /// Take jobs again, and try at once what failed and is left alone for a while.
    Resume(operate::PartArgs),
    /// End a container, whatever it does.
    Stop(operate::StopArgs),
    /// Boot a container though no job asks for one; it goes by itself when none comes.
    Provision(operate::ProvisionArgs),
    /// The root half, run by systemd for one container at a time.
    #[command(subcommand)]
    Sandbox(sandbox::SandboxCommand),
    /// Try everything that serving jobs needs, and name what is missing.
    Check(check::Args),
    /// Show what would be started now for what is queued now, and why not for the rest. Starts nothing.
    Plan(plan::Args),
    /// Remove what was left behind.
    #[command(subcommand)]
    Cleanup(cleanup::CleanupCommand),
    /// Read another tool's configuration and print ours, with a comment for what has no counterpart.
    Import(import::Args),
    /// Render what the host must know: units, kernel limits, rules for udev, and the settings every process reads.
    Units(units::Args),
    /// Serve the operations as tools to a program that speaks the Model Context Protocol on standard input and output.
    Mcp(mcp::Args),
    /// Write completions for shells, manual pages, and JSON Schemas of what commands print with --json.
    #[command(hide = true)]
    Generate(generate::Args),
}

/// Parses the arguments of the process and does what they say.
pub fn main() -> ExitCode {
    match Cli::parse_from(arguments(std::env::args_os())).command {
        Command::Run(args) => run::main(args),
        Command::Status(args) => status::main(args),
        Command::Jobs(args) => jobs::main(args),
        Command::Containers(args) => containers::main(args),
        Command::Logs(args) => logs::main(args),
        Command::Shell(args) => shell::main(args),
        Command::History(args) => history::main(args),
        Command::Drain(args) => operate::drain(args),
        Command::Resume(args) => operate::resume(args),
        Command::Stop(args) => operate::stop(args),
        Command::Provision(args) => operate::provision(args),
        Command::Sandbox(command) => sandbox::main(command),
        Command::Check(args) => check::main(args),
        Command::Plan(args) => plan::main(args),
        Command::Cleanup(command) => cleanup::main(command),
        Command::Import(args) => import::main(args),
        Command::Units(args) => units::main(args),
        Command::Mcp(args) => mcp::main(args),
        Command::Generate(args) => generate::main(args),
    }
}

/// Names the program is installed under besides its own, and the command each stands for.
const NAMES: [(&str, &[&str]); 3] = [
    ("runner-status", &["status"]),
    ("cleanup-github-runners", &["cleanup", "runners"]),
    ("cleanup-all-containers", &["cleanup", "containers", "--all"]),
];

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
    /// Configuration file, which the environment overrides [default: the installed settings, if there are any]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn load(&self) -> Result<Settings, Problems> {
        let installed = || Some(PathBuf::from(rendered::SETTINGS_PATH)).filter(|path| path.exists());
        settings::load(self.config.clone().or_else(installed).as_deref(), |key| std::env::var(key).ok())
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

/// Runs to its end what waits for a forge or a socket; a person is told, on lines of their own, that it goes on.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let seen = std::io::stderr().is_terminal();
    runtime()?.block_on(async {
        tokio::pin!(future);
        let begun = std::time::Instant::now();
        let mut patience = Duration::from_secs(1);
        loop {
            match tokio::time::timeout(patience, &mut future).await {
                Ok(done) => return done,
                Err(_) if seen => eprintln!("working, {} s", begun.elapsed().as_secs()),
                Err(_) => {}
            }
            patience = Duration::from_secs(5);
        }
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Prints an error with its causes on one line, as the journal likes it.
fn complain(error: &anyhow::Error) {
    eprintln!("{error:#}");
}
