//! What was asked of the REST half: counters by call, and the last requests one by one.

use crate::rest::Call;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Enough for a test to look back; a simulated week would otherwise fill the memory.
const KEPT: usize = 5_000;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When.
    pub at: Duration,
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// What was called.
    pub call: Call,
    /// Status answered; 0 where there was no answer.
    pub status: u16,
}

/// Counters of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// All requests.
    pub requests: u64,
    /// Answered 304.
    pub not_modified: u64,
    /// Answered 400 and above.
    pub errors: u64,
    /// Not answered at all.
    pub unanswered: u64,
}

/// Everything asked since the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// Counters by call.
    pub calls: BTreeMap<Call, Tally>,
    /// Sum of all calls.
    pub total: Tally,
    /// The last requests, oldest first.
    pub log: Vec<LogEntry>,
}

impl TrafficReport {
    /// Counters of one call.
    #[must_use]
    pub fn of(&self, call: Call) -> Tally {
        self.calls.get(&call).copied().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Traffic {
    calls: BTreeMap<Call, Tally>,
    total: Tally,
    log: VecDeque<LogEntry>,
}

impl Traffic {
    pub(crate) fn record(&mut self, entry: LogEntry) {
        for tally in [&mut self.total, self.calls.entry(entry.call).or_default()] {
            tally.requests += 1;
            match entry.status {
                0 => tally.unanswered += 1,
                304 => tally.not_modified += 1,
                400.. => tally.errors += 1,
                _ => {}
            }
        }
        if self.log.len() == KEPT {
            self.log.pop_front();
        }
        self.log.push_back(entry);
    }
}

impl super::World {
    /// Everything asked since the last reset.
    #[must_use]
    pub fn traffic(&self) -> TrafficReport {
        TrafficReport {
            calls: self.traffic.calls.clone(),
            total: self.traffic.total,
            log: self.traffic.log.iter().cloned().collect(),
        }
    }

    /// Counts from zero again.
    pub fn reset_traffic(&mut self) {
        self.traffic = Traffic::default();
    }
}
