//! What GitHub's own runner speaks: token, session, messages, the job, its results.
//!
//! | what | where, below the simulator's address |
//! |---|---|
//! | token service | `_apis/oauth2/token` |
//! | broker: session, message, acknowledge | `_broker/` |
//! | run service: acquirejob, renewjob, completejob | `_run/` |
//! | results service | `twirp/`, what is uploaded `_results/` |
//!
//! How the faults of a runner ([`RunnerWhat`](crate::world::RunnerWhat)) look from outside, and what GitHub's runner
//! does then:
//!
//! | fault | answer | the runner |
//! |---|---|---|
//! | `ClockSkew` | token: 400, with the server's time | tries for half an hour, 1 |
//! | `RegistrationGone` | token: 400 `invalid_client` | 1 |
//! | `NeverListening` | session: none | waits |
//! | `SessionForbidden` | session: 403 | 1 |
//! | `SessionBroken` | session: 500 | tries again after 30 s |
//! | `SessionConflict` | session: 409 | tries for four minutes, 5 |
//! | `VersionTooOld`, `TooOldInJob` | message: `RunnerVersionTooOld` | 7 |
//! | `SessionInvalid` | message: `RunnerSessionInvalid` | 1 |
//! | `RegistrationLost` | message: `RunnerNotFound` | 0 |
//! | `Deprovisioned` | message: `HostedRunnerDeprovisioned` | 0 |
//! | `RefreshConfig` | message of that kind | listens again |
//! | `AcknowledgeRefused` | acknowledge: `AcknowledgeJobNotFound` | 0 |
//! | `AcquireRefused` | acquirejob: 404 | listens on |
//! | `AssignmentLost` | acquirejob: 404 | listens on, and is never offered anything again |
//! | `GivenNothing` | message: none | listens on |
//! | `CutOff` | message: 500, again and again | tries again, for ever |
//! | `CancelledAtOnce` | renewjob held until the message is fetched | 0, no result |
//! | `RenewalFails` | renewjob: 404, the first time | 0, no result |
//! | `RenewalBroken` | renewjob: 500, later | goes on |
//! | `JobForgotten` | renewjob: 404, later | 0, `Abandoned` |

mod broker;
mod job_message;
mod results;
mod run;
mod token;

pub use job_message::{JobMessage, JobStep};

use crate::{
    rest::Reply,
    world::{Refusal, RunnerKey, World},
};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// The version a runner claims that nobody told otherwise.
pub const CURRENT_VERSION: &str = "2.338.2";

/// Where runners get tokens.
pub(crate) const TOKEN: &str = "_apis/oauth2/token";
/// Where sessions and messages are.
pub(crate) const BROKER: &str = "_broker/";
const RUN: &str = "_run/";
const TWIRP: &str = "twirp/";
const BLOBS: &str = "_results/";

/// What every call gets to see.
struct Ask<'a> {
    now: Duration,
    request: &'a Request<Vec<u8>>,
    /// Path below that of its service.
    path: &'a str,
}

impl Ask<'_> {
    fn json(&self) -> Result<Value, Answer> {
        serde_json::from_slice(self.request.body()).map_err(|error| Answer::plain(400, &format!("No JSON: {error}")))
    }

    fn query(&self, name: &str) -> Option<String> {
        let query = self.request.uri().query().unwrap_or_default();
        // Written in several ways by several runners.
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.into_owned())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name)?.to_str().ok()
    }

    /// What the caller's token opens.
    fn key(&self, world: &World) -> Result<RunnerKey, Answer> {
        let token =
            self.header("authorization").and_then(|header| header.split_once(' ')).map(|(_, token)| token.trim());
        let key = token.and_then(|token| world.runner_key(self.now, token));
        key.ok_or_else(|| Answer::plain(401, "Unauthorized").with("www-authenticate", "Bearer"))
    }
}

/// An answer before it becomes HTTP.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Option<Value>,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    fn ok(body: Value) -> Self {
        Self { status: 200, body: Some(body), headers: Vec::new() }
    }

    fn empty(status: u16) -> Self {
        Self { status, body: None, headers: Vec::new() }
    }

    fn plain(status: u16, message: &str) -> Self {
        Self { status, body: Some(json!({ "message": message })), headers: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn http(self) -> Response<Vec<u8>> {
        let mut response = Response::new(Vec::new());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(body) = self.body {
            // Without it the runner reads nothing.
            crate::mishap::set(&mut response, "content-type", "application/json; charset=utf-8");
            *response.body_mut() = body.to_string().into_bytes();
        }
        for (name, value) in self.headers {
            crate::mishap::set(&mut response, name, &value);
        }
        response
    }
}

/// Which service a path belongs to, and the path below it.
fn service(path: &str) -> Option<(&'static str, &str)> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let of = |service: &'static str| path.strip_prefix(service).map(|rest| (service, rest));
    [TOKEN, BROKER, RUN, TWIRP, BLOBS].into_iter().find_map(of)
}

/// Whether a path belongs to this half.
pub(crate) fn is_for_us(path: &str) -> bool {
    service(path).is_some()
}

/// Whether an answer says that there is none yet: the question is asked again until [`Config::message_hold`] is over.
///
/// [`Config::message_hold`]: crate::Config::message_hold
pub(crate) fn is_held(path: &str, response: &Response<Vec<u8>>) -> bool {
    is_for_us(path) && response.status() == StatusCode::ACCEPTED
}

pub(crate) fn serve(world: &mut World, now: Duration, request: &Request<Vec<u8>>) -> Reply {
    let Some((service, path)) = service(request.uri().path()) else {
        return Reply::Answer(Answer::empty(404).http());
    };
    let ask = Ask { now, request, path };
    let answer = match service {
        TOKEN => token::give(world, &ask),
        BROKER => match broker::serve(world, &ask) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => return Reply::Hang,
            Err(answer) => Err(answer),
        },
        RUN => run::serve(world, &ask),
        TWIRP => results::call(world, &ask),
        _ if request.method() == Method::PUT => results::put(world, &ask),
        _ => Err(Answer::empty(404)),
    };
    Reply::Answer(answer.unwrap_or_else(|refusal| refusal).http())
}

/// An error of the broker or the run service.
fn refused(source: &str, status: u16, kind: &str, message: &str) -> Answer {
    let mut body = json!({ "source": source, "statusCode": status, "errorMessage": message });
    if !kind.is_empty() {
        body["errorKind"] = kind.into();
    }
    Answer { status, body: Some(body), headers: Vec::new() }
}

/// What the run service answers in place of doing what it was asked.
fn run_refusal(refusal: &Refusal) -> Answer {
    match refusal {
        Refusal::Broken => Answer::plain(500, "Internal Server Error"),
        _ => refused("actions-run-service", 404, "", &refusal.to_string()),
    }
}
