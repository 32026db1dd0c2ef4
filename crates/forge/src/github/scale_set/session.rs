//! The message session and its queue (docs/github.md#message-sessions, docs/github.md#polling-for-messages). One
//! exchange a function; what follows is decided in [`super::ScaleSet`].

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use url::Url;

use super::{
    bootstrap::{safe, secret},
    models::{Envelope, Listing, SessionModel, Statistics, envelope, read},
    pace,
    registry::SETS,
    service::{Service, ServiceCall, exchange, refused},
};
use crate::{
    ErrorKind, ForgeError,
    github::transport::Transport,
    wire::{Answer, CALL_TIMEOUT, Request, Wire},
};

/// Longest wait for a poll: the server holds it for 50 s (docs/github.md#polling-for-messages), an older one perhaps
/// longer.
const POLL_TIMEOUT: Duration = Duration::from_secs(300);
const MAX_CAPACITY: &str = "x-scalesetmaxcapacity";

/// The one session of a scale set. `Debug` does not show the token.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub set_id: u64,
    id: String,
    queue: Url,
    /// The `Authorization` header of the queue.
    bearer: HeaderValue,
    pub statistics: Option<Statistics>,
}

impl Session {
    /// Whether `other` is the same session, perhaps with another token.
    pub fn is(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// What the queue says to us.
#[derive(Debug)]
pub(super) enum QueueAnswer<T> {
    /// What was asked for.
    Well(T),
    /// The token is refused: refresh the session.
    TokenRefused(ForgeError),
    /// There is no such session: begin another.
    SessionGone(ForgeError),
}

/// Begins the session. Conflict = somebody else has it; not found = the scale set is gone.
pub(super) async fn create<T: Transport, W: Wire>(service: &Service<T, W>, set_id: u64) -> Result<Session, ForgeError> {
    let body = json!({"ownerName": service.spec().owner_name});
    let call = ServiceCall::new(Method::POST, format!("{SETS}/{set_id}/sessions")).body(body);
    let shown = call.shown();
    let answer = service.expect(call, &[StatusCode::OK, StatusCode::CREATED]).await?;
    parsed(service, &shown, set_id, &answer)
}

/// A new queue token and fresh statistics for the same session.
pub(super) async fn refresh<T: Transport, W: Wire>(
    service: &Service<T, W>,
    session: &Session,
) -> Result<QueueAnswer<Session>, ForgeError> {
    let call = ServiceCall::new(Method::PATCH, format!("{SETS}/{}/sessions/{}", session.set_id, session.id));
    let shown = call.shown();
    let answer = service.call(call).await?;
    match answer.status {
        StatusCode::OK => parsed(service, &shown, session.set_id, &answer).map(QueueAnswer::Well),
        status => {
            let error = refused(&shown, &answer, service.wire.now());
            let passing =
                matches!(error.kind, ErrorKind::RateLimited(_) | ErrorKind::Paced(_) | ErrorKind::Unavailable);
            // Whatever else the backend has against this session, it is no use to us (docs/github.md#message-sessions).
            if status.is_client_error() && !passing { Ok(QueueAnswer::SessionGone(error)) } else { Err(error) }
        }
    }
}

/// Ends the session, so that a successor need not wait. One that has ended already is fine.
pub(super) async fn delete<T: Transport, W: Wire>(
    service: &Service<T, W>,
    session: &Session,
) -> Result<(), ForgeError> {
    let call = ServiceCall::new(Method::DELETE, format!("{SETS}/{}/sessions/{}", session.set_id, session.id));
    match service.expect(call, &[StatusCode::NO_CONTENT, StatusCode::OK]).await {
        Err(error) if error.kind != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// One long poll from `cursor`, held by the server until there is a message; `None` = there is none. When the capacity
/// changes meanwhile, the poll is given up and begun anew: GitHub reads it at the beginning only. No message is lost
/// by that, since only [`acknowledge`] takes one off the queue.
pub(super) async fn poll<T: Transport, W: Wire>(
    service: &Service<T, W>,
    session: &Session,
    cursor: u64,
    capacity: &mut watch::Receiver<u32>,
) -> Result<QueueAnswer<Option<Envelope>>, ForgeError> {
    let mut url = session.queue.clone();
    if cursor > 0 {
        url.query_pairs_mut().append_pair("lastMessageId", &cursor.to_string());
    }
    loop {
        let offered = *capacity.borrow_and_update();
        let begun = Instant::now();
        let mut headers = service.headers(session.bearer.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json; api-version=6.0-preview"));
        headers.insert(MAX_CAPACITY, HeaderValue::from(offered));
        let request = Request { method: Method::GET, url: url.clone(), headers, body: None, timeout: POLL_TIMEOUT };
        let answer = tokio::select! {
            biased;
            answer = exchange(&service.wire, "long poll", request) => answer?,
            () = differs(capacity, offered) => {
                // A capacity that flickers does not become a flood of polls.
                sleep_until(begun + pace::EMPTY).await;
                continue;
            }
        };
        return match answer.status {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(QueueAnswer::Well(None)),
            StatusCode::OK => match envelope(&answer.body) {
                Ok(message) => Ok(QueueAnswer::Well(message)),
                Err(error) => {
                    Err(ForgeError::new(ErrorKind::Unavailable, format!("long poll: answer not understood: {error}")))
                }
            },
            _ => heard(service, "long poll", &answer),
        };
    }
}

/// Returns when the capacity is another than `offered`; never, once nobody can change it any more.
async fn differs(capacity: &mut watch::Receiver<u32>, offered: u32) {
    while capacity.changed().await.is_ok() {
        if *capacity.borrow_and_update() != offered {
            return;
        }
    }
    std::future::pending().await
}

/// Takes a message off the queue for good. One that is not there any more is fine.
pub(super) async fn acknowledge<T: Transport, W: Wire>(
    service: &Service<T, W>,
    session: &Session,
    message_id: u64,
) -> Result<QueueAnswer<()>, ForgeError> {
    let mut url = session.queue.clone();
    let path = format!("{}/{message_id}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let headers = service.headers(session.bearer.clone());
    let request = Request { method: Method::DELETE, url, headers, body: None, timeout: CALL_TIMEOUT };
    let shown = format!("acknowledge message {message_id}");
    let answer = exchange(&service.wire, &shown, request).await?;
    match answer.status {
        StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::GONE => Ok(QueueAnswer::Well(())),
        _ => heard(service, &shown, &answer),
    }
}

/// Claims jobs that were offered; the ids that became ours. Only GHES and older backends offer any; where the route
/// is not there, jobs are assigned without it.
pub(super) async fn acquire<T: Transport, W: Wire>(
    service: &Service<T, W>,
    session: &Session,
    request_ids: &[i64],
) -> Result<QueueAnswer<Vec<i64>>, ForgeError> {
    let call = ServiceCall::new(Method::POST, format!("{SETS}/{}/acquirejobs", session.set_id))
        .body(json!(request_ids))
        .bearer(session.bearer.clone());
    let shown = call.shown();
    let answer = service.call(call).await?;
    match answer.status {
        StatusCode::OK => {
            let acquired: Listing<i64> = read(&answer.body)
                .map_err(|error| ForgeError::new(ErrorKind::Unavailable, format!("{shown}: {error}")))?;
            Ok(QueueAnswer::Well(acquired.value))
        }
        StatusCode::NO_CONTENT | StatusCode::NOT_FOUND | StatusCode::GONE => Ok(QueueAnswer::Well(Vec::new())),
        _ => heard(service, &shown, &answer),
    }
}

fn heard<A, T: Transport, W: Wire>(
    service: &Service<T, W>,
    shown: &str,
    answer: &Answer,
) -> Result<QueueAnswer<A>, ForgeError> {
    let error = refused(shown, answer, service.wire.now());
    match error.kind {
        ErrorKind::Unauthorized | ErrorKind::Forbidden => Ok(QueueAnswer::TokenRefused(error)),
        ErrorKind::NotFound => Ok(QueueAnswer::SessionGone(error)),
        _ => Err(error),
    }
}

fn parsed<T: Transport, W: Wire>(
    service: &Service<T, W>,
    shown: &str,
    set_id: u64,
    answer: &Answer,
) -> Result<Session, ForgeError> {
    let unusable = |why: &str| ForgeError::new(ErrorKind::Unavailable, format!("{shown}: {why}"));
    let model: SessionModel = read(&answer.body).map_err(|error| unusable(&error))?;
    let queue = Url::parse(&model.message_queue_url)
        .ok()
        .filter(|url| safe(url, service.secure()))
        .ok_or_else(|| unusable("the answer names no usable queue URL"))?;
    let plain = !model.session_id.is_empty() && model.session_id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !plain {
        return Err(unusable("the answer names no usable session id"));
    }
    Ok(Session {
        set_id,
        id: model.session_id,
        queue,
        bearer: secret(shown, "Bearer", &model.message_queue_access_token)?,
        statistics: model.statistics,
    })
}
