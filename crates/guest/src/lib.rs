//! The half inside the container: grant in, runner started, phases reported, exit status out.
//!
//! A unit of the container's own systemd that starts first, runs as the container's root until the runner is started
//! as the job user, and takes the container down with it when the runner ends. What it prints reaches the host's
//! journal through the container's console.

pub mod account;
pub mod admit;
pub mod console;
pub mod docker;
mod gpu;
pub mod grant;
mod hook;
mod lines;
mod network;
mod outlet;
mod output;
mod pages;
mod runner;
pub mod session;
mod variables;
mod verdict;
