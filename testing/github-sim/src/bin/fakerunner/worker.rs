//! The worker: a process of its own, which runs a job that the listener hands it.

use crate::{code, job, root::Root};
use github_sim::runner_service::JobMessage;
use std::io;
use std::os::fd::AsFd as _;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Orders of the listener, a line each.
pub(crate) const CANCEL: &str = "cancel";
pub(crate) const SHUTDOWN: &str = "shutdown";

/// What the listener wants of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    GoOn,
    Cancel,
    Shutdown,
    /// There is no listener any more.
    Gone,
}

/// Runs the job that comes on standard input; the exit status is its result.
pub(crate) async fn run(root: &Root) -> u8 {
    match serve(root).await {
        Ok(code) => code,
        Err(_) => code::TERMINATED,
    }
}

async fn serve(root: &Root) -> io::Result<u8> {
    let config = root.load().map_err(io::Error::other)?;
    let input = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    let mut lines = BufReader::new(input).lines();
    let message = lines.next_line().await?.unwrap_or_default();
    let message = serde_json::from_str(&message)?;
    let order = JobMessage::read(&message).ok_or_else(|| io::Error::other("this is no job"))?;
    let (wishes, wish) = watch::channel(Wish::GoOn);
    let listening = tokio::spawn(listen(lines, wishes));
    let result = job::run(root, &config, &order, wish).await;
    listening.abort();
    Ok(code::of_result(result))
}

async fn listen(mut lines: Lines<BufReader<pipe::Receiver>>, wishes: watch::Sender<Wish>) {
    loop {
        let wish = match lines.next_line().await.ok().flatten().as_deref() {
            Some(CANCEL) => Wish::Cancel,
            Some(SHUTDOWN) => Wish::Shutdown,
            Some(_) => continue,
            None => Wish::Gone,
        };
        // The first order stands.
        wishes.send_if_modified(|now| {
            let is_first = *now == Wish::GoOn;
            if is_first {
                *now = wish;
            }
            is_first
        });
        if wish == Wish::Gone {
            // Keeps the last wish heard.
            return wishes.closed().await;
        }
    }
}
