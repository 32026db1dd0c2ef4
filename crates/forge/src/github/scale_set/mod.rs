//! A runner scale set: GitHub's message queue for autoscalers (docs/github.md#scale-sets).
//!
//! One long poll a set tells at once which jobs are ours, and a header of it tells GitHub how many we can take. What
//! the messages mean is [`assignments`]; this is how they are got, and how a runner of the set is registered.
//! `docs/scale-sets.md` has the whole of it.

mod agents;
pub mod assignments;
mod bootstrap;
mod models;
mod pace;
mod registry;
mod service;
mod session;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

pub use self::{
    agents::Agent,
    bootstrap::{Scope, api_root},
    models::{JobEvent, JobMessage, Statistics},
    registry::{OpenedSet, Origin},
};
use self::{
    models::{Content, Envelope},
    service::Service,
    session::{QueueAnswer, Session},
};
use super::transport::Transport;
use crate::wire::Wire;
use crate::{Deletion, ErrorKind, ForgeError, Minted};

/// Tries of one poll: a refused token, then a lost session, then a lost scale set may come before it.
const TRIES: u32 = 4;
/// Statistics are fetched again after this long without, while jobs are about (docs/github.md#dropped-assignments);
/// with polls of 50 s, after each.
const STALE: Duration = Duration::from_secs(45);
/// Jobs are about for this long after the last sign of one: longer than [`assignments::VOID_AFTER`] and a poll.
const RESTLESS: Duration = Duration::from_secs(300);
/// Messages whose acknowledgement failed and is tried again. Older ones are left for the next start to see again.
const OWED: usize = 256;
/// Longest wait for the end of a session when the program stops.
const RELEASE: Duration = Duration::from_secs(5);

/// Which scale set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// The repository, organisation or enterprise as its page's URL, e.g. `https://github.com/owner/repository`.
    pub config_url: String,
    /// The API root of that server, e.g. `https://api.github.com`; see [`api_root`].
    pub api_url: String,
    /// What `config_url` stands for; see [`Scope::of`].
    pub scope: Scope,
    /// Name of the set, unique within its runner group.
    pub set_name: String,
    /// Name of the runner group; none = the default one, which a repository always has.
    pub runner_group: Option<String>,
    /// Labels that jobs ask for; empty = the set's name alone.
    pub labels: Vec<String>,
    /// Who holds the session, for people: stable for one host, e.g. host name and machine id.
    pub owner_name: String,
}

/// What one poll brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tidings {
    /// The scale set they are about; see [`assignments::Assignments::belong_to`].
    pub set_id: u64,
    /// To acknowledge once what the messages say is on disk; none = there is no message. Comes again until then.
    pub message_id: Option<u64>,
    /// What happened, in order.
    pub messages: Vec<JobMessage>,
    /// The counts as last heard.
    pub statistics: Statistics,
    /// They were heard just now; otherwise they are the last ones again.
    pub fresh: bool,
}

/// A client of one scale set. Opens the set and its session when first needed, and again when they are lost.
///
/// Only one [`ScaleSet::listen`] at a time; the other calls may run beside it.
#[derive(Debug)]
pub struct ScaleSet<T, W> {
    service: Service<T, W>,
    opened: Mutex<Option<OpenedSet>>,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Session>,
    /// When it began; kept after its loss, so that sessions are not begun in a rush.
    session_begun: Option<Instant>,
    /// Since when somebody else holds the session.
    held_since: Option<Instant>,
    /// One that we lost but GitHub may still hold against us.
    lost: Option<Session>,
    /// Messages up to here are dealt with.
    cursor: u64,
    /// The last message handed on.
    delivered: u64,
    /// Dealt with, but GitHub could not be told.
    owed: BTreeSet<u64>,
    statistics: Statistics,
    statistics_at: Option<Instant>,
    /// The last sign of a job: a message, a count above 0, or a session's beginning, since there may be some on disk.
    job_at: Option<Instant>,
    not_before: Option<Instant>,
    failures: u32,
}

impl<T: Transport, W: Wire> ScaleSet<T, W> {
    /// A client of `spec`. `transport` has the target's own credential, for the registration token; everything else
    /// goes over `wire`. Nothing is sent yet.
    pub fn new(mut spec: SetSpec, transport: T, wire: W) -> Self {
        if spec.labels.is_empty() {
            spec.labels = vec![spec.set_name.clone()];
        }
        Self { service: Service::new(spec, transport, wire), opened: Mutex::new(None), state: RefCell::default() }
    }

