//! What opens forges: paused by one, the others go on.

use std::time::Duration;

use forge::{ErrorKind, Forge, ForgeError, RateLimit};

use super::Intake;
use crate::{
    breaker::{Breaker, Failure},
    pace::{Allowance, Pace, spread},
    ports::World,
    status::PausedBy,
    time::{Mono, Now, Wall},
};

/// Calls of a look counted against the limit, before any was observed: nothing has happened in most repositories, and
/// what is unchanged is free. If that is wrong, some looks show it, and the governor keeps the limit meanwhile.
const COST: f64 = 0.1;
/// Weight of one look in the cost observed.
const WEIGHT: f64 = 0.05;
/// Time until it is known whether a credential that the forge refused is good again.
const PROBE: Duration = Duration::from_secs(5);

/// A credential as the controller knows it.
#[derive(Debug)]
pub(super) struct CredentialState {
    /// Nothing is asked with it before.
    pub paused_until: Option<Mono>,
    /// The same by the wall clock, since the Unix epoch.
    pub paused_until_wall: Wall,
    /// Who asked for that.
    pub paused_by: PausedBy,
    /// What follows when the forge refuses it.
    pub breaker: Breaker,
    /// Counted calls for each look, on average, as far as the forge told.
    pub cost: f64,
    /// The limit when a look last ended.
    last: Option<RateLimit>,
}

impl Default for CredentialState {
    fn default() -> Self {
        Self {
            paused_until: None,
            paused_until_wall: Wall::default(),
            paused_by: PausedBy::Forge,
            breaker: Breaker::default(),
            cost: COST,
            last: None,
        }
    }
}

impl CredentialState {
    /// A look ended, and the limit is this now: whatever was counted since the last one, it cost. The first look at a
    /// repository says nothing of those to come: none of its answers could be known to be unchanged.
    fn observe(&mut self, limit: Option<RateLimit>, first: bool) {
        let last = std::mem::replace(&mut self.last, limit);
        if let (Some(last), Some(limit)) = (last, limit)
            && last.reset == limit.reset
            && !first
        {
            let counted = last.remaining.saturating_sub(limit.remaining) as f64;
            self.cost += (counted.min(100.0) - self.cost) * WEIGHT;
        }
    }
}

impl<W: World> Intake<'_, W> {
    /// Name of the credential of a target.
    pub(super) fn credential_of(&self, target: &str) -> Option<&str> {
        self.targets.get(target).map(|target| target.settings.credential.as_str())
    }

    fn credential_mut(&mut self, target: &str) -> Option<&mut CredentialState> {
        self.credentials.get_mut(&self.targets.get(target)?.settings.credential)
    }

    /// A call with the credential of `target` failed; true if that says nothing but that the credential has to rest.
    pub(super) fn rests(&mut self, target: &str, error: &ForgeError, now: Now) -> bool {
        let (until, by) = match error.kind {
            ErrorKind::RateLimited(until) => (until, PausedBy::Forge),
            ErrorKind::Paced(until) => (until, PausedBy::Share),
            ErrorKind::Unauthorized => {
                let chance = spread(&format!("{target} {}", now.round));
                if let Some(credential) = self.credential_mut(target) {
                    credential.breaker.failed(&error.message, Failure::Counted, now, chance);
                }
                return false;
            }
            _ => return false,
        };
        let left = (Wall::from_epoch(until) - now.wall).max(Duration::from_secs(1));
        let until = now.mono + left;
        if let Some(credential) = self.credential_mut(target)
            && credential.paused_until.is_none_or(|known| known < until)
        {
            credential.paused_until = Some(until);
            credential.paused_until_wall = now.wall + left;
            credential.paused_by = by;
        }
        true
    }

    /// The forge took the credential of `target`.
    pub(super) fn works(&mut self, target: &str) {
        if let Some(credential) = self.credential_mut(target) {
            credential.breaker.close();
        }
    }

    /// When the credential of `target` may be used again, if not now.
    pub(super) fn rests_until(&self, target: &str, now: Mono) -> Option<Mono> {
        let name = self.credential_of(target)?;
        let credential = self.credentials.get(name)?;
        // A secret that was renewed has not been refused: it is tried at once.
        let refused = credential.breaker.held_until().filter(|_| self.world.forge().standing(name).refused.is_some());
        let until = credential.paused_until.max(refused).filter(|until| *until > now);
        until.or_else(|| (credential.breaker.is_probed(now) && self.is_asking(name)).then(|| now + PROBE))
    }

    /// A look or a listing with this credential is under way.
    fn is_asking(&self, name: &str) -> bool {
        let with = |target: &str| self.credential_of(target) == Some(name);
        self.repositories.values().any(|repository| repository.looking && with(&repository.target))
            || self.targets.iter().any(|(target, state)| state.is_being_listed() && with(target))
    }

    /// Seconds that the forges' clocks are ahead of this host's. Of several the nearest to it: the others' own may be off.
    pub fn clock_offset(&self) -> Option<f64> {
        let told = self.settings.credentials.keys().filter_map(|name| self.world.forge().traffic(name).clock_offset);
        told.min_by(|one, other| one.abs().total_cmp(&other.abs()))
    }

    /// A look at a repository of `target` ended.
    pub(super) fn observe_cost(&mut self, target: &str, repository: &str) {
        let limit = self.world.forge().rate_limit(repository);
        let first = self.repositories.get(repository).is_none_or(|found| found.looked_at.is_none());
        if let Some(credential) = self.credential_mut(target) {
            credential.observe(limit, first);
        }
    }

    /// Time until the next look at a repository, with all that its credential has to look at.
    pub(super) fn pace_of(&self, repository: &str, now: Mono) -> Duration {
        let pace = Pace { fast: self.settings.poll_interval, idle: self.settings.idle_poll_interval };
        let name = self.repositories.get(repository).and_then(|found| self.credential_of(&found.target));
        let (Some(name), Some(settings)) = (name, name.and_then(|name| self.settings.credentials.get(name))) else {
            return pace.alone(None);
        };
        let cost = self.credentials.get(name).map_or(COST, |credential| credential.cost);
        let calls = self.world.forge().allowance(repository).and_then(|allowance| allowance.calls_per_minute);
        let (mut views, mut place) = (Vec::new(), 0);
        for (other, found) in &self.repositories {
            if self.credential_of(&found.target) != Some(name) {
                continue;
            }
            if other == repository {
                place = views.len();
            }
            views.push(found.pace(cost, now));
        }
        pace.together(&views, Allowance::of(calls, settings.share)).get(place).copied().unwrap_or(pace.alone(None))
    }
}
