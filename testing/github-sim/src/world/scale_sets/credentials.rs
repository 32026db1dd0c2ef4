//! The chain of credentials of a scale set: registration token, admin token, queue token
//! (docs/github.md#connecting-to-the-actions-service, docs/github.md#message-sessions).

use super::super::{Scope, World};
use super::ScaleSetId;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long registration tokens live.
const REGISTRATION_TTL: Duration = Duration::from_secs(3_600);

/// What a queue token opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueKey {
    pub(super) set: ScaleSetId,
    pub(super) session: String,
}

/// Tokens that were given out and until when they are good.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    registration: BTreeMap<String, (Scope, Duration)>,
    admin: BTreeMap<String, (Scope, Duration)>,
    queue: BTreeMap<String, (QueueKey, Duration)>,
}

/// What a token opens, if it is known and good.
fn open<'a, T>(tokens: &'a BTreeMap<String, (T, Duration)>, token: &str, now: Duration) -> Option<&'a T> {
    tokens.get(token).filter(|(_, until)| now < *until).map(|(what, _)| what)
}

/// Keeps a token; those that are over go, so that a simulated week does not keep them all.
fn keep<T>(tokens: &mut BTreeMap<String, (T, Duration)>, token: &str, what: T, now: Duration, until: Duration) {
    tokens.retain(|_, (_, until)| now < *until);
    tokens.insert(token.to_owned(), (what, until));
}

impl World {
    /// A token that lets runners and scale sets register in a scope, and until when it does.
    pub(crate) fn new_registration_token(&mut self, now: Duration, scope: Scope) -> (String, Duration) {
        let token = self.new_secret("A", 28);
        let until = now + REGISTRATION_TTL;
        keep(&mut self.scale_sets.credentials.registration, &token, scope, now, until);
        (token, until)
    }

    /// Where a registration token lets register.
    pub(crate) fn registration_scope(&self, now: Duration, token: &str) -> Option<Scope> {
        open(&self.scale_sets.credentials.registration, token, now).cloned()
    }

    /// A token for the scale sets of a scope.
    pub(crate) fn new_admin_token(&mut self, now: Duration, scope: Scope) -> String {
        let (token, until) =
            self.new_jwt(now, self.config.scale_sets.admin_token_ttl, json!({ "scp": "Actions.ManageScaleSets" }));
        keep(&mut self.scale_sets.credentials.admin, &token, scope, now, until);
        token
    }

    /// Whose scale sets an admin token opens.
    pub(crate) fn admin_scope(&self, now: Duration, token: &str) -> Option<Scope> {
        open(&self.scale_sets.credentials.admin, token, now).cloned()
    }

    pub(super) fn new_queue_token(&mut self, now: Duration, key: QueueKey) -> String {
        let (token, until) =
            self.new_jwt(now, self.config.scale_sets.queue_token_ttl, json!({ "scp": "Actions.ScaleSetQueue" }));
        keep(&mut self.scale_sets.credentials.queue, &token, key, now, until);
        token
    }

    pub(super) fn queue_key(&self, now: Duration, token: &str) -> Option<QueueKey> {
        open(&self.scale_sets.credentials.queue, token, now).cloned()
    }

    /// Refuses all admin and queue tokens given out so far, long before their time.
    pub fn revoke_scale_set_tokens(&mut self) {
        self.scale_sets.credentials.admin.clear();
        self.scale_sets.credentials.queue.clear();
    }
}
