//! How a credential stands at its forge, by what answers say of it.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use chrono::DateTime;
use http::StatusCode;

use crate::{
    answer::{header, is_limit, said},
    github::permissions,
    wire::Answer,
};

/// When GitHub takes a personal token no more.
const EXPIRATION: &str = "github-authentication-token-expiration";
/// What a credential lacks is kept for so many calls.
const MOST: usize = 16;

/// How a credential stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The forge takes it no more from then on, since the Unix epoch. None = never, or the forge does not tell.
    pub ends_at: Option<Duration>,
    /// The forge's words, where it refused the credential the last time.
    pub refused: Option<String>,
    /// What it lacks in the forge's words, for calls that were refused for it and have not succeeded since.
    pub lacks: Vec<String>,
}

impl Standing {
    /// Two logins with one credential.
    pub fn and(mut self, other: Self) -> Self {
        self.ends_at = self.ends_at.into_iter().chain(other.ends_at).min();
        self.refused = self.refused.or(other.refused);
        self.lacks.extend(other.lacks);
        self.lacks.sort();
        self.lacks.dedup();
        self
    }
}

/// What is heard of one login.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    ends_at: RefCell<Option<Duration>>,
    refused: RefCell<Option<String>>,
    /// By what was asked.
    lacks: RefCell<BTreeMap<String, String>>,
}

impl Heard {
    /// The call with this route was answered so.
    pub fn answer(&self, route: &str, answer: &Answer) {
        if answer.status == StatusCode::UNAUTHORIZED {
            self.refused.replace(Some(said(answer)));
            return;
        }
        if answer.status.is_server_error() || is_limit(answer) {
            return;
        }
        self.refused.replace(None);
        let told = header::<String>(answer, EXPIRATION).and_then(|text| parse(&text));
        // An answer that nothing changed need not have all headers.
        if told.is_some() || answer.status.is_success() {
            self.ends_at.replace(told);
        }
        let mut lacks = self.lacks.borrow_mut();
        if answer.status == StatusCode::FORBIDDEN {
            if let Some(missing) = permissions::missing(answer).filter(|_| lacks.len() < MOST) {
                lacks.insert(route.to_owned(), missing);
            }
        } else if answer.status.is_success() {
            lacks.remove(route);
        }
    }

    /// `has_fresh_secret`: whether the refused secret was renewed. The new one has not been refused.
    pub fn standing(&self, has_fresh_secret: impl FnOnce() -> bool) -> Standing {
        let refused = self.refused.borrow().clone().filter(|_| !has_fresh_secret());
        let mut lacks: Vec<String> = self.lacks.borrow().values().cloned().collect();
        lacks.sort();
        lacks.dedup();
        Standing { ends_at: *self.ends_at.borrow(), refused, lacks }
    }
}

/// `2026-12-31 23:59:59 UTC`, or with an offset in place of the zone.
fn parse(text: &str) -> Option<Duration> {
    let text = text.replace("UTC", "+0000");
    let time = DateTime::parse_from_str(text.trim(), "%Y-%m-%d %H:%M:%S %z").ok()?;
    time.timestamp().try_into().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Answer {
        let mut answer = Answer::made_up(StatusCode::from_u16(status).unwrap(), "Bad credentials");
        for (name, value) in headers {
            answer.headers.insert(*name, value.parse().unwrap());
        }
        answer
    }

    #[test]
    fn the_end_of_a_token_is_what_the_last_full_answer_said() {
        let heard = Heard::default();
        let ends_at = |status, headers: &[(&'static str, &'static str)]| {
            heard.answer("GET x", &answer(status, headers));
            heard.standing(|| false).ends_at.map(|at| at.as_secs())
        };
        assert_eq!(ends_at(200, &[(EXPIRATION, "2026-11-02 00:00:00 UTC")]), Some(1_793_577_600));
        assert_eq!(ends_at(304, &[]), Some(1_793_577_600));
        assert_eq!(ends_at(502, &[]), Some(1_793_577_600));
        assert_eq!(ends_at(200, &[(EXPIRATION, "2026-11-02 02:00:00 +0100")]), Some(1_793_581_200));
        assert_eq!(ends_at(200, &[(EXPIRATION, "some day")]), None);
        assert_eq!(ends_at(200, &[]), None, "a renewed one that never ends");
    }

    #[test]
    fn a_refusal_counts_until_the_credential_is_taken_again_and_a_failure_says_nothing() {
        let heard = Heard::default();
        let refused = |status| {
            heard.answer("GET x", &answer(status, &[]));
            heard.standing(|| false).refused
        };
        assert_eq!(refused(200), None);
        assert_eq!(refused(401).unwrap(), "Bad credentials");
        assert_eq!(refused(503).unwrap(), "Bad credentials");
        assert_eq!(refused(429).unwrap(), "Bad credentials");
        assert_eq!(refused(404), None);
        assert_eq!(refused(401).unwrap(), "Bad credentials");
        assert_eq!(heard.standing(|| true).refused, None, "a renewed one has not been refused");
    }

    #[test]
    fn what_is_lacking_for_a_call_is_told_until_that_call_succeeds() {
        let heard = Heard::default();
        let lacks = |route, status, headers: &[(&'static str, &'static str)]| {
            heard.answer(route, &answer(status, headers));
            heard.standing(|| false).lacks
        };
        let administration = [("x-accepted-github-permissions", "administration=write")];
        assert_eq!(lacks("POST mint", 403, &administration), ["Administration: read and write"]);
        assert_eq!(lacks("GET runs", 200, &administration), ["Administration: read and write"]);
        assert_eq!(lacks("POST mint", 201, &administration), [] as [String; 0]);
        assert_eq!(lacks("POST mint", 403, &[]), [] as [String; 0], "nothing is said of what is missing");
    }
}
