//! The lab by hand: `cargo run -p lab -- shell`.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use lab::{Cache, Lab, LabConfig, Place, Recipe, Suite, Template, Tree};

/// A systemd host in a box.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build the trees, if they are not there.
    Trees {
        /// The Debian release they are to be of, for example trixie.
        #[arg(long)]
        suite: Option<Suite>,
    },
    /// Boot a lab and run a shell in it; `$TEMPLATE` is the path of a job template.
    Shell {
        /// Where the shell runs.
        #[arg(long, value_enum, default_value = "host")]
        place: PlaceName,
        /// The Debian release of the host, for example trixie.
        #[arg(long, value_name = "SUITE")]
        host: Option<Suite>,
        /// The Debian release of the job template.
        #[arg(long, value_name = "SUITE")]
        job: Option<Suite>,
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
        Action::Trees { suite } => trees(suite),
        Action::Shell { place, host, job, command } => {
            let mut config = LabConfig::default();
            config.host.suite = host;
            config.job.suite = job;
            shell(config, place.into(), command)
        }
    }
}

fn trees(suite: Option<Suite>) -> Result<ExitCode> {
    let cache = Cache::open()?;
    for recipe in [Recipe::HOST, Recipe::JOB, Recipe::DOCKER, Recipe::NIX, Recipe::MACHINE] {
        let start = Instant::now();
        let tree = Tree::ensure(&cache, &Recipe { suite, ..recipe })?;
        println!("{} {:.1?}", tree.path().display(), start.elapsed());
    }
    Ok(ExitCode::SUCCESS)
}

fn shell(config: LabConfig, place: Place, mut command: Vec<String>) -> Result<ExitCode> {
    let start = Instant::now();
    let lab = Lab::boot(config)?;
    eprintln!("lab: up after {:.0?}", start.elapsed());
    let template = lab.add_template(&Template::new())?;
    if command.is_empty() {
        command.push("bash".to_owned());
    }
    let status = lab.command_in(place, &command)?.env("TEMPLATE", template).status()?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
