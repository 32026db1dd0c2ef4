//! The primary rate limit: so many requests an hour for each token.

use std::collections::BTreeMap;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Copy)]
struct Account {
    used: u64,
    reset: Duration,
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
    accounts: BTreeMap<String, Account>,
}

impl Limits {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit, accounts: BTreeMap::new() }
    }

    fn account(&mut self, token: &str, now: Duration) -> &mut Account {
        let fresh = Account { used: 0, reset: now + WINDOW };
        let account = self.accounts.entry(token.to_owned()).or_insert(fresh);
        if now >= account.reset {
            *account = fresh;
        }
        account
    }

    /// Where a token stands, without counting anything. `None` without limits.
    pub(crate) fn standing(&mut self, token: &str, now: Duration) -> Option<Charge> {
        let limit = self.limit?;
        let account = self.account(token, now);
        Some(Charge { limit, used: account.used.min(limit), reset: account.reset })
    }

    /// Counts one request.
    pub(crate) fn count(&mut self, token: &str, now: Duration) {
        if self.limit.is_some() {
            self.account(token, now).used += 1;
        }
    }

    /// Uses up everything a token has until then.
    pub(crate) fn exhaust(&mut self, token: &str, now: Duration, reset: Duration) {
        let limit = *self.limit.get_or_insert(5_000);
        let account = self.account(token, now);
        account.used = limit;
        account.reset = reset;
    }
}

impl super::World {
    /// Changes the number of requests an hour; `None` lifts the limit. Forgets what was used.
    pub fn set_rate_limit(&mut self, limit: Option<u64>) {
        self.limits = Limits::new(limit);
    }
}
