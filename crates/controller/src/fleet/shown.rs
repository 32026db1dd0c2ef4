//! What documents show of containers, and what is wrong with them.

use std::{collections::BTreeMap, sync::Arc};

use super::{Container, Fleet};
use crate::{
    intake::Intake,
    ports::World,
    status::{ActiveContainer, Finished, Settling},
};

impl<'w, W: World> Fleet<'w, W> {
    /// The containers that have not ended.
    pub fn active_shown(&self, intake: &Intake<'w, W>) -> Vec<ActiveContainer> {
        let shown = |container: &Container| {
            let record = &container.record;
            ActiveContainer {
                name: record.name.to_string(),
                job_id: record.took.or(record.job_id),
                job_name: record.job_name.clone(),
                running_seconds: 0,
                phase: container.phase,
                class: record.class.clone(),
                repo: record.repository().unwrap_or(&record.scope).to_owned(),
                target: intake.target_of(&record.scope).map_or(String::new(), |target| target.name.clone()),
                scope: record.scope.clone(),
                set: record.set,
                subnet: record.subnet.to_string(),
                runner_name: record.runner_name.clone(),
                runner_id: record.runner_id,
                // Filled in by whoever serves the document, as of then.
                memory: None,
                cpu_us: None,
                timeline: record.timeline.clone(),
            }
        };
        self.live().map(shown).collect()
    }

    /// Containers that have not ended, by class.
    pub fn count_by_class(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for container in self.live() {
            *counts.entry(container.record.class.as_str()).or_default() += 1;
        }
        counts
    }

    /// Containers that have ended, and of which something is left.
    pub fn settling_shown(&self) -> Vec<Settling> {
        let ended = self.containers.values().filter(|container| container.has_ended());
        let shown = |container: &Container| Settling {
            name: container.record.name.to_string(),
            runner_name: container.record.runner_name.clone(),
            tries: container.settling.tries(),
        };
        ended.map(shown).collect()
    }

    /// The last ends, the oldest first.
    pub fn finished(&self) -> Vec<Arc<Finished>> {
        self.finished.iter().cloned().collect()
    }

    /// What an operator should know of it.
    pub fn problems(&self) -> Vec<String> {
        let history = self.history_error.iter();
        let history = history.map(|error| format!("history: ended jobs cannot be written down; jobs go on: {error}"));
        let history = history.chain(self.leftovers.problem().cloned());
        history.chain(self.systemd_error.iter().map(|error| format!("systemd: {error}"))).collect()
    }
}
