//! Ghosts: registrations with our name pattern that no container claims, left when an answer or a state directory was
//! lost. Others' runners are never touched (docs/github.md#orphaned-registrations).

use std::{collections::BTreeSet, time::Duration};

use forge::{Deletion, Forge, ForgeError, Runner};
use tracing::{info, warn};

use super::{Fleet, Outcome};
use crate::{
    intake::Intake,
    pace::spread,
    ports::World,
    runner_name::ghosts,
    time::{Mono, Now},
};

/// Time from the start to the first sweep: what was adopted is settled by then.
const FIRST: Duration = Duration::from_secs(60);
/// The first sweeps of discovered repositories are spread over so much more.
const FIRST_QUIET: Duration = Duration::from_secs(3600);
/// Time between sweeps. A ghost must be seen by two.
const EVERY: Duration = Duration::from_secs(600);
/// Time between sweeps, at least, of a discovered repository where no runner was registered for as long: listing the
/// runners of hundreds of repositories costs a call each.
const QUIET: Duration = Duration::from_secs(3 * 3600);
/// Time until a failed sweep is tried again.
const RETRY: Duration = Duration::from_secs(120);

/// The search in one place.
#[derive(Debug)]
pub(super) struct Sweep {
    /// When it is next.
    next: Mono,
    /// Names that the last one found unclaimed.
    unclaimed: BTreeSet<String>,
    /// When a runner was last registered there.
    pub minted_at: Option<Mono>,
}

impl<'w, W: World> Fleet<'w, W> {
    /// Lists the registrations of places where that is due.
    pub fn sweep_if_due(&mut self, intake: &Intake<'w, W>, now: Now) {
        let now = now.mono;
        for (scope, discovered) in intake.places() {
            // A thousand repositories are not asked in the same second.
            let quiet = QUIET.mul_f64(1.0 + spread(scope));
            let Some(sweep) = self.sweeps.get_mut(scope) else {
                let next = if discovered { now + FIRST + FIRST_QUIET.mul_f64(spread(scope)) } else { now + FIRST };
                self.sweeps.insert(scope.to_owned(), Sweep { next, unclaimed: BTreeSet::new(), minted_at: None });
                continue;
            };
            if now < sweep.next {
                continue;
            }
            let busy = !sweep.unclaimed.is_empty() || sweep.minted_at.is_some_and(|at| now - at < QUIET);
            sweep.next = now + if busy || !discovered { EVERY } else { quiet };
            let (world, scope) = (self.world, scope.to_owned());
            self.effects.start(async move {
                let result = world.forge().list_runners(&scope).await;
                Outcome::RunnersListed { scope, result }
            });
        }
    }

    /// A registration was left to the search, under whatever name its place has now.
    pub(super) fn search_beside(&mut self, scope: &str, now: Mono) {
        let owner = |scope: &str| scope.split('/').next().map(str::to_owned);
        for (_, sweep) in self.sweeps.iter_mut().filter(|(name, _)| owner(name) == owner(scope)) {
            sweep.next = sweep.next.min(now + FIRST);
        }
    }

    /// Forgets places that are no more.
    pub fn forget_places(&mut self, intake: &Intake<'w, W>) {
        self.sweeps.retain(|scope, _| intake.has_place(scope));
        self.refusals.retain(|scope, _| intake.has_place(scope));
    }

    pub(super) fn swept(&mut self, scope: &str, result: Result<Vec<Runner>, ForgeError>, now: Now) {
        let Some(sweep) = self.sweeps.get_mut(scope) else { return };
        let runners = match result {
            Ok(runners) => runners,
            Err(error) => {
                warn!(scope, %error, "registrations cannot be listed");
                sweep.next = now.mono + RETRY;
                return;
            }
        };
        let claimed: BTreeSet<&str> = self.containers.values().map(|c| c.record.runner_name.as_str()).collect();
        let unclaimed = ghosts(runners, &self.host, &claimed);
        if !unclaimed.is_empty() {
            sweep.next = now.mono + EVERY;
        }
        let before =
            std::mem::replace(&mut sweep.unclaimed, unclaimed.iter().map(|runner| runner.name.clone()).collect());
        for ghost in unclaimed.into_iter().filter(|runner| before.contains(&runner.name)) {
            info!(scope, runner = ghost.name, "a registration that no container claims is removed");
            let (world, scope) = (self.world, scope.to_owned());
            self.effects.start(async move {
                let result = world.forge().delete_runner(&scope, ghost.id).await;
                Outcome::GhostDeleted { scope, runner: ghost.name, result }
            });
        }
    }
}

pub(super) fn ghost_deleted(scope: &str, runner: &str, result: Result<Deletion, ForgeError>) {
    match result {
        Ok(Deletion::Deleted | Deletion::AlreadyGone) => {}
        Ok(Deletion::Busy) => info!(scope, runner, "not removed: the forge says it has a job"),
        Err(error) => warn!(scope, runner, %error, "not removed; the next sweep tries again"),
    }
}
