//! `run`: the controller.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use controller::incident;
use tracing::Metadata;
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

/// Who wrote a line, in the journal.
const NAME: &str = "gha-runner-controller";

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

/// To the journal with its fields when it listens to our standard error, else as lines. `RUST_LOG` filters. Fields begin
/// with `F_`, besides those of incidents, whose `MESSAGE_ID` is the journal's own.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let is_incident = |line: &Metadata<'_>| line.target() == incident::TARGET;
    let journal = || Ok::<_, std::io::Error>(tracing_journald::layer()?.with_syslog_identifier(NAME.to_owned()));
    match (journal(), journal()) {
        (Ok(lines), Ok(incidents)) if std::env::var_os("JOURNAL_STREAM").is_some() => {
            let incidents = incidents.with_field_prefix(None).with_filter(filter_fn(is_incident));
            registry.with(lines.with_filter(filter_fn(move |line| !is_incident(line)))).with(incidents).init();
        }
        _ => {
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal());
            registry.with(lines).init();
        }
    }
}
