//! Repositories that are looked at.

use std::{collections::BTreeMap, time::Duration};

use contract::fork_gate::{self, Refusal};
use forge::github::scale_set::assignments::Assignment;
use tracing::info;

use super::Intake;
use crate::{
    pace,
    plan::{Blocked, JobView},
    ports::World,
    time::Mono,
};

/// Calls of a look besides those for what is queued or running: one for each status asked for
/// (docs/github.md#workflow-runs).
const CALLS: f64 = 2.0;

/// A repository as the controller knows it.
#[derive(Debug, Default)]
pub(super) struct WatchedRepository {
    /// The configured target it belongs to.
    pub target: String,
    /// Where runners for it are registered.
    pub scope: String,
    /// Everybody can read it; None if the forge did not say.
    pub public: Option<bool>,
    /// Its queued jobs as of the last look.
    pub queued: Vec<JobView>,
    /// What else is kept of them.
    pub seen: BTreeMap<u64, SeenJob>,
    /// Jobs there that the forge does not let go yet.
    pub held_back: Vec<HeldBack>,
    /// Start of the last look that succeeded.
    pub looked_at: Option<Mono>,
    /// Wall clock of its end, in milliseconds.
    pub looked_ms: Option<u64>,
    /// When something was last queued or running there.
    pub active_at: Option<Mono>,
    /// Runs with something queued or running at the last look, by id; each costs calls.
    pub run_facts: BTreeMap<u64, RunFacts>,
    /// When it is looked at next.
    pub next_look: Mono,
    /// Time between looks, as last decided.
    pub interval: Duration,
    /// A look is under way.
    pub looking: bool,
    /// When a hint last hastened a look.
    pub hinted_at: Option<Mono>,
    /// Looks failed in a row.
    pub failures: u32,
    /// What the forge last refused, until it succeeds.
    pub last_error: Option<String>,
    /// It cannot be served, for this reason.
    pub quarantine: Option<String>,
}

/// What decides whether the jobs of a run may run here.
#[derive(Debug, Clone)]
pub(super) struct RunFacts {
    pub event: Option<String>,
    pub from_fork: Option<bool>,
    pub public: Option<bool>,
}

/// A job that the forge does not let go yet.
#[derive(Debug, Clone)]
pub(super) struct HeldBack {
    pub id: u64,
    pub name: String,
    pub labels: Vec<String>,
    pub visible_ms: u64,
}

/// What is kept of a queued job besides what planning needs.
#[derive(Debug, Clone)]
pub struct SeenJob {
    /// Display name.
    pub name: String,
    /// Which attempt of it, where a re-run keeps the id.
    pub attempt: u32,
    /// What a runner can be bound to it by.
    pub handle: Option<String>,
    /// When the forge queued it.
    pub queued_ms: Option<u64>,
    /// When it was first seen, by the wall clock.
    pub visible_ms: u64,
    /// The same by the other clock.
    pub first_seen: Mono,
    /// Why the fork gate refuses it.
    pub refusal: Option<Refusal>,
    /// Its repository is public; None if unknown.
    pub public: Option<bool>,
    /// How many runners were idle beside it and were not given it.
    pub passed_over: u32,
    /// When that was first so.
    pub passed_first: Mono,
    /// How often it was given up for that.
    pub given_up: u32,
    /// Nothing is booted for it before.
    pub given_up_until: Mono,
}

impl WatchedRepository {
    /// How it is looked at. `counted` = calls that count against the limit, for each look.
    pub fn pace(&self, counted: f64, now: Mono) -> pace::RepositoryPace {
        let calls = CALLS + self.run_facts.len() as f64;
        let quiet = self.active_at.map(|at| now - at);
        pace::RepositoryPace { quiet, calls, counted: counted.min(calls) }
    }

    /// The forge lists it: what kept it from being served may be over.
    pub fn give_another_chance(&mut self, now: Mono) {
        if self.quarantine.is_some() {
            self.next_look = self.next_look.min(now);
        }
    }
}

impl<W: World> Intake<'_, W> {
    pub(super) fn add_repository(&mut self, target: &str, name: &str, public: Option<bool>, next_look: Mono) {
        let Some(settings) = self.targets.get(target).map(|target| &target.settings) else { return };
        let own = settings.registers_with_repositories();
        let scope = if own { name } else { target }.to_owned();
        if own {
            self.add_place(name, target, name != target);
        }
        let repository =
            WatchedRepository { target: target.to_owned(), scope, public, next_look, ..WatchedRepository::default() };
        self.repositories.insert(name.to_owned(), repository);
    }

    /// What is kept of a queued job.
    pub fn seen(&self, repository: &str, job: u64) -> Option<&SeenJob> {
        self.repositories.get(repository)?.seen.get(&job)
    }

    /// Whether the fork gate refuses a job that a scale set of `scope` was assigned, by what the message said and what a
    /// look since showed of its run.
    pub fn refuses(&self, scope: &str, job: &Assignment) -> bool {
        let repository = self.repositories.get(&job.repository);
        let Some(run) = repository.and_then(|repository| repository.run_facts.get(&job.run_id)) else {
            return self.refuses_event(scope, &job.repository, &job.event_name);
        };
        let public = run.public.or(repository.and_then(|repository| repository.public));
        fork_gate::admit(run.event.as_deref(), run.from_fork, public, self.allows_forks(scope)).is_err()
    }

    /// Whether the fork gate refuses an assigned job of a repository by its event alone: its run says more.
    pub fn refuses_event(&self, scope: &str, repository: &str, event: &str) -> bool {
        let public = self.repositories.get(repository).and_then(|repository| repository.public);
        fork_gate::admit_assignment(Some(event), public, self.allows_forks(scope)).is_err()
    }

    /// The target of a place allows jobs from forks.
    pub fn allows_forks(&self, scope: &str) -> bool {
        self.target_of(scope).is_some_and(|target| target.allow_forks)
    }

    /// It cannot be served as it is: nothing is booted for it, and it is tried again now and then.
    pub(super) fn quarantine(&mut self, name: &str, reason: String) {
        let Some(repository) = self.repositories.get_mut(name) else { return };
        if repository.quarantine.is_none() {
            info!(repository = name, reason, "{name}: not served: {reason}");
        }
        repository.quarantine = Some(reason);
        for job in &mut repository.queued {
            job.blocked = Some(Blocked::Quarantined);
        }
    }
}
