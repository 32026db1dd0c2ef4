//! What a plan is made from.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contract::{ContainerName, Labels};

use crate::time::Mono;

/// Everything the decision depends on.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Now.
    pub now: Mono,
    /// False while draining or shutting down: nothing new is booted.
    pub intake: bool,
    /// Most containers at once.
    pub capacity: usize,
    /// Most containers at once while the host is short of something; None = it is not.
    pub strained: Option<usize>,
    /// Subnets no container has.
    pub free_subnets: usize,
    /// How long a container that nobody needs may stay idle.
    pub idle_grace: Duration,
    /// Classes, smallest first: the first that fits a job serves it.
    pub classes: Vec<ClassView>,
    /// Configured targets: who has which share of the host.
    pub targets: Vec<TargetView>,
    /// Places runners are registered with: each with a job, a container or containers to keep ready, at least.
    pub scopes: Vec<ScopeView>,
    /// Queued jobs.
    pub jobs: Vec<JobView>,
    /// Scale sets that are listened to; they serve their class in their scope alone.
    pub sets: Vec<SetView>,
    /// Every container that exists or is about to.
    pub containers: Vec<ContainerView>,
    /// When containers took a job that no look has shown since, whether or not they still exist.
    pub pickups: Vec<Pickup>,
}

/// A class, as far as planning goes.
#[derive(Debug, Clone)]
pub struct ClassView {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Most containers of it at once.
    pub max: usize,
    /// Idle containers to keep for each scope.
    pub min_idle: usize,
    /// Boots nothing before this time (back-off after failed boots).
    pub held_until: Option<Mono>,
    /// It failed too often: no more than one is booted at once, until one goes well.
    pub probed: bool,
    /// The forge refuses its runner's version: boots nothing.
    pub outdated: bool,
    /// The operator drained it, or the host: boots nothing and keeps nothing ready.
    pub drained: bool,
}

/// A configured target, as far as planning goes.
#[derive(Debug, Clone)]
pub struct TargetView {
    /// Its name.
    pub name: String,
    /// Jobs of a higher one are served first.
    pub priority: i32,
    /// Its share against others of the same priority; at least 1.
    pub weight: u32,
    /// Most containers for it at once.
    pub max: usize,
}

/// A place runners are registered with.
#[derive(Debug, Clone)]
pub struct ScopeView {
    /// Its name, as records write it.
    pub name: String,
    /// The configured target it belongs to.
    pub target: String,
    /// Boots nothing before this time (back-off after refused registrations).
    pub held_until: Option<Mono>,
    /// Registrations failed too often: no more than one is tried at once, until one goes well.
    pub probed: bool,
    /// When the last look at a repository of it was begun; `None` before the first.
    pub looked_at: Option<Mono>,
    /// Classes that serve it; empty = all.
    pub classes: BTreeSet<String>,
}

impl ScopeView {
    /// A class serves it.
    pub fn allows(&self, class: &str) -> bool {
        self.classes.is_empty() || self.classes.contains(class)
    }
}

/// A queued job.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The forge's id.
    pub id: u64,
    /// The run it belongs to.
    pub run_id: u64,
    /// `owner/repository` it belongs to.
    pub repository: String,
    /// Where a runner for it is registered.
    pub scope: String,
    /// Its labels as written; none = matches nothing.
    pub labels: Vec<String>,
    /// When it was first seen queued: the oldest is served first.
    pub first_seen: Mono,
    /// When the last look at its repository was begun.
    pub looked_at: Mono,
    /// It is not to be run.
    pub blocked: Option<Blocked>,
}

/// Why a queued job is not to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// The fork gate refuses it.
    Refused,
    /// The forge gives it to no runner of ours.
    Excluded,
    /// Its repository cannot be served.
    Quarantined,
}

/// A scale set.
#[derive(Debug, Clone)]
pub struct SetView {
    /// Its class.
    pub class: String,
    /// Its scope.
    pub scope: String,
    /// Jobs assigned to it and not completed, as the forge counts them, less those that are not to be run.
    pub assigned: usize,
    /// When the oldest of them was assigned, as far as known.
    pub oldest: Option<Mono>,
    /// When the forge last confirmed that number; `None` = not since the start.
    pub as_of: Option<Mono>,
    /// Containers of it that ended since then with a job that the number still contains.
    pub ended: usize,
    /// Assigned jobs that wait for a runner, by run.
    pub waiting: BTreeMap<u64, usize>,
    /// When the job that has waited longest for a runner was assigned, as far as known.
    pub waiting_since: Option<Mono>,
    /// Since when the forge could have assigned more: it was told of a capacity above what it counts, and was heard.
    pub room_since: Option<Mono>,
}

/// A container.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// Its name.
    pub name: ContainerName,
    /// Its class.
    pub class: String,
    /// The scope its runner is registered with.
    pub scope: String,
    /// Its runner is the scale set's of its class and scope.
    pub set: bool,
    /// Its runner takes this job and no other: repository and id. None = whatever the forge gives it.
    pub bound_to: Option<(String, u64)>,
    /// What it is good for.
    pub use_: Use,
    /// Idle beside a job for so long, it is taken for deaf.
    pub patience: Duration,
}

impl ContainerView {
    /// A job may still find it.
    pub(super) fn is_spare(&self) -> bool {
        matches!(self.use_, Use::Coming | Use::Idle(_))
    }

    pub(super) fn is_bound_to(&self, job: &JobView) -> bool {
        self.bound_to.as_ref().is_some_and(|(repository, id)| *id == job.id && *repository == job.repository)
    }

    pub(super) fn key(&self) -> (&str, &str, bool) {
        (&self.class, &self.scope, self.set)
    }
}

/// What a container is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// On its way to a listening runner.
    Coming,
    /// Listening since then; may take a job.
    Idle(Mono),
    /// Has or had its job: holds its place, serves no other.
    Busy,
    /// Ending without ever having had a job: holds its place, serves nobody.
    Ending,
}

/// A container of this class and scope took a job at this time.
#[derive(Debug, Clone)]
pub struct Pickup {
    /// The container.
    pub container: ContainerName,
    /// Its class.
    pub class: String,
    /// Its scope.
    pub scope: String,
    /// The job, by repository and id, where its runner is bound to one.
    pub of: Option<(String, u64)>,
    /// When.
    pub at: Mono,
}