    /// Finds or creates the scale set, once; later calls return what the first found.
    ///
    /// A set with other labels is made anew if it has no jobs. Errors: not found = no such scope or runner group, or
    /// not ours to see; unauthorized = the credential may not register runners.
    pub async fn open(&self) -> Result<OpenedSet, ForgeError> {
        let mut kept = self.opened.lock().await;
        if let Some(opened) = kept.as_ref() {
            return Ok(opened.clone());
        }
        let opened = registry::open(&self.service).await?;
        let name = &self.service.spec().set_name;
        info!(set = opened.id, name, origin = ?opened.origin, labels = ?opened.labels, "scale set open");
        if !opened.missing_labels.is_empty() {
            warn!(name, missing = ?opened.missing_labels, "the scale set lacks labels: jobs that ask for them never come");
        }
        if !opened.other_labels.is_empty() {
            warn!(name, other = ?opened.other_labels, "the scale set has labels that were not asked for");
        }
        self.service.set_id.set(opened.id);
        *kept = Some(opened.clone());
        Ok(opened)
    }

    /// One long poll, which tells GitHub the `capacity`: the most jobs of this set, waiting and running, that we take
    /// at once. A change of it is told at once. Returns with a message, when the server has none (after about 50 s),
    /// or with statistics alone: of a session just begun, or after [`STALE`] without any while jobs are about.
    ///
    /// Waits by itself as long as the last outcome calls for, so it can be called again at once, also after an error:
    /// an empty answer that came too soon, a pause that GitHub asked for, a failure. What calls for a person is for
    /// the caller to decide: [`ErrorKind::Conflict`] = somebody else holds the session, normal for some minutes after
    /// a crash, see [`ScaleSet::held_for`].
    ///
    /// May be dropped at any time. If dropped while a session begins, GitHub may hold that one for nobody until it
    /// expires; so it is better kept across rounds of a loop.
    pub async fn listen(&self, capacity: &mut watch::Receiver<u32>) -> Result<Tidings, ForgeError> {
        let not_before = self.state.borrow().not_before;
        if let Some(time) = not_before {
            sleep_until(time).await;
        }
        let begun = Instant::now();
        let heard = self.hear(capacity).await;
        let mut state = self.state.borrow_mut();
        state.not_before = match &heard {
            Ok(tidings) => {
                state.failures = 0;
                let news = match tidings.message_id {
                    // One that was not acknowledged comes again at once, and is no news.
                    Some(id) => std::mem::replace(&mut state.delivered, id) != id,
                    None => tidings.fresh,
                };
                (!news).then_some(begun + pace::EMPTY)
            }
            Err(error) => {
                state.failures += 1;
                let wire = &self.service.wire;
                Some(Instant::now() + pace::after(error.kind, state.failures, wire.now(), wire.random()))
            }
        };
        heard
    }

    /// How long somebody else has been holding the session, as far as we saw; none = nobody. Until five minutes this
    /// is what a crash of our own looks like (docs/github.md#message-sessions).
    pub fn held_for(&self) -> Option<Duration> {
        self.state.borrow().held_since.map(|since| since.elapsed())
    }

    async fn hear(&self, capacity: &mut watch::Receiver<u32>) -> Result<Tidings, ForgeError> {
        let mut refreshed = false;
        let mut last = None;
        for _ in 0..TRIES {
            let opened = self.open().await?;
            let kept = self.state.borrow().session.clone();
            let Some(session) = kept else {
                match self.begin(&opened).await? {
                    Some(session) if session.statistics.is_some() => {
                        return Ok(tidings(&self.state.borrow(), opened.id, None, Vec::new(), true));
                    }
                    _ => continue,
                }
            };
            self.settle(&session).await;
            if self.stale() && !refreshed {
                refreshed = true;
                if self.refresh(&session).await? {
                    return Ok(tidings(&self.state.borrow(), opened.id, None, Vec::new(), true));
                }
                continue;
            }
            let cursor = self.state.borrow().cursor;
            let error = match session::poll(&self.service, &session, cursor, capacity).await? {
                QueueAnswer::Well(None) => {
                    return Ok(tidings(&self.state.borrow(), opened.id, None, Vec::new(), false));
                }
                QueueAnswer::Well(Some(envelope)) => match self.take(&session, envelope).await? {
                    QueueAnswer::Well(tidings) => return Ok(tidings),
                    QueueAnswer::TokenRefused(error) | QueueAnswer::SessionGone(error) => error,
                },
                QueueAnswer::SessionGone(error) => {
                    self.forget(&session, &error);
                    last = Some(error);
                    continue;
                }
                QueueAnswer::TokenRefused(error) => error,
            };
            if refreshed {
                self.forget(&session, &error);
            } else {
                refreshed = true;
                self.refresh(&session).await?;
            }
            last = Some(error);
        }
        Err(last
            .unwrap_or_else(|| ForgeError::new(ErrorKind::Unavailable, "the message session is lost again and again")))
    }

