//! The tokens of runners: one to listen with, one for each job.

use super::{JobId, RunnerId, World};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long they live.
pub(crate) const TTL: Duration = Duration::from_secs(3_600);

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunnerKey {
    /// Session and messages of a runner.
    Listener(RunnerId),
    /// A job that this runner took.
    Job(RunnerId, JobId),
}

/// Tokens that were given out and until when they are good.
#[derive(Debug, Default)]
pub(super) struct RunnerTokens(BTreeMap<String, (RunnerKey, Duration)>);

impl RunnerTokens {
    fn keep(&mut self, now: Duration, token: &str, key: RunnerKey, until: Duration) {
        self.0.retain(|_, (_, until)| now < *until);
        self.0.insert(token.to_owned(), (key, until));
    }
}

impl World {
    /// A token for this runner's listener.
    pub(crate) fn new_listener_token(&mut self, now: Duration, runner: RunnerId) -> String {
        let (token, until) = self.new_jwt(now, TTL, json!({ "sub": runner }));
        self.runner_tokens.keep(now, &token, RunnerKey::Listener(runner), until);
        token
    }

    /// A token for a job that this runner took. Actions find plan and job in its claims.
    pub(crate) fn new_job_token(&mut self, now: Duration, runner: RunnerId, job: JobId, plan: &str) -> String {
        let uuid = self.job_uuid(job);
        let claims =
            json!({ "orch_id": format!("{plan}.build.__default"), "scp": format!("Actions.Results:{plan}:{uuid}") });
        let (token, until) = self.new_jwt(now, TTL, claims);
        self.runner_tokens.keep(now, &token, RunnerKey::Job(runner, job), until);
        token
    }

    /// What a token opens, if it is known and good.
    pub(crate) fn runner_key(&self, now: Duration, token: &str) -> Option<RunnerKey> {
        self.runner_tokens.0.get(token).filter(|(_, until)| now < *until).map(|(key, _)| *key)
    }
}
