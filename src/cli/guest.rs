//! `guest`: inside the container.

use std::process::ExitCode;

use clap::{Args as Arguments, Subcommand};
use guest::{admit, session};

/// Everything it needs comes by credentials.
#[derive(Debug, Arguments)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The runner's question before the first step of its job: may it run?
    Admit,
}

pub(super) fn main(args: Args) -> ExitCode {
    match args.command {
        None => ExitCode::from(session::run().code()),
        Some(Command::Admit) => admit::run(),
    }
}
