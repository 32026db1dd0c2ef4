//! What follows from a runner's version: whether it serves, and for how long. Pure.

use std::time::Duration;

use forge::RunnerDeprecation;

/// From so many days before its end a version is warned about: two weeks to update a template at leisure.
pub const WARN_DAYS: i64 = 14;
/// How long nothing is launched after a forge refused a runner; then one more try shows whether it still does.
pub const RETRY_REFUSED: Duration = Duration::from_secs(3600);

const DAY: i64 = 24 * 3600;

/// How a class's runner stands with the forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known against it.
    Serves,
    /// It will be refused soon, or is not registered any more, and the update is due.
    Ageing,
    /// It is refused: launching it is of no use.
    Outdated,
}

/// Whole days until the first thing ends for a version, negative once it has; `None` = no end is known. `now`: the wall
/// clock, since the Unix epoch.
pub fn days_left(known: RunnerDeprecation, now: Duration) -> Option<i64> {
    let first = [known.registration, known.runtime].into_iter().flatten().min()?;
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Some(seconds(first).saturating_sub(seconds(now)).div_euclid(DAY))
}

/// The standing of a version. `refused_for`: how long ago the forge last refused a runner of the class that had not
/// changed since; a refusal counts for twice [`RETRY_REFUSED`], so that a class stays outdated while it is tried again.
///
/// Only the end of serving jobs makes a version outdated by itself: what the end of registering means for one-job
/// configurations is not documented, and a runner that is refused for it says so.
pub fn standing(known: RunnerDeprecation, refused_for: Option<Duration>, now: Duration) -> Standing {
    let ended = known.runtime.is_some_and(|end| end <= now);
    if ended || refused_for.is_some_and(|since| since < 2 * RETRY_REFUSED) {
        Standing::Outdated
    } else if days_left(known, now).is_some_and(|days| days < WARN_DAYS) {
        Standing::Ageing
    } else {
        Standing::Serves
    }
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;

    const NOW: Duration = Duration::from_secs(1_795_000_000);

    fn in_days(days: i64) -> Duration {
        Duration::from_secs((1_795_000_000 + days * DAY).unsigned_abs())
    }

    fn runtime(end: Duration) -> RunnerDeprecation {
        RunnerDeprecation { registration: None, runtime: Some(end) }
    }

    #[test]
    fn a_version_serves_then_ages_for_two_weeks_and_then_is_outdated() {
        for (days, left, stands) in [
            (30, 30, Standing::Serves),
            (14, 14, Standing::Serves),
            (13, 13, Standing::Ageing),
            (1, 1, Standing::Ageing),
            (0, 0, Standing::Outdated),
            (-1, -1, Standing::Outdated),
        ] {
            assert_eq!(days_left(runtime(in_days(days)), NOW), Some(left));
            assert_eq!(standing(runtime(in_days(days)), None, NOW), stands, "{days} days");
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(days_left(runtime(NOW + hour), NOW), Some(0), "the last day");
        assert_eq!(standing(runtime(NOW + hour), None, NOW), Standing::Ageing);
        assert_eq!(days_left(runtime(NOW - hour), NOW), Some(-1));
    }

    #[test]
    fn without_an_end_there_is_no_number_and_no_worry() {
        assert_eq!(days_left(RunnerDeprecation::default(), NOW), None);
        assert_eq!(standing(RunnerDeprecation::default(), None, NOW), Standing::Serves);
    }

    #[test]
    fn the_end_of_registering_is_warned_about_and_stops_nothing() {
        let known = RunnerDeprecation { registration: Some(in_days(-2)), runtime: Some(in_days(20)) };
        assert_eq!(days_left(known, NOW), Some(-2));
        assert_eq!(standing(known, None, NOW), Standing::Ageing);
    }

    #[test]
    fn a_refusal_outweighs_what_the_forge_announced_and_fades_when_it_is_not_repeated() {
        let fresh = RunnerDeprecation::default();
        assert_eq!(standing(fresh, Some(Duration::ZERO), NOW), Standing::Outdated);
        assert_eq!(standing(fresh, Some(RETRY_REFUSED), NOW), Standing::Outdated, "while it is tried again");
        assert_eq!(standing(fresh, Some(2 * RETRY_REFUSED), NOW), Standing::Serves);
    }

    proptest! {
        #[test]
        fn time_alone_never_makes_a_version_good_again(
            registration in option::of(0..4_000_000_000u64), runtime in option::of(0..4_000_000_000u64),
            now in 0..4_000_000_000u64, later in 0..100_000_000u64,
        ) {
            let known = RunnerDeprecation {
                registration: registration.map(Duration::from_secs),
                runtime: runtime.map(Duration::from_secs),
            };
            let rank = |now| standing(known, None, Duration::from_secs(now)) as u8;
            prop_assert!(rank(now) <= rank(now + later));
        }
    }
}
