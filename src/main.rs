//! The command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    gha_runner_controller::cli::main()
}
