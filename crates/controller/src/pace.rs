//! How often repositories are looked at. Pure.
//!
//! Every repository is looked at at the fast pace as long as its credential affords that: what is unchanged costs GitHub's
//! limit nothing. Where it does not, those wait longer in which nothing has happened for long, then all of them.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// How long a repository is looked at at the fast pace after its last activity, and how long each step to a slower
/// pace lasts.
const STEP: Duration = Duration::from_secs(300);
/// How long quiet repositories wait at most so that active ones need not, unless the operator has them wait longer.
const QUIET_MOST: Duration = Duration::from_secs(240);
/// How much longer they wait at most where the operator chose their pace.
const QUIET_STRETCH: u32 = 4;
/// Part of an allowance that looks may use; the rest is for registrations, discovery and what is looked up by name.
const FOR_LOOKS: f64 = 0.75;
/// GitHub's secondary limit: points a minute, of which a GET costs one (docs/github.md#rate-limits).
const POINTS_PER_MINUTE: f64 = 900.0;

/// Time between two looks at a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// While something is queued or running.
    pub fast: Duration,
    /// When nothing has been for a while, however little is looked at; at least `fast`. None = as often as can be
    /// afforded.
    pub idle: Option<Duration>,
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
        self.idle.map_or(self.fast, |idle| self.slowed(quiet).min(idle.max(self.fast)))
    }

    /// The fast pace, slower step by step the longer nothing happened.
    fn slowed(&self, quiet: Option<Duration>) -> Duration {
        let steps = quiet.map_or(16, |quiet| (quiet.as_secs() / STEP.as_secs()).min(16));
        self.fast.saturating_mul(1 << steps)
    }

    /// Time between two looks at each of `repositories`, all of which are looked at with one credential.
    pub fn together(&self, repositories: &[RepositoryPace], allowance: Allowance) -> Vec<Duration> {
        let most = self.idle.map_or(QUIET_MOST, |idle| idle * QUIET_STRETCH).max(self.fast);
        // Nobody waits longer than `longest`, in seconds, and those in which nothing happened for long wait so long.
        let wanted = |repository: &RepositoryPace, longest: f64| {
            let slowed = self.slowed(repository.quiet).as_secs_f64().min(longest);
            slowed.max(self.alone(repository.quiet).as_secs_f64())
        };
        // How many times what is allowed that would use.
        let use_of = |longest: f64| {
            let (mut counted, mut calls) = (0.0, 0.0);
            for repository in repositories {
                let interval = wanted(repository, longest);
                counted += repository.counted / interval;
                calls += repository.calls / interval;
            }
            (counted / allowance.counted).max(calls / allowance.calls)
        };
        let (mut fits, mut too_fast) = (most.as_secs_f64(), self.fast.as_secs_f64());
        if use_of(too_fast) <= 1.0 {
            fits = too_fast;
        }
        while fits - too_fast > 0.1 {
            let middle = f64::midpoint(fits, too_fast);
            if use_of(middle) <= 1.0 { fits = middle } else { too_fast = middle }
        }
        let all = use_of(fits).max(1.0);
        let interval = |repository| Duration::from_secs_f64(wanted(repository, fits) * all);
        repositories.iter().map(interval).collect()
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

    const PACE: Pace = Pace { fast: Duration::from_secs(15), idle: Some(Duration::from_secs(300)) };
    const AFFORDED: Pace = Pace { idle: None, ..PACE };

    fn seconds(secs: u64) -> Option<Duration> {
        Some(Duration::from_secs(secs))
    }

    #[test]
    fn a_repository_is_looked_at_fast_for_five_minutes_and_then_slower_step_by_step_where_the_operator_says_so() {
        let paces: Vec<u64> = [0, 299, 300, 600, 900, 1200, 1500, 1 << 40]
            .into_iter()
            .map(|quiet| PACE.alone(seconds(quiet)).as_secs())
            .collect();
        assert_eq!(paces, [15, 15, 30, 60, 120, 240, 300, 300]);
        assert_eq!(Some(PACE.alone(None)), PACE.idle, "nothing was ever seen there");
        assert_eq!(AFFORDED.alone(None), AFFORDED.fast);
    }

    #[test]
    fn few_quiet_repositories_are_looked_at_as_often_as_active_ones_and_many_as_often_as_can_be_afforded() {
        let quiet = RepositoryPace { quiet: None, calls: 2.0, counted: 0.1 };
        let allowance = Allowance::of(Some(5000.0 / 60.0 / 2.0), 0.5);
        let paces: Vec<u64> =
            [1, 20, 40, 200].map(|count| AFFORDED.together(&vec![quiet; count], allowance)[count - 1].as_secs()).into();
        assert_eq!(paces, [15, 15, 15, 71]);
    }

    #[test]
    fn active_repositories_keep_their_pace_while_quiet_ones_can_wait_longer() {
        let quiet = RepositoryPace { quiet: None, calls: 2.0, counted: 1.0 };
        let active = RepositoryPace { quiet: seconds(0), ..quiet };
        let repositories = [vec![active; 3], vec![quiet; 200]].concat();
        for (pace, counted) in [(PACE, 0.5), (AFFORDED, 1.2)] {
            let paces = pace.together(&repositories, Allowance { counted, calls: 100.0 });
            assert_eq!(paces[0], pace.fast);
            assert!(paces[100] > pace.alone(None));
        }
    }

    fn any_repository() -> impl Strategy<Value = RepositoryPace> {
        (proptest::option::of(0u64..4000), 1.0..10.0, 0.0..1.0).prop_map(|(quiet, calls, part)| RepositoryPace {
            quiet: quiet.map(Duration::from_secs),
            calls,
            counted: calls * part,
        })
    }

    fn any_pace() -> impl Strategy<Value = Pace> {
        prop_oneof![Just(PACE), Just(AFFORDED)]
    }

    proptest! {
        #[test]
        fn all_looks_together_stay_below_the_allowance(
            repositories in proptest::collection::vec(any_repository(), 1..300),
            counted in 0.01..10.0, calls in 0.01..10.0, pace in any_pace(),
        ) {
            let paces = pace.together(&repositories, Allowance { counted, calls });
            let rate = |cost: fn(&RepositoryPace) -> f64| -> f64 {
                repositories.iter().zip(&paces).map(|(r, pace)| cost(r) / pace.as_secs_f64()).sum()
            };
            prop_assert!(rate(|r| r.counted) <= counted * 1.0001);
            prop_assert!(rate(|r| r.calls) <= calls * 1.0001);
        }

        #[test]
        fn nobody_is_looked_at_more_often_than_alone_nor_the_quiet_more_often_than_the_active(
            repositories in proptest::collection::vec(any_repository(), 1..50),
            counted in 0.01..10.0, calls in 0.01..10.0, of in any_pace(),
        ) {
            let paces = of.together(&repositories, Allowance { counted, calls });
            for (a, pace) in repositories.iter().zip(&paces) {
                prop_assert!(*pace >= of.alone(a.quiet));
                for (b, other) in repositories.iter().zip(&paces) {
                    prop_assert!(of.slowed(a.quiet) > of.slowed(b.quiet) || pace <= other);
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
