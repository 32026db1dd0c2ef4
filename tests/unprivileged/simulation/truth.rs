//! What really became of each runner and job. The history is held against it: a job that did nothing wrong is not
//! blamed, and one that ran is not forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use controller::{cause::Cause, status::Finished};
use github_sim::world::{Conclusion, JobId, World};

use crate::{gitea::Gitea, history::Written};

/// Jobs that have no say in how long they take end within this.
const LONGEST: Duration = Duration::from_secs(300);

/// How a job ended as its container saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All its steps did.
    Succeeded,
    /// One of its own steps failed.
    Failed,
    /// Somebody ended its run.
    Cancelled,
    /// It was stopped at the limit of its class.
    RanOutOfTime,
    /// It was killed for its memory.
    RanOutOfMemory,
    /// Its container was killed or stopped under it, or the host went down.
    TakenDown,
}

/// By runner name; jobs of both forges, whose numbers differ.
#[derive(Default)]
pub struct Truth {
    took: BTreeMap<String, u64>,
    fates: BTreeMap<String, Fate>,
    ran: BTreeSet<u64>,
}

impl Truth {
    /// A runner was given a job.
    pub fn took(&mut self, runner: &str, job: u64) {
        self.took.insert(runner.to_owned(), job);
    }

    /// The first step of a job begins; a job that is run again at a Gitea has another number.
    pub fn runs(&mut self, job: u64) {
        assert!(self.ran.insert(job), "job {job} is run twice");
    }

    /// That became of it; what comes first counts.
    pub fn is(&mut self, runner: &str, fate: Fate) {
        self.fates.entry(runner.to_owned()).or_insert(fate);
    }

    /// In the end every runner that had a job has its entry.
    pub fn is_told_by(&self, history: &Written) {
        let forgotten: Vec<_> = self.took.iter().filter(|(runner, _)| history.of(runner).is_none()).collect();
        assert!(forgotten.is_empty(), "the history does not have {forgotten:?}");
    }

    /// The entry of the history does not say otherwise.
    pub fn agrees_with(&self, entry: &Finished, hub: &World, others: &[Gitea]) {
        let (took, fate) = (self.took.get(&entry.runner_name), self.fates.get(&entry.runner_name).copied());
        // Where a runner gave up its job without a word, the forge's is the best there is. A deleted job has none.
        let at_others = others.iter().find_map(|forge| forge.borrow().ended.get(&entry.runner_name).copied());
        let forge_says = |conclusion, at_gitea| match at_others {
            Some(ended) => ended == at_gitea,
            None => {
                let view = took.and_then(|job| hub.job_view(JobId(*job)).ok());
                took.is_some() && view.is_none_or(|job| job.conclusion == Some(conclusion))
            }
        };
        let holds = match entry.cause {
            Cause::Succeeded => fate == Some(Fate::Succeeded),
            Cause::JobFailed => {
                fate == Some(Fate::Failed) || fate.is_none() && forge_says(Conclusion::Failure, "failure")
            }
            Cause::JobCancelled => fate == Some(Fate::Cancelled) || forge_says(Conclusion::Cancelled, "cancelled"),
            // Where the guest does not keep the limit, the controller takes it down: no other job runs that long.
            Cause::TimedOut => {
                let ran = entry.timeline.ran_ms().map(Duration::from_millis);
                fate == Some(Fate::RanOutOfTime)
                    || fate == Some(Fate::TakenDown) && ran.is_some_and(|ran| ran >= LONGEST)
            }
            Cause::OutOfMemory => fate == Some(Fate::RanOutOfMemory),
            Cause::CancelledBeforePickup | Cause::TakenByAnotherRunner | Cause::IdleTooLong => took.is_none(),
            _ => true,
        };
        assert!(holds, "blamed: {took:?} was {fate:?} and is told as {}: {entry:?}", entry.cause);
    }
}
