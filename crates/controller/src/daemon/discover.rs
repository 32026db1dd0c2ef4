//! Finding the repositories of organisations and accounts, now and again.

use std::{collections::BTreeSet, time::Duration};

use forge::{Forge, ForgeError, selection};
use tracing::{info, warn};

use super::{Daemon, Outcome, backoff};
use crate::edges::World;

/// Pauses after failed listings, first and longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(600));
/// Time between the first looks at repositories found together: well below what the forge allows a minute.
const APART: Duration = Duration::from_millis(400);

impl<'w, W: World> Daemon<'w, W> {
    pub(super) fn discover_where_due(&mut self, now: Duration) {
        let due: Vec<String> = self
            .targets
            .iter()
            .filter(|(_, target)| target.next_discovery.is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let rests_until = self.rests_until(&name, now);
            let Some(target) = self.targets.get_mut(&name) else { continue };
            target.next_discovery = rests_until;
            if rests_until.is_some() {
                continue;
            }
            let world = self.world;
            self.start(async move {
                let result = world.forge().discover(&name).await;
                Outcome::Discovered { target: name, result }
            });
        }
    }

    pub(super) fn discovered(&mut self, name: &str, result: Result<Vec<forge::Repository>, ForgeError>) {
        let (now, wall_ms) = (self.now(), self.wall_ms());
        let listed = match result {
            Ok(listed) => listed,
            Err(error) => {
                self.rests(name, &error);
                let rests_until = self.rests_until(name, now);
                let Some(target) = self.targets.get_mut(name) else { return };
                target.failures += 1;
                let pause = backoff(RETRY.0, target.failures, RETRY.1);
                target.next_discovery = Some(rests_until.unwrap_or(now + pause));
                warn!(target = name, failures = target.failures, %error, "{name}: its repositories cannot be listed: {error}");
                target.last_error = Some(error.message);
                return;
            }
        };
        let explicit: BTreeSet<String> =
            self.targets.keys().filter(|name| name.contains('/')).map(|name| name.to_ascii_lowercase()).collect();
        let wall = Duration::from_millis(wall_ms);
        let Some(target) = self.targets.get_mut(name) else { return };
        target.failures = 0;
        target.last_error = None;
        target.discovered_ms = Some(wall_ms);
        target.next_discovery = Some(now + target.settings.rediscover);
        let served: Vec<forge::Repository> = listed
            .into_iter()
            .filter(|repository| selection::serves(&target.settings, repository, wall))
            .filter(|repository| !explicit.contains(&repository.name.to_ascii_lowercase()))
            .collect();
        let names: BTreeSet<&str> = served.iter().map(|repository| repository.name.as_str()).collect();
        let gone: Vec<String> = self
            .repositories
            .iter()
            .filter(|(found, repository)| repository.target == name && !names.contains(found.as_str()))
            .map(|(found, _)| found.clone())
            .collect();
        for repository in gone {
            info!(target = name, repository, "{repository}: not served any more");
            self.repositories.remove(&repository);
        }
        let mut fresh = 0_u32;
        for repository in &served {
            if let Some(known) = self.repositories.get_mut(&repository.name) {
                known.public = repository.public;
                known.give_another_chance(now);
            } else {
                info!(target = name, repository = repository.name, "{}: found", repository.name);
                self.add_repository(name, &repository.name, repository.public, now + APART * fresh);
                fresh += 1;
            }
        }
        self.forget_unused_scopes();
    }
}
