//! Carries a job's output out of the container while the job runs (docs/github.md#job-output).
//!
//! The runner does not print it: it writes page files, `_diag/pages/<guid>_<guid>_<n>.log`, and deletes each when it
//! is uploaded. The second guid is the record the page belongs to: a step, or the job as a whole, whose record repeats
//! the lines of all its steps and is not shown. Files stay open here until they are gone from the directory, so a
//! deleted page is still read to its end.
//!
//! The directory and the files are the job user's, and the job runs as the same user: only regular files are opened,
//! no link is followed, and how much is read and shown is bounded.

use std::{
    collections::HashMap,
    ffi::CStr,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::{FileType, Mode, OFlags, ResolveFlags, inotify},
    io::Errno,
};

use crate::{lines::Lines, output::Output};

/// Most bytes read of one job's pages; the rest is left out.
const MOST_BYTES: u64 = 64 << 20;
/// Most pages open at once.
const MOST_PAGES: usize = 128;
/// Bytes a second, over time, and how many may come at once.
const PACE: u64 = 4 << 20;
const BURST: u64 = 8 << 20;

/// The thread that follows a directory of pages.
#[derive(Debug)]
pub struct Following {
    thread: thread::JoinHandle<()>,
    /// The thread sees it close.
    stop: UnixStream,
}

/// Starts to follow `directory`.
pub fn follow(directory: OwnedFd, output: Output) -> io::Result<Following> {
    let (stop, stopped) = UnixStream::pair()?;
    let mut follower = Follower::new(directory, output, stopped)?;
    let thread = thread::spawn(move || {
        if let Err(error) = follower.run() {
            follower.output.print_blocking(&format!("guest: the rest of the job's output is not shown: {error}"));
        }
    });
    Ok(Following { thread, stop })
}

impl Following {
    /// Reads what is there to its end, for at most `patience`.
    pub async fn finish(self, patience: Duration) {
        drop(self.stop);
        let read = tokio::task::spawn_blocking(move || self.thread.join());
        let _ = tokio::time::timeout(patience, read).await;
    }
}

struct Follower {
    directory: OwnedFd,
    notify: OwnedFd,
    stopped: UnixStream,
    pages: HashMap<String, Page>,
    records: Records,
    budget: Budget,
    output: Output,
}

struct Page {
    file: OwnedFd,
    lines: Lines,
}

impl Follower {
    fn new(directory: OwnedFd, output: Output, stopped: UnixStream) -> io::Result<Self> {
        let notify = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let changes = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&notify, format!("/proc/self/fd/{}", directory.as_raw_fd()), changes)?;
        let pages = HashMap::new();
        Ok(Self { directory, notify, stopped, pages, records: Records::default(), budget: Budget::new(), output })
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            let mut ready = [PollFd::new(&self.notify, PollFlags::IN), PollFd::new(&self.stopped, PollFlags::IN)];
            match rustix::event::poll(&mut ready, None) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            let is_over = !ready[1].revents().is_empty();
            self.catch_up()?;
            if is_over {
                return self.close_all();
            }
        }
    }

    /// Everything the directory tells of.
    fn catch_up(&mut self) -> io::Result<()> {
        loop {
            let changes = match changes(&self.notify) {
                Err(Errno::WOULDBLOCK) => return Ok(()),
                changes => changes?,
            };
            // First open them all, because some may be gone the sooner.
            changes.iter().for_each(|(name, _)| self.open(name));
            for (name, deleted) in changes {
                self.read(&name)?;
                if deleted {
                    self.close(&name);
                }
            }
        }
    }

    fn close_all(&mut self) -> io::Result<()> {
        let names: Vec<String> = self.pages.keys().cloned().collect();
        for name in names {
            self.read(&name)?;
            self.close(&name);
        }
        Ok(())
    }

    /// Opens a page that is not open yet, if it is a page at all.
    fn open(&mut self, name: &str) {
        if self.pages.contains_key(name) || self.pages.len() >= MOST_PAGES || !is_page(name) {
            return;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&self.directory, name, flags, Mode::empty(), within) {
            Ok(file) => {
                let regular =
                    rustix::fs::fstat(&file).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
                if regular {
                    self.records.appeared(record_of(name));
                    self.pages.insert(name.to_owned(), Page { file, lines: Lines::default() });
                }
            }
            // Gone already: what appears next is not the first all the same.
            Err(Errno::NOENT) => self.records.appeared(record_of(name)),
            Err(_) => {}
        }
    }

    /// Reads what is new in a page.
    fn read(&mut self, name: &str) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        loop {
            let Some(page) = self.pages.get_mut(name) else { return Ok(()) };
            let read = rustix::io::read(&page.file, &mut piece)?;
            if read == 0 {
                return Ok(());
            }
            let pause = self
                .budget
                .take(read as u64)
                .ok_or_else(|| io::Error::other(format!("it is longer than {} MiB", MOST_BYTES >> 20)))?;
            thread::sleep(pause);
            let mut found = Vec::new();
            page.lines.feed(&piece[..read], |line| found.push(line));
            for line in found {
                self.show(name, &line);
            }
        }
    }

    fn close(&mut self, name: &str) {
        if let Some(mut page) = self.pages.remove(name)
            && let Some(line) = page.lines.rest()
        {
            self.show(name, &line);
        }
    }

    fn show(&mut self, name: &str, line: &str) {
        if self.records.is_shown(record_of(name), without_time(line)) {
            self.output.print_blocking(line);
        }
    }
}

