//! Runner scale sets, as far as the controller needs them: where a forge counts the jobs itself.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{ForgeError, Minted, github::scale_set::Tidings};

/// One scale set: of a class, in a scope (see [`Scope`](super::Scope)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetKey {
    /// The class.
    pub class: String,
    /// The scope.
    pub scope: String,
}

impl fmt::Display for SetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scale set of class {} in {}", self.class, self.scope)
    }
}

/// What a scale set is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRequest {
    /// Its name, unique in its scope: a set has one listener.
    pub name: String,
    /// Labels that jobs ask for.
    pub labels: Vec<String>,
    /// Its runner group; none = the default one.
    pub runner_group: Option<String>,
}

/// A forge that has scale sets.
#[allow(async_fn_in_trait)]
pub trait Sets {
    /// Finds or creates the set. Returns labels that were asked for and that it does not have.
    async fn open(&self, key: &SetKey, request: &SetRequest) -> Result<Vec<String>, ForgeError>;
    /// Waits for news of an open set, telling the forge how many of its jobs we take at once. Paces itself: may be
    /// called again at once, also after an error. One at a time for each set; may be dropped.
    async fn listen(&self, key: &SetKey, capacity: &mut watch::Receiver<u32>) -> Result<Tidings, ForgeError>;
    /// How long somebody else has been holding the session of the set; none = nobody.
    fn held_for(&self, key: &SetKey) -> Option<Duration>;
    /// Takes a message off the forge's queue: what it says is on disk.
    async fn acknowledge(&self, key: &SetKey, message_id: u64);
    /// Registers a one-job runner of the set. As [`Forge::mint`](super::Forge::mint).
    async fn mint(&self, key: &SetKey, runner_name: &str) -> Result<Minted, ForgeError>;
    /// Ends the session, so that a successor need not wait. Takes a few seconds at most.
    async fn release(&self, key: &SetKey) -> Result<(), ForgeError>;
}
