//! Deciding once, without acting.

use std::time::Duration;

use futures_util::StreamExt;

use super::Daemon;
use crate::{
    container::Container,
    edges::{Records, World},
    plan::{Plan, plan},
    status::Status,
};

impl<W: World> Daemon<'_, W> {
    /// Discovers and looks at every repository once, for at most `patience`, and returns what would be done now, and how
    /// things would then be told. Nothing is booted, retired, registered or written.
    pub async fn rehearse(mut self, patience: Duration) -> (Plan, Status) {
        let deadline = self.now() + patience;
        for record in self.world.records().load().unwrap_or_default() {
            self.containers.insert(record.name.clone(), Container::new(record, self.now()));
        }
        while self.is_curious() && self.now() < deadline {
            let now = self.now();
            self.discover_where_due(now);
            self.look_where_due(now);
            self.ask_groups_where_due(now);
            let wake = tokio::time::sleep(self.until_next().min(deadline.saturating_sub(now)));
            tokio::select! {
                Some(outcome) = self.effects.next() => self.apply(outcome),
                () = wake => {}
            }
        }
        let decided = plan(&self.snapshot(self.now()));
        self.plan = decided.clone();
        let mut status = self.current();
        let unseen = self.repositories.values().filter(|repository| repository.looked_at.is_none()).count();
        if unseen > 0 && self.now() >= deadline {
            status.problems.push(format!("{unseen} repositories were not looked at within {} s", patience.as_secs()));
        }
        (decided, status)
    }

    /// Something was not looked at yet, and did not fail either.
    fn is_curious(&self) -> bool {
        let unlisted = |target: &super::targets::Target| {
            target.is_discovered() && target.discovered_ms.is_none() && target.failures == 0
        };
        self.targets.values().any(unlisted)
            || self.awaits_groups()
            || self.repositories.values().any(|repository| repository.looked_at.is_none() && repository.failures == 0)
    }
}
