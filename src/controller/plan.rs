//! What to do now, decided from a snapshot alone: no clock, no I/O, no randomness.
//!
//! A forge does not bind a runner to a job: another job with matching labels may take it. So demand and supply are
//! *counted*, for each class and target; the job a container is booted for is only the reason it exists
//! (PROTOCOLS C.3).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::handover::ContainerName;

/// Everything the decision depends on. Times are monotonic, since an arbitrary start.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Now.
    pub now: Duration,
    /// False while draining or shutting down: nothing new is booted.
    pub intake: bool,
    /// Most containers at once.
    pub capacity: usize,
    /// Subnets no container has.
    pub free_subnets: usize,
    /// How long a container that nobody needs may stay idle.
    pub idle_grace: Duration,
    /// Classes, smallest first: the first that fits a job serves it.
    pub classes: Vec<ClassView>,
    /// Targets.
    pub targets: Vec<TargetView>,
    /// Every container that exists or is about to.
    pub containers: Vec<ContainerView>,
    /// When containers took a job, whether or not they still exist.
    pub pickups: Vec<Pickup>,
}

/// A class, as far as planning goes.
#[derive(Debug, Clone)]
pub struct ClassView {
    /// Its name.
    pub name: String,
    /// Its labels in lower case.
    pub labels: BTreeSet<String>,
    /// Most containers of it at once.
    pub max: usize,
    /// Idle containers to keep for each target.
    pub min_idle: usize,
    /// Boots nothing before this time (back-off after failed boots).
    pub held_until: Option<Duration>,
}

/// A target, as far as planning goes.
#[derive(Debug, Clone)]
pub struct TargetView {
    /// `owner/repository`.
    pub name: String,
    /// Boots nothing before this time (back-off after refused registrations).
    pub held_until: Option<Duration>,
    /// When the look that found `queued` was begun; `None` before the first.
    pub looked_at: Option<Duration>,
    /// Its queued jobs.
    pub queued: Vec<JobView>,
}

/// A queued job.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The forge's id.
    pub id: u64,
    /// Its labels as written; none = matches nothing.
    pub labels: Vec<String>,
    /// When it was first seen queued: the oldest is served first.
    pub first_seen: Duration,
}

/// A container.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// Its name.
    pub name: ContainerName,
    /// Its class.
    pub class: String,
    /// The target its runner is registered with.
    pub target: String,
    /// What it is good for.
    pub use_: Use,
}

/// What a container is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// On its way to a listening runner.
    Coming,
    /// Listening since then; may take a job.
    Idle(Duration),
    /// Has or had its job, is being retired, or is ending: holds its place, serves no demand.
    Spent,
}

/// A container of this class and target took a job at this time.
#[derive(Debug, Clone)]
pub struct Pickup {
    /// The container's class.
    pub class: String,
    /// The container's target.
    pub target: String,
    /// When.
    pub at: Duration,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Boot a container.
    Boot {
        /// Of this class.
        class: String,
        /// With a runner for this target.
        target: String,
        /// Because of this job; `None` = to have one ready.
        job: Option<u64>,
    },
    /// Delete the registration of this idle container, then stop it if the forge agreed.
    Retire(ContainerName),
}

/// Why a queued job has no container coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// No class has all its labels (or it has none).
    NoClass,
    /// A container is idle or on its way for it.
    Served,
    /// The host or its class is at capacity, or no subnet is free.
    Capacity,
    /// Its class or target is backing off.
    Held,
    /// Intake is stopped.
    Drained,
}

/// The decision, and its explanation for each queued job.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// Why the jobs that get nothing now get nothing: by target and job id.
    pub waiting: BTreeMap<(String, u64), Waiting>,
}

/// The class that serves a job with `labels`: the first of `classes` (smallest first) that has them all.
pub fn class_for<'a>(classes: &'a [ClassView], labels: &[String]) -> Option<&'a ClassView> {
    if labels.is_empty() {
        return None;
    }
    let wanted: Vec<String> = labels.iter().map(|label| label.to_lowercase()).collect();
    classes.iter().find(|class| wanted.iter().all(|label| class.labels.contains(label)))
}

