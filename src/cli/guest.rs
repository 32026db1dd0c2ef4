//! `guest`: inside the container.

use std::process::ExitCode;

use clap::Args as Arguments;

use crate::guest::session;

/// Everything it needs comes by credentials.
#[derive(Debug, Arguments)]
pub(super) struct Args {}

pub(super) fn main(Args {}: Args) -> ExitCode {
    ExitCode::from(session::run().code())
}
