//! The unprivileged daemon: watches forges, decides, asks systemd, and reports.
//!
//! **Parts.** Each owns its state, the effects it starts and what these come to, and has `…_if_due` or `…_if_needed`
//! methods for the loop and one `apply` for outcomes:
//!
//! - [`intake`]: which jobs are queued where, and whether they may run: targets, repositories, places, credentials.
//! - [`sets`]: scale sets, where the forge counts the jobs itself.
//! - [`classes`]: which classes boot now: pauses after failures, drains, runner versions.
//! - [`fleet`]: the containers, from record to settled registration; units and registrations that nothing explains.
//! - [`strain`]: what keeps the host from taking one container more.
//! - [`health`]: the status, put together from what each part says of itself; [`incident`]: what the journal has of it.
//!
//! A part never reaches into another: it gets one as a parameter (the fleet reads sets and intake, sets read intake), or
//! reports an event that the loop carries on.
//!
//! **Task.** One: [`daemon`], the loop. Each round starts what is due, plans ([`plan`], pure, from a snapshot), acts, and
//! publishes. Effects are futures on the same thread ([`effects`]); the world is behind [`ports`], so that all of it runs
//! in a simulation, and the real ports ([`ledger`], [`guests`], [`systemd`], [`history`]) are thin.
//!
//! **Channels.** In: commands ([`operation::LoopCommand`]), whose answers go back by a oneshot. Out: the status, a watch
//! channel and an observer of each change ([`event`]). To each listening scale set: its capacity, a watch channel.

mod breaker;
pub mod cause;
mod classes;
pub mod clock;
pub mod daemon;
pub mod drains;
mod effects;
pub mod event;
mod fleet;
pub mod ghosts;
pub mod guests;
mod health;
pub mod history;
pub mod host_name;
pub mod incident;
mod intake;
pub mod launcher;
pub mod ledger;
mod operate;
pub mod operation;
pub mod pace;
mod parts;
pub mod phase;
pub mod plan;
pub mod ports;
pub mod reason;
pub mod record;
pub mod rehearsal;
pub mod runner_name;
pub mod runner_version;
mod sets;
pub mod status;
pub mod strain;
pub mod systemd;
pub mod time;

use std::hash::{BuildHasher, RandomState};

/// A number nobody expects. Not for secrets; for names that must not collide.
pub fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
