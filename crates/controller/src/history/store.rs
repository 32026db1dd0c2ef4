//! The database: one table, written by one connection, read by others meanwhile (write-ahead log).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rmcp::schemars;
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, params_from_iter};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::summary::{self, ClassMemory, Summary, Window};
use crate::{cause::Cause, ports::PortError, status::Finished};

/// Its file, in the state directory.
const FILE: &str = "history.sqlite";
/// Longest wait for another process that has the database (a backup, a curious person).
const BUSY: Duration = Duration::from_secs(2);
/// Most entries one query answers.
pub const MOST: usize = 1000;
/// Most rows a sum is made of: a quarter of a year at two thousand jobs a day.
const ROWS: u64 = 200_000;
/// Version of the table below; a database of a later one is not touched.
const VERSION: i64 = 1;
const TABLE: &str = "
    CREATE TABLE ended (
        runner_name TEXT PRIMARY KEY,
        container TEXT NOT NULL,
        class TEXT NOT NULL,
        repo TEXT NOT NULL COLLATE NOCASE,
        cause TEXT NOT NULL,
        job_id INTEGER,
        ended_ms INTEGER NOT NULL,
        document TEXT NOT NULL
    ) STRICT;
    CREATE INDEX ended_by_time ON ended (ended_ms);
    CREATE INDEX ended_by_repo ON ended (repo, ended_ms);
    CREATE INDEX ended_by_job ON ended (job_id);
    CREATE INDEX ended_by_container ON ended (container);
    PRAGMA user_version = 1;
";

/// Which entries are wanted; everything `None` = all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// `owner/repository`, in any case.
    pub repo: Option<String>,
    /// A class.
    pub class: Option<String>,
    /// A cause, as it is written in documents: `out-of-memory`.
    pub cause: Option<Cause>,
    /// The forge's id of a job.
    pub job_id: Option<u64>,
    /// A container's name.
    pub container: Option<String>,
    /// Ended at this time or later, in milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
    /// Ended before this time; the last entry's end of one answer, for the next.
    pub before_ms: Option<u64>,
    /// Most entries, at most 1000 [default: 100].
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

impl Filter {
    /// As a query of `/api/v1/history`.
    pub fn query(&self) -> String {
        // Numbers, texts and a word: nothing that a query cannot have.
        serde_urlencoded::to_string(self).unwrap_or_default()
    }

    /// A number that no entry has: the database's are signed.
    pub fn has_number_out_of_range(&self) -> bool {
        [self.job_id, self.since_ms, self.before_ms].into_iter().flatten().any(|number| i64::try_from(number).is_err())
    }
}

