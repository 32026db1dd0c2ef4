//! What may still be booted, and who gets it: one host shared by all targets.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use super::{ClassView, ContainerView, JobView, SERVED_AFTER, ScopeView, Snapshot, TargetView, Use, Waiting};
use crate::time::Mono;

/// One container wanted.
#[derive(Debug, Clone)]
pub(super) struct Demand<'a> {
    pub class: &'a ClassView,
    pub scope: &'a ScopeView,
    pub set: bool,
    pub job: Option<&'a JobView>,
    pub since: Mono,
}

/// Places left, counted down as they are given away; less than none where a limit was lowered below what runs.
#[derive(Clone)]
pub(super) struct Room<'a> {
    snapshot: &'a Snapshot,
    host: isize,
    /// Places left while the host is short of something.
    strained: isize,
    subnets: usize,
    by_class: BTreeMap<&'a str, isize>,
    by_target: BTreeMap<&'a str, Place<'a>>,
    /// How many may be tried of classes and places that failed too often: one, less what is on its way.
    probes: BTreeMap<Probed<'a>, isize>,
    targets: BTreeMap<&'a str, &'a str>,
}

/// What failed too often.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Probed<'a> {
    Class(&'a str),
    Scope(&'a str),
}

/// A target's part of the host.
#[derive(Clone)]
struct Place<'a> {
    view: &'a TargetView,
    /// Containers it has or is about to have.
    used: usize,
    /// It wants more than it has.
    wants: bool,
}

/// `max` without `used`.
fn left_of(max: usize, used: usize) -> isize {
    max.saturating_sub(used).cast_signed() - used.saturating_sub(max).cast_signed()
}

impl<'a> Room<'a> {
    pub fn new(snapshot: &'a Snapshot, scopes: &BTreeMap<&'a str, &'a ScopeView>) -> Self {
        let targets: BTreeMap<&str, &str> = scopes.iter().map(|(name, scope)| (*name, scope.target.as_str())).collect();
        let of_class = |class: &str| snapshot.containers.iter().filter(|c| c.class == class).count();
        let of_target = |target: &str| {
            snapshot.containers.iter().filter(|c| targets.get(c.scope.as_str()).is_some_and(|t| *t == target)).count()
        };
        // Whether it goes well is not known yet.
        let tries = |container: &&ContainerView| match container.use_ {
            Use::Coming => true,
            Use::Idle(since) => snapshot.now - since < SERVED_AFTER,
            Use::Busy | Use::Ending => false,
        };
        let trying =
            |of: &dyn Fn(&ContainerView) -> bool| snapshot.containers.iter().filter(|c| of(c)).filter(tries).count();
        let classes = snapshot.classes.iter().filter(|class| class.probed);
        let classes = classes.map(|class| (Probed::Class(&class.name), trying(&|c| c.class == class.name)));
        let probed = scopes.values().filter(|scope| scope.probed);
        let probed = probed.map(|scope| (Probed::Scope(&scope.name), trying(&|c| c.scope == scope.name)));
        // What is idle strains nothing; but who takes a place for one that is to come does.
        let at_work = snapshot.containers.iter().filter(|c| !matches!(c.use_, Use::Idle(_))).count();
        Self {
            snapshot,
            host: left_of(snapshot.capacity, snapshot.containers.len()),
            strained: snapshot.strained.map_or(isize::MAX, |most| left_of(most, at_work)),
            subnets: snapshot.free_subnets,
            by_class: snapshot
                .classes
                .iter()
                .map(|class| (class.name.as_str(), left_of(class.max, of_class(&class.name))))
                .collect(),
            by_target: snapshot
                .targets
                .iter()
                .map(|view| (view.name.as_str(), Place { view, used: of_target(&view.name), wants: false }))
                .collect(),
            probes: classes.chain(probed).map(|(key, trying)| (key, left_of(1, trying))).collect(),
            targets,
        }
    }

