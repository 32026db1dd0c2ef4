//! The message log of a set: what happened to its jobs, in messages that stay until they are deleted
//! (docs/github.md#messages-and-statistics).

use super::super::{Conclusion, Job, JobId, JobStatus, RunnerId, World, WorldError, ids};
use super::{Claim, ScaleSetId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Most events of one message.
const MAX_EVENTS: usize = 50;
/// The id before the first one.
const BEFORE_FIRST: u64 = 100_000_000;
/// Deleted messages kept for [`World::restore_messages`].
const KEPT: usize = 1_000;
/// So often a job that nobody picks up is assigned before GitHub gives up on it.
const MAX_ASSIGNMENTS: u32 = 3;

/// Who makes a job a set's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// The server, up to the capacity of the poll: github.com. `acquirejobs` is 404.
    Automatic,
    /// The listener, by `acquirejobs` for jobs that came as `JobAvailable`: GitHub Enterprise Server.
    Acquire,
}

/// How the scale-set half behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScaleSetRules {
    /// Who makes a job a set's.
    pub assignment: Assignment,
    /// Whether a set keeps more than its first label; the others are dropped in silence.
    pub several_labels: bool,
    /// How long a poll is held while there is nothing to say.
    pub poll_hold: Duration,
    /// A session nobody used for so long is over.
    pub session_ttl: Duration,
    /// Life of an admin token.
    pub admin_token_ttl: Duration,
    /// Life of a queue token.
    pub queue_token_ttl: Duration,
    /// A job that no runner took for so long is taken from the set (`canceled`) and assigned anew, three times at
    /// most. `None` leaves it the set's until it ends.
    pub pickup_limit: Option<Duration>,
}

impl Default for ScaleSetRules {
    fn default() -> Self {
        Self {
            assignment: Assignment::Automatic,
            several_labels: true,
            poll_hold: Duration::from_secs(50),
            session_ttl: Duration::from_secs(120),
            admin_token_ttl: Duration::from_secs(3_600),
            queue_token_ttl: Duration::from_secs(3_600),
            pickup_limit: None,
        }
    }
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// It may be acquired.
    Available,
    /// It is the set's.
    Assigned,
    /// A runner has it.
    Started(RunnerId, String),
    /// It is over, or not the set's any more.
    Completed(&'static str, Option<(RunnerId, String)>),
}

/// What happened to a job, with the job as it was then.
#[derive(Debug, Clone)]
pub(crate) struct JobEvent {
    pub(crate) kind: EventKind,
    pub(crate) request_id: u64,
    pub(crate) job_uuid: String,
    pub(crate) owner: String,
    pub(crate) repo: String,
    pub(crate) workflow_ref: String,
    pub(crate) display_name: String,
    pub(crate) run_id: u64,
    pub(crate) event_name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) queued_at: Option<Duration>,
    pub(crate) assigned_at: Option<Duration>,
    pub(crate) acquired_at: Option<Duration>,
    pub(crate) finished_at: Option<Duration>,
}

/// One message to give to the listener.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) id: u64,
    pub(crate) events: Vec<JobEvent>,
}

#[derive(Debug, Clone)]
struct Message {
    id: u64,
    events: Vec<JobEvent>,
    deleted: bool,
}

/// Messages that were made, and events that are in none yet.
#[derive(Debug, Default)]
pub(super) struct Log {
    made: u64,
    messages: VecDeque<Message>,
    fresh: VecDeque<JobEvent>,
}

impl Log {
    pub(super) fn undeleted(&self) -> Vec<u64> {
        self.messages.iter().filter(|message| !message.deleted).map(|message| message.id).collect()
    }

    /// The first message behind the cursor that is not deleted; a new one from what is fresh if there is none.
    fn next(&mut self, cursor: u64) -> Option<Delivery> {
        // Ids only grow: what is behind the cursor is not looked at, a thousand times a simulated hour.
        let behind = self.messages.partition_point(|message| message.id <= cursor);
        let waiting = self.messages.range(behind..).find(|message| !message.deleted);
        if let Some(message) = waiting {
            return Some(Delivery { id: message.id, events: message.events.clone() });
        }
        if self.fresh.is_empty() {
            return None;
        }
        self.made += 1;
        let id = BEFORE_FIRST + self.made;
        let events: Vec<JobEvent> = self.fresh.drain(..self.fresh.len().min(MAX_EVENTS)).collect();
        self.messages.push_back(Message { id, events: events.clone(), deleted: false });
        Some(Delivery { id, events })
    }