/// Decides.
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan::default();
    let mut room = Room::new(snapshot);
    let mut jobs: Vec<(&TargetView, &JobView)> =
        snapshot.targets.iter().flat_map(|target| target.queued.iter().map(move |job| (target, job))).collect();
    jobs.sort_by_key(|(target, job)| (job.first_seen, job.id, &target.name));

    let mut supply = supply(snapshot);
    let mut pickups = fresh_pickups(snapshot);
    for (target, job) in jobs {
        let waiting = match class_for(&snapshot.classes, &job.labels) {
            None => Waiting::NoClass,
            Some(class) => {
                let key = (class.name.as_str(), target.name.as_str());
                if take_one(&mut pickups, key) || take_one(&mut supply, key) {
                    Waiting::Served
                } else if let Some(why_not) = room.refuses(class, target) {
                    why_not
                } else {
                    room.take(class);
                    plan.actions.push(Action::Boot {
                        class: class.name.clone(),
                        target: target.name.clone(),
                        job: Some(job.id),
                    });
                    Waiting::Served
                }
            }
        };
        plan.waiting.insert((target.name.clone(), job.id), waiting);
    }

    for target in &snapshot.targets {
        for class in &snapshot.classes {
            let spare = supply.get(&(class.name.as_str(), target.name.as_str())).copied().unwrap_or_default();
            for _ in spare..class.min_idle {
                if room.refuses(class, target).is_some() {
                    break;
                }
                room.take(class);
                plan.actions.push(Action::Boot { class: class.name.clone(), target: target.name.clone(), job: None });
            }
            let surplus = spare.saturating_sub(class.min_idle);
            plan.actions.extend(retirements(snapshot, class, target, surplus));
        }
    }
    plan
}

/// A count for each class and target.
type Counts<'a> = BTreeMap<(&'a str, &'a str), usize>;

/// Runners that a queued job may still find: those coming and those idle.
fn supply(snapshot: &Snapshot) -> Counts<'_> {
    let mut supply = Counts::new();
    for container in snapshot.containers.iter().filter(|container| container.use_ != Use::Spent) {
        *supply.entry((&container.class, &container.target)).or_default() += 1;
    }
    supply
}

/// Jobs taken since the look at their target began: the listing may still show as many as queued.
fn fresh_pickups(snapshot: &Snapshot) -> Counts<'_> {
    let mut pickups = Counts::new();
    for pickup in &snapshot.pickups {
        let looked_at = snapshot.targets.iter().find(|t| t.name == pickup.target).and_then(|t| t.looked_at);
        if looked_at.is_some_and(|looked_at| pickup.at >= looked_at) {
            *pickups.entry((&pickup.class, &pickup.target)).or_default() += 1;
        }
    }
    pickups
}

/// Takes one from a count, if there is one.
fn take_one<'a>(counts: &mut Counts<'a>, key: (&'a str, &'a str)) -> bool {
    match counts.get_mut(&key) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    }
}

/// The longest idle first, only those whose grace is over and that the target was looked at since.
fn retirements<'a>(
    snapshot: &'a Snapshot,
    class: &'a ClassView,
    target: &'a TargetView,
    surplus: usize,
) -> impl Iterator<Item = Action> + 'a {
    let mut idle: Vec<(Duration, &ContainerName)> = snapshot
        .containers
        .iter()
        .filter(|container| container.class == class.name && container.target == target.name)
        .filter_map(|container| match container.use_ {
            Use::Idle(since) => Some((since, &container.name)),
            Use::Coming | Use::Spent => None,
        })
        .filter(|(since, _)| {
            snapshot.now.saturating_sub(*since) >= snapshot.idle_grace
                && target.looked_at.is_some_and(|looked_at| looked_at >= *since)
        })
        .collect();
    idle.sort();
    idle.into_iter().take(surplus).map(|(_, name)| Action::Retire(name.clone()))
}

/// What may still be booted.
struct Room<'a> {
    snapshot: &'a Snapshot,
    host: usize,
    subnets: usize,
    by_class: BTreeMap<&'a str, usize>,
}

impl<'a> Room<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let count = |class: &str| snapshot.containers.iter().filter(|c| c.class == class).count();
        Self {
            snapshot,
            host: snapshot.capacity.saturating_sub(snapshot.containers.len()),
            subnets: snapshot.free_subnets,
            by_class: snapshot
                .classes
                .iter()
                .map(|class| (class.name.as_str(), class.max.saturating_sub(count(&class.name))))
                .collect(),
        }
    }

    fn refuses(&self, class: &ClassView, target: &TargetView) -> Option<Waiting> {
        let held = |until: Option<Duration>| until.is_some_and(|until| until > self.snapshot.now);
        if !self.snapshot.intake {
            Some(Waiting::Drained)
        } else if held(class.held_until) || held(target.held_until) {
            Some(Waiting::Held)
        } else if self.host == 0
            || self.subnets == 0
            || self.by_class.get(class.name.as_str()).is_none_or(|left| *left == 0)
        {
            Some(Waiting::Capacity)
        } else {
            None
        }
    }

    fn take(&mut self, class: &ClassView) {
        self.host = self.host.saturating_sub(1);
        self.subnets = self.subnets.saturating_sub(1);
        if let Some(left) = self.by_class.get_mut(class.name.as_str()) {
            *left = left.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests;
