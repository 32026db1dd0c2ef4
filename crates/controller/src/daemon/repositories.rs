//! Repositories that are looked at.

use std::{collections::BTreeMap, time::Duration};

use contract::fork_gate::Refusal;
use tracing::info;

use super::Daemon;
use crate::{edges::World, pace, plan::JobView};

/// Calls of a look besides those for what is queued or running: one for each status asked for (PROTOCOLS A.2).
const CALLS: f64 = 2.0;

/// A repository as the controller knows it.
#[derive(Debug, Default)]
pub(super) struct Repository {
    /// The configured target it belongs to.
    pub target: String,
    /// Where runners for it are registered.
    pub scope: String,
    /// Everybody can read it; none = the forge did not say.
    pub public: Option<bool>,
    /// Its queued jobs as of the last look.
    pub queued: Vec<JobView>,
    /// What else is kept of them.
    pub seen: BTreeMap<u64, SeenJob>,
    /// Jobs there that the forge does not let go yet.
    pub held_back: Vec<HeldBack>,
    /// Start of the last look that succeeded.
    pub looked_at: Option<Duration>,
    /// Wall clock of its end, in milliseconds.
    pub looked_ms: Option<u64>,
    /// When something was last queued or running there.
    pub active_at: Option<Duration>,
    /// Runs with something queued or running at the last look, by id; each costs calls.
    pub run_facts: BTreeMap<u64, RunFacts>,
    /// When it is looked at next.
    pub next_look: Duration,
    /// Time between looks, as last decided.
    pub interval: Duration,
    /// A look is under way.
    pub looking: bool,
    /// When a hint last hastened a look.
    pub hinted_at: Option<Duration>,
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
pub(super) struct SeenJob {
    pub name: String,
    pub queued_ms: Option<u64>,
    pub visible_ms: u64,
    pub first_seen: Duration,
    /// Why the fork gate refuses it.
    pub refusal: Option<Refusal>,
    /// Its repository is public; none = not known.
    pub public: Option<bool>,
    /// How often an idle runner was not given it.
    pub passed_over: u32,
    /// Nothing is booted for it before.
    pub given_up_until: Duration,
}

impl Repository {
    /// How it is looked at. `counted` = calls that count against the limit, for each look.
    pub fn pace(&self, counted: f64, now: Duration) -> pace::Repository {
        let calls = CALLS + self.run_facts.len() as f64;
        let quiet = self.active_at.map(|at| now.saturating_sub(at));
        pace::Repository { quiet, calls, counted: counted.min(calls) }
    }

    /// The forge lists it: what kept it from being served may be over.
    pub fn give_another_chance(&mut self, now: Duration) {
        if self.quarantine.is_some() {
            self.next_look = self.next_look.min(now);
        }
    }
}

impl<W: World> Daemon<'_, W> {
    pub(super) fn add_repository(&mut self, target: &str, name: &str, public: Option<bool>, next_look: Duration) {
        let Some(settings) = self.targets.get(target).map(|target| &target.settings) else { return };
        let own = settings.registers_with_repositories();
        let scope = if own { name } else { target }.to_owned();
        if own {
            self.add_scope(name, target, name != target);
        }
        let repository = Repository { target: target.to_owned(), scope, public, next_look, ..Repository::default() };
        self.repositories.insert(name.to_owned(), repository);
    }

    /// It cannot be served as it is: nothing is booted for it, and it is tried again now and then.
    pub(super) fn quarantine(&mut self, name: &str, reason: String) {
        let Some(repository) = self.repositories.get_mut(name) else { return };
        if repository.quarantine.is_none() {
            info!(repository = name, reason, "{name}: not served: {reason}");
        }
        repository.quarantine = Some(reason);
        for job in &mut repository.queued {
            job.blocked = Some(crate::plan::Blocked::Quarantined);
        }
    }
}
