//! Stands in for the runner program (`Runner.Listener`) where the forge is the simulator.
//!
//! It takes its configuration the way the real one does, speaks the real one's protocol, prints what the real one
//! prints, ends with the codes the real one ends with, and really runs the shell steps of its job in a worker of its
//! own. What it has of the real one is what that did in a container (docs/github.md#runner-program).

mod console;
mod dispatch;
mod job;
mod link;
mod listen;
mod orphans;
mod pages;
mod proxy;
mod root;
mod session;
mod shell;
mod stop;
mod uplink;
mod worker;

use github_sim::runner_service::CURRENT_VERSION;
use root::Root;
use std::process::ExitCode;

/// The real one's exit codes.
mod code {
    pub(crate) const SUCCESS: u8 = 0;
    pub(crate) const TERMINATED: u8 = 1;
    pub(crate) const RETRYABLE: u8 = 2;
    pub(crate) const SESSION_CONFLICT: u8 = 5;
    pub(crate) const VERSION_DEPRECATED: u8 = 7;

    use github_sim::world::RunnerResult;

    /// In the order of [`of_result`].
    pub(crate) const RESULTS: [RunnerResult; 6] = [
        RunnerResult::Succeeded,
        RunnerResult::SucceededWithIssues,
        RunnerResult::Failed,
        RunnerResult::Canceled,
        RunnerResult::Skipped,
        RunnerResult::Abandoned,
    ];

    /// What a worker ends with, and a listener that is asked to.
    pub(crate) fn of_result(result: RunnerResult) -> u8 {
        RESULTS.iter().zip(100..).find(|(one, _)| **one == result).map_or(TERMINATED, |(_, code)| code)
    }
}

/// Another version than the current one, to be refused as too old.
const VERSION_VARIABLE: &str = "FAKERUNNER_VERSION";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    ExitCode::from(match args.as_slice() {
        ["--version"] => {
            console::line(&version());
            code::SUCCESS
        }
        ["--commit"] => {
            console::line("0000000000000000000000000000000000000000");
            code::SUCCESS
        }
        ["warmup"] => code::SUCCESS,
        ["run", options @ ..] => run(options),
        ["spawnclient"] => match Root::find() {
            Ok(root) => {
                proxy::take(&root.environment());
                block_on(worker::run(&root))
            }
            Err(_) => code::TERMINATED,
        },
        _ => {
            usage();
            code::SUCCESS
        }
    })
}

fn version() -> String {
    std::env::var(VERSION_VARIABLE).unwrap_or_else(|_| CURRENT_VERSION.to_owned())
}

fn run(options: &[&str]) -> u8 {
    let mut blob = root::input("jitconfig");
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match *option {
            "--jitconfig" => blob = options.next().map(|value| (*value).to_owned()),
            "--startuptype" => drop(options.next()),
            "--once" => {}
            unknown => console::error(&format!(
                "Unrecognized command-line input arguments for command run: '{unknown}'. For usage refer to: \
                 .\\config.cmd --help or ./config.sh --help"
            )),
        }
    }
    let root = match Root::find() {
        Ok(root) => root,
        Err(error) => return failed(&error.to_string(), code::RETRYABLE),
    };
    if let Some(blob) = blob.filter(|blob| !blob.is_empty())
        && let Err(error) = root.unpack(&blob)
    {
        console::error(&error.to_string());
        return code::TERMINATED;
    }
    if !root.is_configured() {
        return failed("Not configured. Run config.(sh/cmd) to configure the runner.", code::TERMINATED);
    }
    let settings = match root.load() {
        Ok(settings) => settings,
        Err(error) => return failed(&error.to_string(), code::TERMINATED),
    };
    proxy::take(&root.environment());
    block_on(listen::listen(&root, &settings))
}

fn block_on(work: impl Future<Output = u8>) -> u8 {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // Nothing that is still under way may keep the program from ending.
            runtime.shutdown_background();
            code
        }
        Err(error) => failed(&error.to_string(), code::RETRYABLE),
    }
}

/// The host's name.
fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn failed(message: &str, code: u8) -> u8 {
    console::error(&format!("An error occurred: {message}"));
    code
}

fn usage() {
    console::line(
        "\nCommands:\n ./config.sh         Configures the runner\n ./config.sh remove  Unconfigures the runner\n \
         ./run.sh            Runs the runner interactively. Does not require any options.\n\nOptions:\n --help     \
         Prints the help for each command\n --version  Prints the runner version\n --commit   Prints the runner commit",
    );
}
