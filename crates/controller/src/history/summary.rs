//! Sums over the history: how long jobs waited, who keeps the host busy, what outgrew its class. SQLite makes them.

use std::collections::BTreeMap;

use contract::Labels;
use rusqlite::{Connection, params, types::FromSql};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

/// What sums are made of: the last `?4` rows that ended at `?1` or later. `step` is that of a series of steps of `?2`, of
/// which there are `?3`; none if the job started in no step of it. A time that ends before it begins, by the clocks of
/// two machines, is 0.
const SEEN: &str = "
    CREATE TEMP TABLE seen AS
    SELECT class, repo, cause, job_name, peak, started, ended,
           max(0, started - queued) AS waited,
           max(0, ended - started) AS ran,
           CASE WHEN started >= ?1 AND started < ?1 + ?2 * ?3 THEN (started - ?1) / ?2 END AS step
    FROM (SELECT class, repo, cause, ended_ms AS ended,
                 coalesce(document ->> '$.job_name', '') AS job_name,
                 coalesce(document ->> '$.timeline.queued_ms', document ->> '$.timeline.visible_ms') AS queued,
                 document ->> '$.timeline.job_started_ms' AS started,
                 document ->> '$.memory_peak' AS peak
          FROM main.ended WHERE ended_ms >= ?1 ORDER BY ended_ms DESC LIMIT ?4)";

const BUSY: &str = "
    SELECT repo, count(*), coalesce(sum(ran), 0) / 1000 FROM seen WHERE started NOT NULL
    GROUP BY repo ORDER BY 3 DESC, 2 DESC, 1 LIMIT ?1";

/// `?1` = the memory of each class, as an object of JSON.
const SUSPECTS: &str = "
    SELECT repo, job_name, class, sum(killed), sum(near AND NOT killed), max(peak)
    FROM (SELECT seen.*, cause = 'out-of-memory' AS killed, coalesce(peak * 100 >= limits.value * ?2, 0) AS near
          FROM seen LEFT JOIN json_each(?1) AS limits ON limits.key = class)
    WHERE killed OR near
    GROUP BY repo, job_name, class ORDER BY 4 DESC, 5 DESC, 1, 2, 3 LIMIT ?3";

/// For each step of [`SEEN`] with any: for how long containers had a job, all together. A job is cut where steps meet.
const LOAD: &str = "
    WITH RECURSIVE part (step, started, ended) AS (
        SELECT max(0, started - ?1) / ?2, started, ended FROM seen WHERE started NOT NULL
        UNION ALL
        SELECT step + 1, started, ended FROM part WHERE step + 1 < ?3 AND ?1 + (step + 1) * ?2 < ended
    )
    SELECT step, sum(max(0, min(ended, ?1 + (step + 1) * ?2) - max(started, ?1 + step * ?2)))
    FROM part WHERE step < ?3 GROUP BY step";

/// Sums up what ended in the window, or its last `most`.
pub(super) fn summarise(
    connection: &Connection,
    window: Window,
    classes: &[ClassMemory],
    most: u64,
) -> rusqlite::Result<Summary> {
    let step = (window.until_ms.saturating_sub(window.since_ms) / STEPS).max(1);
    connection.execute_batch("PRAGMA temp_store = memory; DROP TABLE IF EXISTS temp.seen")?;
    connection.execute(SEEN, params![window.since_ms, step, STEPS, most])?;
    let count = |text: &str| connection.query_row(text, [], |row| row.get::<_, u64>(0));
    let containers = count("SELECT count(*) FROM seen")?;
    let truncated = connection.query_row(
        "SELECT count(*) > ?2 FROM main.ended WHERE ended_ms >= ?1",
        [window.since_ms, most],
        |row| row.get(0),
    )?;
    let causes = all(connection, "SELECT cause, count(*) FROM seen GROUP BY cause ORDER BY 2 DESC, 1", [], |row| {
        Ok(CauseCount { cause: row.get(0)?, count: row.get(1)? })
    })?;
    let whole =
        |times| Ok::<_, rusqlite::Error>(spreads::<u64>(connection, "0", times)?.remove(&0).unwrap_or_default());
    Ok(Summary {
        window,
        truncated,
        containers,
        jobs: count("SELECT count(started) FROM seen")?,
        waits: whole("waited")?,
        runs: whole("ran")?,
        causes,
        repositories: repositories(connection)?,
        memory: suspects(connection, classes)?,
        series: series(connection, window.since_ms, step)?,
    })
}

