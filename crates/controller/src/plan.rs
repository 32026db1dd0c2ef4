//! What to do now, decided from a snapshot alone: no clock, no I/O, no randomness.
//!
//! A forge does not bind a runner to a job: another job with matching labels may take it. So demand and supply are
//! *counted*, for each class and scope; the job a container is booted for is only the reason it exists
//! (docs/github.md#counting-demand). Where a scale set serves a class in a scope, the forge counts the demand itself
//! (docs/github.md#messages-and-statistics).

mod room;
mod snapshot;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contract::ContainerName;

use self::room::{Demand, Room};
pub use self::snapshot::{
    Blocked, ClassView, ContainerView, JobView, Pickup, ScopeView, SetView, Snapshot, TargetView, Use,
};
use crate::time::Mono;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Boot a container.
    Boot {
        /// Of this class.
        class: String,
        /// With a runner for this scope.
        scope: String,
        /// Its runner is the scale set's.
        set: bool,
        /// Because of this job, by repository and id; `None` = to have one ready, or because the scale set counts
        /// more jobs than containers.
        job: Option<(String, u64)>,
    },
    /// Delete the registration of this idle container, then stop it if the forge agreed.
    Retire(ContainerName),
    /// The same, since its runner is deaf: it was given none of the jobs that waited for it.
    Replace {
        /// The container.
        container: ContainerName,
        /// The job it was not given, by repository and id; `None` = one of its scale set.
        beside: Option<(String, u64)>,
    },
}

/// Why a queued job has no container coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// No class that serves its target has all its labels (or it has none).
    NoClass,
    /// A container is idle or on its way for it.
    Served,
    /// The host or its class is at capacity, or no subnet is free.
    Capacity,
    /// The host is full, and its target has its share of it.
    Share,
    /// Its target has as many containers as it may.
    TargetLimit,
    /// Its class or scope is backing off.
    Held,
    /// The host is short of disk or under pressure.
    Strained,
    /// The forge refuses the runner of its class as outdated.
    Outdated,
    /// It was triggered from a fork, or that cannot be known.
    Refused,
    /// The forge gives it to no runner of ours: its runner group keeps it out, or seems to.
    Excluded,
    /// Its repository cannot be served.
    Quarantined,
    /// A scale set serves it, and the forge has not assigned it to the set.
    NotAdmitted,
    /// Intake is stopped, or its class or the host is drained.
    Drained,
}

impl Waiting {
    /// Nothing will be booted for it as things are.
    pub fn is_no_demand(self) -> bool {
        matches!(self, Self::NoClass | Self::Refused | Self::Excluded | Self::Quarantined)
    }
}

/// The decision, and its explanation for each queued job.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// Why the jobs that get nothing now get nothing: by repository and job id.
    pub waiting: BTreeMap<(String, u64), Waiting>,
    /// The most jobs of each scale set, by class and scope, that could be run at once: what is there for it and what
    /// could still be booted.
    pub capacity: BTreeMap<(String, String), usize>,
}

impl Plan {
    /// Repositories with jobs that no scale set was assigned, though one serves them.
    pub fn not_admitted(&self) -> impl Iterator<Item = String> {
        let left_out = self.waiting.iter().filter(|(_, why)| **why == Waiting::NotAdmitted);
        left_out.map(|((repository, _), _)| repository.clone())
    }
}

/// The class that serves a job with `labels` in `scope`: the first of `classes` (smallest first) that has them all.
pub fn class_for<'a>(classes: &'a [ClassView], scope: &ScopeView, labels: &[String]) -> Option<&'a ClassView> {
    if labels.is_empty() {
        return None;
    }
    classes.iter().filter(|class| scope.allows(&class.name)).find(|class| class.labels.have_each(labels))
}

/// Decides.
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut planning = Planning::new(snapshot);
    planning.find_deaf();
    planning.count_jobs();
    planning.count_sets();
    let refused = planning.serve();
    planning.make_way(&refused);
    planning.keep_ready();
    planning.retire_surplus();
    planning.promise();
    planning.explain_set_jobs(&refused);
    planning.plan
}

/// A queued job that its scale set was not assigned in this time, with room for it, is served as if there were no set.
const UNASSIGNED: Duration = Duration::from_secs(300);

/// A runner says that it listens before it asks for a job, and the forge's first answer may be that it will have none: it
/// is served after so long.
pub const SERVED_AFTER: Duration = Duration::from_secs(10);

/// An idle container of whose scope nothing was heard for so long waits no longer for it.
const UNHEARD: Duration = Duration::from_secs(900);

