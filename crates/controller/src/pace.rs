//! How often repositories are looked at. Pure.
//!
//! Fast while something is queued or running and for some minutes after, then step by step slower until the idle pace.
//! All looks with one credential together stay below what it may be used for: first the quiet repositories wait
//! longer, then all of them.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// How long a repository is looked at at the fast pace after its last activity, and how long each step to a slower
/// pace lasts.
const STEP: Duration = Duration::from_secs(300);
/// How much longer than the idle pace quiet repositories wait at most so that active ones need not.
const QUIET_STRETCH: f64 = 4.0;
/// Part of an allowance that looks may use; the rest is for registrations, discovery and what is looked up by name.
const FOR_LOOKS: f64 = 0.75;
/// GitHub's secondary limit: points a minute, of which a GET costs one (docs/github.md#rate-limits).
const POINTS_PER_MINUTE: f64 = 900.0;

/// Time between two looks at a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// While something is queued or running.
    pub fast: Duration,
    /// When nothing has been for a while; at least `fast`.
    pub idle: Duration,
}

/// A repository, as far as its pace goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RepositoryPace {
    /// Time since something was last queued or running there; `None` = never seen.
    pub quiet: Option<Duration>,
    /// Calls a look makes.
    pub calls: f64,
    /// Of these, those that count against the primary limit: all but those answered 304.
    pub counted: f64,
}

/// What looks with one credential may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// Counted calls a second.
    pub counted: f64,
    /// Calls a second, counted or not.
    pub calls: f64,
}

impl Allowance {
    /// Of a credential with so many counted calls a minute (none = the forge names no limit), of whose secondary limit
    /// the controller uses `share` (0 to 1).
    pub fn of(calls_per_minute: Option<f64>, share: f64) -> Self {
        Self {
            counted: calls_per_minute.map_or(f64::INFINITY, |calls| calls * FOR_LOOKS / 60.0),
            calls: POINTS_PER_MINUTE * share * FOR_LOOKS / 60.0,
        }
    }
}

impl Pace {
    /// Time between two looks at a repository if nothing else is looked at.
    pub fn alone(&self, quiet: Option<Duration>) -> Duration {
        let Some(quiet) = quiet else { return self.idle };
        let steps = quiet.as_secs() / STEP.as_secs();
        self.fast.saturating_mul(1 << steps.min(16)).min(self.idle.max(self.fast))
    }

    /// Time between two looks at each of `repositories`, all of which are looked at with one credential.
    pub fn together(&self, repositories: &[RepositoryPace], allowance: Allowance) -> Vec<Duration> {
        let wanted: Vec<Duration> = repositories.iter().map(|repository| self.alone(repository.quiet)).collect();
        // Calls a second of the repositories at the idle pace and of the others.
        let rate = |cost: fn(&RepositoryPace) -> f64, quiet: bool| -> f64 {
            repositories
                .iter()
                .zip(&wanted)
                .filter(|(_, wanted)| (**wanted >= self.idle) == quiet)
                .map(|(repository, wanted)| cost(repository) / wanted.as_secs_f64())
                .sum()
        };
        let (mut quiet, mut all) = (1.0_f64, 1.0_f64);
        for (cost, allowed) in [
            ((|r| r.counted) as fn(&RepositoryPace) -> f64, allowance.counted),
            ((|r| r.calls) as fn(&RepositoryPace) -> f64, allowance.calls),
        ] {
            let (idle, active) = (rate(cost, true), rate(cost, false));
            let left = allowed - active;
            let stretch = if left > 0.0 { (idle / left).clamp(1.0, QUIET_STRETCH) } else { QUIET_STRETCH };
            quiet = quiet.max(stretch);
            all = all.max((active + idle / stretch) / allowed);
        }
        wanted
            .into_iter()
            .map(|wanted| if wanted >= self.idle { wanted.mul_f64(quiet * all) } else { wanted.mul_f64(all) })
            .collect()
    }
}

/// A place between 0 and 1 for each name, the same every time: spreads what would otherwise happen at once.
pub fn spread(name: &str) -> f64 {
    // Without a seed of its own, so that a name keeps its place over a restart.
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let hash = hasher.finish();
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace { fast: Duration::from_secs(15), idle: Duration::from_secs(300) };

    fn seconds(secs: u64) -> Option<Duration> {
        Some(Duration::from_secs(secs))
    }

    #[test]
    fn a_repository_is_looked_at_fast_for_five_minutes_and_then_slower_step_by_step() {
        let paces: Vec<u64> = [0, 299, 300, 600, 900, 1200, 1500, 1 << 40]
            .into_iter()
            .map(|quiet| PACE.alone(seconds(quiet)).as_secs())
            .collect();
        assert_eq!(paces, [15, 15, 30, 60, 120, 240, 300, 300]);
        assert_eq!(PACE.alone(None), PACE.idle, "nothing was ever seen there");
    }

    #[test]
    fn active_repositories_keep_their_pace_while_quiet_ones_can_wait_longer() {
        let quiet = RepositoryPace { quiet: None, calls: 2.0, counted: 1.0 };
        let active = RepositoryPace { quiet: seconds(0), ..quiet };
        let repositories = [vec![active; 3], vec![quiet; 200]].concat();
        let paces = PACE.together(&repositories, Allowance { counted: 0.5, calls: 100.0 });
        assert_eq!(paces[0], PACE.fast);
        assert!(paces[100] > PACE.idle);
    }

    fn any_repository() -> impl Strategy<Value = RepositoryPace> {
        (proptest::option::of(0u64..4000), 1.0..10.0, 0.0..1.0).prop_map(|(quiet, calls, part)| RepositoryPace {
            quiet: quiet.map(Duration::from_secs),
            calls,
            counted: calls * part,
        })
    }

    proptest! {
        #[test]
        fn all_looks_together_stay_below_the_allowance(
            repositories in proptest::collection::vec(any_repository(), 1..300),
            counted in 0.01..10.0, calls in 0.01..10.0,
        ) {
            let paces = PACE.together(&repositories, Allowance { counted, calls });
            let rate = |cost: fn(&RepositoryPace) -> f64| -> f64 {
                repositories.iter().zip(&paces).map(|(r, pace)| cost(r) / pace.as_secs_f64()).sum()
            };
            prop_assert!(rate(|r| r.counted) <= counted * 1.0001);
            prop_assert!(rate(|r| r.calls) <= calls * 1.0001);
        }

        #[test]
        fn nobody_is_looked_at_more_often_than_alone_nor_the_quiet_more_often_than_the_active(
            repositories in proptest::collection::vec(any_repository(), 1..50),
            counted in 0.01..10.0, calls in 0.01..10.0,
        ) {
            let paces = PACE.together(&repositories, Allowance { counted, calls });
            for (a, pace) in repositories.iter().zip(&paces) {
                prop_assert!(*pace >= PACE.alone(a.quiet));
                for (b, other) in repositories.iter().zip(&paces) {
                    prop_assert!(PACE.alone(a.quiet) > PACE.alone(b.quiet) || pace <= other);
                }
            }
        }

        #[test]
        fn names_are_spread_evenly(prefix in "[a-z]{1,8}") {
            let low = (0..200).filter(|n| spread(&format!("{prefix}/{n}")) < 0.5).count();
            prop_assert!((50..150).contains(&low), "{low} of 200 in the first half");
        }
    }
}
