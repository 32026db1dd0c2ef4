//! Which tokens are accepted, and until when.

use std::collections::BTreeMap;
use std::time::Duration;

/// What an `Authorization` header amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bearer {
    /// An accepted token.
    Accepted(String),
    /// Something in three parts that a GitHub App signed.
    Jwt(String),
    /// There was none.
    Missing,
    /// There was a wrong, revoked or expired one.
    Bad,
}

#[derive(Debug)]
pub(crate) struct Tokens {
    /// Token and when it expires.
    accepted: BTreeMap<String, Option<Duration>>,
}

impl Tokens {
    pub(super) fn new(tokens: &[String]) -> Self {
        Self { accepted: tokens.iter().map(|token| (token.clone(), None)).collect() }
    }

    pub(crate) fn add(&mut self, token: String, expires_at: Option<Duration>) {
        self.accepted.insert(token, expires_at);
    }

    fn revoke(&mut self, token: &str) -> bool {
        self.accepted.remove(token).is_some()
    }

    pub(crate) fn judge(&self, now: Duration, header: Option<&str>) -> Bearer {
        let Some(header) = header else {
            return Bearer::Missing;
        };
        let Some((scheme, token)) = header.split_once(' ') else {
            return Bearer::Bad;
        };
        if !scheme.eq_ignore_ascii_case("bearer") && !scheme.eq_ignore_ascii_case("token") {
            return Bearer::Bad;
        }
        let token = token.trim();
        match self.accepted.get(token) {
            Some(expiry) if expiry.is_none_or(|at| now < at) => Bearer::Accepted(token.to_owned()),
            Some(_) => Bearer::Bad,
            None if token.split('.').count() == 3 && scheme.eq_ignore_ascii_case("bearer") => {
                Bearer::Jwt(token.to_owned())
            }
            None => Bearer::Bad,
        }
    }
}

impl super::World {
    /// Accepts one more token, for good or for a while.
    pub fn add_token(&mut self, token: &str, expires_at: Option<Duration>) {
        self.tokens.add(token.to_owned(), expires_at);
    }

    /// Refuses a token from now on. Says whether it was accepted before.
    pub fn revoke_token(&mut self, token: &str) -> bool {
        self.tokens.revoke(token)
    }
}
