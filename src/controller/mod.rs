//! The unprivileged daemon: watches forges, decides, asks systemd, tells.
//!
//! [`plan`] decides and is pure; [`daemon`] is the loop, generic over the [`ports`] so that all of it runs in a
//! simulation; the real ports ([`ledger`], [`guests`], [`systemd`]) are thin. [`run`] puts them together.

pub mod cause;
mod classes;
pub mod clock;
pub mod daemon;
pub mod drains;
mod effects;
pub mod event;
mod fleet;
pub mod gate;
pub mod ghosts;
pub mod guests;
mod health;
pub mod host_name;
mod intake;
pub mod launcher;
pub mod ledger;
pub mod open_forge;
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
pub mod run;
pub mod runner_name;
mod sets;
pub mod status;
pub mod systemd;
pub mod time;

use std::hash::{BuildHasher, RandomState};

/// A number nobody expects. Not for secrets; for names that must not collide.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
