//! What the messages of a scale set mean: which jobs are ours, and how many runners that calls for. Pure.
//!
//! Messages come at least once: again after a restart, in a new session, and all of them if nobody took them off the
//! queue. Each job therefore keeps the place in the queue of the newest message about it, and anything older changes
//! nothing. Statistics are the truth about how many there are; the messages say which
//! (docs/github.md#messages-and-statistics).

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::models::{JobEvent, JobMessage, Statistics};

/// An assignment that the statistics do not reflect for this long is void: GitHub forgets one now and then.
pub const VOID_AFTER: Duration = Duration::from_secs(150);
/// An assignment counts for this long although the statistics do not reflect it.
pub const TRUSTED_FOR: Duration = Duration::from_secs(60);
/// Jobs that are over are kept this long, against the replay of an old message.
const KEPT_FOR: Duration = Duration::from_secs(48 * 3600);
/// Jobs that are over are kept at most; oldest go first.
const KEPT: usize = 4096;

/// The jobs of one scale set. To be kept on disk: written before a message is acknowledged.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignments {
    set_id: Option<u64>,
    last_message_id: u64,
    statistics: Statistics,
    jobs: BTreeMap<String, Assignment>,
}

/// A job that is or was assigned to the set. Times are the caller's clock, since its start or the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The workflow run; the same id as in REST.
    pub run_id: u64,
    /// `owner/name`.
    pub repository: String,
    /// Display name: text chosen by the workflow's author.
    pub job_name: String,
    /// What started the run, e.g. `push`.
    pub event_name: String,
    /// The workflow file and its ref.
    pub workflow_ref: String,
    /// `runs-on`.
    pub labels: Vec<String>,
    /// When GitHub queued it.
    #[serde(default)]
    pub queued_at: Option<Duration>,
    /// When it was assigned, at the latest when we heard of it.
    pub assigned_at: Duration,
    /// When we first heard of this assignment.
    #[serde(default)]
    pub heard_at: Duration,
    /// Where it is.
    pub state: AssignmentState,
    /// Since when it has been over, as far as we know.
    over_since: Option<Duration>,
    /// Since when the statistics have had no place for it.
    doubted_since: Option<Duration>,
    /// The newest message about it: its id, and the rank of its kind, which orders those in one message.
    newest: (u64, u8),
    /// The newest message that named a runner, and its name.
    runner: Option<(u64, u8, String)>,
}

/// Where an assigned job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AssignmentState {
    /// It waits for a runner.
    Waiting,
    /// A runner has it.
    Running,
    /// It is over, in GitHub's word.
    Finished(String),
    /// GitHub does not count it any more and never said why.
    Void,
}

/// How many runners there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerCount {
    /// Launch until there are so many: starting, idle and busy together.
    pub launch_up_to: u32,
    /// More idle ones than this leaves room for may go. Never more than `launch_up_to`.
    pub keep: u32,
}

impl Assignment {
    /// It waits or runs.
    pub fn is_open(&self) -> bool {
        matches!(self.state, AssignmentState::Waiting | AssignmentState::Running)
    }

    /// Since when GitHub has not counted it any more, without a word.
    pub fn void_since(&self) -> Option<Duration> {
        self.over_since.filter(|_| self.state == AssignmentState::Void)
    }

    /// The runner that has or had it.
    pub fn runner_name(&self) -> Option<&str> {
        // Assigned once more, it waits for another runner.
        self.runner.as_ref().filter(|_| self.state != AssignmentState::Waiting).map(|(.., name)| name.as_str())
    }
}

impl Assignments {
    /// Says which scale set these are of. All is forgotten if it was another: message ids begin again with each.
    pub fn belong_to(&mut self, set_id: u64) {
        if self.set_id != Some(set_id) {
            *self = Self { set_id: Some(set_id), ..Self::default() };
        }
    }

    /// The newest message applied; 0 = none.
    pub fn last_message_id(&self) -> u64 {
        self.last_message_id
    }

    /// All jobs known, by GitHub's job id, those that are over included.
    pub fn jobs(&self) -> &BTreeMap<String, Assignment> {
        &self.jobs
    }

    /// Jobs that wait or run.
    pub fn open(&self) -> impl Iterator<Item = (&String, &Assignment)> {
        self.jobs.iter().filter(|(_, job)| job.is_open())
    }

    /// Jobs that wait, those first that were heard of first.
    pub fn waiting(&self) -> Vec<&Assignment> {
        let mut waiting: Vec<&Assignment> =
            self.jobs.values().filter(|job| job.state == AssignmentState::Waiting).collect();
        waiting.sort_by_key(|job| (job.heard_at, job.newest));
        waiting
    }

