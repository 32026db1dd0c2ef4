//! Turns a queued CI job into one freshly booted container that runs exactly that job and leaves no trace.
//!
//! The host's program: the command line ([`cli`]) of the unprivileged [`controller`] and of the root half ([`sandbox`]),
//! what systemd needs to know ([`units`]) and what a person asks before they roll out ([`check`]). The map is
//! docs/architecture.md.

pub mod check;
pub mod cli;
pub mod open_forge;
pub mod run;
pub mod units;
