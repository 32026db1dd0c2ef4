//! How the runner stand-in talks to the simulator: one message out, one answer back, as JSON under `/_runner/`.
//!
//! The real protocol (broker, run service, results service) is GitHub's own business; what matters here is that a
//! runner in a container can only do its job with an intact configuration and a working network.

use crate::world::{Beat, JobId, JobOrder, Refusal, RunnerResult, RunnerSession, World};
use http::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where messages go, relative to the server address in `.runner`.
pub const PATH: &str = "_runner/message";

/// The version a runner claims that nobody told otherwise.
pub const CURRENT_VERSION: &str = "2.338.2";

/// Largest message taken; a chunk of output may grow sixfold when it is written as JSON.
const MAX_MESSAGE: usize = 2 * 1024 * 1024;

/// From runner to simulator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the methods of `World` they call say it")]
pub enum Message {
    Connect {
        client_id: String,
        modulus: String,
        version: String,
    },
    Poll {
        session: RunnerSession,
    },
    Acquire {
        session: RunnerSession,
        job: JobId,
    },
    Step {
        session: RunnerSession,
        index: usize,
        #[serde(default)]
        exit_code: Option<i32>,
    },
    Output {
        session: RunnerSession,
        text: String,
    },
    Beat {
        session: RunnerSession,
    },
    Complete {
        session: RunnerSession,
        result: RunnerResult,
        #[serde(default)]
        exit_code: Option<i32>,
        #[serde(default)]
        note: Option<String>,
    },
    Stop {
        session: RunnerSession,
    },
}

/// From simulator to runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Connected.
    Session(RunnerSession),
    /// There is a job to acquire.
    Offer(JobId),
    /// There is no job now; ask again.
    Nothing,
    /// The job is the runner's.
    Order(Box<JobOrder>),
    /// Noted.
    Done,
    /// Answer to a sign of life.
    Beat(Beat),
    /// No.
    Refused(Refusal),
}

/// Answers one message.
#[must_use]
pub fn serve(world: &mut World, now: Duration, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
    if request.uri().path().trim_start_matches('/') != PATH || request.method() != "POST" {
        return plain(StatusCode::NOT_FOUND, Vec::new());
    }
    if request.body().len() > MAX_MESSAGE {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, Vec::new());
    }
    let message: Message = match serde_json::from_slice(request.body()) {
        Ok(message) => message,
        Err(error) => return plain(StatusCode::BAD_REQUEST, error.to_string().into_bytes()),
    };
    let answer = world.answer_runner(now, message);
    let status = match answer {
        // Lets the server tell "nothing yet" without reading the body.
        Answer::Nothing => StatusCode::ACCEPTED,
        Answer::Refused(_) => StatusCode::CONFLICT,
        _ => StatusCode::OK,
    };
    plain(status, serde_json::to_vec(&answer).unwrap_or_default())
}

fn plain(status: StatusCode, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

impl World {
    /// Answers one message of a runner that has to give signs of life.
    pub fn answer_runner(&mut self, now: Duration, message: Message) -> Answer {
        let answer = match message {
            Message::Connect { client_id, modulus, version } => {
                self.open_session(now, &client_id, &modulus, &version, true).map(Answer::Session)
            }
            Message::Poll { session } => {
                self.runner_offer(now, &session).map(|job| job.map_or(Answer::Nothing, Answer::Offer))
            }
            Message::Acquire { session, job } => {
                self.runner_acquire(now, &session, job).map(|order| Answer::Order(Box::new(order)))
            }
            Message::Step { session, index, exit_code } => {
                self.runner_step(now, &session, index, exit_code).map(|()| Answer::Done)
            }
            Message::Output { session, text } => self.runner_output(now, &session, &text).map(|()| Answer::Done),
            Message::Beat { session } => self.runner_beat(now, &session).map(Answer::Beat),
            Message::Complete { session, result, exit_code, note } => {
                self.runner_complete_with(now, &session, result, exit_code, note).map(|()| Answer::Done)
            }
            Message::Stop { session } => self.runner_stop(now, &session).map(|()| Answer::Done),
        };
        answer.unwrap_or_else(Answer::Refused)
    }
}
