//! Sums over the history: how long jobs waited, who keeps the host busy, what outgrew its class. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Row;

/// Points of a series.
pub const STEPS: u64 = 96;
/// Repositories and suspects told about.
const TOLD: usize = 20;
/// Part of a class's memory from which a job is suspected of not fitting, in percent.
const NEAR: u64 = 90;

/// From when to when, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Window {
    /// From.
    pub since_ms: u64,
    /// To.
    pub until_ms: u64,
}

/// Times of many jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// Half of them took at most so long.
    pub p50_ms: u64,
    /// 95 of 100 took at most so long.
    pub p95_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

/// How many containers ended for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CauseCount {
    /// The reason, as documents have it.
    pub cause: String,
    /// How many.
    pub count: u64,
}

/// A repository by what it used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BusyRepository {
    /// `owner/repository`.
    pub repo: String,
    /// Jobs that ran.
    pub jobs: u64,
    /// How long they ran, all together, in seconds.
    pub run_seconds: u64,
    /// How long they waited.
    pub waits: Spread,
}

/// A job that outgrew its class, or nearly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemorySuspect {
    /// `owner/repository`.
    pub repo: String,
    /// The job's display name.
    pub job_name: String,
    /// The class it ran in.
    pub class: String,
    /// How often it was ended for its memory.
    pub out_of_memory: u64,
    /// How often it came near the limit.
    pub near_limit: u64,
    /// The most it used, in bytes.
    pub memory_peak: Option<u64>,
    /// What its class allows, in bytes.
    pub class_memory: Option<u64>,
    /// The smallest class with all labels of the present one that would hold it; none = there is none.
    pub suggested_class: Option<String>,
    /// Memory that would hold it, in bytes.
    pub suggested_memory: Option<u64>,
}

/// A step of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Point {
    /// When the step begins.
    pub at_ms: u64,
    /// Waits of the jobs that started in it.
    pub waits: Spread,
    /// Containers with a job, on average.
    pub load: f64,
    /// Containers that ended in it.
    pub ended: u64,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// What it is about.
    pub window: Window,
    /// Not everything could be looked at: only the later part of the window counts.
    pub truncated: bool,
    /// Containers that ended.
    pub containers: u64,
    /// Of these, those whose runner had a job.
    pub jobs: u64,
    /// From queued to started.
    pub waits: Spread,
    /// From started to the end.
    pub runs: Spread,
    /// Endings by their cause, the most frequent first.
    pub causes: Vec<CauseCount>,
    /// The busiest first.
    pub repositories: Vec<BusyRepository>,
    /// Jobs that outgrew their class, or nearly, the worst first.
    pub memory: Vec<MemorySuspect>,
    /// Waits and load, in steps of equal length.
    pub series: Vec<Point>,
}

/// A class, as far as memory goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassMemory {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// What a container of it may use, in bytes; none = no limit.
    pub memory: Option<u64>,
}

/// Sums up. `rows` = what ended in the window, in any order.
pub fn summarise(rows: &[Row], truncated: bool, window: Window, classes: &[ClassMemory]) -> Summary {
    let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows {
        *causes.entry(&row.cause).or_default() += 1;
    }
    let mut causes: Vec<_> =
        causes.into_iter().map(|(cause, count)| CauseCount { cause: cause.to_owned(), count }).collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.count));
    Summary {
        window,
        truncated,
        containers: rows.len() as u64,
        jobs: rows.iter().filter(|row| row.started_ms.is_some()).count() as u64,
        waits: spread(rows.iter().filter_map(Row::waited_ms)),
        runs: spread(rows.iter().filter_map(Row::ran_ms)),
        causes,
        repositories: repositories(rows),
        memory: suspects(rows, classes),
        series: series(rows, window),
    }
}

fn spread(times: impl Iterator<Item = u64>) -> Spread {
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    // The nearest rank: a time that really was.
    let rank = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Spread {
        count: times.len() as u64,
        p50_ms: rank(50).unwrap_or_default(),
        p95_ms: rank(95).unwrap_or_default(),
        max_ms: times.last().copied().unwrap_or_default(),
    }
}

