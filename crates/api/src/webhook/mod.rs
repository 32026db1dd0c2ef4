//! Webhook deliveries of GitHub (docs/github.md#deliveries), on a listener of its own: `POST /webhook`; and of other forges,
//! which send the same: `POST /webhook/CREDENTIAL`.
//!
//! A delivery is only a hint that a repository is worth a look now; polling stays the truth, so a delivery that is
//! lost, late, repeated or out of order costs at most a look. This listener is the one door strangers can knock at:
//! nothing of a body is understood before its signature is verified, and everything is limited.

mod counters;
mod delivery;
mod signature;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use http_body_util::BodyExt;
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

/// Largest body taken: a job with a thousand steps, its repository, organisation and sender are less than half of this.
const BODY_LIMIT: usize = 1024 * 1024;
/// Largest body of an event that is not taken: GitHub sends up to 25 MB. Nothing of it is kept.
const IGNORED_LIMIT: usize = 25 * 1024 * 1024;
/// How long a body may take to arrive. GitHub itself gives up after ten seconds.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Hints that wait for the controller.
const HINTS: usize = 256;

/// What the requests of one sender share.
#[derive(Debug)]
struct Desk {
    /// The credential of the forge that sends; None = GitHub.
    credential: Option<String>,
    secret: Secret,
    heard: Mutex<Deliveries>,
    hints: Sender<Hint>,
    counters: Arc<Counters>,
}

/// The routes, what they make of deliveries, and how many there were.
///
/// `secrets` = by the credential of the forge that sends; None = GitHub.
pub fn router(secrets: BTreeMap<Option<String>, Secret>) -> (Router, Receiver<Hint>, Arc<Counters>) {
    let (sender, hints) = channel(HINTS);
    let counters = Arc::<Counters>::default();
    let mut router = Router::new();
    for (credential, secret) in secrets {
        let path = credential.as_ref().map_or("/webhook".to_owned(), |name| format!("/webhook/{name}"));
        let (heard, hints, counters) = (Mutex::default(), sender.clone(), counters.clone());
        let desk = Arc::new(Desk { credential, secret, heard, hints, counters });
        router = router.route(&path, post(receive).with_state(desk));
    }
    (router, hints, counters)
}

/// What a delivery is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ping,
    Job,
    /// Nothing that is of use here.
    Other,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        match text(headers, "x-github-event") {
            Some("ping") => Self::Ping,
            Some("workflow_job") => Self::Job,
            _ => Self::Other,
        }
    }
}

async fn receive(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let kind = Kind::of(&parts.headers);
    let answer = match verified(&desk.secret, &parts.headers, kind, body).await {
        Ok(body) => desk.take(&parts.headers, kind, &body),
        Err(code) => code.into_response(),
    };
    if answer.status().is_client_error() {
        count(&desk.counters.refused);
    }
    answer
}

/// The body, once it is known who sent it; nothing of one that is of no use. Who did not sign learns nothing but that.
async fn verified(secret: &Secret, headers: &HeaderMap, kind: Kind, mut body: Body) -> Result<Vec<u8>, StatusCode> {
    let signature = text(headers, "x-hub-signature-256").ok_or(StatusCode::UNAUTHORIZED)?;
    let limit = if kind == Kind::Other { IGNORED_LIMIT } else { BODY_LIMIT };
    let read = async {
        if body.size_hint().lower() > limit as u64 {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let (mut proof, mut length, mut kept) = (secret.proof(), 0, Vec::new());
        while let Some(frame) = body.frame().await {
            // What is no data is a trailer.
            let Ok(bytes) = frame.map_err(|_| StatusCode::BAD_REQUEST)?.into_data() else { continue };
            length += bytes.len();
            if length > limit {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            proof = proof.with(&bytes);
            if kind != Kind::Other {
                kept.extend_from_slice(&bytes);
            }
        }
        if proof.holds(signature) { Ok(kept) } else { Err(StatusCode::UNAUTHORIZED) }
    };
    timeout(BODY_PATIENCE, read).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))
}

impl Desk {
    /// Takes a delivery that the forge signed.
    fn take(&self, headers: &HeaderMap, kind: Kind, body: &[u8]) -> Response {
        if kind == Kind::Other {
            count(&self.counters.ignored);
            return (StatusCode::OK, "ignored: only workflow_job events are of use here").into_response();
        }
        // Also of a ping, which the forge sends at once and shows to who made the webhook.
        let media_type = text(headers, header::CONTENT_TYPE.as_str()).and_then(|value| value.split(';').next());
        if !media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json")) {
            let remedy = "set the webhook's content type to application/json";
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, remedy).into_response();
        }
        if kind == Kind::Ping {
            return (StatusCode::OK, "pong").into_response();
        }
        let id = text(headers, "x-github-delivery").unwrap_or_default();
        // A panic while it was locked cannot have left it half changed in a way that matters to a hint.
        let judged = self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).judge(id, body);
        match judged {
            Judged::News(mut hint) => {
                if let Some(credential) = &self.credential {
                    hint.repository = format!("{credential}:{}", hint.repository);
                }
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
