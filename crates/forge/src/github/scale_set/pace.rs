//! How long to wait before the next try. Pure: outcome and dice in, duration out.

use std::time::Duration;

use crate::ErrorKind;

/// Least time between two polls that brought nothing: some backends answer 202 at once
/// (docs/github.md#polling-for-messages).
pub(super) const EMPTY: Duration = Duration::from_secs(1);
/// Least time between two sessions that we begin.
pub(super) const SESSIONS: Duration = Duration::from_secs(5);
/// Longest wait after a failure that may pass by itself.
const PASSING: u64 = 60;
/// Longest wait after a failure that a person has to end.
const LASTING: u64 = 300;
/// First and longest wait for a session that somebody else holds (docs/github.md#message-sessions).
const HELD: (u64, u64) = (5, 30);

/// Wait after the `failures`th failure in a row (from 1), at the wall clock `now`.
pub(super) fn after(kind: ErrorKind, failures: u32, now: Duration, random: u64) -> Duration {
    let (first, longest) = match kind {
        ErrorKind::RateLimited(until) | ErrorKind::Paced(until) => {
            let wait = until.saturating_sub(now).clamp(Duration::from_secs(1), Duration::from_secs(3600));
            return wait + spread(Duration::from_secs(2), random);
        }
        ErrorKind::Conflict => HELD,
        ErrorKind::Unavailable => (1, PASSING),
        ErrorKind::Unauthorized
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::Quarantined
        | ErrorKind::Refused => (2, LASTING),
    };
    let doubled = first << failures.saturating_sub(1).min(16);
    let wait = Duration::from_secs(doubled.min(longest));
    wait / 2 + spread(wait / 2, random)
}

/// Wait before the next try of the registration, after `tries` of them: 1 s to 30 s
/// (docs/github.md#connecting-to-the-actions-service).
pub(super) fn registration(tries: u32, random: u64) -> Duration {
    let wait = Duration::from_secs((1u64 << tries.saturating_sub(1).min(5)).min(30));
    wait * 3 / 4 + spread(wait / 2, random)
}

/// Somewhere between nothing and `most`.
fn spread(most: Duration, random: u64) -> Duration {
    most.mul_f64((random % 1000) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_are_never_nothing() {
        let wait = |kind, failures, dice| after(kind, failures, Duration::from_secs(1000), dice);
        for kind in [ErrorKind::Unavailable, ErrorKind::Conflict, ErrorKind::NotFound, ErrorKind::Unauthorized] {
            for failures in 1..100 {
                for dice in [0, 500, 999] {
                    assert!(wait(kind, failures, dice) >= Duration::from_millis(500));
                    assert!(wait(kind, failures, dice) <= Duration::from_secs(300));
                    assert!(wait(kind, failures + 1, 0) >= wait(kind, failures, 0));
                }
            }
        }
        assert!(wait(ErrorKind::Unavailable, 50, 999) <= Duration::from_secs(60));
        assert!(wait(ErrorKind::Conflict, 50, 999) <= Duration::from_secs(30));
        assert!(wait(ErrorKind::Conflict, 50, 0) >= Duration::from_secs(15));
    }

    #[test]
    fn a_named_time_is_kept_and_never_more_than_an_hour() {
        let until = |seconds| ErrorKind::RateLimited(Duration::from_secs(seconds));
        let now = Duration::from_secs(1000);
        assert_eq!(after(until(1042), 1, now, 0), Duration::from_secs(42));
        assert_eq!(after(until(10), 1, now, 0), Duration::from_secs(1));
        assert_eq!(after(until(1_000_000), 1, now, 0), Duration::from_secs(3600));
    }
}
