//! What the operator told to take no new jobs, for as long as it takes: kept over restarts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What takes no new jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drains {
    /// All of it.
    pub host: bool,
    /// Classes by name; one that is not configured now is kept for when it comes back.
    pub classes: BTreeSet<String>,
}

impl Drains {
    /// This class takes no new jobs.
    pub fn holds(&self, class: &str) -> bool {
        self.host || self.classes.contains(class)
    }
}