    /// Begins a session; `None` = the scale set is gone and to be opened again.
    async fn begin(&self, opened: &OpenedSet) -> Result<Option<Session>, ForgeError> {
        let last = self.state.borrow().session_begun;
        if let Some(last) = last {
            sleep_until(last + pace::SESSIONS).await;
        }
        let mut created = session::create(&self.service, opened.id).await;
        if created.as_ref().is_err_and(|error| error.kind == ErrorKind::Conflict) {
            let lost = self.state.borrow_mut().lost.take();
            if let Some(lost) = lost {
                // It may be our own that stands in the way.
                let _ = session::delete(&self.service, &lost).await;
                created = session::create(&self.service, opened.id).await;
            }
        }
        match created {
            Ok(session) => {
                debug!(set = opened.id, "message session begun");
                let mut state = self.state.borrow_mut();
                (state.held_since, state.lost) = (None, None);
                state.session_begun = Some(Instant::now());
                state.job_at = state.session_begun;
                keep(&mut state, &session);
                Ok(Some(session))
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                warn!(set = opened.id, %error, "the scale set is gone");
                *self.opened.lock().await = None;
                let mut state = self.state.borrow_mut();
                // Message ids of another set begin again.
                (state.cursor, state.delivered) = (0, 0);
                state.owed.clear();
                Ok(None)
            }
            Err(error) => {
                if error.kind == ErrorKind::Conflict {
                    self.state.borrow_mut().held_since.get_or_insert_with(Instant::now);
                }
                Err(error)
            }
        }
    }

    /// Gets a new queue token and fresh statistics; false = the session is lost.
    async fn refresh(&self, session: &Session) -> Result<bool, ForgeError> {
        match session::refresh(&self.service, session).await? {
            QueueAnswer::Well(renewed) => {
                let mut state = self.state.borrow_mut();
                // Another call may have begun a new one meanwhile.
                if state.session.as_ref().is_some_and(|kept| kept.is(session)) {
                    keep(&mut state, &renewed);
                }
                Ok(true)
            }
            QueueAnswer::TokenRefused(error) | QueueAnswer::SessionGone(error) => {
                self.forget(session, &error);
                Ok(false)
            }
        }
    }

    fn forget(&self, session: &Session, error: &ForgeError) {
        let mut state = self.state.borrow_mut();
        if state.session.as_ref().is_some_and(|kept| kept.is(session)) {
            info!(%error, "message session lost");
            state.lost = state.session.take();
        }
    }

    /// Whether a dropped assignment could go unnoticed.
    fn stale(&self) -> bool {
        let state = self.state.borrow();
        let since = |time: Option<Instant>| time.map_or(Duration::MAX, |time| time.elapsed());
        since(state.job_at) < RESTLESS && since(state.statistics_at) >= STALE
    }

    /// Tells GitHub again what it could not be told.
    async fn settle(&self, session: &Session) {
        loop {
            let Some(id) = self.state.borrow().owed.first().copied() else { return };
            // A refused token shows again at the poll, and is dealt with there.
            let Ok(QueueAnswer::Well(())) = session::acknowledge(&self.service, session, id).await else { return };
            self.state.borrow_mut().owed.remove(&id);
        }
    }

    /// What a message of the queue comes to. Jobs that are only offered are claimed before it is handed on, so that
    /// an offer is not acknowledged in vain.
    async fn take(&self, session: &Session, envelope: Envelope) -> Result<QueueAnswer<Tidings>, ForgeError> {
        let Envelope { message_id, statistics, content } = envelope;
        let messages = match content {
            Content::Jobs(messages) => messages,
            Content::NotUnderstood(why) => {
                // Passed over, not taken off the queue: a newer version may know it.
                warn!(message_id, why, "a message of the scale set's queue is not understood");
                let mut state = self.state.borrow_mut();
                state.cursor = state.cursor.max(message_id);
                let fresh = note(&mut state, statistics);
                return Ok(QueueAnswer::Well(tidings(&state, session.set_id, None, Vec::new(), fresh)));
            }
        };
        let offered: Vec<i64> =
            messages.iter().filter(|job| job.event == JobEvent::Available).map(|job| job.request_id).collect();
        if !offered.is_empty() {
            match session::acquire(&self.service, session, &offered).await {
                Ok(QueueAnswer::Well(acquired)) => debug!(?offered, ?acquired, "claimed jobs"),
                Ok(QueueAnswer::TokenRefused(error)) => return Ok(QueueAnswer::TokenRefused(error)),
                Ok(QueueAnswer::SessionGone(error)) => return Ok(QueueAnswer::SessionGone(error)),
                // Refused as such: it would be again, and the queue must go on.
                Err(error) if matches!(error.kind, ErrorKind::Refused | ErrorKind::Conflict) => {
                    warn!(?offered, %error, "offered jobs could not be claimed");
                }
                Err(error) => return Err(error),
            }
        }
        let mut state = self.state.borrow_mut();
        state.job_at = Some(Instant::now());
        let fresh = note(&mut state, statistics);
        Ok(QueueAnswer::Well(tidings(&state, session.set_id, Some(message_id), messages, fresh)))
    }

