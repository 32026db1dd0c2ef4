//! One command of a job, run by bash.

use std::{collections::BTreeMap, process::Stdio};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

/// A command that runs. Dropping it kills it and all it started in its group.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    group: Option<Pid>,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Starts `program` with these arguments.
    pub(crate) fn start(
        program: &str,
        arguments: &[&str],
        directory: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let (sender, lines) = mpsc::channel(64);
        if let Some(output) = child.stdout.take() {
            tokio::spawn(read(output, sender.clone()));
        }
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(read(errors, sender));
        }
        Ok(Self { child, group, lines })
    }

    /// Its next line, or its status once all of them are read. May be dropped and called again without losing anything.
    pub(crate) async fn next(&mut self) -> Result<Next> {
        match self.lines.recv().await {
            Some(line) => Ok(Next::Line(line)),
            None => Ok(Next::Ended(self.child.wait().await?.code().unwrap_or(137))),
        }
    }
}

/// What a command does.
#[derive(Debug)]
pub(crate) enum Next {
    Line(String),
    Ended(i32),
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn read(stream: impl tokio::io::AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut stream = BufReader::new(stream).lines();
    while let Ok(Some(line)) = stream.next_line().await {
        if lines.send(line).await.is_err() {
            return;
        }
    }
}