fn repositories(rows: &[Row]) -> Vec<BusyRepository> {
    let mut by_repo: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.started_ms.is_some()) {
        by_repo.entry(&row.repo).or_default().push(row);
    }
    let mut all: Vec<BusyRepository> = by_repo
        .into_iter()
        .map(|(repo, rows)| BusyRepository {
            repo: repo.to_owned(),
            jobs: rows.len() as u64,
            run_seconds: rows.iter().filter_map(|row| row.ran_ms()).sum::<u64>() / 1000,
            waits: spread(rows.iter().filter_map(|row| row.waited_ms())),
        })
        .collect();
    all.sort_by(|a, b| (b.run_seconds, b.jobs, &a.repo).cmp(&(a.run_seconds, a.jobs, &b.repo)));
    all.truncate(TOLD);
    all
}

fn suspects(rows: &[Row], classes: &[ClassMemory]) -> Vec<MemorySuspect> {
    let limit = |class: &str| classes.iter().find(|known| known.name == class).and_then(|known| known.memory);
    let mut by_job: BTreeMap<(&str, &str, &str), MemorySuspect> = BTreeMap::new();
    for row in rows {
        let class_memory = limit(&row.class);
        let killed = row.cause == "out-of-memory";
        let near = class_memory
            .zip(row.memory_peak)
            .is_some_and(|(limit, peak)| u128::from(peak) * 100 >= u128::from(limit) * u128::from(NEAR));
        if !killed && !near {
            continue;
        }
        let suspect = by_job.entry((&row.repo, &row.job_name, &row.class)).or_insert_with(|| MemorySuspect {
            repo: row.repo.clone(),
            job_name: row.job_name.clone(),
            class: row.class.clone(),
            out_of_memory: 0,
            near_limit: 0,
            memory_peak: None,
            class_memory,
            suggested_class: None,
            suggested_memory: None,
        });
        suspect.out_of_memory += u64::from(killed);
        suspect.near_limit += u64::from(near && !killed);
        suspect.memory_peak = suspect.memory_peak.max(row.memory_peak);
    }
    let mut all: Vec<MemorySuspect> = by_job.into_values().collect();
    for suspect in &mut all {
        // A limit that was hit hides how much would have been used: twice it is a guess that ends.
        let need = match suspect.class_memory.or(suspect.memory_peak) {
            Some(held) if suspect.out_of_memory > 0 => Some(held.saturating_mul(2)),
            _ => suspect.memory_peak.map(|peak| peak + peak / 4),
        };
        suspect.suggested_memory = need;
        suspect.suggested_class = need.and_then(|need| fitting(classes, &suspect.class, need));
    }
    all.sort_by(|a, b| (b.out_of_memory, b.near_limit, &a.repo).cmp(&(a.out_of_memory, a.near_limit, &b.repo)));
    all.truncate(TOLD);
    all
}

/// The smallest class besides `class` that has its labels and holds `need` bytes.
fn fitting(classes: &[ClassMemory], class: &str, need: u64) -> Option<String> {
    let now = classes.iter().find(|known| known.name == class)?;
    let has = |other: &ClassMemory, label: &String| other.labels.iter().any(|own| own.eq_ignore_ascii_case(label));
    classes
        .iter()
        .filter(|other| other.name != class && other.memory.is_none_or(|memory| memory >= need))
        .filter(|other| now.labels.iter().all(|label| has(other, label)))
        .min_by_key(|other| (other.memory.unwrap_or(u64::MAX), &other.name))
        .map(|other| other.name.clone())
}

