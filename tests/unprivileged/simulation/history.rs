//! The simulated history: it outlives the controller, and fails now and then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use controller::{
    cause::Cause,
    ports::{History, PortError},
    record::{Record, Stage},
    status::Finished,
};
use tokio::time::sleep;

use crate::{
    heap::{self, Whose},
    host::Host,
};

/// What was written, and what went wrong.
#[derive(Default)]
pub struct Written {
    entries: BTreeMap<String, Finished>,
    calls: u32,
    /// Runners whose entry was refused once: five times in a row, and it would be left out, as is promised.
    refused: BTreeSet<String>,
    /// Nothing can be written.
    pub broken: bool,
}

impl Written {
    /// The entry of a runner.
    pub fn of(&self, runner: &str) -> Option<&Finished> {
        self.entries.get(runner)
    }

    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// The promise that is checked whenever a record goes. Its entry; None while nothing can be written, or
    /// where it need not have one.
    pub fn holds(&self, record: &Record) -> Option<&Finished> {
        if self.broken {
            return None;
        }
        // What is refused again and again is written down once.
        if matches!(record.stage, Stage::Settling { cause: Cause::RegistrationRefused }) {
            return None;
        }
        let entry = self.of(&record.runner_name);
        let entry = entry.unwrap_or_else(|| panic!("{} is forgotten before it is written down", record.name));
        assert_eq!((entry.name.as_str(), &entry.class), (record.name.as_str(), &record.class));
        assert!(entry.timeline.ended_ms.is_some(), "{entry:?}");
        Some(entry)
    }
}

/// Writes like a database: some milliseconds, each seventh time in vain, but no entry twice.
pub struct SimHistory {
    pub host: Host,
}

impl History for SimHistory {
    async fn keep(&self, ended: Arc<Finished>) -> Result<(), PortError> {
        sleep(Duration::from_millis(3)).await;
        {
            let mut host = self.host.borrow_mut();
            host.history.calls += 1;
            let seventh = host.history.calls.is_multiple_of(7);
            if host.history.broken || seventh && host.history.refused.insert(ended.runner_name.clone()) {
                return Err(PortError("database or disk is full".into()));
            }
            // One that is there already stays as it is. A copy, as on a disk: the controller's own is not held.
            heap::of(Whose::Worlds, || {
                let entry = host.history.entries.entry(ended.runner_name.clone());
                entry.or_insert_with(|| Finished::clone(&ended));
            });
        }
        // Killed here, the controller does not know that it is written.
        sleep(Duration::from_millis(3)).await;
        Ok(())
    }
}