/// An open database.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// For writing. Made if it is not there; one that is damaged is set aside, and a new one begun.
    pub fn open(state_dir: &Path) -> Result<Self, PortError> {
        Self::open_or_begin(state_dir, Self::open_at)
    }

    /// The same after a failure: looked through, because damage in its middle does not show when it is opened.
    pub fn open_suspect(state_dir: &Path) -> Result<Self, PortError> {
        Self::open_or_begin(state_dir, |path| {
            let store = Self::open_at(path)?;
            let found: String = store.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if found == "ok" { Ok(store) } else { Err(damaged(found)) }
        })
    }

    fn open_or_begin(state_dir: &Path, open: impl Fn(&Path) -> rusqlite::Result<Self>) -> Result<Self, PortError> {
        let path = state_dir.join(FILE);
        match open(&path) {
            Err(error) if is_damaged(&error) => {
                let aside = path.with_extension("unreadable");
                warn!(path = %path.display(), %error, aside = %aside.display(), "the history is damaged; set aside");
                set_aside(&path, &aside).map_err(|error| failed(&path, &error))?;
                Self::open_at(&path)
            }
            other => other,
        }
        .map_err(|error| failed(&path, &error))
        .and_then(Self::of_this_version)
    }

    fn of_this_version(self) -> Result<Self, PortError> {
        match self.version().map_err(|error| said(&error))? {
            later if later > VERSION => {
                Err(PortError(format!("the database is of a later version ({later}) of this program")))
            }
            _ => Ok(self),
        }
    }

    fn version(&self) -> rusqlite::Result<i64> {
        self.connection.pragma_query_value(None, "user_version", |row| row.get(0))
    }

    fn open_at(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(BUSY)?;
        let mut store = Self { connection };
        let version = store.version()?;
        if version > VERSION {
            return Ok(store);
        }
        store.connection.pragma_update(None, "journal_mode", "wal")?;
        // What is committed survives a power cut.
        store.connection.pragma_update(None, "synchronous", "full")?;
        if version == 0 {
            let transaction = store.connection.transaction()?;
            transaction.execute_batch(TABLE)?;
            transaction.commit()?;
        }
        Ok(store)
    }

    /// For reading alone. Without a file, or with one that a controller is about to begin, it is [`Store::empty`].
    pub fn open_to_read(state_dir: &Path) -> Result<Self, PortError> {
        let path = state_dir.join(FILE);
        if !path.exists() {
            return Self::empty();
        }
        let open = || {
            let connection =
                Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(BUSY)?;
            Ok(Self { connection })
        };
        let store = open().map_err(|error: rusqlite::Error| failed(&path, &error))?;
        // Its table comes a moment after the file, by one transaction with the version.
        if store.version().map_err(|error| failed(&path, &error))? == 0 {
            Self::empty()
        } else {
            store.of_this_version()
        }
    }

    /// One with no entries, in memory.
    pub(super) fn empty() -> Result<Self, PortError> {
        let connection = Connection::open_in_memory().map_err(|error| said(&error))?;
        connection.execute_batch(TABLE).map_err(|error| said(&error))?;
        Ok(Self { connection })
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Writes an entry, durably. One that is there already stays as it is.
    pub fn keep(&self, ended: &Finished) -> Result<(), PortError> {
        let document = serde_json::to_string(ended).map_err(|error| PortError(error.to_string()))?;
        self.connection
            .execute(
                "INSERT INTO ended (runner_name, container, class, repo, cause, job_id, ended_ms, document)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (runner_name) DO NOTHING",
                (
                    &ended.runner_name,
                    &ended.name,
                    &ended.class,
                    &ended.repo,
                    ended.cause.word(),
                    ended.job_id.map(signed),
                    signed(ended.timeline.ended_ms.unwrap_or(ended.concluded_ms)),
                    &document,
                ),
            )
            .map(drop)
            .map_err(|error| said(&error))
    }

    /// Forgets what ended before this time.
    pub fn prune(&self, before_ms: u64) -> Result<usize, PortError> {
        self.connection
            .execute("DELETE FROM ended WHERE ended_ms < ?1", [signed(before_ms)])
            .map_err(|error| said(&error))
    }

    /// The entries that pass, the last ended first.
    pub fn find(&self, filter: &Filter) -> Result<Vec<Finished>, PortError> {
        let (conditions, values) = conditions(filter);
        let limit = filter.limit.map_or(100, |limit| limit as usize).clamp(1, MOST);
        let text = format!("SELECT document FROM ended{conditions} ORDER BY ended_ms DESC, runner_name LIMIT {limit}");
        let read = || {
            let mut statement = self.connection.prepare(&text)?;
            let rows = statement.query_map(params_from_iter(values.iter()), |row| row.get::<_, String>(0))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let documents = read().map_err(|error| said(&error))?;
        documents.iter().map(|text| serde_json::from_str(text).map_err(|error| PortError(error.to_string()))).collect()
    }

    /// Sums up what ended in the window.
    pub fn summarise(&self, window: Window, classes: &[ClassMemory]) -> Result<Summary, PortError> {
        summary::summarise(&self.connection, window, classes, ROWS).map_err(|error| said(&error))
    }
}

fn conditions(filter: &Filter) -> (String, Vec<Box<dyn ToSql>>) {
    let mut parts = Vec::new();
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut add = |condition: &str, value: Option<Box<dyn ToSql>>| {
        if let Some(value) = value {
            values.push(value);
            parts.push(format!("{condition} ?{}", values.len()));
        }
    };
    let text = |text: &Option<String>| text.clone().map(|text| Box::new(text) as Box<dyn ToSql>);
    let number = |number: Option<u64>| number.map(|number| Box::new(signed(number)) as Box<dyn ToSql>);
    add("repo =", text(&filter.repo));
    add("class =", text(&filter.class));
    add("cause =", filter.cause.map(|cause| Box::new(cause.word()) as Box<dyn ToSql>));
    add("job_id =", number(filter.job_id));
    add("container =", text(&filter.container));
    add("ended_ms >=", number(filter.since_ms));
    add("ended_ms <", number(filter.before_ms));
    let text = if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) };
    (text, values)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

fn damaged(found: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(found))
}

