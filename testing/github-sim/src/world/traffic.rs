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
    /// Whose request it was: a token, `installation of owner`, `app`, `nobody`, or which token of a scale set.
    #[serde(default)]
    pub credential: String,
}

/// How often one credential got one status from one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// As in [`LogEntry`].
    pub credential: String,
    /// What was called.
    pub call: Call,
    /// Status answered; 0 where there was no answer.
    pub status: u16,
    /// How often.
    pub requests: u64,
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

impl Tally {
    fn add(&mut self, status: u16, requests: u64) {
        self.requests += requests;
        match status {
            0 => self.unanswered += requests,
            304 => self.not_modified += requests,
            400.. => self.errors += requests,
            _ => {}
        }
    }

    /// Which part of the requests was answered 304, from 0 to 1.
    #[must_use]
    pub fn not_modified_share(&self) -> f64 {
        // Counters of tests are far below where this loses anything.
        #[allow(clippy::cast_precision_loss)]
        match self.requests {
            0 => 0.0,
            all => self.not_modified as f64 / all as f64,
        }
    }
}

/// Everything asked since the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// Counters by call.
    pub calls: BTreeMap<Call, Tally>,
    /// Sum of all calls.
    pub total: Tally,
    /// How long was counted: since the last reset, or since the first request if there was none.
    #[serde(default)]
    pub lasted: Duration,
    /// Counters by credential, call and status.
    #[serde(default)]
    pub counts: Vec<Count>,
    /// The last requests, oldest first.
    pub log: Vec<LogEntry>,
}

impl TrafficReport {
    /// Counters of one call.
    #[must_use]
    pub fn of(&self, call: Call) -> Tally {
        self.calls.get(&call).copied().unwrap_or_default()
    }

    /// So many requests as in `tally`, an hour.
    #[must_use]
    pub fn per_hour(&self, tally: Tally) -> f64 {
        // Counters of tests are far below where this loses anything.
        #[allow(clippy::cast_precision_loss)]
        match self.lasted.as_secs_f64() {
            0.0 => 0.0,
            seconds => tally.requests as f64 * 3_600.0 / seconds,
        }
    }

    /// Counters of one credential.
    #[must_use]
    pub fn of_credential(&self, credential: &str) -> Tally {
        let mut tally = Tally::default();
        for count in self.counts.iter().filter(|count| count.credential == credential) {
            tally.add(count.status, count.requests);
        }
        tally
    }
}

#[derive(Debug, Default)]
pub(crate) struct Traffic {
    calls: BTreeMap<Call, Tally>,
    total: Tally,
    counts: BTreeMap<(String, Call, u16), u64>,
    since: Option<Duration>,
    log: VecDeque<LogEntry>,
}

impl Traffic {
    pub(crate) fn record(&mut self, entry: LogEntry) {
        for tally in [&mut self.total, self.calls.entry(entry.call).or_default()] {
            tally.add(entry.status, 1);
        }
        *self.counts.entry((entry.credential.clone(), entry.call, entry.status)).or_default() += 1;
        self.since.get_or_insert(entry.at);
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
            lasted: self.traffic.since.map(|since| self.now.saturating_sub(since)).unwrap_or_default(),
            counts: self
                .traffic
                .counts
                .iter()
                .map(|((credential, call, status), requests)| Count {
                    credential: credential.clone(),
                    call: *call,
                    status: *status,
                    requests: *requests,
                })
                .collect(),
            log: self.traffic.log.iter().cloned().collect(),
        }
    }

    /// Counts from zero again.
    pub fn reset_traffic(&mut self) {
        self.traffic = Traffic { since: Some(self.now), ..Traffic::default() };
    }
}