    /// Takes a message off GitHub's queue. Call it when what the message says is on disk: it never comes again. If
    /// GitHub cannot be told now, that is made up for before a later poll; the caller has nothing to repeat.
    pub async fn acknowledge(&self, message_id: u64) {
        let session = {
            let mut state = self.state.borrow_mut();
            state.cursor = state.cursor.max(message_id);
            state.session.clone()
        };
        if !self.is_told(session, message_id).await {
            // Only now: a poll begins while GitHub is being told, and would tell it once more.
            let mut state = self.state.borrow_mut();
            state.owed.insert(message_id);
            if state.owed.len() > OWED {
                state.owed.pop_first();
            }
        }
    }

    /// Tells GitHub that a message is dealt with, if need be with a new token.
    async fn is_told(&self, session: Option<Session>, message_id: u64) -> bool {
        let Some(session) = session else { return false };
        let told = match session::acknowledge(&self.service, &session, message_id).await {
            Ok(QueueAnswer::TokenRefused(_)) => match self.refresh(&session).await {
                Ok(true) => {
                    let Some(session) = self.state.borrow().session.clone() else { return false };
                    session::acknowledge(&self.service, &session, message_id).await
                }
                _ => return false,
            },
            told => told,
        };
        match told {
            Ok(QueueAnswer::Well(())) => true,
            Ok(QueueAnswer::TokenRefused(error) | QueueAnswer::SessionGone(error)) | Err(error) => {
                info!(message_id, %error, "not acknowledged yet");
                false
            }
        }
    }

    /// Registers a one-job runner of this set. Sent once: after an error the registration may or may not exist, and is
    /// settled by name. [`ErrorKind::Conflict`] = the name is taken: use another.
    pub async fn mint(&self, runner_name: &str) -> Result<Minted, ForgeError> {
        let opened = self.open().await?;
        agents::mint(&self.service, opened.id, runner_name).await
    }

    /// Looks a runner up by its exact name, in the whole scope.
    pub async fn find_runner(&self, runner_name: &str) -> Result<Option<Agent>, ForgeError> {
        agents::find(&self.service, runner_name).await
    }

    /// Removes a registration, by the id that [`ScaleSet::mint`] gave. A runner with a job is kept by GitHub.
    pub async fn delete_runner(&self, runner_id: u64) -> Result<Deletion, ForgeError> {
        agents::delete(&self.service, runner_id).await
    }

    /// Ends the session, so that a successor need not wait for its expiry; to be called when the program stops, after
    /// the last [`ScaleSet::listen`] has ended. Takes a few seconds at most. The scale set stays.
    pub async fn release(&self) -> Result<(), ForgeError> {
        let session = self.state.borrow_mut().session.take();
        let Some(session) = session else { return Ok(()) };
        let end = async {
            self.settle(&session).await;
            session::delete(&self.service, &session).await
        };
        timeout(RELEASE, end).await.unwrap_or_else(|_| {
            let text = format!("the message session did not end within {} s", RELEASE.as_secs());
            Err(ForgeError::new(ErrorKind::Unavailable, text))
        })
    }
}

fn keep(state: &mut State, session: &Session) {
    state.session = Some(session.clone());
    // Also when there are none: they are not asked for again before long.
    state.statistics_at = Some(Instant::now());
    note(state, session.statistics);
}

fn note(state: &mut State, statistics: Option<Statistics>) -> bool {
    if let Some(statistics) = statistics {
        state.statistics = statistics;
        state.statistics_at = Some(Instant::now());
        if statistics.assigned_jobs > 0 {
            state.job_at = state.statistics_at;
        }
    }
    statistics.is_some()
}

fn tidings(state: &State, set_id: u64, message_id: Option<u64>, messages: Vec<JobMessage>, fresh: bool) -> Tidings {
    Tidings { set_id, message_id, messages, statistics: state.statistics, fresh }
}
