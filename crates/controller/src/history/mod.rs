//! Every ended container with its timeline, cause and what it used, in SQLite under the state directory.
//!
//! One row for each attempt, by its runner's name, which is unique to it (a container's name may come back). It is on
//! disk before the controller forgets its record; a record that is found again after a crash writes the same row. A
//! database that does not work stops no job: it is said in `/health`, and jobs go on.

mod keeper;
mod store;
mod summary;

pub use self::{
    keeper::{History, Reader},
    store::{Filter, MOST, Store},
    summary::{BusyRepository, CauseCount, ClassMemory, MemorySuspect, Point, STEPS, Spread, Summary, Window},
};

#[cfg(test)]
mod tests;
