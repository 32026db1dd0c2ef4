//! How much a credential may be used, and when not at all (docs/github.md#rate-limits). Pure: times and answers go in,
//! decisions come out.
//!
//! Two budgets refill steadily: counted calls, from the primary limit and the share of it that is ours, and points, from
//! the secondary limit. Calls that serve a job may overdraw a budget where calls that only look may not. Each budget is
//! cut so that refill, reserve and overdraft together are what is allowed in any one window.
//!
//! GitHub counts calls of some routes against a limit of their own. Which ones these are its answers say: each such
//! resource has its own budget, and when it is used up, only the calls that are counted against it wait.

use std::{collections::BTreeMap, time::Duration};

use crate::RateLimit;

/// Points a minute that the secondary limit allows.
const POINTS: f64 = 900.0;
/// Longest pause taken from an answer: the primary limit's window.
const LONGEST: Duration = Duration::from_secs(3600);
/// First pause after a secondary limit that names none; doubled each time it is hit again.
const SECONDARY: Duration = Duration::from_secs(60);

/// The resource that calls are counted against unless an answer names another.
const CORE: &str = "core";
/// Resources and routes remembered; there are about a dozen of either.
const REMEMBERED: usize = 64;

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To see what there is; can wait.
    Look,
    /// A job waits for it, or a registration that must go.
    Serve,
}

/// What a call costs of the points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// GET.
    Read,
    /// Everything else.
    Change,
}

impl Weight {
    fn points(self) -> f64 {
        match self {
            Self::Read => 1.0,
            Self::Change => 5.0,
        }
    }
}

/// A call about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// What it is for.
    pub purpose: Purpose,
    /// What it costs.
    pub weight: Weight,
    /// What it asks, whoever it is about: calls of one route are counted against one resource.
    pub route: &'a str,
}

/// What an answer says of the limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitNotice<'a> {
    /// The route of the call.
    pub route: &'a str,
    /// `x-ratelimit-resource`.
    pub resource: Option<&'a str>,
    /// `x-ratelimit-limit`, `-remaining` and `-reset`.
    pub limit: Option<RateLimit>,
    /// The call was refused for a limit.
    pub refused: bool,
    /// `retry-after`.
    pub retry_after: Option<Duration>,
    /// The answer was 304: not counted by the primary limit.
    pub unchanged: bool,
}

/// The state of one credential.
#[derive(Debug, Clone)]
pub struct Governor {
    share: f64,
    core: Resource,
    /// By the forge's name.
    others: BTreeMap<String, Resource>,
    /// Routes that are counted against another resource than [`CORE`].
    routes: BTreeMap<String, String>,
    points: Budget,
    /// Of all calls.
    pause: Option<Pause>,
    /// Secondary limits hit in a row.
    strikes: u32,
}

/// What calls are counted against.
#[derive(Debug, Clone, Copy, Default)]
struct Resource {
    limit: Option<RateLimit>,
    /// Counted calls. None = the forge never named a limit.
    counted: Option<Budget>,
    /// Of the calls that are counted against it.
    pause: Option<Pause>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Duration,
    until: Duration,
}

impl Pause {
    /// Its end, if it lasts.
    fn end(self, now: Duration) -> Option<Duration> {
        // A clock that went back behind its start says nothing of its end.
        (self.since..self.until).contains(&now).then_some(self.until)
    }

    /// The longer of what there is and one from `now`, of an hour at most.
    fn longer(known: Option<Self>, until: Duration, now: Duration) -> Option<Self> {
        let until = until.clamp(now + Duration::from_secs(1), now + LONGEST);
        let known = known.filter(|known| known.end(now).is_some_and(|end| end >= until));
        known.or(Some(Self { since: now, until }))
    }
}

impl Resource {
    fn learn(&mut self, limit: RateLimit, share: f64, now: Duration) {
        if self.limit.is_none_or(|known| known.limit != limit.limit) {
            let fresh = Budget::new(limit.limit as f64 * share, 0.1, LONGEST, now);
            // What was spent stays spent.
            let spent = self.counted.map_or(0.0, |known| known.reserve - known.left);
            self.counted = Some(Budget { left: fresh.left - spent.min(fresh.left), ..fresh });
        }
        self.limit = Some(limit);
    }

    /// A call was not counted after all.
    fn give_back(&mut self) {
        if let Some(counted) = &mut self.counted {
            counted.left = (counted.left + 1.0).min(counted.reserve);
        }
    }
}

/// Refilled steadily up to a reserve.
#[derive(Debug, Clone, Copy)]
struct Budget {
    left: f64,
    reserve: f64,
    overdraft: f64,
    per_second: f64,
    at: Duration,
}

