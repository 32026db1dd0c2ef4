//! Runs one program, most often the shell of a step, and reports what it prints.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// A line longer than this is cut into several.
const MAX_LINE: usize = 64 * 1024;
/// Background processes of a script may hold its output open; nobody waits for them longer than this.
const DRAIN: Duration = Duration::from_millis(300);
/// How long a script has after each signal, and its output after the last. One that ends on the first costs nothing.
const AFTER_INTERRUPT: Duration = Duration::from_millis(7_500);
const AFTER_TERMINATE: Duration = Duration::from_millis(2_500);
const AFTER_KILL: Duration = Duration::from_millis(2_500);

/// A program on its way.
pub(crate) struct Script {
    child: Child,
    group: Option<Pid>,
    output: pipe::Receiver,
    partial: Vec<u8>,
    ended: Option<ExitStatus>,
    drained: bool,
}

/// Something a script did.
pub(crate) enum Event {
    Line(String),
    /// Exit code, 128 and the number for a signal.
    Ended(i32),
}

impl Script {
    /// Takes the command whole: as long as there is one, its output does not end.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        drop(command);
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self {
            child,
            group,
            output: pipe::Receiver::from_owned_fd(reader.into())?,
            partial: Vec::new(),
            ended: None,
            drained: false,
        })
    }

    /// The next line, or the end once all lines are out. May be dropped and called again without losing anything.
    pub(crate) async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Event::Line(line));
            }
            if let Some(status) = self.ended
                && self.drained
            {
                return Ok(Event::Ended(exit_code(status)));
            }
            let mut buffer = [0; 8 * 1024];
            tokio::select! {
                read = self.output.read(&mut buffer), if !self.drained => match read? {
                    0 => self.drained = true,
                    read => self.partial.extend_from_slice(&buffer[..read]),
                },
                status = self.child.wait(), if self.ended.is_none() => self.ended = Some(status?),
                () = tokio::time::sleep(DRAIN), if self.ended.is_some() => self.drained = true,
            }
        }
    }

    fn take_line(&mut self) -> Option<String> {
        let over = self.drained && self.ended.is_some() && !self.partial.is_empty();
        let (line, rest) = match self.partial.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end, end + 1),
            None if self.partial.len() >= MAX_LINE || over => (self.partial.len(), self.partial.len()),
            None => return None,
        };
        let text = String::from_utf8_lossy(&self.partial[..line]).trim_end_matches('\r').to_owned();
        self.partial.drain(..rest);
        Some(text)
    }

    /// Asks the shell to end, then makes it and everything it started end. It has ended when nobody holds its output any
    /// more: a shell that waits for its command notices an interrupt only after that.
    pub(crate) async fn stop(&mut self) {
        for (signal, patience) in [(Signal::INT, AFTER_INTERRUPT), (Signal::TERM, AFTER_TERMINATE)] {
            if let Some(pid) = self.group {
                let _ = kill_process(pid, signal);
            }
            if tokio::time::timeout(patience, self.drain()).await.is_ok() {
                // The shell is gone; what it started may not be.
                self.kill();
                return;
            }
        }
        self.kill();
        tokio::time::sleep(AFTER_KILL).await;
        let _ = self.child.try_wait();
    }

    /// Waits for the end, whatever is printed.
    async fn drain(&mut self) {
        let mut buffer = [0; 8 * 1024];
        while !self.drained {
            match self.output.read(&mut buffer).await {
                Ok(read) if read > 0 => {}
                _ => self.drained = true,
            }
        }
        if self.ended.is_none() {
            self.ended = self.child.wait().await.ok();
        }
    }

    /// Kills the shell and what is in its group.
    pub(crate) fn kill(&self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A program with exactly this environment.
pub(crate) fn command(program: &Path, directory: &Path, environment: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env_clear().envs(environment);
    command
}

/// A program of this name, where the environment has it.
pub(crate) fn find(name: &str, environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let path = environment.get("PATH").map(String::as_str).unwrap_or("/usr/bin:/bin");
    std::env::split_paths(path).map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}
