//! Webhook deliveries of GitHub (docs/github.md#deliveries), on a listener of its own: `POST /webhook`.
//!
//! A delivery is only a hint that a repository is worth a look now; polling stays the truth, so a delivery that is
//! lost, late, repeated or out of order costs at most a look. This listener is the one door strangers can knock at:
//! nothing of a body is understood before its signature is verified, and everything is limited.

mod counters;
mod delivery;
mod signature;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::timeout,
};
use tracing::debug;

use self::counters::count;
pub use self::{
    counters::Counters,
    delivery::{Deliveries, Hint, Judged},
    signature::{EmptySecret, Secret},
};

/// Largest body read. GitHub sends up to 25 MB, but of the one event we take: a job with a thousand steps, its
/// repository, organisation and sender are less than half of this.
const BODY_LIMIT: usize = 1024 * 1024;
/// How long a body may take to arrive. GitHub itself gives up after ten seconds.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Hints that wait for the controller.
const HINTS: usize = 256;

/// What every request shares.
#[derive(Debug)]
struct Desk {
    secret: Secret,
    heard: Mutex<Deliveries>,
    hints: Sender<Hint>,
    counters: Arc<Counters>,
}

/// The routes, what they make of deliveries, and how many there were.
pub fn router(secret: Secret) -> (Router, Receiver<Hint>, Arc<Counters>) {
    let (sender, hints) = channel(HINTS);
    let counters = Arc::<Counters>::default();
    let desk = Arc::new(Desk { secret, heard: Mutex::default(), hints: sender, counters: counters.clone() });
    let router =
        Router::new().route("/webhook", post(receive)).layer(DefaultBodyLimit::max(BODY_LIMIT)).with_state(desk);
    (router, hints, counters)
}

async fn receive(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let headers = request.headers().clone();
    let answer = match verified(&desk.secret, &headers, request).await {
        Ok(body) => desk.take(&headers, &body),
        Err(answer) => answer,
    };
    if answer.status().is_client_error() {
        count(&desk.counters.refused);
    }
    answer
}

/// The body, once it is known who sent it. Who did not sign learns nothing but that.
async fn verified(secret: &Secret, headers: &HeaderMap, request: Request) -> Result<Bytes, Response> {
    let Some(signature) = text(headers, "x-hub-signature-256") else {
        return Err(StatusCode::UNAUTHORIZED.into_response());
    };
    let body = match timeout(BODY_PATIENCE, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(rejection)) => return Err(rejection.status().into_response()),
        Err(_) => return Err(StatusCode::REQUEST_TIMEOUT.into_response()),
    };
    match secret.signed(&body, signature) {
        true => Ok(body),
        false => Err(StatusCode::UNAUTHORIZED.into_response()),
    }
}

impl Desk {
    /// Takes a delivery that the forge signed.
    fn take(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        match text(headers, "x-github-event") {
            Some("ping") => return (StatusCode::OK, "pong").into_response(),
            Some("workflow_job") => {}
            _ => {
                count(&self.counters.ignored);
                return (StatusCode::OK, "ignored: only workflow_job events are of use here").into_response();
            }
        }
        let media_type = text(headers, header::CONTENT_TYPE.as_str()).and_then(|value| value.split(';').next());
        if !media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json")) {
            let remedy = "set the webhook's content type to application/json";
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, remedy).into_response();
        }
        let id = text(headers, "x-github-delivery").unwrap_or_default();
        // A panic while it was locked cannot have left it half changed in a way that matters to a hint.
        let judged = self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).judge(id, body);
        match judged {
            Judged::News(hint) => {
                debug!(repository = hint.repository, job = hint.job_id, "webhook");
                let sent = self.hints.try_send(hint).is_ok();
                count(if sent { &self.counters.accepted } else { &self.counters.dropped });
                StatusCode::ACCEPTED.into_response()
            }
            Judged::Old => {
                count(&self.counters.duplicate);
                (StatusCode::OK, "known already").into_response()
            }
            Judged::Ignored => {
                count(&self.counters.ignored);
                (StatusCode::OK, "ignored: only a job that waits for a runner is worth a look").into_response()
            }
            Judged::Malformed(why) => (StatusCode::BAD_REQUEST, why).into_response(),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests;
