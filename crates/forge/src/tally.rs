//! What was asked with a login and what came of it, and how far the forge's clock is from this host's.

use std::{cell::Cell, time::Duration};

use http::{StatusCode, header};

use crate::{Calls, answer::is_limit, wire::Answer};

/// An answer that took longer says too little of the time at which it was given.
const PROMPT: Duration = Duration::from_secs(5);

/// Counts of one login, since the start.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    calls: Cell<Calls>,
    clock_offset: Cell<Option<f64>>,
}

impl Tally {
    pub fn calls(&self) -> Calls {
        self.calls.get()
    }

    /// The forge's clock less this host's, in seconds, to about half a second, as of the last answer that told.
    pub fn clock_offset(&self) -> Option<f64> {
        self.clock_offset.get()
    }

    /// A call was made between these times, since the Unix epoch; none = no answer came.
    pub fn made(&self, answer: Option<&Answer>, sent: Duration, received: Duration) {
        self.count(|calls| match answer {
            None => &mut calls.unanswered,
            Some(answer) if is_limit(answer) => &mut calls.limited,
            Some(answer) if answer.status == StatusCode::NOT_MODIFIED => &mut calls.unchanged,
            Some(answer) if answer.status.is_client_error() => &mut calls.refused,
            Some(answer) if answer.status.is_server_error() => &mut calls.failed,
            Some(_) => &mut calls.succeeded,
        });
        let offset = answer.and_then(|answer| offset(answer, sent, received));
        self.clock_offset.set(offset.or(self.clock_offset.get()));
    }

    /// A call was not made, to keep within a limit.
    pub fn withheld(&self) {
        self.count(|calls| &mut calls.withheld);
    }

    fn count(&self, which: impl FnOnce(&mut Calls) -> &mut u64) {
        let mut calls = self.calls.get();
        *which(&mut calls) += 1;
        self.calls.set(calls);
    }
}

/// `Date` is cut to the second, and was written at some time between the call and its answer: the middle of both.
fn offset(answer: &Answer, sent: Duration, received: Duration) -> Option<f64> {
    // An answer that a proxy had kept is of another time; a clock that was set meanwhile says nothing.
    if answer.headers.contains_key(header::AGE) || received.checked_sub(sent)? > PROMPT {
        return None;
    }
    let date = answer.headers.get(header::DATE)?.to_str().ok()?;
    let date = httpdate::parse_http_date(date).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(date.as_secs_f64() + 0.5 - (sent + received).as_secs_f64() / 2.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderMap;

    use super::*;

    /// Monday 2026-11-02, 00:00 UTC.
    const AT: Duration = Duration::from_secs(1_793_577_600);

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Answer {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect();
        Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: Vec::new() }
    }

    #[test]
    fn a_call_is_counted_by_what_came_of_it() {
        let tally = Tally::default();
        for status in [200, 201, 304, 403, 404, 429, 500, 503] {
            tally.made(Some(&answer(status, &[])), AT, AT);
        }
        tally.made(None, AT, AT);
        tally.withheld();
        let counted =
            Calls { succeeded: 2, unchanged: 1, refused: 2, limited: 1, failed: 2, unanswered: 1, withheld: 1 };
        assert_eq!((tally.calls(), tally.clock_offset()), (counted, None));
    }

    #[test]
    fn the_forges_date_tells_how_far_its_clock_is_ahead() {
        let second = Duration::from_secs(1);
        let offset = |headers: &[_], sent, received| offset(&answer(200, headers), sent, received);
        let minute_ahead = [("date", "Mon, 02 Nov 2026 00:01:00 GMT")];
        assert_eq!(offset(&minute_ahead, AT, AT + second), Some(60.0));
        assert_eq!(offset(&minute_ahead, AT + 120 * second, AT + 121 * second), Some(-60.0));
        let kept = [minute_ahead[0], ("age", "60")];
        for (headers, received) in [
            (&minute_ahead[..], AT + 30 * second),
            (&minute_ahead[..], AT - second),
            (&kept[..], AT + second),
            (&[("date", "yesterday")][..], AT + second),
            (&[][..], AT + second),
        ] {
            assert_eq!(offset(headers, AT, received), None, "{headers:?}");
        }
    }
}
