//! Everything the guest prints, from one thread, so that a slow journal never holds up the guest itself.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

use super::lines::plain;

/// Lines on their way to the console.
const QUEUE: usize = 1024;

/// The sending side; cheap to clone.
#[derive(Debug, Clone)]
pub struct Output(mpsc::Sender<String>);

/// The thread that prints.
#[derive(Debug)]
pub struct Printer(thread::JoinHandle<()>);

/// Starts the thread that prints to standard output.
pub fn start() -> (Output, Printer) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Output(sender), Printer(thread::spawn(move || print(receiver))))
}

fn print(mut lines: mpsc::Receiver<String>) {
    let mut out = io::stdout().lock();
    while let Some(line) = lines.blocking_recv() {
        // Without a console nobody misses it.
        let _ = writeln!(out, "{line}");
        if lines.is_empty() {
            let _ = out.flush();
        }
    }
}

impl Output {
    /// Prints a line if there is room, and else drops it.
    pub fn try_print(&self, line: &str) {
        let _ = self.0.try_send(plain(line));
    }

    /// Prints a line when there is room; not inside a runtime.
    pub fn print_blocking(&self, line: &str) {
        let _ = self.0.blocking_send(plain(line));
    }

    /// An output whose lines can be looked at.
    #[cfg(test)]
    pub fn to_channel() -> (Self, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(1 << 16);
        (Self(sender), receiver)
    }
}

impl Printer {
    /// Waits until everything is printed, for at most `patience`. Every [`Output`] must be gone.
    pub async fn finish(self, patience: Duration) {
        let printed = tokio::task::spawn_blocking(move || self.0.join());
        let _ = tokio::time::timeout(patience, printed).await;
    }
}
