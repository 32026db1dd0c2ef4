//! Finding the repositories of organisations and accounts, now and again.

use std::{collections::BTreeSet, time::Duration};

use forge::{Forge, ForgeError, selection};
use tracing::{info, warn};

use super::{Event, Intake, Outcome};
use crate::{
    ports::World,
    time::{Backoff, Now},
};

/// Pauses after failed listings, first and longest.
const RETRY: Backoff = Backoff::seconds(15, 600);
/// Time between the first looks at repositories found together: well below what the forge allows a minute.
const APART: Duration = Duration::from_millis(400);

impl<W: World> Intake<'_, W> {
    /// Lists the repositories of targets where that is due.
    pub fn discover_if_due(&mut self, now: Now) {
        let due: Vec<String> = self
            .targets
            .iter()
            .filter(|(_, target)| target.next_discovery.is_some_and(|at| at <= now.mono))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let rests_until = self.rests_until(&name, now.mono);
            let Some(target) = self.targets.get_mut(&name) else { continue };
            target.next_discovery = rests_until;
            if rests_until.is_some() {
                continue;
            }
            let world = self.world;
            self.effects.start(async move {
                let result = world.forge().discover(&name).await;
                Outcome::Discovered { target: name, result }
            });
        }
    }

    pub(super) fn discovered(
        &mut self,
        name: &str,
        result: Result<Vec<forge::Repository>, ForgeError>,
        now: Now,
    ) -> Option<Event> {
        let listed = match result {
            Ok(listed) => listed,
            Err(error) => {
                self.rests(name, &error, now);
                let rests_until = self.rests_until(name, now.mono);
                let target = self.targets.get_mut(name)?;
                target.failures += 1;
                let pause = RETRY.after(target.failures);
                target.next_discovery = Some(rests_until.unwrap_or(now.mono + pause));
                warn!(target = name, failures = target.failures, %error, "{name}: its repositories cannot be listed: {error}");
                target.last_error = Some(error.message);
                return None;
            }
        };
        let explicit: BTreeSet<String> =
            self.targets.keys().filter(|name| name.contains('/')).map(|name| name.to_ascii_lowercase()).collect();
        self.works(name);
        let target = self.targets.get_mut(name)?;
        target.failures = 0;
        target.last_error = None;
        target.discovered_ms = Some(now.wall.as_millis());
        target.next_discovery = Some(now.mono + target.settings.rediscover);
        let served: Vec<forge::Repository> = listed
            .into_iter()
            .filter(|repository| selection::serves(&target.settings, repository, now.wall.since_epoch()))
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
                known.give_another_chance(now.mono);
            } else {
                info!(target = name, repository = repository.name, "{}: found", repository.name);
                self.add_repository(name, &repository.name, repository.public, now.mono + APART * fresh);
                fresh += 1;
            }
        }
        Some(Event::Listed)
    }
}
