//! Ghosts: registrations with our name pattern that no container claims, left when an answer or a state directory was
//! lost. Others' runners are never touched (PROTOCOLS B.6).

use std::{collections::BTreeSet, time::Duration};

use forge::{Deletion, Forge, ForgeError, Runner};
use tracing::{info, warn};

use super::{Daemon, Outcome};
use crate::{edges::World, pace::spread, runner_name::ghosts};

/// Time from the start to the first sweep: what was adopted is settled by then.
const FIRST: Duration = Duration::from_secs(60);
/// Time between sweeps. A ghost must be seen by two.
const EVERY: Duration = Duration::from_secs(600);
/// Time between sweeps, at least, of a discovered repository where no runner was registered for as long: listing the
/// runners of hundreds of repositories costs a call each.
const QUIET: Duration = Duration::from_secs(3 * 3600);
/// Time until a failed sweep is tried again.
const RETRY: Duration = Duration::from_secs(120);

impl<'w, W: World> Daemon<'w, W> {
    pub(super) fn sweep_where_due(&mut self, now: Duration) {
        for (name, place) in &mut self.scopes {
            // A thousand repositories are not asked in the same second.
            let quiet = QUIET.mul_f64(1.0 + spread(name));
            if now < *place.next_sweep.get_or_insert(if place.discovered { now + FIRST + quiet } else { now + FIRST }) {
                continue;
            }
            let busy = !place.unclaimed.is_empty() || place.minted_at.is_some_and(|at| now - at < QUIET);
            place.next_sweep = Some(now + if busy || !place.discovered { EVERY } else { quiet });
            let (world, scope) = (self.world, name.clone());
            self.effects.push(Box::pin(async move {
                let result = world.forge().list_runners(&scope).await;
                Outcome::RunnersListed { scope, result }
            }));
        }
    }

    pub(super) fn swept(&mut self, name: &str, result: Result<Vec<Runner>, ForgeError>) {
        let now = self.now();
        let Some(place) = self.scopes.get_mut(name) else { return };
        let runners = match result {
            Ok(runners) => runners,
            Err(error) => {
                warn!(scope = name, %error, "registrations cannot be listed");
                place.next_sweep = Some(now + RETRY);
                return;
            }
        };
        let claimed: BTreeSet<&str> = self.containers.values().map(|c| c.record.runner_name.as_str()).collect();
        let unclaimed = ghosts(runners, &self.host, &claimed);
        if !unclaimed.is_empty() {
            place.next_sweep = Some(now + EVERY);
        }
        let before =
            std::mem::replace(&mut place.unclaimed, unclaimed.iter().map(|runner| runner.name.clone()).collect());
        for ghost in unclaimed.into_iter().filter(|runner| before.contains(&runner.name)) {
            info!(scope = name, runner = ghost.name, "a registration that no container claims is removed");
            let (world, scope) = (self.world, name.to_owned());
            self.start(async move {
                let result = world.forge().delete_runner(&scope, ghost.id).await;
                Outcome::GhostDeleted { scope, runner: ghost.name, result }
            });
        }
    }

    pub(super) fn ghost_deleted(&mut self, scope: &str, runner: &str, result: Result<Deletion, ForgeError>) {
        match result {
            Ok(Deletion::Deleted | Deletion::AlreadyGone) => {}
            Ok(Deletion::Busy) => info!(scope, runner, "not removed: the forge says it has a job"),
            Err(error) => warn!(scope, runner, %error, "not removed; the next sweep tries again"),
        }
    }
}