    /// The counts last reconciled with.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Takes in a message. Applying it again, or after a newer one, changes nothing that the newer one said.
    pub fn apply(&mut self, message_id: u64, messages: &[JobMessage], now: Duration) {
        self.last_message_id = self.last_message_id.max(message_id);
        for message in messages {
            self.apply_one(message_id, message, now);
        }
    }

    fn apply_one(&mut self, message_id: u64, message: &JobMessage, now: Duration) {
        let (rank, state, runner) = match &message.event {
            // Not ours yet.
            JobEvent::Available => return,
            JobEvent::Assigned => (0, AssignmentState::Waiting, ""),
            JobEvent::Started { runner_name } => (1, AssignmentState::Running, runner_name.as_str()),
            JobEvent::Completed { result, runner_name } => {
                (2, AssignmentState::Finished(result.clone()), runner_name.as_str())
            }
        };
        let at = (message_id, rank);
        let job = self.jobs.entry(message.job_id.clone()).or_insert_with(|| Assignment {
            run_id: 0,
            repository: String::new(),
            job_name: String::new(),
            event_name: String::new(),
            workflow_ref: String::new(),
            labels: Vec::new(),
            queued_at: None,
            assigned_at: now,
            heard_at: now,
            state: AssignmentState::Waiting,
            over_since: None,
            doubted_since: None,
            newest: (0, 0),
            runner: None,
        });
        if !runner.is_empty() && job.runner.as_ref().is_none_or(|(id, rank, _)| (*id, *rank) < at) {
            job.runner = Some((at.0, at.1, runner.to_owned()));
        }
        if job.newest >= at {
            return;
        }
        job.newest = at;
        job.run_id = message.run_id;
        job.repository.clone_from(&message.repository);
        job.job_name.clone_from(&message.job_name);
        job.event_name.clone_from(&message.event_name);
        job.workflow_ref.clone_from(&message.workflow_ref);
        job.labels.clone_from(&message.labels);
        // GitHub's own time tells a replayed assignment from a new one; its clock may be ahead of ours.
        job.assigned_at = message.assigned_at.unwrap_or(now).min(now);
        if state == AssignmentState::Waiting {
            job.queued_at = message.queued_at;
            job.heard_at = now;
        }
        job.over_since = matches!(state, AssignmentState::Finished(_)).then_some(now);
        job.doubted_since = None;
        job.state = state;
    }

    /// Takes in counts as heard just now (not the last ones again). What they have had no place for in
    /// [`VOID_AFTER`] is void: waiting jobs before running ones, old ones before young ones. Call it at least every
    /// minute while jobs are open.
    pub fn reconcile(&mut self, statistics: Statistics, now: Duration) {
        self.statistics = statistics;
        let mut open: Vec<&mut Assignment> = self.jobs.values_mut().filter(|job| job.is_open()).collect();
        open.sort_by_key(|job| (job.state == AssignmentState::Running, job.assigned_at, job.newest));
        let excess = open.len().saturating_sub(statistics.assigned_jobs as usize);
        for (place, job) in open.into_iter().enumerate() {
            // A clock that was set back must not keep anything forever.
            job.assigned_at = job.assigned_at.min(now);
            job.doubted_since = (place < excess).then(|| job.doubted_since.unwrap_or(now).min(now));
            if job.doubted_since.is_some_and(|since| now - since >= VOID_AFTER) {
                job.state = AssignmentState::Void;
                job.over_since = Some(now);
                job.doubted_since = None;
            }
        }
        self.tidy(now);
    }

    /// Forgets jobs that have been over for long, and the oldest of too many.
    fn tidy(&mut self, now: Duration) {
        self.jobs.retain(|_, job| job.over_since.is_none_or(|since| now.saturating_sub(since) < KEPT_FOR));
        let mut over: Vec<(Duration, String)> =
            self.jobs.iter().filter_map(|(id, job)| Some((job.over_since?, id.clone()))).collect();
        if over.len() > KEPT {
            over.sort_unstable();
            for (_, id) in &over[..over.len() - KEPT] {
                self.jobs.remove(id);
            }
        }
    }

    /// How many runners to have, with `min_idle` of them ready and `max` at most.
    ///
    /// GitHub sometimes reports no jobs beside the message that assigns one: for launching, an open assignment counts
    /// for [`TRUSTED_FOR`] whatever the statistics say. For letting runners go, the statistics alone count.
    pub fn wanted(&self, min_idle: u32, max: u32, now: Duration) -> RunnerCount {
        let counted = self.statistics.assigned_jobs;
        let young = self.open().filter(|(_, job)| now.saturating_sub(job.assigned_at) < TRUSTED_FOR).count();
        let total = |jobs: u32| jobs.saturating_add(min_idle).min(max);
        RunnerCount { launch_up_to: total(counted.max(u32::try_from(young).unwrap_or(u32::MAX))), keep: total(counted) }
    }
}