/// What belongs to the file by its name goes with it: a log of another database would damage the next.
fn set_aside(path: &Path, aside: &Path) -> io::Result<()> {
    fs::rename(path, aside)?;
    for end in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> PortError {
    PortError(format!("{}: {error}", path.display()))
}

fn said(error: &rusqlite::Error) -> PortError {
    PortError(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::Timeline;

    fn ended(runner: &str, repo: &str, ended_ms: u64) -> Finished {
        Finished {
            name: "j0000001".into(),
            class: "small".into(),
            repo: repo.into(),
            scope: repo.into(),
            job_id: Some(ended_ms),
            job_name: "build".into(),
            conclusion: Some("success".into()),
            cause: Cause::Succeeded,
            reason: None,
            runner_name: runner.into(),
            subnet: "10.0.0.0/24".into(),
            service_result: Some("success".into()),
            exit_status: Some("0".into()),
            memory_peak: Some(1 << 20),
            cpu_us: Some(5),
            timeline: Timeline {
                queued_ms: Some(ended_ms - 50),
                job_started_ms: Some(ended_ms - 30),
                ended_ms: Some(ended_ms),
                ..Timeline::default()
            },
            concluded_ms: ended_ms + 1,
        }
    }

    fn count(store: &Store) -> usize {
        store.find(&Filter::default()).unwrap().len()
    }

    #[test]
    fn an_entry_comes_back_whole_and_once_however_often_it_is_written() {
        let home = tempfile::tempdir().unwrap();
        let entry = ended("lab.small.1", "o/r", 100);
        for _ in 0..2 {
            Store::open(home.path()).unwrap().keep(&entry).unwrap();
        }
        // Found again after a crash, it knows less than the first time.
        let later = Finished { memory_peak: None, ..entry.clone() };
        Store::open(home.path()).unwrap().keep(&later).unwrap();
        let reader = Store::open_to_read(home.path()).unwrap();
        assert_eq!(reader.find(&Filter::default()).unwrap(), [entry]);
    }

    #[test]
    fn filters_and_pages_find_what_they_say() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        for (runner, repo, at) in [("a", "o/r", 100), ("b", "o/other", 200), ("c", "O/R", 300)] {
            store.keep(&ended(runner, repo, at)).unwrap();
        }
        store.keep(&Finished { cause: Cause::OutOfMemory, class: "big".into(), ..ended("d", "o/x", 400) }).unwrap();
        let found = |filter: Filter| -> Vec<String> {
            store.find(&filter).unwrap().into_iter().map(|entry| entry.runner_name).collect()
        };
        assert_eq!(found(Filter::default()), ["d", "c", "b", "a"]);
        assert_eq!(found(Filter { repo: Some("o/R".into()), ..Filter::default() }), ["c", "a"]);
        assert_eq!(found(Filter { cause: Some(Cause::OutOfMemory), ..Filter::default() }), ["d"]);
        assert_eq!(found(Filter { class: Some("small".into()), limit: Some(1), ..Filter::default() }), ["c"]);
        assert_eq!(found(Filter { before_ms: Some(300), since_ms: Some(200), ..Filter::default() }), ["b"]);
        assert_eq!(found(Filter { job_id: Some(u64::MAX), ..Filter::default() }), [""; 0]);
        assert_eq!(found(Filter { container: Some("' OR 1=1 --".into()), ..Filter::default() }), [""; 0]);
    }

    #[test]
    fn sums_are_made_of_what_was_written_also_where_nothing_was() {
        let home = tempfile::tempdir().unwrap();
        let sums = || {
            let reader = Store::open_to_read(home.path()).unwrap();
            reader.summarise(Window { since_ms: 150, until_ms: 300 }, &[]).unwrap()
        };
        assert_eq!((sums().containers, sums().series.len() as u64), (0, summary::STEPS));
        let store = Store::open(home.path()).unwrap();
        store.keep(&ended("a", "o/r", 100)).unwrap();
        store.keep(&ended("b", "o/r", 200)).unwrap();
        let sums = sums();
        assert_eq!((sums.containers, sums.jobs, sums.waits.max_ms, sums.runs.max_ms), (1, 1, 20, 30));
    }

    #[test]
    fn what_is_too_old_goes() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        store.keep(&ended("a", "o/r", 100)).unwrap();
        store.keep(&ended("b", "o/r", 200)).unwrap();
        assert_eq!((store.prune(200).unwrap(), count(&store)), (1, 1));
    }

    #[test]
    fn a_damaged_database_is_set_aside_and_a_new_one_begun() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE), [b'x'; 8192]).unwrap();
        let store = Store::open(home.path()).unwrap();
        store.keep(&ended("a", "o/r", 100)).unwrap();
        assert_eq!(count(&store), 1);
        assert!(home.path().join("history.unreadable").exists(), "what there was is lost");
    }

    #[test]
    fn a_locked_database_is_an_error_and_nothing_is_lost_by_it() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let other = Store::open(home.path()).unwrap();
        other.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let error = store.keep(&ended("a", "o/r", 100)).unwrap_err();
        assert!(error.to_string().contains("locked"), "{error}");
        other.connection.execute_batch("ROLLBACK").unwrap();
        store.keep(&ended("a", "o/r", 100)).unwrap();
        assert_eq!(count(&store), 1);
    }

    #[test]
    fn a_later_programs_database_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        Store::open(home.path()).unwrap().connection.pragma_update(None, "user_version", 9).unwrap();
        for opened in [Store::open(home.path()), Store::open_to_read(home.path())] {
            let error = opened.err().unwrap();
            assert!(error.to_string().contains("later version"), "{error}");
        }
    }

    #[test]
    fn a_database_that_a_controller_is_about_to_begin_is_read_as_empty() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE);
        for begun in ["", "PRAGMA journal_mode = wal"] {
            Connection::open(&path).unwrap().execute_batch(begun).unwrap();
            assert_eq!(count(&Store::open_to_read(home.path()).unwrap()), 0, "{begun}");
        }
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        store.connection.pragma_update(None, "max_page_count", 8).unwrap();
        let write = |index: u64| store.keep(&ended(&format!("{index}"), "o/r", 100 + index));
        let error = (0..10_000).find_map(|index| write(index).err()).unwrap();
        assert!(error.to_string().contains("full"), "{error}");
    }
}
