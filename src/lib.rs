//! Turns a queued CI job into one freshly booted container that runs exactly that job and leaves no trace.
//!
//! One binary, three processes (see `docs/architecture.md`): the unprivileged controller, the root half ([`sandbox`])
//! that acts for one container at a time, and the [`guest`] inside the container. What passes between the first two is
//! [`handover`]; between the last and the first, [`guest::event`]. [`units`] renders what systemd needs to know.

pub mod api;
pub mod cgroup;
pub mod check;
pub mod cli;
pub mod config;
pub mod controller;
pub mod forge;
pub mod guest;
pub mod handover;
pub mod history;
pub mod mcp;
pub mod netlink;
pub mod sandbox;
pub mod units;
pub mod watch;
pub mod webhook;
