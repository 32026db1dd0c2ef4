//! Intake: which jobs are queued where, and whether they may run here. Owns the targets, their repositories, the places
//! that runners are registered with, and the credentials that all of it is asked with.

mod credentials;
mod discovery;
mod groups;
mod looks;
mod places;
mod repositories;
mod shown;
mod targets;

use std::{collections::BTreeMap, rc::Rc};

use forge::{ForgeError, Job, RunnerGroup};
use settings::Settings;

use self::{credentials::CredentialState, places::Place, repositories::WatchedRepository, targets::TargetState};
use super::{
    effects::Effects,
    plan::{Blocked, JobView, ScopeView, TargetView},
    ports::World,
    time::{Mono, Now},
};

/// What an effect came to.
pub enum Outcome {
    /// The repositories of a target.
    Discovered { target: String, result: Result<Vec<forge::Repository>, ForgeError> },
    /// The jobs of a repository, by a look begun then.
    Looked { repository: String, began: Mono, result: Result<Vec<Job>, ForgeError> },
    /// The runner group of a place.
    Group { scope: String, result: Result<Option<RunnerGroup>, ForgeError> },
}

/// What others should know of.
pub enum Event {
    /// A target's repositories were listed: there may be other places than before.
    Listed,
    /// A repository's jobs, by a look begun then. When it is looked at next is to be decided
    /// ([`Intake::schedule_look`]).
    Saw { repository: String, scope: String, began: Mono, jobs: Vec<Job> },
}

/// What is known of jobs and of where they come from.
pub struct Intake<'w, W: World> {
    world: &'w W,
    effects: Effects<'w, Outcome>,
    settings: Rc<Settings>,
    targets: BTreeMap<String, TargetState>,
    places: BTreeMap<String, Place>,
    repositories: BTreeMap<String, WatchedRepository>,
    credentials: BTreeMap<String, CredentialState>,
}

impl<'w, W: World> Intake<'w, W> {
    /// Explicit repositories and organisations are there from the start, the others are to be found.
    pub fn new(world: &'w W, settings: Rc<Settings>, effects: Effects<'w, Outcome>) -> Self {
        let credentials = settings.credentials.keys().map(|name| (name.clone(), CredentialState::default())).collect();
        let mut intake = Self {
            world,
            effects,
            settings,
            targets: BTreeMap::new(),
            places: BTreeMap::new(),
            repositories: BTreeMap::new(),
            credentials,
        };
        intake.configure_targets();
        intake
    }

    /// Takes in what an effect came to.
    pub fn apply(&mut self, outcome: Outcome, now: Now) -> Option<Event> {
        match outcome {
            Outcome::Discovered { target, result } => self.discovered(&target, result, now),
            Outcome::Looked { repository, began, result } => self.looked(repository, began, result, now),
            Outcome::Group { scope, result } => {
                self.group_told(&scope, result, now);
                None
            }
        }
    }

    /// When something is due.
    pub fn next_due(&self) -> Option<Mono> {
        let looks = self.repositories.values().filter(|repository| !repository.looking).map(|known| known.next_look);
        looks.chain(self.targets.values().filter_map(|target| target.next_discovery)).min()
    }

    /// Something was not looked at yet, and did not fail either.
    pub fn is_curious(&self) -> bool {
        let unlisted =
            |target: &TargetState| target.is_discovered() && target.discovered_ms.is_none() && target.failures == 0;
        self.targets.values().any(unlisted)
            || self.awaits_groups()
            || self.repositories.values().any(|repository| repository.looked_at.is_none() && repository.failures == 0)
    }

    /// Repositories that no look has shown yet.
    pub fn unseen(&self) -> usize {
        self.repositories.values().filter(|repository| repository.looked_at.is_none()).count()
    }

    /// The target that a runner registered with `scope` serves. Of a repository nobody serves any more, its owner's.
    pub fn target_of(&self, scope: &str) -> Option<&settings::Target> {
        let named = self.places.get(scope).map(|place| place.target.as_str());
        let name = named.or(scope.split('/').next())?;
        self.targets.get(name).map(|target| &target.settings)
    }

    /// The targets as planning sees them.
    pub fn target_views(&self) -> Vec<TargetView> {
        let view = |target: &settings::Target| TargetView {
            name: target.name.clone(),
            priority: target.priority,
            weight: target.weight,
            max: target.max_concurrent,
        };
        self.targets.values().map(|target| view(&target.settings)).collect()
    }

    /// A place as planning sees it.
    pub fn scope_view(&self, name: &str, now: Now) -> Option<ScopeView> {
        let place = self.places.get(name)?;
        let target = &self.targets.get(&place.target)?.settings;
        let refused = self.credentials.get(&target.credential);
        let looks = self.repositories.values().filter(|repository| repository.scope == name);
        Some(ScopeView {
            name: name.to_owned(),
            target: place.target.clone(),
            held_until: place.breaker.held_until().max(refused.and_then(|credential| credential.breaker.held_until())),
            probed: place.breaker.is_probed(now.mono),
            looked_at: looks.filter_map(|repository| repository.looked_at).max(),
            classes: target.classes.iter().cloned().collect(),
        })
    }

    /// The queued jobs as planning is to see them.
    pub fn job_views(&self, now: Now) -> Vec<JobView> {
        let jobs = self.repositories.values().flat_map(|repository| &repository.queued);
        jobs.map(|job| {
            let excluded = || self.excluded(job, now.mono).map(|_| Blocked::Excluded);
            JobView { blocked: job.blocked.or_else(excluded), ..job.clone() }
        })
        .collect()
    }
}
