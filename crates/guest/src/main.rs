//! The guest: `gha-runner-guest` runs the one job of its container; `gha-runner-guest admit` answers the runner's question
//! before the first step of its job.

use std::{env, process::ExitCode};

use guest::{admit, session};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => ExitCode::from(session::run().code()),
        // A kernel that starts a hook by its first line adds the hook's path.
        ["admit"] | ["admit", _] => admit::run(),
        ["--version"] => {
            println!("gha-runner-guest {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: gha-runner-guest [admit | --version]; systemd and the runner call it");
            ExitCode::from(2)
        }
    }
}
