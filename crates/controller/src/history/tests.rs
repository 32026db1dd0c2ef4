//! What is left of the history when a process, a file or a disk comes to its end.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use rusqlite::Connection;
use serde_json::json;

use super::{Filter, History, Store};
use crate::{
    ports::{History as _, PortError},
    status::Finished,
};

const FILE: &str = "history.sqlite";
/// Tells the writer where, and the number of its first entry.
const TASK: &str = "GHA_TEST_HISTORY";
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn entry(number: u64) -> Finished {
    let ended = 1_900_000_000_000 + number;
    serde_json::from_value(json!({
        "name": "j0000001", "class": "small", "repo": "o/r", "job_id": number, "job_name": "build",
        "conclusion": "success", "cause": "succeeded", "runner_name": format!("lab.small.{number}"),
        "subnet": "10.0.0.0/24", "timeline": { "ended_ms": ended }, "concluded_ms": ended,
    }))
    .unwrap()
}

fn keep(history: &History, entry: Finished) -> Result<(), PortError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(history.keep(Arc::new(entry)))
}

/// The names of all entries, of a database that is whole.
fn names(home: &Path) -> BTreeSet<String> {
    let connection = Connection::open(home.join(FILE)).unwrap();
    let whole: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    let mut statement = connection.prepare("SELECT runner_name FROM ended").unwrap();
    let all: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let names: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(names.len(), all.len(), "an entry is there twice");
    names
}

/// This program again, as the process that writes.
fn writer(home: &Path, first: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "history::tests::writes_until_it_is_killed", "--ignored", "--nocapture"]);
    command.env(TASK, format!("{first} {}", home.display())).stdin(Stdio::null());
    command
}

#[test]
#[ignore = "the process that the tests below start and kill"]
fn writes_until_it_is_killed() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (first, home) = task.split_once(' ').unwrap();
    let home = Path::new(home);
    let history = History::start(home, YEAR).unwrap();
    // As after a crash: what was written last is written again.
    for again in Store::open(home).unwrap().find(&Filter { limit: Some(3), ..Filter::default() }).unwrap() {
        keep(&history, again).unwrap();
    }
    let first: u64 = first.parse().unwrap();
    for number in first..first + 100_000 {
        let entry = entry(number);
        let name = entry.runner_name.clone();
        match keep(&history, entry) {
            Ok(()) => println!("kept {name}"),
            Err(error) => return println!("refused {error}"),
        }
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn whenever_the_writer_is_killed_what_it_said_is_written_is_there_once() {
    let home = tempfile::tempdir().unwrap();
    let mut kept = BTreeSet::new();
    for round in 0..50 {
        let mut child = writer(home.path(), round * 100_000).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = thread::spawn(move || -> Vec<String> { lines.map_while(Result::ok).collect() });
        // From before it has opened the database to long after.
        thread::sleep(Duration::from_micros(round * 7919 % 120 * 1000));
        child.kill().unwrap();
        child.wait().unwrap();
        let said = reader.join().unwrap();
        kept.extend(said.iter().filter_map(|line| line.strip_prefix("kept ")).map(str::to_owned));
        if home.path().join(FILE).exists() {
            Store::open(home.path()).unwrap();
            let there = names(home.path());
            let lost: Vec<_> = kept.difference(&there).collect();
            assert!(lost.is_empty(), "round {round}: lost {lost:?}");
            // At most the one it could not speak of any more, each time.
            assert!(there.len() as u64 <= kept.len() as u64 + round + 1, "{} of {}", there.len(), kept.len());
        }
    }
    assert!(kept.len() > 50, "only {} entries were written", kept.len());
    assert!(!home.path().join("history.unreadable").exists(), "it was set aside");
}

#[test]
fn a_log_that_ends_anywhere_costs_only_what_was_behind_its_end() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    for number in 0..20 {
        store.keep(&entry(number)).unwrap();
    }
    // As the disk has it while the process runs: the last process that closes the database would empty the log.
    let (file, log) =
        (fs::read(home.path().join(FILE)).unwrap(), fs::read(home.path().join("history.sqlite-wal")).unwrap());
    let mut last = 0;
    for part in 0..=60 {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join(FILE), &file).unwrap();
        fs::write(copy.path().join("history.sqlite-wal"), &log[..log.len() * part / 60]).unwrap();
        Store::open(copy.path()).unwrap();
        let there = names(copy.path());
        let first: BTreeSet<String> = (0..there.len() as u64).map(|number| entry(number).runner_name).collect();
        assert_eq!(there, first, "not the first ones");
        assert!(there.len() >= last, "a longer log has fewer entries");
        last = there.len();
    }
    assert_eq!(last, 20);
}

#[test]
fn a_file_that_is_cut_or_damaged_anywhere_is_set_aside_and_entries_are_written_again() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    for number in 0..200 {
        store.keep(&entry(number)).unwrap();
    }
    drop(store);
    let whole = fs::read(home.path().join(FILE)).unwrap();
    let cut = |at: usize| whole[..at].to_vec();
    let overwritten = |from: usize| {
        let mut file = whole.clone();
        file[from..].fill(0xa5);
        file
    };
    let half = whole.len() / 2;
    for (what, file) in [
        ("all but its head", cut(100)),
        ("half a page", cut(2048)),
        ("one page", cut(4096)),
        ("half of it", cut(half)),
        ("not the last bytes", cut(whole.len() - 100)),
        ("its head written over", overwritten(0)),
        ("all but its first page written over", overwritten(4096)),
        ("half of it written over", overwritten(half)),
    ] {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join(FILE), &file).unwrap();
        let history = History::start(copy.path(), YEAR).unwrap();
        // An entry is tried five times (settle.rs).
        let tries: Vec<_> = (0..5).map(|_| keep(&history, entry(1000))).collect();
        assert!(tries.last().unwrap().is_ok(), "{what}: {tries:?}");
        let there = names(copy.path());
        assert!(there.contains("lab.small.1000"), "{what}");
        let aside = copy.path().join("history.unreadable").exists();
        assert!(aside || there.len() == 201, "{what}: what there was is lost");
    }
}

#[test]
fn a_disk_that_is_full_is_told_and_what_was_written_stays() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: a small disk is root's to mount");
    }
    let home = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    // Twice until there is no room; the second time there is some more.
    let script = r#"
        mount -t tmpfs -o size=600k tmpfs "$DISK"
        head -c 200k /dev/zero >"$DISK/filler"
        "$@"
        rm "$DISK/filler"
        GHA_TEST_HISTORY="1000000 $DISK" "$@"
        cp "$DISK"/history.* "$OUT""#;
    let program = writer(home.path(), 0);
    let mut command = Command::new("timeout");
    command.args(["60", "unshare", "--mount", "--propagation=private", "sh", "-euc", script, "sh"]);
    command.arg(program.get_program()).args(program.get_args());
    command.env(TASK, format!("0 {}", home.path().display())).env("DISK", home.path()).env("OUT", out.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    let refused: Vec<&str> = said.lines().filter(|line| line.starts_with("refused ")).collect();
    assert!(refused.len() == 2 && refused.iter().all(|line| line.contains("full")), "{refused:?}");
    let kept: BTreeSet<String> =
        said.lines().filter_map(|line| line.strip_prefix("kept ")).map(str::to_owned).collect();
    assert!(kept.contains("lab.small.0") && kept.contains("lab.small.1000000"), "{kept:?}");
    let there = names(out.path());
    assert!(kept.is_subset(&there), "lost: {:?}", kept.difference(&there));
    assert!(!out.path().join("history.unreadable").exists(), "it was set aside");
}
