//! How deliveries fared, counted since the start.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// Deliveries by what came of them.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) duplicate: AtomicU64,
    pub(super) ignored: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// The same, to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Counts {
    /// Became a hint.
    pub accepted: u64,
    /// Came before, or said what was already past.
    pub duplicate: u64,
    /// Signed, and of no use: another event, or a job that does not wait for a runner.
    pub ignored: u64,
    /// Not signed with the secret, too large, too slow, or not understood.
    pub refused: u64,
    /// News that nobody had room for; the next poll finds it.
    pub dropped: u64,
}

impl Counters {
    /// As of now.
    pub fn counts(&self) -> Counts {
        Counts {
            accepted: self.accepted.load(Relaxed),
            duplicate: self.duplicate.load(Relaxed),
            ignored: self.ignored.load(Relaxed),
            refused: self.refused.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