    fn delete(&mut self, id: u64) -> bool {
        let found = self.messages.iter_mut().find(|message| message.id == id && !message.deleted);
        let deleted = found.map(|message| message.deleted = true).is_some();
        while self.messages.len() > KEPT && self.messages.front().is_some_and(|message| message.deleted) {
            self.messages.pop_front();
        }
        deleted
    }
}

impl Job {
    /// The set that has it.
    pub(in crate::world) fn assigned_set(&self) -> Option<ScaleSetId> {
        self.claim.filter(|claim| claim.assigned_at.is_some()).map(|claim| claim.set)
    }
}

impl World {
    /// What a listener with room for so many jobs in all gets to hear now.
    pub(crate) fn next_message(
        &mut self,
        now: Duration,
        set: ScaleSetId,
        cursor: u64,
        capacity: u64,
    ) -> Option<Delivery> {
        match self.config.scale_sets.assignment {
            Assignment::Automatic => self.assign_up_to(now, set, capacity),
            Assignment::Acquire => self.hold_out(now, set, capacity),
        }
        self.scale_sets.sets.get_mut(&set)?.log.next(cursor)
    }

    fn assign_up_to(&mut self, now: Duration, id: ScaleSetId, capacity: u64) {
        let Some(set) = self.scale_sets.sets.get(&id) else {
            return;
        };
        let room = usize::try_from(capacity).unwrap_or(usize::MAX).saturating_sub(self.assigned_to(id).len());
        for job in self.available_for(set).into_iter().take(room) {
            self.claim(now, id, job, 0);
        }
    }

    /// Says of every job only once that it may be acquired, and again when nobody did for a while. The capacity
    /// bounds what is held out together with what the set has.
    fn hold_out(&mut self, now: Duration, id: ScaleSetId, capacity: u64) {
        let Some(set) = self.scale_sets.sets.get(&id) else {
            return;
        };
        let room = usize::try_from(capacity).unwrap_or(usize::MAX).saturating_sub(self.assigned_to(id).len());
        for job in self.available_for(set).into_iter().take(room) {
            let offer_limit = self.config.offer_limit;
            let known = self.jobs.get(&job).and_then(|job| job.claim);
            if known.is_some_and(|claim| now < claim.offered_at + offer_limit) {
                continue;
            }
            self.scale_sets.last_request += 1;
            let request_id = self.scale_sets.last_request;
            let claim = Claim { set: id, request_id, offered_at: now, assigned_at: None };
            if let Some(job) = self.jobs.get_mut(&job) {
                job.claim = Some(claim);
            }
            self.tell(claim, job, EventKind::Available);
        }
    }

    fn claim(&mut self, now: Duration, set: ScaleSetId, id: JobId, request_id: u64) {
        let claim = Claim { set, request_id, offered_at: now, assigned_at: Some(now) };
        if let Some(job) = self.jobs.get_mut(&id) {
            job.claim = Some(claim);
            job.assignments += 1;
        }
        self.tell(claim, id, EventKind::Assigned);
    }

    /// The listener takes what was held out to it. Gives the requests that are its now.
    pub(crate) fn acquire_requests(&mut self, now: Duration, set: ScaleSetId, requests: &[u64]) -> Vec<u64> {
        let mut taken = Vec::new();
        for request in requests {
            let held_out = self.jobs.values().find(|job| {
                job.status == JobStatus::Queued
                    && job.offer.is_none()
                    && job.claim.is_some_and(|claim| {
                        claim.set == set && claim.request_id == *request && claim.assigned_at.is_none()
                    })
            });
            if let Some(id) = held_out.map(|job| job.id) {
                self.claim(now, set, id, *request);
                taken.push(*request);
            }
        }
        taken
    }

    /// What is held out to a set and not acquired.
    pub(crate) fn acquirable(&self, set: ScaleSetId) -> Vec<(u64, &Job)> {
        let held_out = |job: &&Job| {
            job.status == JobStatus::Queued
                && job.claim.is_some_and(|claim| claim.set == set && claim.assigned_at.is_none())
        };
        self.jobs.values().filter(held_out).filter_map(|job| job.claim.map(|claim| (claim.request_id, job))).collect()
    }

