//! The benchmark: how long each step takes, how many jobs start a second, what the controller uses and asks.
//!
//! It never fails because something is slow. `--markdown` prints Markdown tables, `--quick` measures less,
//! `--features` measures what each part of the isolation costs, and nothing else; `--paths` the ways a job comes here;
//! `--gitea` the same at a real Gitea; `--api` what those who ask and listen cost the jobs; `--neighbours` what jobs
//! that flood the controller cost others; `--peers` the same job through what people use instead.

mod api;
mod burst;
mod by_hand;
mod features;
mod footprint;
mod gitea;
mod neighbours;
mod paths;
mod peers;
mod report;
mod sequence;
mod stats;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use report::Report;
use stage::{Stage, StageConfig, show};

/// How much is measured.
struct Amount {
    sequential: usize,
    burst: usize,
    by_hand: usize,
    idle: Duration,
    paths: paths::Amount,
    /// Bursts with and without those who ask.
    asked: usize,
}

/// What is measured of a run.
#[derive(Clone, Copy)]
enum Part {
    All,
    Features,
    Paths,
    Gitea,
    Api,
    Neighbours,
    Peers,
}

const FULL: Amount = Amount {
    sequential: 30,
    burst: 20,
    by_hand: 15,
    idle: Duration::from_secs(30),
    paths: paths::Amount { idle: Duration::from_secs(76), jobs: 14, quiet: 8 },
    asked: 4,
};
const QUICK: Amount = Amount {
    sequential: 8,
    burst: 20,
    by_hand: 5,
    idle: Duration::from_secs(10),
    paths: paths::Amount { idle: Duration::from_secs(20), jobs: 8, quiet: 3 },
    asked: 1,
};

fn main() -> ExitCode {
    let mut report = Report { markdown: false };
    let (mut amount, mut part) = (&FULL, Part::All);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--markdown" => report.markdown = true,
            "--quick" => amount = &QUICK,
            "--features" => part = Part::Features,
            "--paths" => part = Part::Paths,
            "--gitea" => part = Part::Gitea,
            "--api" => part = Part::Api,
            "--neighbours" => part = Part::Neighbours,
            "--peers" => part = Part::Peers,
            _ => {
                eprintln!(
                    "usage: bench [--markdown] [--quick] [--features|--paths|--gitea|--api|--neighbours|--peers]"
                );
                return ExitCode::from(2);
            }
        }
    }
    let measured = match part {
        Part::All => measure(amount, report),
        Part::Features => features::measure(amount.by_hand, report),
        Part::Paths => paths::measure(&amount.paths, report),
        Part::Gitea => gitea::measure(&amount.paths, report),
        Part::Api => asked(amount, report),
        Part::Neighbours => flooded(amount, report),
        Part::Peers => peers::measure(amount.by_hand, report),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(amount: &Amount, report: Report) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    println!("{cores} cores, load average {load} before. The runner program is a stand-in that starts at once.\n");
    let stage = boot("1s")?;
    let jobs = amount.sequential;
    let total = sequence::measure(&stage, jobs, report).context("jobs one after the other")?;
    println!();
    burst::measure(&stage, amount.burst, report).context("many jobs at once")?;
    println!();
    by_hand::measure(&stage, amount.by_hand, total, report).context("containers by hand")?;
    println!();
    show::doing("Taking it down", || drop(stage));
    features::measure(amount.by_hand, report).context("the parts of the isolation")?;
    println!();
    let stage = boot("10s")?;
    println!("Watching an idle controller …");
    footprint::idle(&stage, amount.idle, report).context("an idle controller")?;
    show::doing("Taking it down", || drop(stage));
    println!();
    paths::measure(&amount.paths, report).context("the ways a job comes here")?;
    println!();
    gitea::measure(&amount.paths, report).context("a Gitea")?;
    println!();
    asked(amount, report).context("with those who ask and listen")?;
    println!();
    flooded(amount, report).context("beside jobs that flood the controller")
}

fn flooded(amount: &Amount, report: Report) -> anyhow::Result<()> {
    let stage = boot("1s")?;
    neighbours::measure(&stage, amount.sequential, report)?;
    show::doing("Taking it down", || drop(stage));
    Ok(())
}

fn asked(amount: &Amount, report: Report) -> anyhow::Result<()> {
    let stage = boot("1s")?;
    api::measure(&stage, amount.asked, amount.burst, report)?;
    show::doing("Taking it down", || drop(stage));
    Ok(())
}

fn boot(poll: &str) -> anyhow::Result<Stage> {
    let config = StageConfig {
        top: format!(
            "max_concurrent = 20\npoll_interval = \"{poll}\"\nidle_grace = \"5s\"\nboot_timeout = \"60s\"\n\
             registration_linger = \"3s\"\n"
        ),
        ..StageConfig::default()
    };
    match show::doing("Booting a host with the controller on it", || Stage::boot(&config))? {
        Some(stage) => Ok(stage),
        None => bail!("the host cannot be booted here"),
    }
}
