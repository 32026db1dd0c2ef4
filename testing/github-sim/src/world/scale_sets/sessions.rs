//! Message sessions: one listener at a time for each set (docs/github.md#message-sessions).

use super::super::{Scope, World, WorldError, ids};
use super::credentials::QueueKey;
use super::{ScaleSet, ScaleSetId};
use std::time::Duration;

/// A listener's session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    id: String,
    pub(super) owner: String,
    /// Last time anybody used it.
    seen_at: Duration,
}

/// What a listener gets when it opens or refreshes its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) session: String,
    pub(crate) owner: String,
    pub(crate) queue_token: String,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// There is no such set in this scope.
    NoScaleSet,
    /// Somebody listens: this owner.
    Conflict(String),
    /// It is not the set's session (any more).
    Gone,
}

/// Why a queue token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueError {
    /// Unknown or expired.
    BadToken,
    /// The session or its set is gone.
    Gone,
}

impl ScaleSet {
    fn is_open(&self, session: &str) -> bool {
        self.session.as_ref().is_some_and(|own| own.id == session)
    }
}

impl World {
    /// Opens a session, unless somebody has one.
    pub(crate) fn open_message_session(
        &mut self,
        now: Duration,
        scope: &Scope,
        id: ScaleSetId,
        owner: &str,
    ) -> Result<Opened, SessionError> {
        let set = self.scale_set(scope, id).ok_or(SessionError::NoScaleSet)?;
        if let Some(session) = &set.session {
            return Err(SessionError::Conflict(session.owner.clone()));
        }
        let session = Session { id: ids::uuid(&mut self.rng), owner: owner.to_owned(), seen_at: now };
        let opened = self.opened(now, id, &session);
        if let Some(set) = self.scale_sets.sets.get_mut(&id) {
            set.session = Some(session);
        }
        Ok(opened)
    }

    /// A new queue token for the same session.
    pub(crate) fn refresh_message_session(
        &mut self,
        now: Duration,
        scope: &Scope,
        id: ScaleSetId,
        session: &str,
    ) -> Result<Opened, SessionError> {
        let set = self.scale_set(scope, id).ok_or(SessionError::NoScaleSet)?;
        let session = set.session.clone().filter(|own| own.id == session).ok_or(SessionError::Gone)?;
        self.touch_session(now, id);
        Ok(self.opened(now, id, &session))
    }

    fn opened(&mut self, now: Duration, set: ScaleSetId, session: &Session) -> Opened {
        let queue_token = self.new_queue_token(now, QueueKey { set, session: session.id.clone() });
        Opened { session: session.id.clone(), owner: session.owner.clone(), queue_token }
    }

    pub(crate) fn close_message_session(
        &mut self,
        scope: &Scope,
        id: ScaleSetId,
        session: &str,
    ) -> Result<(), SessionError> {
        let set =
            self.scale_sets.sets.get_mut(&id).filter(|set| set.scope == *scope).ok_or(SessionError::NoScaleSet)?;
        if !set.is_open(session) {
            return Err(SessionError::Gone);
        }
        set.session = None;
        Ok(())
    }

    /// The set whose queue a token opens and the session it is for.
    pub(crate) fn enter_queue(&mut self, now: Duration, token: &str) -> Result<(ScaleSetId, String), QueueError> {
        let key = self.queue_key(now, token).ok_or(QueueError::BadToken)?;
        match self.is_listening(key.set, &key.session) {
            true => {
                self.touch_session(now, key.set);
                Ok((key.set, key.session))
            }
            false => Err(QueueError::Gone),
        }
    }

    pub(crate) fn is_listening(&self, set: ScaleSetId, session: &str) -> bool {
        self.scale_sets.sets.get(&set).is_some_and(|set| set.is_open(session))
    }

    pub(crate) fn touch_session(&mut self, now: Duration, set: ScaleSetId) {
        if let Some(session) = self.scale_sets.sets.get_mut(&set).and_then(|set| set.session.as_mut()) {
            session.seen_at = now;
        }
    }

    /// The server loses a session: its queue answers 404 and so does a refresh.
    ///
    /// # Errors
    /// If there is no such set.
    pub fn lose_session(&mut self, now: Duration, id: ScaleSetId) -> Result<(), WorldError> {
        self.advance(now);
        self.scale_set_named(id)?.session = None;
        Ok(())
    }

    /// Sessions nobody used for long are over.
    pub(in crate::world) fn pass_sessions(&mut self) {
        let (now, ttl) = (self.now, self.config.scale_sets.session_ttl);
        for set in self.scale_sets.sets.values_mut() {
            set.session = set.session.take().filter(|session| now < session.seen_at + ttl);
        }
    }
}