impl Budget {
    /// At most `allowed` in any `window`; `part` of it is the reserve, as much the overdraft, the rest is refilled.
    fn new(allowed: f64, part: f64, window: Duration, now: Duration) -> Self {
        // Less than one call in reserve would never let one through.
        let (reserve, overdraft) = ((allowed * part).max(1.0), allowed * part);
        let refilled = (allowed - reserve - overdraft).max(allowed * part);
        Self { left: reserve, reserve, overdraft, per_second: refilled / window.as_secs_f64(), at: now }
    }

    fn refill(&mut self, now: Duration) {
        // A clock that went back refills nothing.
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.reserve);
        self.at = now;
    }

    /// How long to wait where `cost` cannot be paid now. Who only looks waits for some more: a look of several calls
    /// that is cut short has used them up for nothing.
    fn wait(&self, cost: f64, purpose: Purpose) -> Option<Duration> {
        let (least, enough) = match purpose {
            Purpose::Look => (cost, cost.max(self.reserve / 4.0)),
            Purpose::Serve => (cost - self.overdraft, cost - self.overdraft),
        };
        let seconds = ((enough - self.left) / self.per_second).min(LONGEST.as_secs_f64());
        (self.left < least).then(|| Duration::from_secs_f64(seconds))
    }
}

impl Governor {
    /// Of a credential of whose limit `share` (above 0, at most 1) is ours.
    pub fn new(share: f64, now: Duration) -> Self {
        Self {
            share,
            core: Resource::default(),
            others: BTreeMap::new(),
            routes: BTreeMap::new(),
            points: Budget::new(POINTS, 0.2, Duration::from_secs(60), now),
            pause: None,
            strikes: 0,
        }
    }

    /// The primary limit as last heard.
    pub fn limit(&self) -> Option<RateLimit> {
        self.core.limit
    }

    /// End of a pause the forge asked for.
    pub fn paused_until(&self, now: Duration) -> Option<Duration> {
        self.paused(&self.core, now)
    }

    /// End of the pause that the forge asked for of calls of this route.
    pub fn route_paused_until(&self, route: &str, now: Duration) -> Option<Duration> {
        let other = self.routes.get(route).and_then(|name| self.others.get(name));
        self.paused(other.unwrap_or(&self.core), now)
    }

    fn paused(&self, resource: &Resource, now: Duration) -> Option<Duration> {
        self.pause.into_iter().chain(resource.pause).filter_map(|pause| pause.end(now)).max()
    }

    /// Counted calls a minute that may be made over time. None = without limit.
    pub fn calls_per_minute(&self) -> Option<f64> {
        self.core.counted.map(|budget| budget.per_second * 60.0)
    }

    /// Lets a call through and pays for it, or says when to ask again.
    pub fn admit(&mut self, request: Request<'_>, now: Duration) -> Result<(), Duration> {
        if let Some(until) = self.route_paused_until(request.route, now) {
            return Err(until);
        }
        let (purpose, points) = (request.purpose, request.weight.points());
        self.points.refill(now);
        let mut wait = self.points.wait(points, purpose);
        let resource = self.resource_of(request.route);
        if let Some(counted) = &mut resource.counted {
            counted.refill(now);
            wait = wait.max(counted.wait(1.0, purpose));
        }
        if let Some(wait) = wait {
            return Err(now + wait);
        }
        if let Some(counted) = &mut resource.counted {
            counted.left -= 1.0;
        }
        self.points.left -= points;
        Ok(())
    }

    /// What calls of this route are counted against, as far as is known.
    fn resource_of(&mut self, route: &str) -> &mut Resource {
        match self.routes.get(route).and_then(|name| self.others.get_mut(name)) {
            Some(other) => other,
            None => &mut self.core,
        }
    }

    /// Takes in what an answer says calls of this route are counted against.
    fn assign(&mut self, route: &str, resource: &str) {
        let known = self.routes.get(route).map_or(CORE, String::as_str);
        if known == resource {
            return;
        }
        self.resource_of(route).give_back();
        let is_new = !self.others.contains_key(resource) && self.others.len() >= REMEMBERED;
        if resource == CORE || is_new || self.routes.len() >= REMEMBERED {
            self.routes.remove(route);
        } else {
            self.others.entry(resource.to_owned()).or_default();
            self.routes.insert(route.to_owned(), resource.to_owned());
        }
    }

