//! Hours of a week, in a few of the words that systemd has for calendar events (systemd.time(7)): `Mon..Fri 08:00..18:00`.
//!
//! They are hours of the host's wall clock. Whoever asks says what that shows; so an hour that summer time leaves out is
//! never in them, and one that comes twice is in them twice.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY: u32 = 24 * 60;
/// The first of January 1970 was a Thursday.
const FIRST_DAY: u64 = 3;

/// On some days of the week, from one time of day to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    /// From Monday on; those on which it begins.
    days: [bool; 7],
    /// First minute of the day.
    from: u32,
    /// First minute that is none of it any more; up to `from` = on the next day.
    until: u32,
}

impl Hours {
    /// Whether the wall clock is in them. `local` = what it shows, counted from the beginning of 1970 as it shows that.
    pub fn contain(&self, local: Duration) -> bool {
        let minutes = local.as_secs() / 60;
        let minute = (minutes % u64::from(DAY)) as u32;
        let today = ((minutes / u64::from(DAY) + FIRST_DAY) % 7) as usize;
        let yesterday = (today + 6) % 7;
        if self.from < self.until {
            return self.days[today] && (self.from..self.until).contains(&minute);
        }
        (self.days[today] && minute >= self.from) || (self.days[yesterday] && minute < self.until)
    }
}

fn day(text: &str) -> Result<usize, String> {
    DAYS.iter().position(|day| day.eq_ignore_ascii_case(text)).ok_or_else(|| format!("{text:?} is no day of the week"))
}

fn time(text: &str) -> Result<u32, String> {
    let two = |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?;
    let read = text.split_once(':').and_then(|(hour, minute)| Some((two(hour)?, two(minute)?)));
    match read {
        Some((24, 0)) => Ok(DAY),
        Some((hour @ 0..24, minute @ 0..60)) => Ok(hour * 60 + minute),
        _ => Err(format!("{text:?} is no time of day")),
    }
}

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (on, times) = match words[..] {
            [times] => (None, times),
            [on, times] => (Some(on), times),
            _ => return Err("there are no days and times, or more than that".to_owned()),
        };
        let mut days = [on.is_none(); 7];
        for part in on.into_iter().flat_map(|on| on.split(',')) {
            let (first, last) = part.split_once("..").unwrap_or((part, part));
            let (first, last) = (day(first)?, day(last)?);
            if first > last {
                return Err(format!("{part:?} runs backwards"));
            }
            days[first..=last].fill(true);
        }
        let (from, until) = times.split_once("..").ok_or_else(|| format!("{times:?} has no beginning and end"))?;
        let (from, until) = (time(from)?, time(until)?);
        match from < DAY && from != until {
            true => Ok(Self { days, from, until }),
            false => Err(format!("{times:?} is no time at all")),
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<&str> = DAYS.iter().zip(self.days).filter(|(_, on)| *on).map(|(day, _)| *day).collect();
        let time = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{} {}..{}", named.join(","), time(self.from), time(self.until))
    }
}

impl TryFrom<String> for Hours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60;

    /// What a clock shows that goes an hour ahead from the last Sunday of March, 1:00, to that of October, 1:00 (UTC), east
    /// of Greenwich by `zone` hours: 29 March and 25 October in 2026.
    fn shown(utc: u64, zone: i64) -> Duration {
        let summer = (1_774_746_000..1_792_890_000).contains(&utc);
        Duration::from_secs((utc as i64 + (zone + i64::from(summer)) * 3600) as u64)
    }

    fn hours(text: &str) -> Hours {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_no_time_of_a_week_says_why() {
        for (text, why) in [
            ("", "no days and times"),
            ("Mon 08:00..18:00 UTC", "no days and times"),
            ("Mon..Fri", "\"Mon\" is no time"),
            ("Mon 08:00", "no beginning and end"),
            ("Fri..Mon 08:00..18:00", "runs backwards"),
            ("Day 08:00..18:00", "no day of the week"),
            ("8:00..18:00", "\"8:00\" is no time"),
            ("08:00..24:01", "\"24:01\" is no time"),
            ("08:60..18:00", "\"08:60\" is no time"),
            ("08:00..08:00", "no time at all"),
        ] {
            let said = text.parse::<Hours>().unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_morning_begins_at_its_hour_on_either_side_of_the_change_to_summer_time() {
        let office = hours("Mon..Fri 08:00..18:00");
        // Friday 27 March and Monday 30 March 2026, 8:00 in Berlin.
        for eight in [1_774_594_800, 1_774_850_400] {
            assert!(!office.contain(shown(eight - MINUTE, 1)) && office.contain(shown(eight, 1)), "{eight}");
        }
        // The hour that is left out is in no window, and the one that comes twice is so twice.
        let night = hours("Sun 02:00..03:00");
        let minutes = |from: u64| (0..1440).filter(|m| night.contain(shown(from + m * MINUTE, 1))).count();
        assert_eq!((minutes(1_774_738_800), minutes(1_792_879_200)), (0, 120));
    }

    proptest! {
        /// Minute by minute through a year with both changes: it holds exactly when the clock on the wall reads so.
        #[test]
        fn they_hold_when_the_clock_on_the_wall_says_so(
            first in 0usize..7, more in 0usize..7, from in 0u32..DAY, until in 1u32..=DAY,
            minute in 0u64..525_600, zone in -11i64..=13,
        ) {
            prop_assume!(from != until);
            let last = (first + more).min(6);
            let clock = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
            let text = format!("{}..{} {}..{}", DAYS[first], DAYS[last], clock(from), clock(until));
            let hours = hours(&text);
            prop_assert_eq!(&self::hours(&hours.to_string()), &hours);
            // From the first of January 2026 on, a Thursday.
            let shown = shown(1_767_225_600 + minute * MINUTE, zone);
            let (day, now) = ((shown.as_secs() / 86_400 + 3) as usize % 7, (shown.as_secs() % 86_400 / 60) as u32);
            let on = |day: usize| (first..=last).contains(&day);
            let expected = match from < until {
                true => on(day) && from <= now && now < until,
                false => (on(day) && from <= now) || (on((day + 6) % 7) && now < until),
            };
            prop_assert_eq!(hours.contain(shown), expected, "{} at {:?}", text, shown);
        }
    }
}
