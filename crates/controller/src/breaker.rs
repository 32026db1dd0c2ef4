//! A circuit breaker: what fails is left alone for a while, longer each time; what fails again and again is left alone
//! for long, and then tried once. Pure.
//!
//! The one pause after failures that the controller has: of a class whose containers do not come up, of a place where
//! runners cannot be registered, of a credential that the forge refuses.

use std::time::Duration;

use crate::{
    status::{BreakerKind, BreakerState, BreakerStatus},
    time::{Backoff, Mono, Now, Wall},
};

/// So many failures …
const MOST: usize = 5;
/// … within this time, without a success, open it.
const WINDOW: Duration = Duration::from_secs(3600);
/// Pauses after failures before that.
const SHORT: Backoff = Backoff::seconds(5, 300);
/// How long it is open. What people mend they mend in minutes to hours.
const OPEN: Backoff = Backoff::seconds(600, 1800);
/// Part of that by which it may be open longer, so that what broke together is not tried together.
const JITTER: f64 = 0.2;

/// What a failure says of the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nothing: it is somebody else's, and passes. The next try is after so long; None = after a pause as all others.
    Passing(Option<Duration>),
    /// It may fail as well.
    Counted,
    /// It will fail as well until somebody does something.
    Lasting,
}

/// The failures of one thing since it last went well.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    in_a_row: u32,
    /// When it failed, as far as that counts.
    counted: Vec<Mono>,
    /// How often it was opened; 0 = it is closed.
    opened: u32,
    /// Nothing is tried before.
    until: Mono,
    until_wall: Wall,
    cause: String,
}

impl Breaker {
    /// It failed, for this cause. `chance` (0 to 1) chooses the jitter. True if that opened it.
    pub fn failed(&mut self, cause: &str, failure: Failure, now: Now, chance: f64) -> bool {
        if self.failures(now.mono) == 0 {
            self.close();
        }
        cause.clone_into(&mut self.cause);
        // What was begun before a pause fails with what caused the pause: it is one failure.
        let is_another = self.until <= now.mono;
        self.in_a_row += u32::from(is_another);
        let mut opens = false;
        let pause = match failure {
            Failure::Passing(pause) => pause.unwrap_or(SHORT.after(self.in_a_row)),
            Failure::Counted | Failure::Lasting if !is_another => return false,
            Failure::Counted | Failure::Lasting => {
                self.counted.retain(|at| now.mono - *at < WINDOW);
                self.counted.push(now.mono);
                opens = failure == Failure::Lasting || self.opened > 0 || self.counted.len() >= MOST;
                if opens {
                    self.opened += 1;
                    self.counted.clear();
                    OPEN.after(self.opened).mul_f64(1.0 + JITTER * chance)
                } else {
                    SHORT.after(self.in_a_row)
                }
            }
        };
        if now.mono + pause > self.until {
            (self.until, self.until_wall) = (now.mono + pause, now.wall + pause);
        }
        opens
    }

    /// It went well, or is to be tried as if it had.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    /// Failures in a row. They are history once nothing was tried for a while after their pause.
    pub fn failures(&self, now: Mono) -> u32 {
        if now < self.until + WINDOW { self.in_a_row } else { 0 }
    }

    /// How it last failed.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// Nothing is tried before.
    pub fn held_until(&self) -> Option<Mono> {
        (self.in_a_row > 0).then_some(self.until)
    }

