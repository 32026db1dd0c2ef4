//! `units`: from the configuration to what systemd needs to know.

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args as Arguments;
use contract::guest_settings::PROGRAM;
use settings::PRIVILEGED_COST;

use super::conclude;
use crate::units::{self, Places};

/// Checks the configuration and writes every file made from it, below the output directory.
#[derive(Debug, Arguments)]
pub(super) struct Args {
    /// Configuration file (TOML, or JSON if its name ends in .json), which the environment overrides; without one the
    /// environment alone counts.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to write: /etc on a plain host.
    #[arg(long, value_name = "DIR", required_unless_present = "guest_unit")]
    output: Option<PathBuf>,
    /// This program as the units name it.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Where the resolved settings will lie when the units run.
    #[arg(long, value_name = "PATH", default_value = units::SETTINGS_PATH)]
    settings_path: PathBuf,
    /// Look at no file but the configuration: for building on another machine.
    #[arg(long = "static")]
    is_static: bool,
    /// Only print the guest's unit, for a NixOS system; `--binary` is the path of gha-runner-guest in it.
    #[arg(long)]
    guest_unit: bool,
}

pub(super) fn main(args: Args) -> ExitCode {
    conclude(write(args).map(|()| ExitCode::SUCCESS))
}

fn write(args: Args) -> anyhow::Result<()> {
    if args.guest_unit {
        let binary = args.binary.unwrap_or_else(|| PROGRAM.into());
        units::check_places(&Places { binary: binary.clone(), settings: args.settings_path })?;
        print!("{}", sandbox::guest::unit(&binary));
        return Ok(());
    }
    let binary = match args.binary {
        Some(binary) => binary,
        None => env::current_exe().context("cannot tell where this program lies; pass --binary")?,
    };
    let output = args.output.context("--output is missing")?;
    let settings = settings::load(args.config.as_deref(), |key| env::var(key).ok())?;
    let places = Places { binary, settings: args.settings_path };
    if !args.is_static {
        units::check_host(&settings)?;
        units::check_guest(&places)?;
    }
    for class in settings.classes.values().filter(|class| class.privileged) {
        println!("class {} is {PRIVILEGED_COST}", class.name);
    }
    units::check_places(&places)?;
    for change in units::install(&output, &units::render(&settings, &places)?)? {
        println!("{change}");
    }
    Ok(())
}
