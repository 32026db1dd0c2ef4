//! Limits: so many requests an hour for each credential, and so many points a minute (docs/github.md#rate-limits).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(3_600);
const MINUTE: u64 = 60;

/// Registrations an hour, which GitHub counts by themselves (docs/github.md#rate-limits).
const REGISTRATIONS: u64 = 10_000;

/// What a request is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    /// Most calls.
    Core,
    /// Those that register runners.
    Registration,
}

impl Resource {
    /// As `x-ratelimit-resource` names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Registration => "actions_runner_registration",
        }
    }
}

/// How the limits are enforced; the number of requests an hour is in [`Config`](super::Config).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitRules {
    /// What a credential gets that used up its hour: 403 or 429.
    pub status: u16,
    /// Points a minute: 1 for looking, whatever the answer, and 5 for everything else. `None` counts none.
    pub points_per_minute: Option<u64>,
    /// Whether the refusal for too many points says how long to wait.
    pub retry_after: bool,
}

impl Default for LimitRules {
    fn default() -> Self {
        Self { status: 403, points_per_minute: Some(900), retry_after: true }
    }
}

#[derive(Debug, Clone, Copy)]
struct Account {
    used: u64,
    reset: Duration,
    /// Minute since the epoch, and points used in it.
    minute: (u64, u64),
}

/// What the `x-ratelimit-*` headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) reset: Duration,
}

impl Charge {
    pub(crate) fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

#[derive(Debug)]
pub(crate) struct Limits {
    limit: Option<u64>,
    /// Credentials with a limit of their own.
    own: BTreeMap<String, u64>,
    accounts: BTreeMap<(String, Resource), Account>,
}

impl Limits {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit, own: BTreeMap::new(), accounts: BTreeMap::new() }
    }

    pub(super) fn set_own(&mut self, credential: &str, limit: Option<u64>) {
        match limit {
            Some(limit) => self.own.insert(credential.to_owned(), limit),
            None => self.own.remove(credential),
        };
    }

    fn limit(&self, credential: &str, resource: Resource) -> Option<u64> {
        let limit = self.own.get(credential).copied().or(self.limit);
        match resource {
            Resource::Core => limit,
            Resource::Registration => limit.map(|_| REGISTRATIONS),
        }
    }

    fn account(&mut self, credential: &str, resource: Resource, now: Duration) -> &mut Account {
        let fresh = Account { used: 0, reset: now + WINDOW, minute: (0, 0) };
        let account = self.accounts.entry((credential.to_owned(), resource)).or_insert(fresh);
        if now >= account.reset {
            *account = Account { minute: account.minute, ..fresh };
        }
        account
    }

    /// Where a credential stands, without counting anything. `None` without limits.
    pub(crate) fn standing(&mut self, credential: &str, resource: Resource, now: Duration) -> Option<Charge> {
        let limit = self.limit(credential, resource)?;
        let account = self.account(credential, resource, now);
        Some(Charge { limit, used: account.used.min(limit), reset: account.reset })
    }

    /// Counts one request.
    pub(crate) fn count(&mut self, credential: &str, resource: Resource, now: Duration) {
        if self.limit(credential, resource).is_some() {
            self.account(credential, resource, now).used += 1;
        }
    }

    /// Counts the points of one request. Gives the seconds until there are new ones if there were too few left.
    pub(crate) fn spend(&mut self, credential: &str, now: Duration, points: u64, budget: u64) -> Result<(), u64> {
        let (minute, second) = (now.as_secs() / MINUTE, now.as_secs() % MINUTE);
        // Whatever the resource.
        let account = self.account(credential, Resource::Core, now);
        if account.minute.0 != minute {
            account.minute = (minute, 0);
        }
        account.minute.1 = account.minute.1.saturating_add(points);
        match account.minute.1 > budget {
            true => Err(MINUTE - second),
            false => Ok(()),
        }
    }

    /// Uses up everything a credential has of a resource until then.
    pub(crate) fn exhaust(&mut self, credential: &str, resource: Resource, now: Duration, reset: Duration) {
        self.limit.get_or_insert(5_000);
        let limit = self.limit(credential, resource).unwrap_or_default();
        let account = self.account(credential, resource, now);
        account.used = limit;
        account.reset = reset;
    }
}

impl super::World {
    /// Changes the number of requests an hour; `None` lifts the limit. Forgets what was used.
    pub fn set_rate_limit(&mut self, limit: Option<u64>) {
        let own = std::mem::take(&mut self.limits.own);
        self.limits = Limits { own, ..Limits::new(limit) };
    }

    /// Changes how the limits are enforced from now on.
    pub fn set_limit_rules(&mut self, rules: LimitRules) {
        self.config.limits = rules;
    }
}
