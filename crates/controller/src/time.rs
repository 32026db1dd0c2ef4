//! Time, with a type for each of its senses: a moment of the clock that never jumps ([`Mono`]), a moment of the wall
//! clock ([`Wall`]), and a length ([`Duration`]). Pure.

use std::{
    fmt,
    ops::{Add, Sub},
    time::{Duration, UNIX_EPOCH},
};

/// A moment of the monotonic clock. Its start is arbitrary, so it means nothing outside the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(Duration);

impl Mono {
    /// Where the clock starts: earlier than every other moment.
    pub const START: Self = Self(Duration::ZERO);

    /// So long after the start of the clock.
    pub const fn after_start(time: Duration) -> Self {
        Self(time)
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// At the earliest the start of the clock.
impl Sub<Duration> for Mono {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }
}

/// How much later this is than the other; nothing if it is not.
impl Sub for Mono {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A moment of the wall clock, which may jump. Shown as RFC 3339 in UTC, to the second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wall(Duration);

impl Wall {
    /// So long after the Unix epoch.
    pub const fn from_epoch(time: Duration) -> Self {
        Self(time)
    }

    /// Time since the Unix epoch.
    pub const fn since_epoch(self) -> Duration {
        self.0
    }

    /// Milliseconds since the Unix epoch, as records and documents have it.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Add<Duration> for Wall {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// How much later this is than the other; nothing if it is not.
impl Sub for Wall {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + self.0).fmt(f)
    }
}

/// When something happens in the loop.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// By the clock that never jumps.
    pub mono: Mono,
    /// By the wall clock.
    pub wall: Wall,
    /// In this round of the loop.
    pub round: u64,
}

impl Now {
    /// A time to come, by the wall clock, in milliseconds since the Unix epoch; none if it is over.
    pub fn wall_ms_of(&self, at: Option<Mono>) -> Option<u64> {
        at.filter(|at| *at >= self.mono).map(|at| (self.wall + (at - self.mono)).as_millis())
    }
}

/// Pauses that grow with each failure in a row: `first`, twice that, … at most `most`.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
}

impl Backoff {
    /// The two of them in seconds.
    pub const fn seconds(first: u64, most: u64) -> Self {
        Self { first: Duration::from_secs(first), most: Duration::from_secs(most) }
    }

    /// The pause after so many failures in a row.
    pub fn after(self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_is_not_later_is_no_time_away() {
        let at = |secs| Mono::after_start(Duration::from_secs(secs));
        assert_eq!(at(5) - at(3), Duration::from_secs(2));
        assert_eq!(at(3) - at(5), Duration::ZERO);
        assert_eq!(at(3) - Duration::from_secs(5), Mono::START);
        assert_eq!(at(3) + Duration::from_secs(5), at(8));
    }

    #[test]
    fn only_a_time_to_come_has_a_place_on_the_wall_clock() {
        let at = |secs| Mono::after_start(Duration::from_secs(secs));
        let now = Now { mono: at(10), wall: Wall::from_epoch(Duration::from_secs(1000)), round: 1 };
        assert_eq!(now.wall_ms_of(Some(at(13))), Some(1_003_000));
        assert_eq!(now.wall_ms_of(Some(at(9))), None);
        assert_eq!(now.wall_ms_of(None), None);
    }

    #[test]
    fn a_pause_doubles_with_each_failure_up_to_the_longest() {
        let pauses: Vec<u64> =
            [0, 1, 2, 3, 7, 90].map(|failures| Backoff::seconds(5, 300).after(failures).as_secs()).into();
        assert_eq!(pauses, [5, 5, 10, 20, 300, 300]);
    }
}