fn all<T>(
    connection: &Connection,
    text: &str,
    values: impl rusqlite::Params,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(text)?.query_map(values, read)?.collect()
}

/// The spread of a column for each value of another.
fn spreads<K: FromSql + Ord>(connection: &Connection, of: &str, times: &str) -> rusqlite::Result<BTreeMap<K, Spread>> {
    // The nearest rank: a time that really was.
    let text = format!(
        "SELECT key, total, min(time) FILTER (WHERE 100 * place >= 50 * total),
                min(time) FILTER (WHERE 100 * place >= 95 * total), max(time)
         FROM (SELECT {of} AS key, {times} AS time, row_number() OVER (PARTITION BY {of} ORDER BY {times}) AS place,
                      count(*) OVER (PARTITION BY {of}) AS total
               FROM seen WHERE {of} NOT NULL AND {times} NOT NULL)
         GROUP BY key"
    );
    let read = |row: &rusqlite::Row<'_>| {
        let spread = Spread { count: row.get(1)?, p50_ms: row.get(2)?, p95_ms: row.get(3)?, max_ms: row.get(4)? };
        Ok((row.get(0)?, spread))
    };
    Ok(all(connection, &text, [], read)?.into_iter().collect())
}

fn repositories(connection: &Connection) -> rusqlite::Result<Vec<BusyRepository>> {
    let mut waits = spreads::<String>(connection, "repo", "waited")?;
    all(connection, BUSY, [TOLD], |row| {
        let repo: String = row.get(0)?;
        let waits = waits.remove(&repo).unwrap_or_default();
        Ok(BusyRepository { repo, jobs: row.get(1)?, run_seconds: row.get(2)?, waits })
    })
}

fn suspects(connection: &Connection, classes: &[ClassMemory]) -> rusqlite::Result<Vec<MemorySuspect>> {
    let limits: BTreeMap<&str, Option<u64>> = classes.iter().map(|class| (class.name.as_str(), class.memory)).collect();
    all(connection, SUSPECTS, params![serde_json::json!(limits).to_string(), NEAR, TOLD], |row| {
        let class: String = row.get(2)?;
        let (out_of_memory, memory_peak): (u64, Option<u64>) = (row.get(3)?, row.get(5)?);
        let class_memory = limits.get(class.as_str()).copied().flatten();
        // A limit that was hit hides how much would have been used: twice it is a guess that ends.
        let suggested_memory = match class_memory.or(memory_peak) {
            Some(held) if out_of_memory > 0 => Some(held.saturating_mul(2)),
            _ => memory_peak.map(|peak| peak + peak / 4),
        };
        Ok(MemorySuspect {
            repo: row.get(0)?,
            job_name: row.get(1)?,
            suggested_class: suggested_memory.and_then(|need| fitting(classes, &class, need)),
            class,
            out_of_memory,
            near_limit: row.get(4)?,
            memory_peak,
            class_memory,
            suggested_memory,
        })
    })
}

/// The smallest class besides `class` that has its labels and holds `need` bytes.
fn fitting(classes: &[ClassMemory], class: &str, need: u64) -> Option<String> {
    let now = classes.iter().find(|known| known.name == class)?;
    let labels = |class: &ClassMemory| class.labels.iter().collect::<Labels>();
    let needed = labels(now);
    classes
        .iter()
        .filter(|other| other.name != class && other.memory.is_none_or(|memory| memory >= need))
        .filter(|other| labels(other).have_all(&needed))
        .min_by_key(|other| (other.memory.unwrap_or(u64::MAX), &other.name))
        .map(|other| other.name.clone())
}

