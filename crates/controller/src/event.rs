//! What happens, as it is told to whoever listens: the differences between one status and the next. Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    phase::Phase,
    status::{ActiveContainer, Finished, QueuedJob, Status},
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When the controller knew, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema, strum::IntoStaticStr)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum What {
    /// A container appeared, or is in another phase.
    Container {
        /// The phase before; absent for a new one.
        from: Option<Phase>,
        /// As it is now.
        container: Box<ActiveContainer>,
    },
    /// A container is gone, and why is certain.
    Ended {
        /// All that is known of it.
        ended: Arc<Finished>,
    },
    /// A job is queued, or waits for something else than before.
    Queued {
        /// As it is now.
        job: Box<QueuedJob>,
    },
    /// A job is not queued any more.
    Unqueued {
        /// `owner/repository`.
        repo: String,
        /// The forge's id.
        job_id: u64,
    },
    /// Something is wrong, or not any more.
    Health {
        /// All that is wrong now; empty = nothing.
        problems: Vec<String>,
    },
    /// What takes new jobs is not what it was.
    Intake {
        /// The host takes new jobs.
        intake: bool,
        /// Classes that are drained.
        drained: Vec<String>,
    },
}

impl What {
    /// Its name, as documents have it.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

/// What a problem is, without what was last said about it: a forge's words carry another request id each time.
fn essence(problem: &str) -> &str {
    let end = problem.match_indices(": ").nth(1).map_or(problem.len(), |(at, _)| at);
    &problem[..end]
}

/// What happened from `before` to `after`.
pub fn changes(before: &Status, after: &Status) -> Vec<Event> {
    let mut found = Vec::new();
    let known: BTreeMap<&str, &ActiveContainer> =
        before.active_containers.iter().map(|container| (container.name.as_str(), container)).collect();
    for container in &after.active_containers {
        // A name may come back: another runner is another container.
        let was = known.get(container.name.as_str()).filter(|was| was.runner_name == container.runner_name);
        if was.is_none_or(|was| was.phase != container.phase || was.job_id != container.job_id) {
            let from = was.map(|was| was.phase);
            found.push(What::Container { from, container: Box::new(container.clone()) });
        }
    }
    // Entries are only added at the end, and only the oldest go.
    let new = after
        .finished
        .iter()
        .rev()
        .take_while(|ended| !before.finished.last().is_some_and(|last| Arc::ptr_eq(last, ended)));
    let mut new: Vec<What> = new.map(|ended| What::Ended { ended: ended.clone() }).collect();
    new.reverse();
    found.extend(new);
    let key = |job: &QueuedJob| (job.repo.clone(), job.job_id);
    let waited: BTreeMap<_, _> = before.queue.iter().map(|job| (key(job), job)).collect();
    let waits: BTreeMap<_, _> = after.queue.iter().map(|job| (key(job), job)).collect();
    for (key, job) in &waits {
        if waited.get(key).is_none_or(|was| was.waiting != job.waiting || was.ahead != job.ahead) {
            found.push(What::Queued { job: Box::new((*job).clone()) });
        }
    }
    let gone = waited.into_keys().filter(|key| !waits.contains_key(key));
    found.extend(gone.map(|(repo, job_id)| What::Unqueued { repo, job_id }));
    let wrong = |status: &Status| -> Vec<String> { status.problems.iter().map(|it| essence(it).to_owned()).collect() };
    if wrong(before) != wrong(after) {
        found.push(What::Health { problems: after.problems.clone() });
    }
    let drained = |status: &Status| -> Vec<String> {
        status.classes.iter().filter(|class| class.drained).map(|class| class.name.clone()).collect()
    };
    if before.intake != after.intake || drained(before) != drained(after) {
        found.push(What::Intake { intake: after.intake, drained: drained(after) });
    }
    found.into_iter().map(|what| Event { at_ms: after.updated_ms, what }).collect()
}
