//! Carries what a job says to the simulator, in order, and brings back what the simulator wants of it.

use crate::{console, link::Link};
use github_sim::{
    runner_protocol::{Answer, Message},
    world::{Beat, RunnerSession},
};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// How often the runner gives a sign of life.
const BEAT: Duration = Duration::from_millis(500);
/// Output sent at once.
const CHUNK: usize = 64 * 1024;
/// Messages waiting to be sent; a job that prints faster waits.
const QUEUE: usize = 1_024;
/// How often a message is tried.
const TRIES: u32 = 5;
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(20);

/// What the simulator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    GoOn,
    Cancel,
    Die,
    /// The job is no longer this runner's.
    Gone,
}

enum Item {
    Text(String),
    Message(Message),
}

pub(crate) struct Uplink {
    queue: mpsc::Sender<Item>,
    wish: watch::Receiver<Wish>,
    task: JoinHandle<()>,
}

impl Uplink {
    pub(crate) fn new(link: Link, session: RunnerSession) -> Self {
        let (queue, items) = mpsc::channel(QUEUE);
        let (wishes, wish) = watch::channel(Wish::GoOn);
        let task = tokio::spawn(carry(link, session, items, wishes));
        Self { queue, wish, task }
    }

    pub(crate) async fn text(&self, text: &str) {
        let _ = self.queue.send(Item::Text(text.to_owned())).await;
    }

    pub(crate) async fn message(&self, message: Message) {
        let _ = self.queue.send(Item::Message(message)).await;
    }

    pub(crate) fn wish(&self) -> Wish {
        *self.wish.borrow()
    }

    /// Resolves when the simulator wants something else than going on.
    pub(crate) async fn wanted(&self) -> Wish {
        let mut wish = self.wish.clone();
        match wish.wait_for(|wish| *wish != Wish::GoOn).await {
            Ok(wish) => *wish,
            // Nobody will ever want anything.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until everything is said, within limits.
    pub(crate) async fn finish(self) {
        drop(self.queue);
        let _ = tokio::time::timeout(FAREWELL, self.task).await;
    }
}

async fn carry(link: Link, session: RunnerSession, mut items: mpsc::Receiver<Item>, wishes: watch::Sender<Wish>) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut held: Option<Item> = None;
    loop {
        let item = match held.take() {
            Some(item) => item,
            // Fair: a job that never stops printing must not keep the signs of life from being given.
            None => tokio::select! {
                item = items.recv() => match item {
                    Some(item) => item,
                    None => return,
                },
                _ = beat.tick() => Item::Message(Message::Beat { session: session.clone() }),
            },
        };
        let message = match item {
            Item::Message(message) => message,
            Item::Text(mut text) => {
                // Whatever gathered while the last message was under way goes along.
                while text.len() < CHUNK {
                    match items.try_recv() {
                        Ok(Item::Text(more)) => text.push_str(&more),
                        Ok(other) => {
                            held = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                Message::Output { session: session.clone(), text }
            }
        };
        match send(&link, &message).await {
            Some(Answer::Beat(Beat::Cancel)) => {
                wishes.send_if_modified(|wish| change(wish, Wish::Cancel));
            }
            Some(Answer::Beat(Beat::Die)) => {
                wishes.send_if_modified(|wish| change(wish, Wish::Die));
            }
            Some(Answer::Refused(_)) => {
                wishes.send_if_modified(|wish| change(wish, Wish::Gone));
            }
            _ => {}
        }
    }
}

fn change(wish: &mut Wish, to: Wish) -> bool {
    let changed = *wish != to;
    *wish = to;
    changed
}

async fn send(link: &Link, message: &Message) -> Option<Answer> {
    // The next sign of life comes anyway.
    let tries = match message {
        Message::Beat { .. } => 1,
        _ => TRIES,
    };
    for attempt in 1..=tries {
        match link.send(message).await {
            Ok(answer) => return Some(answer),
            Err(error) if attempt == 1 && tries > 1 => {
                console::stamped_error(&format!("Runner connect error: {error}. Retrying until reconnected."))
            }
            Err(_) => {}
        }
        if attempt < tries {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    None
}