    /// How it stands.
    pub fn state(&self, now: Mono) -> BreakerState {
        match self.opened {
            0 => BreakerState::Closed,
            _ if self.failures(now) == 0 => BreakerState::Closed,
            _ if self.until > now => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// One is to be tried, and no more until that is known to go well.
    pub fn is_probed(&self, now: Mono) -> bool {
        self.state(now) == BreakerState::HalfOpen
    }

    /// What stands behind the cause in what people read: the same for as long as nothing changes.
    pub fn told(&self, now: Mono) -> String {
        let remedy = ". Remedy: mend it; gha-runner-controller resume tries it at once";
        self.wait_told(now) + if self.state(now) == BreakerState::Open { remedy } else { "" }
    }

    /// The same without a remedy.
    pub fn wait_told(&self, now: Mono) -> String {
        match self.state(now) {
            BreakerState::Closed => String::new(),
            BreakerState::Open => format!("; nothing is tried until {}", self.until_wall),
            BreakerState::HalfOpen => "; one is tried now".to_owned(),
        }
    }

    /// As documents show it, if it failed.
    pub fn shown(&self, kind: BreakerKind, name: &str, now: Now) -> Option<BreakerStatus> {
        (self.failures(now.mono) > 0).then(|| BreakerStatus {
            kind,
            name: name.to_owned(),
            state: self.state(now.mono),
            failures: self.in_a_row,
            cause: self.cause.clone(),
            next_try_ms: now.wall_ms_of(self.held_until()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Now {
        let time = Duration::from_secs(secs);
        Now { mono: Mono::after_start(time), wall: Wall::from_epoch(time), round: 0 }
    }

    fn after(breaker: &Breaker, secs: u64) -> (BreakerState, u64) {
        (breaker.state(at(secs).mono), (breaker.until - at(secs).mono).as_secs())
    }

    #[test]
    fn five_failures_in_an_hour_open_it_for_ten_minutes_and_a_failed_probe_for_twice_as_long() {
        let (mut breaker, mut now) = (Breaker::default(), 1000);
        for pause in [5, 10, 20, 40] {
            assert!(!breaker.failed("broken", Failure::Counted, at(now), 0.0));
            assert_eq!(after(&breaker, now), (BreakerState::Closed, pause));
            now += pause;
        }
        assert!(breaker.failed("broken", Failure::Counted, at(now), 0.0));
        assert_eq!(after(&breaker, now), (BreakerState::Open, 600));
        assert!(!breaker.failed("begun before", Failure::Counted, at(now + 9), 0.0));
        assert_eq!(after(&breaker, now + 9), (BreakerState::Open, 591), "it is not open for longer");
        now += 600;
        assert_eq!(after(&breaker, now), (BreakerState::HalfOpen, 0));
        assert!(breaker.failed("still broken", Failure::Counted, at(now), 1.0));
        assert_eq!(after(&breaker, now), (BreakerState::Open, 1440));
        assert_eq!((breaker.failures(at(now).mono), breaker.cause()), (6, "still broken"));
        breaker.close();
        assert_eq!((after(&breaker, now), breaker.failures(at(now).mono)), ((BreakerState::Closed, 0), 0));
    }

    #[test]
    fn what_begins_together_and_fails_together_is_one_failure() {
        let mut breaker = Breaker::default();
        assert!((0..20).all(|n| !breaker.failed("odd", Failure::Counted, at(100 + n % 5), 0.5)));
        assert_eq!(breaker.failures(at(104).mono), 1);
    }

    #[test]
    fn what_lasts_opens_it_at_once_and_what_passes_never() {
        let mut breaker = Breaker::default();
        assert!((1..200).all(|n| !breaker.failed("down", Failure::Passing(None), at(n * 300), 0.5)));
        assert_eq!(after(&breaker, 199 * 300), (BreakerState::Closed, 300));
        assert!(breaker.failed("forbidden", Failure::Lasting, at(200 * 300), 0.0));
        breaker.failed("down", Failure::Passing(None), at(200 * 300 + 600), 0.0);
        assert_eq!(after(&breaker, 200 * 300 + 900), (BreakerState::HalfOpen, 0), "that was no answer to the probe");
        assert_eq!(after(&breaker, 200 * 300 + 900 + 3600), (BreakerState::Closed, 0), "nobody asked for an hour");
    }

    fn any_failure() -> impl Strategy<Value = Failure> {
        prop_oneof![
            4 => Just(Failure::Counted),
            2 => Just(Failure::Passing(None)),
            1 => (0u64..700).prop_map(|secs| Failure::Passing(Some(Duration::from_secs(secs)))),
            1 => Just(Failure::Lasting),
        ]
    }

    /// Seconds since the last event, and a failure or a success.
    fn any_events() -> impl Strategy<Value = Vec<(u64, Option<Failure>)>> {
        proptest::collection::vec((0u64..2000, proptest::option::weighted(0.9, any_failure())), 1..60)
    }

    proptest! {
        #[test]
        fn it_is_tried_again_within_bounds_and_opened_only_by_what_counts(events in any_events(), chance in 0.0..1.0) {
            let (mut breaker, mut now, mut since_success) = (Breaker::default(), 10_000, Vec::new());
            for (pause, event) in events {
                now += pause;
                let Some(failure) = event else {
                    breaker.close();
                    since_success.clear();
                    continue;
                };
                let was = after(&breaker, now);
                let opened = breaker.failed("x", failure, at(now), chance);
                since_success.push((now, failure));
                let (is, left) = after(&breaker, now);
                prop_assert!(left <= 2160);
                prop_assert!(breaker.failures(at(now).mono) > 0);
                // One that is held stays as it is, but for a limit that says until when.
                prop_assert!(was.1 == 0 || is == was.0 && left >= was.1 && !opened);
                let counted = since_success.iter().filter(|(at, failure)| {
                    *failure == Failure::Counted && now - at < 3600
                });
                let lasting = since_success.iter().any(|(_, failure)| *failure == Failure::Lasting);
                prop_assert!(!opened || failure != Failure::Passing(None));
                prop_assert!(is == BreakerState::Closed || lasting || was.0 != BreakerState::Closed || counted.count() >= MOST);
                prop_assert!(!opened || is == BreakerState::Open && left >= 600);
                // Whatever happened, one more try is allowed once the pause is over, and a success ends all of it.
                prop_assert_ne!(breaker.state(at(now + left + 1).mono), BreakerState::Open);
            }
        }
    }
}
