//! Runner scale sets: what they are, which jobs are theirs, and how many of each kind they have.
//!
//! A job belongs to a set by a [`Claim`] on the job itself, so that ending, holding or cancelling a job has only one
//! place to look at.

mod credentials;
mod log;
mod sessions;

pub use log::{Assignment, ScaleSetRules};
pub(crate) use log::{Delivery, EventKind, JobEvent};
pub(crate) use sessions::{Opened, QueueError, SessionError};

use super::{JobId, JobStatus, Phase, RepoId, Scope, World, WorldError};
use credentials::Credentials;
use log::Log;
use serde::{Deserialize, Serialize};
use sessions::Session;
use std::collections::BTreeMap;
use std::time::Duration;

pub use super::ids::ScaleSetId;

/// A set as it stands.
#[derive(Debug)]
pub(crate) struct ScaleSet {
    pub(crate) id: ScaleSetId,
    pub(crate) name: String,
    pub(crate) scope: Scope,
    pub(crate) group_id: u64,
    pub(crate) labels: Vec<String>,
    pub(crate) disable_update: bool,
    pub(crate) created_at: Duration,
    session: Option<Session>,
    log: Log,
}

/// What a client wants a new set to be.
#[derive(Debug, Clone)]
pub(crate) struct ScaleSetRequest {
    pub(crate) name: String,
    pub(crate) group_id: u64,
    pub(crate) labels: Vec<String>,
    pub(crate) disable_update: bool,
}

/// Why a set was not made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScaleSetError {
    /// There is no such set in this scope.
    Missing,
    /// The group has a set of that name.
    Exists,
    /// There is no such runner group.
    NoGroup,
    /// It has no name.
    NoName,
}

/// A job that is, or may become, a set's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) set: ScaleSetId,
    /// 0 where the server assigns by itself.
    pub(crate) request_id: u64,
    /// When it was held out; only with [`Assignment::Acquire`].
    pub(crate) offered_at: Duration,
    /// When it became the set's.
    pub(crate) assigned_at: Option<Duration>,
}

/// The seven numbers a set is described by (docs/github.md#messages-and-statistics).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleSetStatistics {
    /// Matching and not the set's yet.
    pub total_available_jobs: u64,
    /// Claimed by the listener and not assigned yet; here both happen at once.
    pub total_acquired_jobs: u64,
    /// The set's, from assignment to completion.
    pub total_assigned_jobs: u64,
    /// Those of them that a runner has.
    pub total_running_jobs: u64,
    /// Runner records.
    pub total_registered_runners: u64,
    /// Runners with a job.
    pub total_busy_runners: u64,
    /// Runners connected and waiting.
    pub total_idle_runners: u64,
}

/// Everything a test may want to know of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleSetView {
    /// Id.
    pub id: ScaleSetId,
    /// Name.
    pub name: String,
    /// Where it is registered.
    pub scope: Scope,
    /// Its runner group.
    pub group_id: u64,
    /// Its labels.
    pub labels: Vec<String>,
    /// Who listens, if anybody does: the `ownerName` of the session.
    pub listener: Option<String>,
    /// How many of what.
    pub statistics: ScaleSetStatistics,
    /// Messages that were made and not deleted yet.
    pub undeleted_messages: Vec<u64>,
    /// Jobs that are the set's, oldest first.
    pub assigned_jobs: Vec<JobId>,
}

/// All sets and what opens them.
#[derive(Debug, Default)]
pub(super) struct ScaleSets {
    sets: BTreeMap<ScaleSetId, ScaleSet>,
    credentials: Credentials,
    last_request: u64,
}

impl World {
    /// Sets of a scope.
    pub(crate) fn scale_sets_of(&self, scope: &Scope) -> impl Iterator<Item = &ScaleSet> {
        self.scale_sets.sets.values().filter(move |set| set.scope == *scope)
    }

    pub(crate) fn scale_set(&self, scope: &Scope, id: ScaleSetId) -> Option<&ScaleSet> {
        self.scale_sets.sets.get(&id).filter(|set| set.scope == *scope)
    }

    /// Makes a set. Without labels its name is its label; a server that does not know several labels keeps the first
    /// and says nothing.
    pub(crate) fn create_scale_set(
        &mut self,
        now: Duration,
        scope: Scope,
        request: ScaleSetRequest,
    ) -> Result<ScaleSetId, ScaleSetError> {
        self.check_scale_set(&scope, None, &request)?;
        let mut labels = request.labels;
        if labels.is_empty() {
            labels.push(request.name.clone());
        }
        if !self.config.scale_sets.several_labels {
            labels.truncate(1);
        }
        let id = self.ids.scale_set();
        let set = ScaleSet {
            id,
            name: request.name,
            scope,
            group_id: request.group_id,
            labels,
            disable_update: request.disable_update,
            created_at: now,
            session: None,
            log: Log::default(),
        };
        self.scale_sets.sets.insert(id, set);
        Ok(id)
    }

    /// Changes name, group and update setting; labels stay what they were.
    pub(crate) fn update_scale_set(
        &mut self,
        scope: &Scope,
        id: ScaleSetId,
        request: ScaleSetRequest,
    ) -> Result<(), ScaleSetError> {
        self.check_scale_set(scope, Some(id), &request)?;
        let set = self.scale_sets.sets.get_mut(&id).filter(|set| set.scope == *scope).ok_or(ScaleSetError::Missing)?;
        set.name = request.name;
        set.group_id = request.group_id;
        set.disable_update = request.disable_update;
        Ok(())
    }

