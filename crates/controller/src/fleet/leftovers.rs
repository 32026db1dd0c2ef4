//! What teardown could not remove, for as long as it is there: root's half tries again, and health says so meanwhile.

use std::time::Duration;

use super::Fleet;
use crate::{
    ports::{Records, World},
    time::{Mono, Now},
};

/// Time between looks.
const EVERY: Duration = Duration::from_secs(60);
/// A teardown that takes no longer than systemd lets it may still be at work.
const AT_WORK: Duration = Duration::from_secs(120);
/// How many are named.
const NAMED: usize = 3;

/// What was found last.
#[derive(Debug)]
pub(super) struct Leftovers {
    next: Mono,
    problem: Option<String>,
}

impl Leftovers {
    pub fn new() -> Self {
        Self { next: Mono::START, problem: None }
    }

    pub fn problem(&self) -> Option<&String> {
        self.problem.as_ref()
    }
}

impl<W: World> Fleet<'_, W> {
    /// Looks at what ended containers left behind, if that is due.
    pub fn look_for_leftovers_if_due(&mut self, now: Now) {
        if now.mono < self.leftovers.next {
            return;
        }
        self.leftovers.next = now.mono + EVERY;
        let settled = now.wall.as_millis().saturating_sub(AT_WORK.as_millis() as u64);
        let left: Vec<String> = self
            .world
            .records()
            .left_behind()
            .into_iter()
            .filter(|ending| ending.ended_at_ms < settled)
            .map(|ending| format!("{} ({})", ending.name, ending.left_behind.join("; ")))
            .collect();
        self.leftovers.problem = (!left.is_empty()).then(|| {
            let more = if left.len() > NAMED { format!(" and {} more", left.len() - NAMED) } else { String::new() };
            format!(
                "left behind by containers that ended: {}{more}. The next teardown tries again; so does systemctl reload \
                 gha-runner-sweep.service",
                left[..left.len().min(NAMED)].join(", ")
            )
        });
    }
}