    /// Learns from an answer. `chance` (0 to 1) spreads the pauses of those who share a limit without knowing.
    pub fn heard(&mut self, heard: LimitNotice<'_>, now: Duration, chance: f64) {
        if let Some(resource) = heard.resource {
            self.assign(heard.route, resource);
        }
        let share = self.share;
        let resource = self.resource_of(heard.route);
        if heard.unchanged {
            resource.give_back();
        }
        if let Some(limit) = heard.limit {
            resource.learn(limit, share, now);
        }
        let reset = heard.limit.filter(|limit| limit.remaining == 0).map(|limit| Duration::from_secs(limit.reset));
        // None left of one resource says nothing of the others.
        if let Some(reset) = reset {
            let until = heard.retry_after.filter(|_| heard.refused).map_or(reset, |after| now + after);
            resource.pause = Pause::longer(resource.pause, until, now);
        } else if heard.refused {
            let until = now
                + heard.retry_after.unwrap_or_else(|| {
                    let doubled = SECONDARY.saturating_mul(1 << self.strikes.min(6));
                    self.strikes += 1;
                    doubled.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 2.0)
                });
            self.pause = Pause::longer(self.pause, until, now);
        }
        // An answer that came late says nothing of what was refused meanwhile.
        if !heard.refused && self.paused_until(now).is_none() {
            self.strikes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const START: Duration = Duration::from_secs(1_793_577_600);

    fn seconds(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn limit(limit: u64, remaining: u64) -> Option<RateLimit> {
        Some(RateLimit { limit, remaining, reset: START.as_secs() + 3600 })
    }

    fn governor(calls: u64, share: f64) -> Governor {
        let mut governor = Governor::new(share, START);
        governor.heard(LimitNotice { limit: limit(calls, calls), ..LimitNotice::default() }, START, 0.0);
        governor
    }

    /// A call of a route that is counted against [`CORE`].
    fn call(purpose: Purpose, weight: Weight) -> Request<'static> {
        Request { purpose, weight, route: "GET repos actions runs" }
    }

    fn refused(after: Option<u64>) -> LimitNotice<'static> {
        LimitNotice {
            refused: true,
            retry_after: after.map(seconds),
            limit: limit(5000, 100),
            ..LimitNotice::default()
        }
    }

    #[test]
    fn what_the_forge_asks_for_is_kept_to_the_second() {
        let mut governor = governor(5000, 0.5);
        governor.heard(refused(Some(90)), START, 0.0);
        for purpose in [Purpose::Look, Purpose::Serve] {
            assert_eq!(governor.admit(call(purpose, Weight::Read), START + seconds(89)), Err(START + seconds(90)));
        }
        assert_eq!(governor.admit(call(Purpose::Look, Weight::Read), START + seconds(90)), Ok(()));
    }

    #[test]
    fn an_exhausted_limit_pauses_until_its_reset_even_before_a_call_is_refused() {
        let mut governor = governor(5000, 1.0);
        governor.heard(LimitNotice { limit: limit(5000, 0), ..LimitNotice::default() }, START, 0.0);
        assert_eq!(governor.admit(call(Purpose::Serve, Weight::Change), START), Err(START + seconds(3600)));
    }

    #[test]
    fn a_secondary_limit_without_a_time_pauses_a_minute_then_twice_as_long_each_time() {
        let mut governor = governor(5000, 0.5);
        let mut now = START;
        for (chance, pause) in [(0.0, 60), (0.0, 120), (1.0, 360), (0.0, 480)] {
            governor.heard(refused(None), now, chance);
            assert_eq!(governor.paused_until(now), Some(now + seconds(pause)));
            now += seconds(pause);
        }
        governor.heard(LimitNotice::default(), now, 0.0);
        governor.heard(refused(None), now, 0.0);
        assert_eq!(governor.paused_until(now), Some(now + seconds(60)), "after a good answer it starts anew");
    }

    #[test]
    fn a_resource_that_is_used_up_keeps_only_its_own_calls_waiting() {
        let mut governor = governor(5000, 0.5);
        let before = governor.calls_per_minute();
        let register =
            Request { purpose: Purpose::Serve, weight: Weight::Change, route: "POST repos actions runners jit" };
        let heard = |remaining| LimitNotice {
            route: register.route,
            resource: Some("actions_runner_registration"),
            limit: limit(10_000, remaining),
            ..LimitNotice::default()
        };
        governor.admit(register, START).unwrap();
        governor.heard(heard(9_999), START, 0.0);
        assert_eq!(governor.limit(), limit(5000, 5000), "the other limit is not this one");
        assert_eq!(governor.calls_per_minute(), before);
        for refused in [false, true] {
            governor.heard(LimitNotice { refused, ..heard(0) }, START, 0.0);
            assert_eq!(governor.admit(register, START), Err(START + seconds(3600)));
            assert_eq!(governor.paused_until(START), None);
            assert_eq!(governor.admit(call(Purpose::Look, Weight::Read), START), Ok(()));
        }
        let after = START + seconds(3600);
        assert_eq!(governor.admit(register, after), Ok(()));
        // And the other way round.
        governor.heard(heard(5_000), after, 0.0);
        let reset = after.as_secs() + 1800;
        let none = Some(RateLimit { limit: 5000, remaining: 0, reset });
        let look = call(Purpose::Look, Weight::Read);
        let heard = LimitNotice { route: look.route, resource: Some(CORE), limit: none, ..LimitNotice::default() };
        governor.heard(heard, after, 0.0);
        assert_eq!(governor.admit(look, after), Err(seconds(reset)));
        assert_eq!(governor.admit(register, after), Ok(()));
    }

