//! `drain`, `resume`, `stop`, `provision`: what changes something, over the local socket.

use std::process::ExitCode;

use api::v1::{Part, ProvisionRequest};
use contract::ContainerName;
use controller::operation::Done;
use serde::Serialize;

use super::{block_on, client::Reach, conclude, document};

/// Arguments of `drain` and `resume`.
#[derive(Debug, clap::Args)]
pub(super) struct PartArgs {
    /// Only this class [default: the host]
    class: Option<String>,
    #[command(flatten)]
    reach: Reach,
    /// Print one document for programs.
    #[arg(long)]
    json: bool,
}

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
pub(super) struct StopArgs {
    /// The container; its job, if it has one, fails at the forge.
    container: ContainerName,
    #[command(flatten)]
    reach: Reach,
    /// Print one document for programs.
    #[arg(long)]
    json: bool,
}

/// Arguments of `provision`.
#[derive(Debug, clap::Args)]
pub(super) struct ProvisionArgs {
    /// Whose jobs it is to take, or another place runners are registered with, e.g. an organisation.
    #[arg(long, value_name = "OWNER/NAME")]
    repo: String,
    /// Of this class [default: the smallest that serves there]
    #[arg(long)]
    class: Option<String>,
    #[command(flatten)]
    reach: Reach,
    /// Print one document for programs.
    #[arg(long)]
    json: bool,
}

/// Exit status of all of them: 0 = done, 1 = not done, and standard error says why.
pub(super) fn drain(args: PartArgs) -> ExitCode {
    ask(&args.reach, "/api/v1/drain", &Part { class: args.class }, args.json)
}

pub(super) fn resume(args: PartArgs) -> ExitCode {
    ask(&args.reach, "/api/v1/resume", &Part { class: args.class }, args.json)
}

pub(super) fn stop(args: StopArgs) -> ExitCode {
    ask(&args.reach, &format!("/api/v1/containers/{}/stop", args.container), &(), args.json)
}

pub(super) fn provision(args: ProvisionArgs) -> ExitCode {
    ask(&args.reach, "/api/v1/provision", &ProvisionRequest { repo: args.repo, class: args.class }, args.json)
}

fn ask(reach: &Reach, path: &str, body: &impl Serialize, json: bool) -> ExitCode {
    let done = block_on(reach.post::<Done>(path, body));
    conclude(done.and_then(|done| {
        if json {
            document::print(&done)?;
        } else {
            println!("{}", done.message);
        }
        Ok(ExitCode::SUCCESS)
    }))
}
