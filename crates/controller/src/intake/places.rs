//! Places: where runners are registered, each a repository, an organisation or an enterprise.

use std::collections::{BTreeMap, BTreeSet};

use forge::{ErrorKind, ForgeError};

use super::{Intake, groups::Membership};
use crate::{
    operation::Denied,
    plan::{JobView, ScopeView, Waiting},
    ports::World,
    time::{Backoff, Mono, Now, Wall},
};

/// Pauses after failed registrations.
const MINT_PAUSE: Backoff = Backoff::seconds(2, 300);

/// A place as the controller knows it.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The configured target it belongs to.
    pub target: String,
    /// It is a repository that the forge listed, not one that the operator named.
    pub discovered: bool,
    /// Registrations failed in a row.
    pub mint_failures: u32,
    /// Nothing is booted for it before.
    pub held_until: Option<Mono>,
    /// Why the last registration failed, until one succeeds.
    pub last_error: Option<String>,
    /// When the forge last gave a job to a runner registered with it.
    pub gave_job: Option<Mono>,
    /// The group that its runners join.
    pub membership: Membership,
}

impl Place {
    fn is_failing(&self, now: Mono) -> bool {
        self.mint_failures > 0 && self.held_until.is_none_or(|until| until <= now)
    }
}

impl<W: World> Intake<'_, W> {
    pub(super) fn add_place(&mut self, name: &str, target: &str, discovered: bool) {
        let place = self.places.entry(name.to_owned()).or_default();
        place.target = target.to_owned();
        place.discovered = discovered;
    }

    /// All places, each with whether it is one of many that the forge listed.
    pub fn places(&self) -> impl Iterator<Item = (&str, bool)> {
        self.places.iter().map(|(name, place)| (name.as_str(), place.discovered))
    }

    /// There is such a place.
    pub fn has_place(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// A runner was registered with a place, or could not be.
    pub fn registered(&mut self, scope: &str, result: Result<(), ForgeError>, now: Now) {
        let Some(place) = self.places.get_mut(scope) else { return };
        let Err(error) = result else {
            (place.mint_failures, place.held_until, place.last_error) = (0, None, None);
            return;
        };
        place.mint_failures += 1;
        place.held_until = match error.kind {
            ErrorKind::RateLimited(until) | ErrorKind::Paced(until) => {
                Some(now.mono + (Wall::from_epoch(until) - now.wall))
            }
            ErrorKind::Conflict => None,
            _ => Some(now.mono + MINT_PAUSE.after(place.mint_failures)),
        };
        place.last_error = Some(error.message);
    }

    /// The forge gave a job to a runner registered with a place.
    pub fn gave_job(&mut self, scope: &str, now: Now) {
        if let Some(place) = self.places.get_mut(scope) {
            place.gave_job = Some(now.mono);
        }
    }

    /// Where nobody needs a runner any more, why the last could not be registered is no problem any more. `elsewhere` =
    /// places that need one though no queued job does.
    pub fn forgive_unneeded_places(
        &mut self,
        waiting: &BTreeMap<(String, u64), Waiting>,
        elsewhere: &BTreeSet<&str>,
        now: Now,
    ) {
        if !self.places.values().any(|place| place.is_failing(now.mono)) {
            return;
        }
        let served =
            |job: &&JobView| !waiting.get(&(job.repository.clone(), job.id)).is_some_and(|why| why.is_no_demand());
        let jobs = self.repositories.values().flat_map(|repository| &repository.queued).filter(served);
        let needed: BTreeSet<String> = jobs.map(|job| job.scope.clone()).collect();
        let ready = self.settings.classes.values().any(|class| class.min_idle > 0);
        for (name, place) in &mut self.places {
            if place.is_failing(now.mono) && !ready && !elsewhere.contains(name.as_str()) && !needed.contains(name) {
                place.mint_failures = 0;
                place.last_error = None;
            }
        }
    }

    /// Forgets places of which no repository is served any more and that are not in use.
    pub fn forget_unused_places(&mut self, in_use: &BTreeSet<&str>) {
        let served: BTreeSet<&str> = self.repositories.values().map(|repository| repository.scope.as_str()).collect();
        self.places.retain(|name, place| {
            !place.discovered || served.contains(name.as_str()) || in_use.contains(name.as_str())
        });
    }

    /// Where a runner for the jobs of this repository is registered.
    pub fn scope_named(&self, repo: &str) -> Result<ScopeView, Denied> {
        let by_repository = self.repositories.iter().find(|(name, _)| name.eq_ignore_ascii_case(repo));
        let name = by_repository
            .map(|(_, repository)| repository.scope.as_str())
            .or_else(|| self.places.keys().map(String::as_str).find(|scope| scope.eq_ignore_ascii_case(repo)));
        name.and_then(|name| self.scope_view(name)).ok_or_else(|| {
            let remedy = "Remedy: name one that `gha-runner-controller status` shows, or add it to the configuration";
            Denied::NotFound(format!("{repo:?} is not served here. {remedy}"))
        })
    }
}