    /// The listener is done with a message. False if it is not there (any more).
    pub(crate) fn delete_message(&mut self, set: ScaleSetId, id: u64) -> bool {
        self.scale_sets.sets.get_mut(&set).is_some_and(|set| set.log.delete(id))
    }

    /// All messages that were deleted (the last 1,000) are there again, as after a failure at GitHub.
    ///
    /// # Errors
    /// If there is no such set.
    pub fn restore_messages(&mut self, now: Duration, id: ScaleSetId) -> Result<(), WorldError> {
        self.advance(now);
        for message in &mut self.scale_set_named(id)?.log.messages {
            message.deleted = false;
        }
        Ok(())
    }

    /// A runner has a job: its set hears of it.
    pub(in crate::world) fn tell_started(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        if let (Some(claim), Some(by)) = (job.claim.filter(|claim| claim.assigned_at.is_some()), &job.taken_by) {
            let kind = EventKind::Started(by.id, by.name.clone());
            self.tell(claim, id, kind);
        }
    }

    /// A job is over: its set hears of it.
    pub(in crate::world) fn tell_completed(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let Some(claim) = job.claim.filter(|claim| claim.assigned_at.is_some()) else {
            return;
        };
        let result = match job.conclusion {
            Some(Conclusion::Success | Conclusion::Neutral) => "succeeded",
            Some(Conclusion::Skipped) => "skipped",
            Some(Conclusion::Failure | Conclusion::TimedOut | Conclusion::ActionRequired) => "failed",
            // Not over, but not the set's any more either.
            Some(Conclusion::Cancelled) | None => "canceled",
        };
        let by = job.taken_by.as_ref().map(|by| (by.id, by.name.clone()));
        self.tell(claim, id, EventKind::Completed(result, by));
    }

    /// A job that still waits is taken from its set, which hears of it.
    pub(in crate::world) fn take_from_set(&mut self, id: JobId) {
        self.tell_completed(id);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.claim = None;
            job.offer = None;
        }
    }

    /// Takes a job from its set that no runner of it took in time. After the third time the job is over.
    pub(in crate::world) fn pass_assignment(&mut self, id: JobId) {
        let Some(limit) = self.config.scale_sets.pickup_limit else {
            return;
        };
        let due = self
            .jobs
            .get(&id)
            .filter(|job| job.status == JobStatus::Queued)
            .and_then(|job| job.claim.and_then(|claim| claim.assigned_at).map(|at| (at + limit, job.assignments)));
        match due {
            Some((at, times)) if self.now >= at && times >= MAX_ASSIGNMENTS => {
                let note = "No runner of the scale set picked the job up.".to_owned();
                self.finish_job(id, at, Conclusion::Cancelled, Some(note));
            }
            Some((at, _)) if self.now >= at => self.take_from_set(id),
            _ => {}
        }
    }

    fn tell(&mut self, claim: Claim, id: JobId, kind: EventKind) {
        let fresh_uuid = ids::uuid(&mut self.rng);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let job_uuid = job.uuid.get_or_insert(fresh_uuid).clone();
        let (Some(job), Some(set)) = (self.jobs.get(&id), self.scale_sets.sets.get_mut(&claim.set)) else {
            return;
        };
        let (Some(run), Some(repo)) = (self.runs.get(&job.run), self.repos.get(&job.repo)) else {
            return;
        };
        set.log.fresh.push_back(JobEvent {
            kind,
            request_id: claim.request_id,
            job_uuid,
            owner: repo.owner.clone(),
            repo: repo.name.clone(),
            workflow_ref: format!(
                "{}/.github/workflows/{}.yml@refs/heads/{}",
                repo.full_name(),
                run.spec.workflow,
                run.spec.branch
            ),
            display_name: job.spec.name.clone(),
            run_id: job.run.0,
            event_name: run.spec.event.clone(),
            labels: job.spec.labels.clone(),
            queued_at: job.queued_at,
            assigned_at: claim.assigned_at,
            acquired_at: job.acquired_at,
            finished_at: job.completed_at,
        });
    }
}