fn series(connection: &Connection, since_ms: u64, step: u64) -> rusqlite::Result<Vec<Point>> {
    let pair = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?));
    let waits = spreads::<u64>(connection, "step", "waited")?;
    let busy: BTreeMap<_, _> = all(connection, LOAD, [since_ms, step, STEPS], pair)?.into_iter().collect();
    let ended = "SELECT (ended - ?1) / ?2, count(*) FROM seen GROUP BY 1";
    let ended: BTreeMap<_, _> = all(connection, ended, [since_ms, step], pair)?.into_iter().collect();
    let point = |index: u64| Point {
        at_ms: since_ms + index * step,
        waits: waits.get(&index).copied().unwrap_or_default(),
        load: busy.get(&index).copied().unwrap_or_default() as f64 / step as f64,
        ended: ended.get(&index).copied().unwrap_or_default(),
    };
    Ok((0..STEPS).map(point).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{cause::Cause, history::Store, status::Finished};

    const GIB: u64 = 1 << 30;

    fn row(repo: &str, queued: u64, started: u64, ended: u64) -> Finished {
        serde_json::from_value(serde_json::json!({
            "name": "j0000001", "class": "small", "repo": repo, "job_name": "build", "cause": "succeeded",
            "runner_name": "", "subnet": "10.0.0.0/24", "concluded_ms": ended,
            "timeline": { "queued_ms": queued, "job_started_ms": started, "ended_ms": ended },
        }))
        .unwrap()
    }

    fn class(name: &str, labels: &[&str], gib: u64) -> ClassMemory {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        ClassMemory { name: name.into(), labels, memory: Some(gib * GIB) }
    }

    fn last(most: u64, rows: &[Finished], classes: &[ClassMemory]) -> Summary {
        let store = Store::empty().unwrap();
        for (index, row) in rows.iter().enumerate() {
            store.keep(&Finished { runner_name: index.to_string(), ..row.clone() }).unwrap();
        }
        summarise(store.connection(), Window { since_ms: 0, until_ms: 96_000 }, classes, most).unwrap()
    }

    fn over(rows: &[Finished], classes: &[ClassMemory]) -> Summary {
        last(1000, rows, classes)
    }

    #[test]
    fn of_a_hundred_waits_the_fiftieth_and_the_ninety_fifth_are_told() {
        let rows: Vec<Finished> = (1..=100).rev().map(|wait| row("o/r", 0, wait, 200)).collect();
        assert_eq!(over(&rows, &[]).waits, Spread { count: 100, p50_ms: 50, p95_ms: 95, max_ms: 100 });
        assert_eq!(over(&[], &[]).waits, Spread::default());
        assert_eq!(over(&rows[..1], &[]).waits, Spread { count: 1, p50_ms: 100, p95_ms: 100, max_ms: 100 });
    }

    #[test]
    fn a_container_without_a_job_counts_as_an_ending_and_not_as_a_wait() {
        let mut idle = Finished { cause: Cause::IdleTooLong, ..row("o/r", 0, 0, 10) };
        idle.timeline.job_started_ms = None;
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
        let killed = Finished { cause: Cause::OutOfMemory, memory_peak: Some(2 * GIB), ..row("o/r", 0, 0, 1) };
        let suspect = over(&[killed.clone(), killed, row("o/fine", 0, 0, 1)], &classes).memory;
        assert_eq!(suspect.len(), 1);
        assert_eq!((suspect[0].out_of_memory, suspect[0].suggested_class.as_deref()), (2, Some("big")));
        assert_eq!(suspect[0].suggested_memory, Some(4 * GIB));
    }

    #[test]
    fn a_job_near_its_limit_is_a_suspect_before_it_fails() {
        let near = Finished { memory_peak: Some(GIB * 19 / 10), ..row("o/r", 0, 0, 1) };
        let far = Finished { memory_peak: Some(GIB), job_name: "small".into(), ..row("o/r", 0, 0, 1) };
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

    #[test]
    fn of_more_than_can_be_looked_at_the_last_count_and_it_is_said() {
        let summary = last(2, &[row("o/first", 0, 1, 2), row("o/r", 0, 3, 4), row("O/R", 9, 5, 6)], &[]);
        assert_eq!((summary.truncated, summary.containers), (true, 2));
        assert_eq!(summary.waits, Spread { count: 2, p50_ms: 0, p95_ms: 3, max_ms: 3 });
        let told: Vec<_> = summary.repositories.iter().map(|r| r.repo.as_str()).collect();
        assert_eq!(told, ["O/R", "o/r"], "as they are written");
        assert!(!over(&[row("o/r", 0, 3, 4)], &[]).truncated);
    }
}
