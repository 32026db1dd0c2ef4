//! What is cleared up once a container has ended: how its job ended; then its registration and its entry in the history,
//! each in its own time; last its record.

use std::sync::Arc;

use crate::status::Finished;

/// How far that is.
#[derive(Debug)]
pub enum Settling {
    /// It has not ended, or the forge has not said yet how its job ended.
    Asking {
        /// How often the forge was asked and did not answer.
        tries: u32,
        /// There is, or may be, a registration.
        registered: bool,
    },
    /// Its registration is to be removed.
    Deregistering {
        /// How often that was tried.
        tries: u32,
        /// What the history does not hold yet.
        entry: Option<HistoryEntry>,
    },
    /// Its registration is gone; the history does not hold it yet.
    Keeping(HistoryEntry),
    /// Nothing is left but its record.
    Settled,
}

/// An entry of the history that is being written.
#[derive(Debug)]
pub struct HistoryEntry {
    /// What is written.
    pub ended: Arc<Finished>,
    /// How often that failed.
    pub failures: u32,
}

impl Settling {
    /// Of a container that has not ended.
    pub const BEFORE: Self = Self::Asking { tries: 0, registered: true };

    /// How often the present step was tried.
    pub fn tries(&self) -> u32 {
        match self {
            Self::Asking { tries, .. } | Self::Deregistering { tries, .. } => *tries,
            Self::Keeping(_) | Self::Settled => 0,
        }
    }

    /// There never was a registration, or it is gone.
    pub fn deregistered(&mut self) {
        match self {
            Self::Asking { registered, .. } => *registered = false,
            Self::Deregistering { entry, .. } => *self = entry.take().map_or(Self::Settled, Self::Keeping),
            Self::Keeping(_) | Self::Settled => {}
        }
    }

    /// It is known how the job ended.
    pub fn concluded(&mut self, ended: Arc<Finished>) {
        let entry = HistoryEntry { ended, failures: 0 };
        *self = match self {
            Self::Asking { registered: false, .. } => Self::Keeping(entry),
            _ => Self::Deregistering { tries: 0, entry: Some(entry) },
        };
    }

    /// What the history does not hold yet.
    pub fn entry(&mut self) -> Option<&mut HistoryEntry> {
        match self {
            Self::Deregistering { entry, .. } => entry.as_mut(),
            Self::Keeping(entry) => Some(entry),
            Self::Asking { .. } | Self::Settled => None,
        }
    }

    /// The history holds it, or never will.
    pub fn kept(&mut self) {
        match self {
            Self::Deregistering { entry, .. } => *entry = None,
            Self::Keeping(_) => *self = Self::Settled,
            Self::Asking { .. } | Self::Settled => {}
        }
    }
}
