//! `run`: the controller.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file (TOML, or JSON if its name ends in .json); the environment overrides it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT. Exit status 2 = the configuration is refused.
pub fn main(args: Args) -> ExitCode {
    log();
    // It holds the token and the App's key: no other process of its user reads its memory, and no core has them.
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "this process can be dumped");
    }
    super::conclude(crate::run::run(args.config.as_deref()).map(|()| ExitCode::SUCCESS))
}

/// To the journal with its fields when it listens to our standard error, else as lines. `RUST_LOG` filters.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    match tracing_journald::layer() {
        Ok(journal) if std::env::var_os("JOURNAL_STREAM").is_some() => {
            registry.with(journal.with_syslog_identifier("gha-runner-controller".to_owned())).init();
        }
        _ => {
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal());
            registry.with(lines).init();
        }
    }
}
