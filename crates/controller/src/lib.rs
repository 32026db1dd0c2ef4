//! The unprivileged daemon: watches forges, decides, asks systemd, tells.
//!
//! [`plan`] decides and is pure; [`daemon`] is the loop, generic over the [`edges`] so that all of it runs in a
//! simulation; the real edges ([`ledger`], [`guests`], [`systemd`]) are thin.

pub mod cause;
pub mod clock;
pub mod container;
pub mod daemon;
pub mod drains;
pub mod edges;
pub mod event;
pub mod ghosts;
pub mod guests;
pub mod history;
pub mod host_name;
pub mod launcher;
pub mod ledger;
pub mod operation;
pub mod pace;
pub mod phase;
pub mod plan;
pub mod reason;
pub mod record;
pub mod rehearsal;
pub mod runner_name;
pub mod runner_version;
pub mod status;
pub mod systemd;

use std::hash::{BuildHasher, RandomState};

/// A number nobody expects. Not for secrets; for names that must not collide.
pub fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
