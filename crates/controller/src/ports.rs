//! What the controller needs of the world besides the forge, as narrow traits, so that the whole of it also runs in
//! a simulation with a simulated clock.
//!
//! Futures are not `Send`: the controller runs on one thread.

use std::{sync::Arc, time::Duration};

use contract::{ContainerName, ContainerRecord, Ending, Grant, Prunings, event::Event};
use forge::{SetKey, github::scale_set::assignments::Assignments};
use settings::Template;

use super::{
    drains::Drains,
    record::Record,
    status::Finished,
    strain::Measured,
    time::{Mono, Wall},
};

/// The clocks. Waiting is tokio's, whose clock a simulation pauses.
pub trait Clock {
    /// The clock that never jumps.
    fn monotonic(&self) -> Mono;
    /// The wall clock; may jump.
    fn wall(&self) -> Wall;
    /// What it shows in the host's time zone, counted from the beginning of 1970 as it shows that.
    fn local(&self) -> Duration;
}

/// A failure at a port, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// State of a container unit, as systemd's `ActiveState` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    /// *prepare* runs, or systemd-nspawn has not said READY.
    Activating,
    /// The container's init runs.
    Active,
    /// Somebody asked it to stop, or took its main process away, and the container is ending (`SubState` `stop…`).
    Stopping,
    /// Its main process has ended by itself, or it is being torn down.
    Deactivating,
    /// Not running. A unit that is not loaded is this as well.
    Inactive,
    /// Not running, after a failure. Its unit may linger until reset.
    Failed,
}

/// A container unit that systemd knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The instance of its name.
    pub name: ContainerName,
    /// The class in its name.
    pub class: String,
    /// Its state.
    pub state: UnitState,
}

/// systemd and machined, as far as container units go.
#[allow(async_fn_in_trait)]
pub trait Systemd {
    /// Starts `gha-runner-<class>@<name>.service`; returns when systemd has queued it.
    async fn start(&self, class: &str, name: &ContainerName) -> Result<(), PortError>;
    /// Stops it; returns when systemd has queued it. A unit that does not run is no error.
    async fn stop(&self, class: &str, name: &ContainerName) -> Result<(), PortError>;
    /// All container units systemd knows now.
    async fn list(&self) -> Result<Vec<Unit>, PortError>;
    /// Waits until a container unit's state may have changed, and returns those units whose new state is known. An
    /// empty list says "look again" (signals may have been lost).
    async fn changed(&self) -> Vec<Unit>;
}

/// What the guests report.
#[allow(async_fn_in_trait)]
pub trait Guests {
    /// One guest's events.
    type Feed: Feed;
    /// Follows the guest of a container from its first event. Connects as soon as it can, and again when cut off.
    fn follow(&self, name: &ContainerName) -> Self::Feed;
}

/// One guest's events.
#[allow(async_fn_in_trait)]
pub trait Feed {
    /// The next event, each once; waits for ever when there is none. `None` = the guest broke the protocol, and is
    /// not listened to any more.
    async fn next(&mut self) -> Option<Event>;
}

/// The controller's own files: its records, the hand-over, the endings.
pub trait Records {
    /// All records, oldest first. One that cannot be read is reported and left out.
    fn load(&self) -> Result<Vec<Record>, PortError>;
    /// Writes a record, durably, whole or not at all.
    fn put(&self, record: &Record) -> Result<(), PortError>;
    /// Forgets a record.
    fn remove(&self, name: &ContainerName) -> Result<(), PortError>;
    /// Writes what the sandbox reads.
    fn hand_over(&self, record: &ContainerRecord, grant: &Grant) -> Result<(), PortError>;
    /// Takes it back. Nothing there is no error.
    fn take_back(&self, name: &ContainerName) -> Result<(), PortError>;
    /// The grant that was handed over and is not taken back. None = there is none to be read.
    fn granted(&self, _name: &ContainerName) -> Option<Grant> {
        None
    }
    /// Everything handed over, to find containers whose record was lost.
    fn handed_over(&self) -> Result<Vec<ContainerRecord>, PortError>;
    /// What is remembered of scale sets' jobs. A file that cannot be read is reported and left out: the forge tells
    /// again what was not acknowledged, and counts the rest.
    fn load_sets(&self) -> Result<Vec<(SetKey, Assignments)>, PortError>;
    /// Writes it, durably, whole or not at all.
    fn put_set(&self, key: &SetKey, assignments: &Assignments) -> Result<(), PortError>;
    /// Forgets it. Nothing there is no error.
    fn remove_set(&self, key: &SetKey) -> Result<(), PortError>;
    /// What the operator told to take no new jobs. No file = nothing.
    fn load_drains(&self) -> Result<Drains, PortError>;
    /// Writes it, durably, whole or not at all.
    fn put_drains(&self, drains: &Drains) -> Result<(), PortError>;
    /// How a container ended, once *teardown* wrote it.
    fn ending(&self, name: &ContainerName) -> Option<Ending>;
    /// The endings of containers that left something behind which is still there.
    fn left_behind(&self) -> Vec<Ending>;
    /// Identifies this boot of the host; a record from another boot has no container any more.
    fn boot_id(&self) -> String;
}

/// What is kept of ended containers.
#[allow(async_fn_in_trait)]
pub trait History {
    /// Writes an entry, durably, once: one with the same runner name that is there already stays as it is.
    async fn keep(&self, ended: Arc<Finished>) -> Result<(), PortError>;
}

/// All ports together.
pub trait World {
    /// See [`Clock`].
    type Clock: Clock;
    /// See [`Forge`](forge::Forge).
    type Forge: forge::Forge;
    /// See [`Sets`](forge::Sets).
    type Sets: forge::Sets;
    /// See [`Systemd`].
    type Systemd: Systemd;
    /// See [`Guests`].
    type Guests: Guests;
    /// See [`Records`].
    type Records: Records;
    /// See [`History`].
    type History: History;
    /// The clock.
    fn clock(&self) -> &Self::Clock;
    /// The forge.
    fn forge(&self) -> &Self::Forge;
    /// The forge's scale sets.
    fn sets(&self) -> &Self::Sets;
    /// systemd and machined.
    fn systemd(&self) -> &Self::Systemd;
    /// The guests.
    fn guests(&self) -> &Self::Guests;
    /// The files.
    fn records(&self) -> &Self::Records;
    /// What is kept of ended containers.
    fn history(&self) -> &Self::History;
    /// The version of the runner program in a template's tree, where the tree tells.
    fn runner_version(&self, template: &Template) -> Option<String>;
    /// A reading of the host's disks and pressure.
    fn measure(&self) -> Measured;
    /// Asks root to remove what it can do without, where the disk is short.
    fn ask_for_room(&self) {}
    /// What root has removed for that.
    fn prunings(&self) -> Prunings {
        Prunings::default()
    }
    /// A number nobody expects: makes runner names unique to an attempt.
    fn random(&self) -> u64;
}
