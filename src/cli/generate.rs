//! `generate`: completions and manual pages, made from the command line itself.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, conclude};

/// The program's name, as packages install it.
const NAME: &str = "gha-runner-controller";

/// Arguments of `generate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to: `completions` and `man1` are made in it.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(super) fn main(args: Args) -> ExitCode {
    conclude(write(&args).map(|()| ExitCode::SUCCESS))
}

fn write(args: &Args) -> anyhow::Result<()> {
    let [completions, man] = ["completions", "man1"].map(|part| args.output.join(part));
    for directory in [&completions, &man] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut command = Cli::command().name(NAME);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, NAME, &completions)
            .with_context(|| format!("cannot write to {}", completions.display()))?;
    }
    command.build();
    clap_mangen::generate_to(command, &man).with_context(|| format!("cannot write to {}", man.display()))
}
