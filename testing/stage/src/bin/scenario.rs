//! Plays one scenario on the machine it runs on, as root: what the tests in nix/tests do on a NixOS host.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use github_sim::ControlClient;
use stage::scenario::{Here, Host, Scenario};

#[derive(Parser)]
#[command(about = "Play one scenario on this host")]
struct Arguments {
    /// The simulator's control socket
    #[arg(long)]
    hub: PathBuf,
    #[command(subcommand)]
    scenario: Which,
}

#[derive(Subcommand)]
enum Which {
    /// From queued to gone, and again
    Job,
    /// The token shows to nobody
    Secrets {
        /// The file it is in: an argument could be seen
        token: PathBuf,
    },
    /// What a job cannot reach
    Fence,
    /// What the default container has
    Inside,
    /// A job runs while something is done to the host
    Undisturbed {
        /// What is done: a command line
        command: String,
    },
    /// Begin a job that does not end
    Endless,
    /// The host is up again
    Afterwards,
}

fn main() -> Result<()> {
    let Arguments { hub, scenario } = Arguments::parse();
    let hub = ControlClient::connect_within(hub, Duration::from_secs(60))?;
    let play = Scenario { hub: &hub, host: &Here };
    match scenario {
        Which::Job => play.job(),
        Which::Secrets { token } => play.secrets(std::fs::read_to_string(token)?.trim()),
        Which::Fence => play.fence(),
        Which::Inside => play.inside(),
        Which::Undisturbed { command } => {
            println!("{}", play.undisturbed(&play.usual(), |_| Here.shell(&command))?);
            play.nothing_left()
        }
        Which::Endless => play.endless(),
        Which::Afterwards => play.afterwards(),
    }
}
