//! The command line: one file a command, each with its arguments and an entry function that returns an exit code.

mod guest;
mod run;
mod sandbox;
pub mod status;
mod units;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

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
        Command::Units(args) => units::main(args),
    }
}

/// Called as `runner-status`, the program is its `status` command.
fn arguments(mut given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let name = given.next().unwrap_or_default();
    let alias = Path::new(&name).file_name().is_some_and(|name| name == "runner-status");
    let command = alias.then(|| OsString::from("status"));
    std::iter::once(name).chain(command).chain(given).collect()
}

/// Prints an error with its causes on one line, as the journal likes it.
fn complain(error: &anyhow::Error) {
    eprintln!("{error:#}");
}
