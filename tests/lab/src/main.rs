//! The lab by hand: `cargo run -p lab -- shell`.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use lab::{Cache, Lab, LabConfig, Place, Recipe, Template, Tree};

/// A systemd host in a box.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build the trees, if they are not there.
    Trees,
    /// Boot a lab and run a shell in it; `$TEMPLATE` is the path of a job template.
    Shell {
        /// Where the shell runs.
        #[arg(long, value_enum, default_value = "host")]
        place: PlaceName,
        /// What to run instead of a shell.
        #[arg(trailing_var_arg = true)]
        command: Vec<String>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum PlaceName {
    Host,
    Router,
    Lan,
    Forge,
    Internet,
    Metadata,
}

impl From<PlaceName> for Place {
    fn from(name: PlaceName) -> Self {
        match name {
            PlaceName::Host => Self::Host,
            PlaceName::Router => Self::Router,
            PlaceName::Lan => Self::Lan,
            PlaceName::Forge => Self::Forge,
            PlaceName::Internet => Self::Internet,
            PlaceName::Metadata => Self::Metadata,
        }
    }
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Action::Trees => trees(),
        Action::Shell { place, command } => shell(place.into(), command),
    }
}

fn trees() -> Result<ExitCode> {
    let cache = Cache::open()?;
    for recipe in [Recipe::HOST, Recipe::JOB, Recipe::DOCKER, Recipe::NIX, Recipe::MACHINE] {
        let start = Instant::now();
        let tree = Tree::ensure(&cache, &recipe)?;
        println!("{} {:.1?}", tree.path().display(), start.elapsed());
    }
    Ok(ExitCode::SUCCESS)
}

fn shell(place: Place, mut command: Vec<String>) -> Result<ExitCode> {
    let start = Instant::now();
    let lab = Lab::boot(LabConfig::default())?;
    eprintln!("lab: up after {:.0?}", start.elapsed());
    let template = lab.add_template(&Template::new())?;
    if command.is_empty() {
        command.push("bash".to_owned());
    }
    let status = lab.command_in(place, &command)?.env("TEMPLATE", template).status()?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
