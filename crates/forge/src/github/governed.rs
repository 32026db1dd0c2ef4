//! A transport that keeps within what its credential may be used for.

use std::{
    cell::{Ref, RefCell},
    rc::Rc,
    time::Duration,
};

use http::{Method, StatusCode};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use super::{
    governor::{Governor, LimitNotice, Purpose, Request, Weight},
    refusal,
    transport::{Answer, Call, NoAnswer, Transport},
};
use crate::{
    answer::{header, is_limit, retry_after},
    standing::{Heard, Standing},
    tally::Tally,
};

/// Calls at the same time: that look, and that serve jobs, which so never wait for the others. GitHub allows 100.
const AT_ONCE: (usize, usize) = (10, 20);

/// A wait for a budget to be refilled that is not worth an error, and how long one call waits in all: a look at hundreds
/// of runs is stretched and not cut short.
const SHORT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// Who asks a call to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The forge refused one, or has none left.
    Forge,
    /// The controller itself, to stay within its share.
    Share,
}

/// A transport with its governor.
#[derive(Debug)]
pub struct Governed<T> {
    transport: T,
    governor: RefCell<Governor>,
    tally: Rc<Tally>,
    heard: Heard,
    looks: Semaphore,
    serves: Semaphore,
}

impl<T: Transport> Governed<T> {
    /// Uses `share` (above 0, at most 1) of the credential's rate limit.
    pub fn new(transport: T, share: f64) -> Self {
        let governor = RefCell::new(Governor::new(share, transport.now()));
        Self {
            transport,
            governor,
            tally: Rc::default(),
            heard: Heard::default(),
            looks: Semaphore::new(AT_ONCE.0),
            serves: Semaphore::new(AT_ONCE.1),
        }
    }

    /// Waits as long as it is worth it; else says how long it would have been, and who asked for it.
    async fn admitted(&self, request: Request<'_>) -> Result<(), (Duration, Asked)> {
        let began = Instant::now();
        loop {
            let now = self.transport.now();
            let Err(until) = self.governor.borrow_mut().admit(request, now) else { return Ok(()) };
            let wait = until.saturating_sub(now);
            let paused = self.governor.borrow().route_paused_until(request.route, now).is_some();
            if paused || wait > SHORT || began.elapsed() + wait > PATIENCE {
                return Err((wait, if paused { Asked::Forge } else { Asked::Share }));
            }
            sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    /// What may be used of it.
    pub fn governor(&self) -> Ref<'_, Governor> {
        self.governor.borrow()
    }

    /// How its credential stands.
    pub(super) fn standing(&self) -> Standing {
        self.heard.standing(|| self.transport.has_fresh_secret())
    }

    /// What was asked.
    pub(super) fn tally(&self) -> &Rc<Tally> {
        &self.tally
    }
}

/// Calls that serve jobs: everything that changes something, and what is looked up by id or name.
fn purpose(call: &Call) -> Purpose {
    let by_name = call.path.contains("/actions/runners?name=") || call.path.contains("/actions/jobs/");
    if call.method != Method::GET || by_name { Purpose::Serve } else { Purpose::Look }
}

impl<T: Transport> Transport for Governed<T> {
    /// Answers 429 itself, with the time to wait in `retry-after`, where the call may not be made now.
    async fn send(&self, call: Call) -> Result<Answer, NoAnswer> {
        let purpose = purpose(&call);
        let weight = if call.method == Method::GET { Weight::Read } else { Weight::Change };
        let route = call.route();
        let turn = match purpose {
            Purpose::Look => &self.looks,
            Purpose::Serve => &self.serves,
        };
        // Never closed.
        let _turn = turn.acquire().await;
        if let Err((wait, asked)) = self.admitted(Request { purpose, weight, route: &route }).await {
            self.tally.withheld();
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            let message = match asked {
                Asked::Forge => format!("not sent: the forge's limit asks to wait {seconds} s"),
                Asked::Share => format!("not sent: what the controller uses of the limit is used up for {seconds} s"),
            };
            let mut answer = Answer::made_up(StatusCode::TOO_MANY_REQUESTS, &message);
            answer.headers.insert(http::header::RETRY_AFTER, seconds.into());
            if asked == Asked::Share {
                answer.headers.insert(refusal::OWN_SHARE, http::HeaderValue::from_static("1"));
            }
            return Ok(answer);
        }
        let sent = self.now();
        let answer = self.transport.send(call).await;
        let now = self.now();
        self.tally.made(answer.as_ref().ok(), sent, now);
        let answer = answer?;
        self.heard.answer(&route, &answer);
        let resource: Option<String> = header(&answer, "x-ratelimit-resource");
        let heard = LimitNotice {
            route: &route,
            resource: resource.as_deref(),
            limit: refusal::rate_limit(&answer),
            refused: is_limit(&answer),
            retry_after: retry_after(&answer),
            unchanged: answer.status == StatusCode::NOT_MODIFIED,
        };
        // Those who share a limit do not ask in the same microsecond.
        let chance = f64::from(now.subsec_micros() % 1000) / 1000.0;
        self.governor.borrow_mut().heard(heard, now, chance);
        Ok(answer)
    }

    fn now(&self) -> Duration {
        self.transport.now()
    }
}