/// What happened in the directory since last asked: file names, and whether each is gone.
fn changes(notify: &OwnedFd) -> Result<Vec<(String, bool)>, Errno> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(notify.as_fd(), &mut buffer);
    let mut changes = Vec::new();
    loop {
        let event = reader.next()?;
        let deleted = event.events().contains(inotify::ReadFlags::DELETE);
        if let Some(Ok(name)) = event.file_name().map(CStr::to_str) {
            changes.push((name.to_owned(), deleted));
        }
        if reader.is_buffer_empty() {
            return Ok(changes);
        }
    }
}

fn is_page(name: &str) -> bool {
    name.len() <= 200
        && name.strip_suffix(".log").is_some_and(|stem| {
            !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

/// `<timeline>_<record>_<number>.log` without the number: the same for every page of one record.
fn record_of(name: &str) -> &str {
    name.rsplit_once('_').map_or(name, |(record, _)| record)
}

/// A line without the time stamp (`2026-11-21T07:54:01.1234567Z `) the runner puts before it; the two records of a line
/// differ in it by microseconds.
fn without_time(line: &str) -> &str {
    let line = line.trim_start_matches('\u{feff}');
    match line.split_once(' ') {
        Some((stamp, rest))
            if stamp.len() >= 20
                && stamp.ends_with('Z')
                && stamp.as_bytes()[10] == b'T'
                && stamp.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            rest
        }
        _ => line,
    }
}

/// Tells the record of the whole job from those of its steps.
///
/// The runner writes each line to its step's record and then to the job's. So the record that appears second is the
/// job's, and begins with the same line as the first. Where steps are debugged, the job's appears first, with a line of
/// its own.
#[derive(Default)]
struct Records {
    /// The first two that appeared, each with its first line.
    first: Vec<(String, Option<String>)>,
}

impl Records {
    /// A page of this record is there.
    fn appeared(&mut self, record: &str) {
        if self.first.len() < 2 && !self.first.iter().any(|(known, _)| known == record) {
            self.first.push((record.to_owned(), None));
        }
    }

    /// Whether a record with this line, or with this one next, is a step's.
    fn is_shown(&mut self, record: &str, line: &str) -> bool {
        if let Some((_, first)) = self.first.iter_mut().find(|(known, _)| known == record) {
            first.get_or_insert_with(|| line.to_owned());
        }
        self.of_the_job() != Some(record)
    }

    fn of_the_job(&self) -> Option<&str> {
        let (first, opening) = self.first.first()?;
        if opening.as_ref().is_some_and(|line| line.starts_with(DEBUGGED)) {
            return Some(first);
        }
        let (second, line) = self.first.get(1)?;
        // The first one may have been gone before it could be read.
        let repeats = match (opening, line) {
            (Some(opening), Some(line)) => opening == line,
            (None, Some(line)) => !line.starts_with(DEBUGGED),
            (_, None) => false,
        };
        repeats.then_some(second)
    }
}

/// How the job's own record begins where steps are debugged.
const DEBUGGED: &str = "##[debug]Starting: ";

/// How much may still be read, and how fast. Reading slower loses nothing: the files wait.
struct Budget {
    left: u64,
    allowance: u64,
    at: Instant,
}

impl Budget {
    fn new() -> Self {
        Self { left: MOST_BYTES, allowance: BURST, at: Instant::now() }
    }

    /// How long to wait before `bytes` may be shown; none when there were too many in all.
    fn take(&mut self, bytes: u64) -> Option<Duration> {
        self.left = self.left.checked_sub(bytes)?;
        let earned = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_mul(PACE / 1000);
        self.allowance = self.allowance.saturating_add(earned).min(BURST);
        self.at = Instant::now();
        let missing = bytes.saturating_sub(self.allowance);
        self.allowance = self.allowance.saturating_sub(bytes);
        Some(Duration::from_millis(missing * 1000 / PACE))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, io::Write};

    use super::*;

    /// What of these lines is shown, each with its record, in the order in which they are read.
    fn shown(lines: &[(&str, &str)]) -> Vec<String> {
        let mut records = Records::default();
        let shown = lines.iter().filter(|(record, line)| {
            records.appeared(record);
            records.is_shown(record, line)
        });
        shown.map(|(_, line)| (*line).to_owned()).collect()
    }

    #[test]
    fn the_record_of_the_job_is_not_shown_and_equal_lines_of_steps_are() {
        let lines = [
            ("t_setup", "Current runner version: '2.336.0'"),
            ("t_job", "Current runner version: '2.336.0'"),
            ("t_one", "##[group]Run make"),
            ("t_one", "shell: bash"),
            ("t_two", "##[group]Run make"),
            ("t_two", "shell: bash"),
            ("t_job", "##[group]Run make"),
            ("t_job", "shell: bash"),
            ("t_job", "##[group]Run make"),
            ("t_job", "only here"),
        ];
        assert_eq!(
            shown(&lines),
            [
                "Current runner version: '2.336.0'",
                "##[group]Run make",
                "shell: bash",
                "##[group]Run make",
                "shell: bash"
            ]
        );
    }

    #[test]
    fn where_steps_are_debugged_the_record_of_the_job_comes_first() {
        let lines = [
            ("t_job", "##[debug]Starting: build"),
            ("t_setup", "##[debug]Starting: Set up job"),
            ("t_job", "##[debug]Starting: Set up job"),
            ("t_setup", "Current runner version: '2.336.0'"),
            ("t_job", "Current runner version: '2.336.0'"),
        ];
        assert_eq!(shown(&lines), ["##[debug]Starting: Set up job", "Current runner version: '2.336.0'"]);
    }

    #[test]
    fn a_first_record_that_was_gone_too_soon_is_no_reason_to_show_the_jobs() {
        let mut records = Records::default();
        records.appeared("t_setup");
        assert!(!{
            records.appeared("t_job");
            records.is_shown("t_job", "Current runner version: '2.336.0'")
        });
        records.appeared("t_one");
        assert!(records.is_shown("t_one", "hello"));
    }

    #[test]
    fn pages_are_known_by_name_and_lines_by_what_follows_the_time() {
        assert!(is_page("1f6d_89ab-cdef_1.log"));
        for name in ["", ".log", "a.txt", "../a.log", "a/b.log", "ä.log"] {
            assert!(!is_page(name), "{name}");
        }
        assert_eq!(record_of("t_r_12.log"), record_of("t_r_1.log"));
        assert_ne!(record_of("t_r_1.log"), record_of("t_s_1.log"));
        assert_eq!(without_time("\u{feff}2026-11-21T07:54:01.1234567Z ##[group]Run x"), "##[group]Run x");
        assert_eq!(without_time("no time here"), "no time here");
    }

    #[tokio::test]
    async fn a_jobs_lines_are_shown_once_even_of_pages_that_are_gone_and_tricks_are_ignored() {
        let home = tempfile::tempdir().unwrap();
        let pages = home.path().join("pages");
        fs::create_dir(&pages).unwrap();
        fs::write(home.path().join("outside.log"), "precious\n").unwrap();
        let (output, mut shown) = Output::to_channel();
        let directory = fs::File::open(&pages).unwrap().into();
        let following = follow(directory, output).unwrap();
        std::os::unix::fs::symlink(home.path().join("outside.log"), pages.join("t_link_1.log")).unwrap();
        let fifo = pages.join("t_fifo_1.log");
        rustix::fs::mknodat(rustix::fs::CWD, fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        fs::create_dir(pages.join("t_dir_1.log")).unwrap();
        let time = |i| format!("2026-11-21T07:54:01.{i:07}Z");
        for page in 0..3 {
            let step = pages.join(format!("t_step_{page}.log"));
            let job = pages.join("t_job_1.log");
            let mut step_file = fs::File::create(&step).unwrap();
            let mut job_file = fs::OpenOptions::new().append(true).create(true).open(job).unwrap();
            write!(step_file, "\u{feff}").unwrap();
            for line in 0..1000 {
                writeln!(step_file, "{} {page}.{line}", time(line)).unwrap();
                writeln!(job_file, "{} {page}.{line}", time(line + 1)).unwrap();
            }
            // Seen before it goes, as the runner uploads it first.
            let deadline = Instant::now() + Duration::from_secs(5);
            while shown.len() < 1000 * (page + 1) && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            fs::remove_file(step).unwrap();
        }
        let mut last = fs::File::create(pages.join("t_last_1.log")).unwrap();
        write!(last, "no line feed").unwrap();
        following.finish(Duration::from_secs(5)).await;
        let mut lines = Vec::new();
        while let Some(line) = shown.recv().await {
            lines.push(without_time(&line).to_owned());
        }
        let expected = (0..3).flat_map(|page| (0..1000).map(move |line| format!("{page}.{line}")));
        assert_eq!(lines, expected.chain(["no line feed".to_owned()]).collect::<Vec<_>>());
    }

    #[test]
    fn too_much_is_refused_and_fast_is_slowed() {
        let mut budget = Budget::new();
        assert_eq!(budget.take(BURST), Some(Duration::ZERO));
        assert!(budget.take(PACE).unwrap() > Duration::from_millis(900));
        assert_eq!(budget.take(MOST_BYTES), None);
    }
}
