//! Tells the story of this container to whoever connects to its socket, from the beginning.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net::UnixListener as StdListener},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use contract::event::{EVENT_LIMIT, Event, LINE_LIMIT, SOCKET_FILE, What};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

/// Most connections at a time; the controller needs one.
const MOST_CONNECTIONS: usize = 8;
/// How long a listener may take to read one line.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two looks for a listener.
const LOOK: Duration = Duration::from_millis(5);
/// Events kept back for the job and the end of the story: one that waits long may lose the forge often.
const RESERVED: usize = 5;
/// Longest text in an event, in characters; at six bytes each the line still fits.
const TEXT_LIMIT: usize = 500;

type Lines = Vec<Arc<str>>;

/// Makes the socket in `directory`; whoever can reach it may connect.
pub fn bind(directory: &Path) -> io::Result<StdListener> {
    let path = directory.join(SOCKET_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&path)?;
    // The controller is another user, outside of this container's ids.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The story so far. It can be told before anybody listens.
#[derive(Debug)]
pub struct Outlet {
    lines: watch::Sender<Lines>,
    server: Option<JoinHandle<()>>,
}

impl Outlet {
    /// An empty story.
    pub fn new() -> Self {
        Self { lines: watch::Sender::new(Vec::new()), server: None }
    }

    /// Adds an event, unless there were too many.
    pub fn report(&self, what: What) {
        let is_kept = matches!(what, What::JobStarted { .. } | What::JobEnded { .. } | What::RunnerExited { .. });
        self.lines.send_if_modified(|lines| {
            let limit = if is_kept { EVENT_LIMIT } else { EVENT_LIMIT - RESERVED };
            if lines.len() >= limit {
                return false;
            }
            let seq = u32::try_from(lines.len()).unwrap_or(u32::MAX);
            let event = Event { seq, at_ms: now_ms(), what: shorten(what) };
            let Ok(line) = serde_json::to_string(&event) else { return false };
            debug_assert!(line.len() < LINE_LIMIT);
            lines.push(format!("{line}\n").into());
            true
        });
    }

    /// Starts to serve; needs a runtime.
    pub fn serve(&mut self, listener: StdListener) -> io::Result<()> {
        let listener = UnixListener::from_std(listener)?;
        self.server = Some(tokio::spawn(serve(listener, self.lines.subscribe())));
        Ok(())
    }

    /// Waits until somebody listens, for at most `patience`.
    pub async fn wait_for_listener(&self, patience: Duration) {
        if self.server.is_none() {
            return;
        }
        // The server has one receiver, and each connection another.
        let somebody = async {
            while self.lines.receiver_count() < 2 {
                sleep(LOOK).await;
            }
        };
        let _ = timeout(patience, somebody).await;
    }

    /// Ends the story: whoever is connected hears it to its end, for at most `patience`.
    pub async fn finish(self, patience: Duration) {
        drop(self.lines);
        if let Some(mut server) = self.server
            && timeout(patience, &mut server).await.is_err()
        {
            server.abort();
        }
    }
}

async fn serve(listener: UnixListener, mut lines: watch::Receiver<Lines>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Before the end of the story, whoever already waits in the queue is let in.
            biased;
            accepted = listener.accept() => {
                while connections.try_join_next().is_some() {}
                // One too many is told nothing and goes away; it may come again.
                if let (Ok((stream, _)), true) = (accepted, connections.len() < MOST_CONNECTIONS) {
                    connections.spawn(tell(stream, lines.clone()));
                }
            }
            changed = lines.changed() => if changed.is_err() { break },
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn tell(mut stream: UnixStream, mut lines: watch::Receiver<Lines>) {
    let mut told = 0;
    loop {
        let next: Vec<_> = lines.borrow_and_update()[told..].to_vec();
        for line in next {
            if !matches!(timeout(READ_PATIENCE, stream.write_all(line.as_bytes())).await, Ok(Ok(()))) {
                return;
            }
            told += 1;
        }
        if lines.changed().await.is_err() && lines.borrow().len() == told {
            return;
        }
    }
}

fn shorten(what: What) -> What {
    let plain = |text: String| -> String {
        text.chars().take(TEXT_LIMIT).map(|c| if c.is_control() { '?' } else { c }).collect()
    };
    match what {
        What::JobStarted { job, task } => What::JobStarted { job: plain(job), task },
        What::Trouble { kind, message } => What::Trouble { kind, message: plain(message) },
        what => what,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::AsyncReadExt;

    use super::*;
    use contract::event::{JobResult, Trouble};

    async fn hear(path: &Path) -> Vec<Event> {
        let mut text = String::new();
        UnixStream::connect(path).await.unwrap().read_to_string(&mut text).await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn every_connection_hears_the_whole_story() {
        let home = tempfile::tempdir().unwrap();
        let listener = bind(home.path()).unwrap();
        let path = home.path().join(SOCKET_FILE);
        let mut outlet = Outlet::new();
        outlet.report(What::Booted);
        outlet.serve(listener).unwrap();
        let early = tokio::spawn({
            let path = path.clone();
            async move { hear(&path).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        outlet.report(What::Listening);
        let late = tokio::spawn(async move { hear(&path).await });
        tokio::task::yield_now().await;
        outlet.report(What::RunnerExited { status: 0 });
        outlet.finish(Duration::from_secs(5)).await;
        let expected = [What::Booted, What::Listening, What::RunnerExited { status: 0 }];
        for story in [early.await.unwrap(), late.await.unwrap()] {
            assert_eq!(story.iter().map(|event| event.what.clone()).collect::<Vec<_>>(), expected);
            assert_eq!(story.iter().map(|event| event.seq).collect::<Vec<_>>(), [0, 1, 2]);
        }
    }

    #[tokio::test]
    async fn a_story_that_was_short_can_still_be_heard_by_who_comes_a_little_late() {
        let home = tempfile::tempdir().unwrap();
        let mut outlet = Outlet::new();
        outlet.serve(bind(home.path()).unwrap()).unwrap();
        outlet.report(What::RunnerExited { status: 1 });
        let path = home.path().join(SOCKET_FILE);
        let late = tokio::spawn(async move {
            sleep(Duration::from_millis(50)).await;
            hear(&path).await
        });
        timeout(Duration::from_secs(5), outlet.wait_for_listener(Duration::from_secs(60))).await.unwrap();
        outlet.finish(Duration::from_secs(5)).await;
        assert_eq!(late.await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nobody_is_waited_for_in_vain_for_long() {
        let home = tempfile::tempdir().unwrap();
        let mut outlet = Outlet::new();
        outlet.wait_for_listener(Duration::from_secs(60)).await;
        outlet.serve(bind(home.path()).unwrap()).unwrap();
        timeout(Duration::from_secs(5), outlet.wait_for_listener(Duration::from_millis(20))).await.unwrap();
    }

    #[tokio::test]
    async fn a_listener_that_never_reads_holds_nobody_up() {
        let home = tempfile::tempdir().unwrap();
        let mut outlet = Outlet::new();
        outlet.serve(bind(home.path()).unwrap()).unwrap();
        let _deaf: Vec<_> = {
            let path = home.path().join(SOCKET_FILE);
            let mut streams = Vec::new();
            for _ in 0..MOST_CONNECTIONS * 2 {
                streams.push(UnixStream::connect(&path).await.unwrap());
            }
            streams
        };
        outlet.report(What::Booted);
        timeout(Duration::from_secs(5), outlet.finish(Duration::from_millis(100))).await.unwrap();
    }

    #[test]
    fn the_story_is_bounded_and_its_end_is_always_told() {
        let outlet = Outlet::new();
        let nasty = "\u{1}\"\\\u{10ffff}".repeat(5000);
        outlet.report(What::JobStarted { job: nasty.clone(), task: None });
        for _ in 0..200 {
            outlet.report(What::Trouble { kind: Trouble::ConnectError, message: nasty.clone() });
        }
        outlet.report(What::JobEnded { result: JobResult::Failed });
        outlet.report(What::RunnerExited { status: 0 });
        let lines = outlet.lines.borrow();
        assert_eq!(lines.len(), EVENT_LIMIT - RESERVED + 2);
        assert!(lines.iter().all(|line| line.len() <= LINE_LIMIT));
        assert!(lines.last().unwrap().contains("runner-exited"));
    }
}