fn series(rows: &[Row], window: Window) -> Vec<Point> {
    let step = (window.until_ms.saturating_sub(window.since_ms) / STEPS).max(1);
    (0..STEPS)
        .map(|index| {
            let (from, to) = (window.since_ms + index * step, window.since_ms + (index + 1) * step);
            let within = |at: u64| (from..to).contains(&at);
            let busy: u64 = rows
                .iter()
                .filter_map(|row| Some((row.started_ms?, row.ended_ms)))
                .map(|(started, ended)| ended.min(to).saturating_sub(started.max(from)))
                .sum();
            Point {
                at_ms: from,
                waits: spread(rows.iter().filter(|row| row.started_ms.is_some_and(within)).filter_map(Row::waited_ms)),
                load: busy as f64 / step as f64,
                ended: rows.iter().filter(|row| within(row.ended_ms)).count() as u64,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GIB: u64 = 1 << 30;

    fn row(repo: &str, queued: u64, started: u64, ended: u64) -> Row {
        Row {
            class: "small".into(),
            repo: repo.into(),
            cause: "succeeded".into(),
            job_name: "build".into(),
            queued_ms: Some(queued),
            started_ms: Some(started),
            ended_ms: ended,
            memory_peak: None,
        }
    }

    fn class(name: &str, labels: &[&str], gib: u64) -> ClassMemory {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        ClassMemory { name: name.into(), labels, memory: Some(gib * GIB) }
    }

    fn over(rows: &[Row], classes: &[ClassMemory]) -> Summary {
        summarise(rows, false, Window { since_ms: 0, until_ms: 96_000 }, classes)
    }

    #[test]
    fn of_a_hundred_waits_the_fiftieth_and_the_ninety_fifth_are_told() {
        let rows: Vec<Row> = (1..=100).rev().map(|wait| row("o/r", 0, wait, 200)).collect();
        assert_eq!(over(&rows, &[]).waits, Spread { count: 100, p50_ms: 50, p95_ms: 95, max_ms: 100 });
        assert_eq!(over(&[], &[]).waits, Spread::default());
        assert_eq!(over(&rows[..1], &[]).waits, Spread { count: 1, p50_ms: 100, p95_ms: 100, max_ms: 100 });
    }

    #[test]
    fn a_container_without_a_job_counts_as_an_ending_and_not_as_a_wait() {
        let idle = Row { started_ms: None, cause: "idle-too-long".into(), ..row("o/r", 0, 0, 10) };
        let summary = over(&[idle, row("o/r", 0, 5, 10)], &[]);
        assert_eq!((summary.containers, summary.jobs, summary.waits.count), (2, 1, 1));
    }

    #[test]
    fn the_repository_that_runs_longest_is_the_busiest() {
        let summary = over(&[row("o/many", 0, 0, 1000), row("o/many", 0, 0, 1000), row("o/long", 0, 0, 9000)], &[]);
        let told: Vec<_> = summary.repositories.iter().map(|r| (r.repo.as_str(), r.jobs, r.run_seconds)).collect();
        assert_eq!(told, [("o/long", 1, 9), ("o/many", 2, 2)]);
    }

    #[test]
    fn a_job_that_ran_out_of_memory_is_shown_the_smallest_class_that_would_hold_it() {
        let classes = [
            class("small", &["linux"], 2),
            class("other", &["mac"], 4),
            class("huge", &["linux", "huge"], 64),
            class("big", &["Linux", "big"], 8),
        ];
        let killed = Row { cause: "out-of-memory".into(), memory_peak: Some(2 * GIB), ..row("o/r", 0, 0, 1) };
        let suspect = over(&[killed.clone(), killed, row("o/fine", 0, 0, 1)], &classes).memory;
        assert_eq!(suspect.len(), 1);
        assert_eq!((suspect[0].out_of_memory, suspect[0].suggested_class.as_deref()), (2, Some("big")));
        assert_eq!(suspect[0].suggested_memory, Some(4 * GIB));
    }

    #[test]
    fn a_job_near_its_limit_is_a_suspect_before_it_fails() {
        let near = Row { memory_peak: Some(GIB * 19 / 10), ..row("o/r", 0, 0, 1) };
        let far = Row { memory_peak: Some(GIB), job_name: "small".into(), ..row("o/r", 0, 0, 1) };
        let suspects = over(&[near, far], &[class("small", &["linux"], 2)]).memory;
        assert_eq!(suspects.len(), 1);
        assert_eq!((suspects[0].out_of_memory, suspects[0].near_limit), (0, 1));
        assert_eq!(suspects[0].suggested_class, None, "no other class has its labels");
    }

    #[test]
    fn load_is_how_many_ran_on_average_in_each_step() {
        // Steps of a second each: one job for half of the first, two for the whole of the second.
        let summary = over(&[row("o/r", 0, 500, 2000), row("o/r", 0, 1000, 2000)], &[]);
        let loads: Vec<f64> = summary.series.iter().take(3).map(|point| point.load).collect();
        assert_eq!(loads, [0.5, 2.0, 0.0]);
        assert_eq!(summary.series.len() as u64, STEPS);
        assert_eq!((summary.series[0].waits.count, summary.series[2].ended), (1, 2));
    }
}
