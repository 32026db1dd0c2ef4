//! Who writes and who reads: a thread of its own for writing, so that no fsync and no lock holds the controller up.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::{Semaphore, oneshot};
use tracing::warn;

use super::{ClassMemory, Filter, Store, Summary, Window};
use crate::{
    ports::{self, PortError},
    status::Finished,
};

/// Entries that wait to be written at most.
const QUEUE: usize = 256;
/// How often what is too old is looked for.
const PRUNE: Duration = Duration::from_secs(3600);
/// Queries at once.
const READERS: usize = 4;
/// Longest wait for a query.
const PATIENCE: Duration = Duration::from_secs(10);

type Message = (Arc<Finished>, oneshot::Sender<Result<(), PortError>>);

/// Writes entries.
#[derive(Debug, Clone)]
pub struct History {
    messages: mpsc::SyncSender<Message>,
}

impl History {
    /// Starts the thread. The database is opened with the first entry, and again after a failure.
    pub fn start(state_dir: &Path, keep: Duration) -> std::io::Result<Self> {
        let (messages, inbox) = mpsc::sync_channel::<Message>(QUEUE);
        let mut writer = Writer { state_dir: state_dir.to_owned(), keep, store: None, failed: false, pruned: None };
        thread::Builder::new().name("history".into()).spawn(move || {
            while let Ok((ended, answer)) = inbox.recv() {
                // Nobody waits any more: the entry is written all the same.
                let _ = answer.send(writer.write(&ended));
            }
        })?;
        Ok(Self { messages })
    }
}

impl ports::History for History {
    async fn keep(&self, ended: Arc<Finished>) -> Result<(), PortError> {
        let (answer, result) = oneshot::channel();
        self.messages.try_send((ended, answer)).map_err(|_| PortError("the database does not keep up".to_owned()))?;
        result.await.unwrap_or_else(|_| Err(PortError("the thread that writes it ended".to_owned())))
    }
}

struct Writer {
    state_dir: PathBuf,
    keep: Duration,
    store: Option<Store>,
    /// The last entry was not written.
    failed: bool,
    pruned: Option<Instant>,
}

impl Writer {
    fn write(&mut self, ended: &Finished) -> Result<(), PortError> {
        let failed = std::mem::replace(&mut self.failed, true);
        // One that failed is opened anew: it may have been replaced, or be damaged.
        let store = match self.store.take() {
            Some(store) => store,
            None if failed => Store::open_suspect(&self.state_dir)?,
            None => Store::open(&self.state_dir)?,
        };
        store.keep(ended)?;
        self.failed = false;
        if self.pruned.is_none_or(|pruned| pruned.elapsed() >= PRUNE) {
            self.pruned = Some(Instant::now());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let before = u64::try_from(now.saturating_sub(self.keep).as_millis()).unwrap_or_default();
            if let Err(error) = store.prune(before) {
                warn!(%error, "old history is not removed");
            }
        }
        self.store = Some(store);
        Ok(())
    }
}

/// Answers questions.
#[derive(Debug, Clone)]
pub struct Reader {
    state_dir: Arc<Path>,
    places: Arc<Semaphore>,
}

impl Reader {
    /// Of the database in this directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.into(), places: Arc::new(Semaphore::new(READERS)) }
    }

    /// The entries that pass, the last ended first.
    pub async fn find(&self, filter: Filter) -> Result<Vec<Finished>, PortError> {
        self.ask(move |store| store.find(&filter)).await
    }

    /// Sums of what ended in the window.
    pub async fn summarise(&self, window: Window, classes: Vec<ClassMemory>) -> Result<Summary, PortError> {
        self.ask(move |store| store.summarise(window, &classes)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let ask = async {
            let closed = |_| PortError("closed".to_owned());
            let place = self.places.clone().acquire_owned().await.map_err(closed)?;
            let state_dir = self.state_dir.clone();
            let asked = tokio::task::spawn_blocking(move || {
                let _place = place;
                question(&Store::open_to_read(&state_dir)?)
            });
            asked.await.map_err(|error| PortError(error.to_string()))?
        };
        let late = || PortError(format!("the history did not answer within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(late()))
    }
}