    #[test]
    fn a_secondary_limit_is_of_all_resources() {
        let mut governor = governor(5000, 0.5);
        let route = "POST repos actions runners jit";
        let resource = Some("actions_runner_registration");
        governor.heard(LimitNotice { route, resource, ..refused(Some(90)) }, START, 0.0);
        let look = call(Purpose::Look, Weight::Read);
        for request in [look, Request { route, ..look }] {
            assert_eq!(governor.admit(request, START), Err(START + seconds(90)));
        }
    }

    #[test]
    fn what_is_remembered_of_resources_is_bounded() {
        let mut governor = governor(5000, 0.5);
        for number in 0..10 * REMEMBERED {
            let name = format!("r{number}");
            let heard = LimitNotice { route: &name, resource: Some(&name), ..LimitNotice::default() };
            governor.heard(heard, START, 0.0);
        }
        assert!(governor.others.len() <= REMEMBERED && governor.routes.len() <= REMEMBERED);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_pause_for_ever() {
        let mut governor = governor(5000, 0.5);
        governor.heard(refused(Some(90)), START + 24 * seconds(3600), 0.0);
        assert_eq!(governor.admit(call(Purpose::Look, Weight::Read), START), Ok(()));
    }

    #[test]
    fn a_job_is_served_when_looking_used_up_its_part() {
        let mut governor = governor(1000, 0.5);
        while governor.admit(call(Purpose::Look, Weight::Read), START).is_ok() {}
        assert_eq!(governor.admit(call(Purpose::Serve, Weight::Change), START), Ok(()));
    }

    #[test]
    fn an_unchanged_answer_costs_nothing_of_the_primary_limit() {
        let mut governor = governor(60, 1.0);
        for second in 0..3600 {
            let now = START + seconds(second);
            assert_eq!(governor.admit(call(Purpose::Look, Weight::Read), now), Ok(()));
            governor.heard(LimitNotice { unchanged: true, ..LimitNotice::default() }, now, 0.0);
        }
    }

    #[test]
    fn a_forge_without_limits_is_only_kept_from_being_flooded() {
        let mut governor = Governor::new(0.5, START);
        let admitted = (0..1000).filter(|_| governor.admit(call(Purpose::Look, Weight::Read), START).is_ok()).count();
        assert_eq!((admitted, governor.calls_per_minute()), (180, None));
    }

    proptest! {
        #[test]
        fn never_more_than_the_share_in_any_hour_nor_the_points_in_any_minute(
            calls in 60..15_000_u64,
            share in 0.1..=1.0_f64,
            asks in prop::collection::vec((0..60_000_u64, any::<bool>(), any::<bool>()), 1..3000),
        ) {
            let mut governor = governor(calls, share);
            let mut admitted: Vec<(Duration, f64)> = Vec::new();
            let mut now = START;
            for (pause, serve, change) in asks {
                now += Duration::from_millis(pause / 20);
                let purpose = if serve { Purpose::Serve } else { Purpose::Look };
                let weight = if change { Weight::Change } else { Weight::Read };
                match governor.admit(call(purpose, weight), now) {
                    Ok(()) => admitted.push((now, weight.points())),
                    Err(until) => prop_assert!(until > now),
                }
            }
            for (at, (start, _)) in admitted.iter().enumerate() {
                let within = |window: u64| admitted[at..].iter().take_while(move |(t, _)| *t < *start + seconds(window));
                prop_assert!(within(3600).count() as f64 <= calls as f64 * share + 1e-6);
                prop_assert!(within(60).map(|(_, points)| points).sum::<f64>() <= POINTS + 1e-6);
            }
        }

        #[test]
        fn who_waits_as_told_is_let_through(
            calls in 60..15_000_u64, share in 0.1..=1.0_f64, used in 0..5000_usize, serve in any::<bool>(),
        ) {
            let mut governor = governor(calls, share);
            for _ in 0..used {
                let _ = governor.admit(call(Purpose::Serve, Weight::Change), START);
            }
            let purpose = if serve { Purpose::Serve } else { Purpose::Look };
            if let Err(until) = governor.admit(call(purpose, Weight::Read), START) {
                let later = until + Duration::from_millis(1);
                prop_assert_eq!(governor.admit(call(purpose, Weight::Read), later), Ok(()));
            }
        }
    }
}
