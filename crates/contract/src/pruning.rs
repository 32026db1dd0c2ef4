//! What root removed because a disk was short: asked for by the controller, decided by root alone.

use serde::{Deserialize, Serialize};

/// The controller writes this file to ask for room. What is in it does not matter.
pub const ROOM_WANTED: &str = "/run/gha-runner-controller/room-wanted";
/// What was removed since the host started, as [`Prunings`]: root's, readable by all, on a tmpfs.
pub const PRUNINGS_FILE: &str = "/run/gha-runner-prunings.json";
/// Most prunings kept.
pub const PRUNINGS_KEPT: usize = 20;

/// All of them since the host started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prunings {
    /// Bytes freed by all, also those that are not in the list any more.
    pub freed_bytes: u64,
    /// The last ones, oldest first.
    pub last: Vec<Pruning>,
}

/// One.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruning {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Bytes of the disk that the removed files took.
    pub freed_bytes: u64,
    /// The files, as paths below the directory of what outlives containers.
    pub removed: Vec<String>,
}

impl Prunings {
    /// With one more.
    pub fn and(mut self, pruning: Pruning) -> Self {
        self.freed_bytes = self.freed_bytes.saturating_add(pruning.freed_bytes);
        self.last.push(pruning);
        self.last.drain(..self.last.len().saturating_sub(PRUNINGS_KEPT));
        self
    }
}