/// Jobs that wait as assigned to a scale set (class and scope), by run.
type AssignedRuns<'a> = BTreeMap<(&'a str, &'a str), BTreeMap<u64, usize>>;

/// Whether one container of `class` more could be booted for `scope` now; else why not.
pub fn may_boot(snapshot: &Snapshot, class: &ClassView, scope: &ScopeView) -> Result<(), Waiting> {
    let scopes = snapshot.scopes.iter().chain([scope]).map(|scope| (scope.name.as_str(), scope)).collect();
    let demand = Demand { class, scope, set: false, job: None, since: snapshot.now };
    match Room::new(snapshot, &scopes).share_out(vec![demand]).1.pop() {
        Some((_, why)) => Err(why),
        None => Ok(()),
    }
}

/// A class in a scope, and whether its runners are a scale set's.
type Key<'a> = (&'a str, &'a str, bool);

/// A plan being made.
struct Planning<'a> {
    snapshot: &'a Snapshot,
    scopes: BTreeMap<&'a str, &'a ScopeView>,
    sets: BTreeMap<(&'a str, &'a str), &'a SetView>,
    room: Room<'a>,
    /// Runners coming or idle that nothing counted so far needs, but those that are bound to one job.
    spare: BTreeMap<Key<'a>, usize>,
    demands: Vec<Demand<'a>>,
    /// Jobs that a scale set is to be assigned.
    set_jobs: Vec<(&'a JobView, &'a ClassView)>,
    retired: BTreeSet<&'a ContainerName>,
    /// Whose idle containers went for a job of others.
    gave_way: BTreeSet<Key<'a>>,
    plan: Plan,
}

