//! Places: where runners are registered, each a repository, an organisation or an enterprise.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forge::{ErrorKind, ForgeError};

use super::{Intake, groups::Membership};
use crate::{
    breaker::{Breaker, Failure},
    operation::Denied,
    pace::spread,
    plan::{JobView, ScopeView, Waiting},
    ports::World,
    status::{BreakerKind, BreakerStatus},
    time::{Mono, Now, Wall},
};

/// A place as the controller knows it.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The configured target it belongs to.
    pub target: String,
    /// It is a repository that the forge listed, not one that the operator named.
    pub discovered: bool,
    /// What follows when registrations fail.
    pub breaker: Breaker,
    /// Nobody needs a runner there: that none can be registered is no problem.
    pub unneeded: bool,
    /// When the forge last gave a job to a runner registered with it.
    pub gave_job: Option<Mono>,
    /// The group that its runners join.
    pub membership: Membership,
}

impl Place {
    /// Registrations fail, and somebody needs one.
    pub fn is_failing(&self, now: Mono) -> bool {
        !self.unneeded && self.breaker.failures(now) > 0
    }

    /// Why the last registration failed, until one succeeds.
    pub fn last_error(&self, now: Mono) -> Option<&str> {
        self.is_failing(now).then(|| self.breaker.cause())
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
        let Some(target) = self.places.get(scope).map(|place| place.target.clone()) else { return };
        if result.is_ok() {
            self.works(&target);
        }
        let is_refused = |error: &ForgeError| error.kind == ErrorKind::Unauthorized;
        if let Some(error) = result.as_ref().err().filter(|error| is_refused(error)) {
            self.rests(&target, error, now);
        }
        let Some(place) = self.places.get_mut(scope) else { return };
        let Err(error) = result else { return place.breaker.close() };
        let failure = match error.kind {
            ErrorKind::RateLimited(until) | ErrorKind::Paced(until) => {
                Failure::Passing(Some(Wall::from_epoch(until) - now.wall))
            }
            ErrorKind::Conflict => Failure::Passing(Some(Duration::ZERO)),
            // Of a credential that is refused, its own breaker has the count.
            ErrorKind::Unavailable | ErrorKind::Unauthorized => Failure::Passing(None),
            ErrorKind::Quarantined => Failure::Lasting,
            ErrorKind::Forbidden | ErrorKind::NotFound | ErrorKind::Refused => Failure::Counted,
        };
        place.breaker.failed(&error.message, failure, now, spread(&format!("{scope} {}", now.round)));
    }

    /// All that the forge refused is tried again now.
    pub fn try_again(&mut self, now: Now) {
        self.places.values_mut().for_each(|place| place.breaker.close());
        self.credentials.values_mut().for_each(|credential| credential.breaker.close());
        for repository in self.repositories.values_mut().filter(|repository| repository.failures > 0) {
            repository.next_look = now.mono;
        }
        for target in self.targets.values_mut().filter(|target| target.failures > 0 && !target.is_being_listed()) {
            target.next_discovery = target.next_discovery.map(|_| now.mono);
        }
    }

    /// Of what fails.
    pub fn breakers(&self, now: Now) -> impl Iterator<Item = BreakerStatus> {
        let needed = self.places.iter().filter(|(_, place)| !place.unneeded);
        let places = needed.map(|(name, place)| (BreakerKind::Target, name, &place.breaker));
        let credentials = self.credentials.iter().map(|(name, known)| (BreakerKind::Credential, name, &known.breaker));
        places.chain(credentials).filter_map(move |(kind, name, breaker)| breaker.shown(kind, name, now))
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
        if !self.places.values().any(|place| place.breaker.failures(now.mono) > 0) {
            return;
        }
        let served =
            |job: &&JobView| !waiting.get(&(job.repository.clone(), job.id)).is_some_and(|why| why.is_no_demand());
        let jobs = self.repositories.values().flat_map(|repository| &repository.queued).filter(served);
        let needed: BTreeSet<String> = jobs.map(|job| job.scope.clone()).collect();
        let ready = self.settings.classes.values().any(|class| class.min_idle > 0);
        for (name, place) in &mut self.places {
            place.unneeded = !ready && !elsewhere.contains(name.as_str()) && !needed.contains(name);
            let may_be_tried = place.breaker.held_until().is_none_or(|until| until <= now.mono);
            if place.unneeded && may_be_tried {
                place.breaker.close();
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
    pub fn scope_named(&self, repo: &str, now: Now) -> Result<ScopeView, Denied> {
        let by_repository = self.repositories.iter().find(|(name, _)| name.eq_ignore_ascii_case(repo));
        let name = by_repository
            .map(|(_, repository)| repository.scope.as_str())
            .or_else(|| self.places.keys().map(String::as_str).find(|scope| scope.eq_ignore_ascii_case(repo)));
        name.and_then(|name| self.scope_view(name, now)).ok_or_else(|| {
            let remedy = "Remedy: name one that `gha-runner-controller status` shows, or add it to the configuration";
            Denied::NotFound(format!("{repo:?} is not served here. {remedy}"))
        })
    }
}