    fn check_scale_set(
        &self,
        scope: &Scope,
        own: Option<ScaleSetId>,
        request: &ScaleSetRequest,
    ) -> Result<(), ScaleSetError> {
        if request.name.is_empty() {
            return Err(ScaleSetError::NoName);
        }
        if self.runner_group(scope, request.group_id).is_none() {
            return Err(ScaleSetError::NoGroup);
        }
        let taken = self.scale_sets_of(scope).any(|set| {
            Some(set.id) != own && set.group_id == request.group_id && set.name.eq_ignore_ascii_case(&request.name)
        });
        match taken {
            true => Err(ScaleSetError::Exists),
            false => Ok(()),
        }
    }

    /// Forgets a set. Its idle runners go with it; jobs nobody took are anybody's again.
    pub(crate) fn delete_scale_set(&mut self, scope: &Scope, id: ScaleSetId) -> Result<(), ScaleSetError> {
        self.scale_set(scope, id).ok_or(ScaleSetError::Missing)?;
        self.forget_scale_set(id);
        Ok(())
    }

    fn forget_scale_set(&mut self, id: ScaleSetId) {
        self.scale_sets.sets.remove(&id);
        for job in self.jobs.values_mut().filter(|job| job.status == JobStatus::Queued) {
            job.claim = job.claim.filter(|claim| claim.set != id);
        }
        let idle: Vec<_> = self
            .runners
            .values()
            .filter(|runner| runner.scale_set == Some(id) && !runner.is_busy())
            .map(|runner| runner.id)
            .collect();
        for runner in idle {
            self.remove_runner(runner);
        }
    }

    /// The sets of a repository go with it.
    pub(super) fn forget_scale_sets_of(&mut self, repo: RepoId) {
        let gone: Vec<_> = self.scale_sets_of(&Scope::Repo(repo)).map(|set| set.id).collect();
        for id in gone {
            self.forget_scale_set(id);
        }
    }

    /// Queued jobs that nobody has and that this set could serve, the one that has waited longest first.
    fn available_for(&self, set: &ScaleSet) -> Vec<JobId> {
        let group = self.runner_group(&set.scope, set.group_id).map(|group| group.name);
        let mut jobs: Vec<_> = self
            .open_jobs
            .iter()
            .filter_map(|id| self.jobs.get(id))
            .filter(|job| {
                job.status == JobStatus::Queued
                    && job.offer.is_none()
                    && job.dropped_by != Some(set.id)
                    && job.claim.is_none_or(|claim| claim.assigned_at.is_none() && claim.set == set.id)
                    && self.serves(&set.scope, set.group_id, job.repo)
                    && job.fits(&set.labels, group.as_deref())
            })
            .map(|job| (job.queued_at, job.id))
            .collect();
        jobs.sort_unstable();
        jobs.into_iter().map(|(_, id)| id).collect()
    }

    fn assigned_to(&self, set: ScaleSetId) -> Vec<JobId> {
        let is_its = |id: &&JobId| self.jobs.get(id).is_some_and(|job| job.assigned_set() == Some(set));
        self.open_jobs.iter().filter(is_its).copied().collect()
    }

    /// How many of what a set has now.
    pub(crate) fn scale_set_statistics(&self, id: ScaleSetId) -> ScaleSetStatistics {
        let Some(set) = self.scale_sets.sets.get(&id) else {
            return ScaleSetStatistics::default();
        };
        let assigned = self.assigned_to(id);
        let is_running = |id: &&JobId| self.jobs.get(id).is_some_and(|job| job.status == JobStatus::InProgress);
        let runners = || self.runners.values().filter(|runner| runner.scale_set == Some(id));
        let count = |number: usize| number as u64;
        ScaleSetStatistics {
            total_available_jobs: count(self.available_for(set).len()),
            total_acquired_jobs: 0,
            total_assigned_jobs: count(assigned.len()),
            total_running_jobs: count(assigned.iter().filter(is_running).count()),
            total_registered_runners: count(runners().count()),
            total_busy_runners: count(runners().filter(|runner| runner.job().is_some()).count()),
            total_idle_runners: count(
                runners().filter(|runner| matches!(runner.phase, Phase::Idle(_)) && self.is_online(runner)).count(),
            ),
        }
    }

    /// All sets of all scopes, oldest first.
    #[must_use]
    pub fn scale_set_views(&self) -> Vec<ScaleSetView> {
        let view = |set: &ScaleSet| ScaleSetView {
            id: set.id,
            name: set.name.clone(),
            scope: set.scope.clone(),
            group_id: set.group_id,
            labels: set.labels.clone(),
            listener: set.session.as_ref().map(|session| session.owner.clone()),
            statistics: self.scale_set_statistics(set.id),
            undeleted_messages: set.log.undeleted(),
            assigned_jobs: self.assigned_to(set.id),
        };
        self.scale_sets.sets.values().map(view).collect()
    }

    /// A job is no set's any more and no message says so, as has been seen at GitHub: only the statistics fall. The
    /// set does not get it again.
    ///
    /// # Errors
    /// If there is no such job or it is not assigned to a set, or a runner has it.
    pub fn drop_assignment(&mut self, now: Duration, id: JobId) -> Result<(), WorldError> {
        self.advance(now);
        let job = self.jobs.get_mut(&id).ok_or(WorldError::NoJob(id))?;
        match (job.status, job.assigned_set()) {
            (JobStatus::Queued, Some(set)) => {
                job.claim = None;
                job.offer = None;
                job.dropped_by = Some(set);
                Ok(())
            }
            _ => Err(WorldError::Refused(format!("job {id} does not wait for a runner of a scale set"))),
        }
    }

    pub(super) fn scale_set_named(&mut self, id: ScaleSetId) -> Result<&mut ScaleSet, WorldError> {
        self.scale_sets.sets.get_mut(&id).ok_or_else(|| WorldError::Refused(format!("there is no scale set {id}")))
    }
}