impl<'a> Planning<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let scopes: BTreeMap<_, _> = snapshot.scopes.iter().map(|scope| (scope.name.as_str(), scope)).collect();
        let mut spare = BTreeMap::new();
        for container in
            snapshot.containers.iter().filter(|container| container.is_spare() && container.bound_to.is_none())
        {
            *spare.entry(container.key()).or_default() += 1;
        }
        Self {
            snapshot,
            room: Room::new(snapshot, &scopes),
            scopes,
            sets: snapshot.sets.iter().map(|set| ((set.class.as_str(), set.scope.as_str()), set)).collect(),
            spare,
            demands: Vec::new(),
            set_jobs: Vec::new(),
            retired: BTreeSet::new(),
            gave_way: BTreeSet::new(),
            plan: Plan::default(),
        }
    }

    fn is_waiting(&mut self, job: &JobView, why: Waiting) {
        self.plan.waiting.insert((job.repository.clone(), job.id), why);
    }

    /// Idle runners beside jobs that any runner of their class and scope would have been given long ago. As many of them
    /// go as there are such jobs, those idle longest first: all of them look the same.
    fn find_deaf(&mut self) {
        let mut jobs: Vec<&JobView> = self.snapshot.jobs.iter().filter(|job| job.blocked.is_none()).collect();
        jobs.sort_by_key(|job| (job.first_seen, job.id, &job.repository));
        for job in jobs {
            let scope = self.scopes.get(job.scope.as_str()).copied();
            let Some(class) = scope.and_then(|scope| class_for(&self.snapshot.classes, scope, &job.labels)) else {
                continue;
            };
            let beside = Some((job.repository.clone(), job.id));
            self.replace_deaf((&class.name, &job.scope, false), job.first_seen, job.looked_at, beside);
        }
        for set in &self.snapshot.sets {
            let (key, Some(as_of)) = ((set.class.as_str(), set.scope.as_str(), true), set.as_of) else { continue };
            let busy = self.snapshot.containers.iter().filter(|c| c.key() == key && c.use_ == Use::Busy).count();
            let waiting = set.assigned.saturating_sub(busy + set.ended).min(set.waiting.values().sum());
            for _ in 0..waiting {
                self.replace_deaf(key, set.waiting_since.unwrap_or(as_of), as_of, None);
            }
        }
    }

    /// A job waits since `since`, as of `seen`.
    fn replace_deaf(&mut self, key: Key<'a>, since: Mono, seen: Mono, beside: Option<(String, u64)>) {
        let idle = self.snapshot.containers.iter().filter(|container| container.key() == key);
        let deaf = idle
            .filter(|container| !self.retired.contains(&container.name))
            .filter_map(|container| match container.use_ {
                Use::Idle(idle) if seen - idle.max(since) >= container.patience => Some((idle, &container.name)),
                _ => None,
            })
            .min();
        let Some((_, name)) = deaf else { return };
        self.take_spare(key);
        self.retired.insert(name);
        self.plan.actions.push(Action::Replace { container: name.clone(), beside });
    }

    /// What queued jobs need beyond what is coming, idle, or was taken since they were seen.
    fn count_jobs(&mut self) {
        let mut jobs: Vec<&JobView> = self.snapshot.jobs.iter().collect();
        jobs.sort_by_key(|job| (job.first_seen, job.id, &job.repository));
        let mut pickups = Pickups::new(self.snapshot);
        let mut assigned = self.sets.iter().map(|(key, set)| (*key, set.waiting.clone())).collect();
        for job in jobs {
            let scope = self.scopes.get(job.scope.as_str()).copied();
            let class = scope.and_then(|scope| class_for(&self.snapshot.classes, scope, &job.labels));
            match (job.blocked, scope, class) {
                (Some(Blocked::Quarantined), _, _) | (None, None, _) => self.is_waiting(job, Waiting::Quarantined),
                (_, Some(_), None) => self.is_waiting(job, Waiting::NoClass),
                (Some(Blocked::Refused), _, _) => self.is_waiting(job, Waiting::Refused),
                (Some(Blocked::Excluded), _, _) => self.is_waiting(job, Waiting::Excluded),
                (None, Some(_), Some(class)) if self.is_left_to_a_set(&mut assigned, job, class) => {
                    self.set_jobs.push((job, class));
                }
                (None, Some(scope), Some(class)) => {
                    let key = (class.name.as_str(), scope.name.as_str(), false);
                    let bound = |container: &ContainerView| container.is_spare() && container.is_bound_to(job);
                    if self.snapshot.containers.iter().any(bound)
                        || pickups.cover((&class.name, &scope.name), job)
                        || self.take_spare(key)
                    {
                        self.is_waiting(job, Waiting::Served);
                    } else {
                        self.demands.push(Demand { class, scope, set: false, job: Some(job), since: job.first_seen });
                    }
                }
            }
        }
    }

    /// A scale set serves it, as long as the forge may still assign it: GitHub drops an assignment now and then, says
    /// nothing, and the job waits for ever. `assigned` = waiting assignments by set and run, used up one by one: which
    /// of a run's jobs is meant a message does not tell in REST's words.
    fn is_left_to_a_set(&self, assigned: &mut AssignedRuns<'a>, job: &'a JobView, class: &'a ClassView) -> bool {
        let Some((key, set)) = self.sets.get_key_value(&(class.name.as_str(), job.scope.as_str())) else {
            return false;
        };
        if let Some(left) = assigned.get_mut(key).and_then(|runs| runs.get_mut(&job.run_id)).filter(|left| **left > 0) {
            *left -= 1;
            return true;
        }
        // It has to be seen queued after that time, not only before.
        let since = set.room_since.map(|since| since.max(job.first_seen));
        since.is_none_or(|since| job.looked_at - since < UNASSIGNED)
    }

    fn take_spare(&mut self, key: Key<'a>) -> bool {
        match self.spare.get_mut(&key) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }

    /// What scale sets need: as many as the forge counts, less all that is there for them.
    fn count_sets(&mut self) {
        for set in &self.snapshot.sets {
            let class = self.snapshot.classes.iter().find(|class| class.name == set.class);
            let (Some(class), Some(scope)) = (class, self.scopes.get(set.scope.as_str()).copied()) else { continue };
            let key = (set.class.as_str(), set.scope.as_str(), true);
            let mut spare = self.spare.get(&key).copied().unwrap_or_default();
            let busy = self.snapshot.containers.iter().filter(|c| c.key() == key && c.use_ == Use::Busy).count();
            let needed = set.assigned.saturating_sub(busy + set.ended);
            let missing = needed.saturating_sub(spare);
            spare -= needed.min(spare);
            self.spare.insert(key, spare);
            let since = set.oldest.unwrap_or(self.snapshot.now);
            self.demands.extend((0..missing).map(|_| Demand { class, scope, set: true, job: None, since }));
        }
    }

    /// Boots what is needed as far as there is room, each target its share. Returns what got nothing, and why.
    fn serve(&mut self) -> Vec<(Demand<'a>, Waiting)> {
        let (served, refused) = self.room.share_out(std::mem::take(&mut self.demands));
        for demand in served {
            if let Some(job) = demand.job {
                self.is_waiting(job, Waiting::Served);
            }
            self.boot(&demand);
        }
        for (demand, why) in &refused {
            if let Some(job) = demand.job {
                self.is_waiting(job, *why);
            }
        }
        refused
    }

    fn boot(&mut self, demand: &Demand<'_>) {
        self.plan.actions.push(Action::Boot {
            class: demand.class.name.clone(),
            scope: demand.scope.name.clone(),
            set: demand.set,
            job: demand.job.map(|job| (job.repository.clone(), job.id)),
        });
    }

    /// Idle containers give their place to jobs that wait for it, whether their grace is over or not: what is only
    /// kept ready must not keep others from being served.
    fn make_way(&mut self, refused: &[(Demand<'a>, Waiting)]) {
        let mut room = self.room.clone();
        for (demand, why) in refused {
            if !matches!(why, Waiting::Capacity | Waiting::Share | Waiting::TargetLimit) {
                continue;
            }
            let mut without = room.clone();
            let mut going: Vec<&ContainerView> = Vec::new();
            for (_, idle) in self.idle(Duration::ZERO) {
                if without.holds(demand) {
                    break;
                }
                if idle.bound_to.is_some() {
                    continue;
                }
                let counted = going.iter().filter(|other| other.key() == idle.key()).count();
                let unneeded = self.spare.get(&idle.key()).is_some_and(|spare| *spare > counted);
                if unneeded && without.is_helped(idle, demand) {
                    without.give_back(idle);
                    going.push(idle);
                }
            }
            // Where a limit is below what runs, more than one may have to go; and where that does not help, none.
            if !without.holds(demand) {
                continue;
            }
            without.take(demand);
            room = without;
            for idle in going {
                self.take_spare(idle.key());
                self.retired.insert(&idle.name);
                self.gave_way.insert(idle.key());
                self.plan.actions.push(Action::Retire(idle.name.clone()));
            }
        }
    }

    /// Idle containers looked at since they are, for at least `grace`, the longest idle first.
    fn idle(&self, grace: Duration) -> Vec<(Mono, &'a ContainerView)> {
        let mut idle: Vec<_> = self
            .snapshot
            .containers
            .iter()
            .filter(|container| !self.retired.contains(&container.name))
            .filter_map(|container| match container.use_ {
                Use::Idle(since) => Some((since, container)),
                Use::Coming | Use::Busy | Use::Ending => None,
            })
            .filter(|(since, container)| {
                let set = self.sets.get(&(container.class.as_str(), container.scope.as_str()));
                let scope = self.scopes.get(container.scope.as_str());
                let heard = match set.filter(|_| container.set) {
                    Some(set) => set.as_of,
                    None => scope.and_then(|scope| scope.looked_at),
                };
                // Of a scope that is served no more, or has another name now, nothing will be heard.
                let unheard = self.snapshot.now - *since >= UNHEARD;
                let current = scope.is_none() || unheard || heard.is_some_and(|heard| heard >= *since);
                current && self.snapshot.now - *since >= grace
            })
            .collect();
        idle.sort_by_key(|(since, container)| (*since, &container.name));
        idle
    }

    /// Idle containers to have ready before anybody asks.
    fn keep_ready(&mut self) {
        let mut demands = Vec::new();
        let gave_way = std::mem::take(&mut self.gave_way);
        for class in self.snapshot.classes.iter().filter(|class| class.min_idle > 0) {
            for scope in self.snapshot.scopes.iter().filter(|scope| scope.allows(&class.name)) {
                let set = self.sets.contains_key(&(class.name.as_str(), scope.name.as_str()));
                if gave_way.contains(&(class.name.as_str(), scope.name.as_str(), set)) {
                    continue;
                }
                let spare = self.spare.get(&(class.name.as_str(), scope.name.as_str(), set)).copied();
                let demand = Demand { class, scope, set, job: None, since: self.snapshot.now };
                demands.extend((spare.unwrap_or_default()..class.min_idle).map(|_| demand.clone()));
            }
        }
        for demand in self.room.share_out(demands).0 {
            self.boot(&demand);
        }
    }

    /// What nobody needs retires once its grace is over, of a drained class at once.
    fn retire_surplus(&mut self) {
        for (since, container) in self.idle(Duration::ZERO) {
            if container.bound_to.is_some() {
                // No other job will ever find it.
                if !self.snapshot.jobs.iter().any(|job| container.is_bound_to(job)) {
                    self.plan.actions.push(Action::Retire(container.name.clone()));
                }
                continue;
            }
            let key = container.key();
            let class = self.snapshot.classes.iter().find(|class| class.name == key.0);
            let drained = class.is_some_and(|class| class.drained);
            if !drained && self.snapshot.now - since < self.snapshot.idle_grace {
                continue;
            }
            // A runner registered by itself is of no use to a scale set that took over, nor the other way round.
            let current = container.set == self.sets.contains_key(&(key.0, key.1));
            let allowed = self.scopes.get(key.1).is_some_and(|scope| scope.allows(key.0));
            let kept = class.filter(|class| current && allowed && !class.drained).map_or(0, |class| class.min_idle);
            if self.spare.get(&key).is_some_and(|spare| *spare > kept) {
                self.take_spare(key);
                self.plan.actions.push(Action::Retire(container.name.clone()));
            }
        }
    }

    /// What the forge may assign to each set.
    fn promise(&mut self) {
        for set in &self.snapshot.sets {
            let class = self.snapshot.classes.iter().find(|class| class.name == set.class);
            let (Some(class), Some(scope)) = (class, self.scopes.get(set.scope.as_str())) else { continue };
            let here = |c: &&ContainerView| c.key() == (&set.class, &set.scope, true) && c.use_ != Use::Ending;
            let boots = self.plan.actions.iter().filter(|action| {
                matches!(action, Action::Boot { class, scope, set: true, .. } if *class == set.class && *scope == set.scope)
            });
            let there = self.snapshot.containers.iter().filter(here).count() + boots.count();
            // GitHub assigns a full host nothing, and what is not assigned waits for no place: others' jobs would get
            // each that becomes free.
            let due = usize::from(self.room.is_due(class, scope));
            let capacity = self.room.left(class, scope).map_or(0, |left| there + left.max(due));
            self.plan.capacity.insert((set.class.clone(), set.scope.clone()), capacity);
        }
    }

    /// A listed job that a scale set serves is no demand of its own; it waits for what the set waits for.
    fn explain_set_jobs(&mut self, refused: &[(Demand<'a>, Waiting)]) {
        let coming = |set: &'a SetView| {
            let there = |c: &&ContainerView| c.key() == (&set.class, &set.scope, true) && c.is_spare();
            let boots = self.plan.actions.iter().filter(|action| {
                matches!(action, Action::Boot { class, scope, set: true, .. } if *class == set.class && *scope == set.scope)
            });
            let count = self.snapshot.containers.iter().filter(there).count() + boots.count();
            ((set.class.as_str(), set.scope.as_str()), count)
        };
        let mut coming: BTreeMap<(&str, &str), usize> = self.snapshot.sets.iter().map(coming).collect();
        let mut missing: BTreeMap<(&str, &str), Vec<Waiting>> = BTreeMap::new();
        for (demand, why) in refused.iter().filter(|(demand, _)| demand.set) {
            missing.entry((&demand.class.name, &demand.scope.name)).or_default().push(*why);
        }
        for (job, class) in std::mem::take(&mut self.set_jobs) {
            let key = (class.name.as_str(), job.scope.as_str());
            let why = match coming.get_mut(&key) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    Waiting::Served
                }
                _ => missing.get_mut(&key).and_then(Vec::pop).unwrap_or(match self.room.closed(class) {
                    Some(why) => why,
                    None => Waiting::NotAdmitted,
                }),
            };
            self.is_waiting(job, why);
        }
    }
}

/// Jobs taken, each of which may be one that a listing begun before still shows as queued.
struct Pickups<'a>(BTreeMap<(&'a str, &'a str), Vec<&'a Pickup>>);

impl<'a> Pickups<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let mut all: BTreeMap<_, Vec<&Pickup>> = BTreeMap::new();
        for pickup in &snapshot.pickups {
            all.entry((pickup.class.as_str(), pickup.scope.as_str())).or_default().push(pickup);
        }
        all.values_mut().for_each(|pickups| pickups.sort_by_key(|pickup| pickup.at));
        Self(all)
    }

    /// Uses up the earliest pickup that the look at this job cannot have shown, if there is one that may be its.
    fn cover(&mut self, key: (&'a str, &'a str), job: &JobView) -> bool {
        let Some(pickups) = self.0.get_mut(&key) else { return false };
        let is_its = |pickup: &Pickup| {
            pickup.of.as_ref().is_none_or(|(repository, id)| *id == job.id && *repository == job.repository)
        };
        let found = pickups.iter().position(|pickup| pickup.at >= job.looked_at && is_its(pickup));
        found.map(|index| pickups.remove(index)).is_some()
    }
}

#[cfg(test)]
mod tests;