    /// Gives what there is room for, one container at a time: to the target of the highest priority, and among equals
    /// to the one that has least for its weight even with one more. So each gets its share of what can be had (whole
    /// containers, rounded down), and what one does not want goes to the others. Inside a target the oldest first.
    ///
    /// Returns what is given, in order, and what is not, with the reason.
    pub fn share_out(&mut self, demands: Vec<Demand<'a>>) -> (Vec<Demand<'a>>, Vec<(Demand<'a>, Waiting)>) {
        let mut queues: BTreeMap<&str, VecDeque<Demand<'a>>> = BTreeMap::new();
        for demand in demands {
            queues.entry(&demand.scope.target).or_default().push_back(demand);
        }
        for (target, queue) in &mut queues {
            queue.make_contiguous().sort_by_key(|demand| {
                let job = demand.job.map(|job| (&job.repository, job.id));
                (demand.since, job, &demand.scope.name, &demand.class.name)
            });
            if let Some(place) = self.by_target.get_mut(target) {
                place.wants = true;
            }
        }
        let (mut given, mut refused) = (Vec::new(), Vec::new());
        loop {
            // Room only shrinks: what is refused once stays refused.
            for queue in queues.values_mut() {
                while let Some(why) = queue.front().and_then(|demand| self.refuses(demand)) {
                    refused.extend(queue.pop_front().map(|demand| (demand, why)));
                }
            }
            let next = queues
                .iter()
                .filter_map(|(target, queue)| Some((self.by_target.get(target)?, queue.front()?, *target)))
                .min_by(|(a, first_a, name_a), (b, first_b, name_b)| {
                    // (used + 1) / weight, without fractions.
                    let level = |place: &Place<'_>, other: &Place<'_>| {
                        (place.used as u64 + 1).saturating_mul(u64::from(other.view.weight.max(1)))
                    };
                    Reverse(a.view.priority)
                        .cmp(&Reverse(b.view.priority))
                        .then_with(|| level(a, b).cmp(&level(b, a)))
                        .then_with(|| (first_a.since, name_a).cmp(&(first_b.since, name_b)))
                })
                .map(|(_, _, target)| target);
            let Some(demand) = next.and_then(|target| queues.get_mut(target)?.pop_front()) else { break };
            self.take(&demand);
            given.push(demand);
        }
        (given, refused)
    }

    /// Nothing of this class is booted at all.
    pub fn closed(&self, class: &ClassView) -> Option<Waiting> {
        if !self.snapshot.intake || class.drained {
            Some(Waiting::Drained)
        } else if class.outdated {
            Some(Waiting::Outdated)
        } else if self.is_held(class.held_until) {
            Some(Waiting::Held)
        } else {
            None
        }
    }

    fn is_held(&self, until: Option<Mono>) -> bool {
        until.is_some_and(|until| until > self.snapshot.now)
    }

    fn refuses(&self, demand: &Demand<'_>) -> Option<Waiting> {
        let Some(place) = self.by_target.get(demand.scope.target.as_str()) else { return Some(Waiting::Quarantined) };
        if let Some(why) = self.closed(demand.class) {
            Some(why)
        } else if self.is_held(demand.scope.held_until) || self.probes(demand.class, demand.scope) <= 0 {
            Some(Waiting::Held)
        } else if self.strained <= 0 {
            Some(Waiting::Strained)
        } else if place.used >= place.view.max {
            Some(Waiting::TargetLimit)
        } else if self.class_is_full(demand.class) || self.subnets == 0 {
            Some(Waiting::Capacity)
        } else if self.host <= 0 {
            Some(if self.has_its_share(place) { Waiting::Share } else { Waiting::Capacity })
        } else {
            None
        }
    }

    /// So many may be tried.
    fn probes(&self, class: &ClassView, scope: &ScopeView) -> isize {
        let left = [Probed::Class(&class.name), Probed::Scope(&scope.name)].map(|key| self.probes.get(&key).copied());
        left.into_iter().flatten().min().unwrap_or(isize::MAX)
    }

    fn class_is_full(&self, class: &ClassView) -> bool {
        self.by_class.get(class.name.as_str()).is_none_or(|left| *left <= 0)
    }

    /// It has what it is due of the host, with others there that are due something.
    fn has_its_share(&self, place: &Place<'_>) -> bool {
        let rivals = || {
            let equals = |other: &&Place<'_>| other.view.priority >= place.view.priority;
            self.by_target.values().filter(|other| other.wants || other.used > 0).filter(equals)
        };
        let weights: u64 = rivals().map(|other| u64::from(other.view.weight.max(1))).sum();
        rivals().count() > 1
            && (place.used as u64).saturating_mul(weights)
                >= (self.snapshot.capacity as u64).saturating_mul(u64::from(place.view.weight.max(1)))
    }

    /// A place is `demand`'s.
    pub fn take(&mut self, demand: &Demand<'a>) {
        self.host -= 1;
        self.strained = self.strained.saturating_sub(1);
        self.subnets = self.subnets.saturating_sub(1);
        if let Some(left) = self.by_class.get_mut(demand.class.name.as_str()) {
            *left -= 1;
        }
        if let Some(place) = self.by_target.get_mut(demand.scope.target.as_str()) {
            place.used += 1;
        }
        for key in [Probed::Class(&demand.class.name), Probed::Scope(&demand.scope.name)] {
            if let Some(left) = self.probes.get_mut(&key) {
                *left -= 1;
            }
        }
    }

    /// Containers of `class` that could still be booted for `scope`; none = none at all, not even if others end.
    pub fn left(&self, class: &ClassView, scope: &ScopeView) -> Option<usize> {
        let place = self.by_target.get(scope.target.as_str())?;
        let probes = self.probes(class, scope);
        if self.closed(class).is_some() || self.is_held(scope.held_until) || probes <= 0 {
            return None;
        }
        let of_class = self.by_class.get(class.name.as_str()).copied().unwrap_or_default();
        let places = usize::try_from(self.host.min(of_class).min(self.strained).min(probes)).unwrap_or_default();
        Some(places.min(self.subnets).min(place.view.max.saturating_sub(place.used)))
    }

    /// The next place that becomes free is due to this target, should it want one: it has less than its share of a full
    /// host, or nothing at all.
    pub fn is_due(&self, class: &ClassView, scope: &ScopeView) -> bool {
        let Some(own) = self.by_target.get(scope.target.as_str()) else { return false };
        let others = || self.by_target.values().filter(|place| place.view.name != own.view.name);
        let is_passed_over = others().any(|other| other.wants && other.view.priority > own.view.priority);
        let rivals = others().filter(|place| place.wants || place.used > 0);
        let weight = |place: &Place<'_>| u64::from(place.view.weight.max(1));
        let weights: u64 = weight(own) + rivals.map(weight).sum::<u64>();
        let share = (self.snapshot.capacity as u64).saturating_mul(weight(own));
        let below = own.used == 0 || (own.used as u64 + 1).saturating_mul(weights) <= share;
        below
            && !is_passed_over
            && self.strained > 0
            && own.used < own.view.max
            && class.max > 0
            && self.snapshot.capacity > 0
    }

    /// There is room for `demand`.
    pub fn holds(&self, demand: &Demand<'_>) -> bool {
        self.refuses(demand).is_none()
    }

    /// What `demand` lacks would be less without this container.
    pub fn is_helped(&self, container: &ContainerView, demand: &Demand<'_>) -> bool {
        let of_target = |place: &Place<'_>| place.used >= place.view.max;
        let limited = self.by_target.get(demand.scope.target.as_str()).is_none_or(of_target);
        let own = self.targets.get(container.scope.as_str()).is_some_and(|target| *target == demand.scope.target);
        let same = container.class == demand.class.name;
        limited && own || self.class_is_full(demand.class) && same || self.host <= 0 || self.subnets == 0
    }

    /// This container is going.
    pub fn give_back(&mut self, container: &ContainerView) {
        let target = self.targets.get(container.scope.as_str());
        if let Some(place) = target.and_then(|target| self.by_target.get_mut(target)) {
            place.used = place.used.saturating_sub(1);
        }
        if let Some(left) = self.by_class.get_mut(container.class.as_str()) {
            *left += 1;
        }
        self.host += 1;
        self.subnets += 1;
    }
}
