//! The half inside the container: grant in, runner started, phases reported, exit status out. What is one forge's own is
//! in the folder of its runner, and [`dialect`] says what differs.
//!
//! A unit of the container's own systemd that starts first, runs as the container's root until the runner is started
//! as the job user, and takes the container down with it when the runner ends. What it prints reaches the host's
//! journal through the container's console.

pub mod account;
pub mod act;
pub mod admit;
pub mod dialect;
pub mod docker;
pub mod github;
mod gpu;
mod hook;
pub mod lines;
mod network;
mod nix;
mod outlet;
mod output;
mod reach;
mod runner;
pub mod session;
mod variables;
mod verdict;
