//! The message queue of a session: poll, delete, and claim jobs where the server does not assign them
//! (docs/github.md#polling-for-messages).

use super::refusal::Refusal;
use super::{Ask, Said, finish, mark, request_line, wire};
use crate::{
    mishap,
    rest::Reply,
    world::{Assignment, Delivery, QueueError, ScaleSetId, What, World},
};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// A poll that is held: what has to be looked for, and until when.
#[derive(Debug, Clone)]
pub struct Held {
    /// When the poll ends with nothing, in time since the epoch.
    pub until: Duration,
    set: ScaleSetId,
    session: String,
    cursor: u64,
    capacity: u64,
    /// Method and path, for the records.
    pub(super) request_line: (String, String),
}

/// The set and the session a request's queue token opens.
fn enter(world: &mut World, ask: &Ask<'_>) -> Result<(ScaleSetId, String), Refusal> {
    let token = ask.credential("Bearer").ok_or_else(Refusal::bad_token)?;
    let (set, session) = world.enter_queue(ask.now, token).map_err(|error| match error {
        QueueError::BadToken => Refusal::bad_token(),
        QueueError::Gone => gone(),
    })?;
    match ask.query("sessionId") {
        // Part of the address the session came with; a client that composes its own address loses it.
        Some(named) if named == session => Ok((set, session)),
        _ => Err(Refusal::new(400, "ArgumentException", "The query of messageQueueUrl is missing.")),
    }
}

fn gone() -> Refusal {
    Refusal::new(404, "RunnerScaleSetSessionNotFoundException", "The session is gone.")
}

pub(super) fn poll(world: &mut World, ask: &Ask<'_>, fault: Option<&What>) -> Reply {
    match (open(world, ask), fault) {
        (Err(refusal), _) => Reply::Answer(finish(world, ask.now, Err(refusal))),
        (Ok(_), Some(What::EmptyMessage)) => {
            let mut response = finish(world, ask.now, Ok(Said::NoContent));
            *response.status_mut() = StatusCode::OK;
            Reply::Answer(response)
        }
        (Ok(held), Some(What::NothingAtOnce)) => look_again(world, ask.now, &Held { until: ask.now, ..held }),
        (Ok(held), _) => look_again(world, ask.now, &held),
    }
}

fn open(world: &mut World, ask: &Ask<'_>) -> Result<Held, Refusal> {
    let (set, session) = enter(world, ask)?;
    let capacity = match ask.request.headers().get("x-scalesetmaxcapacity") {
        // Older listeners do not know the header.
        None => u64::MAX,
        Some(value) => value.to_str().ok().and_then(|value| value.parse().ok()).ok_or_else(|| {
            Refusal::new(400, "ArgumentException", "X-ScaleSetMaxCapacity has to be a number that is not negative.")
        })?,
    };
    Ok(Held {
        until: ask.now + world.config().scale_sets.poll_hold,
        set,
        session,
        cursor: ask.query("lastMessageId").and_then(|id| id.parse().ok()).unwrap_or(0),
        capacity,
        request_line: request_line(ask.request),
    })
}

/// A message if there is one; nothing when the hold is over; else the same again.
pub(super) fn look_again(world: &mut World, now: Duration, held: &Held) -> Reply {
    if !world.is_listening(held.set, &held.session) {
        return Reply::Answer(finish(world, now, Err(gone())));
    }
    world.touch_session(now, held.set);
    if let Some(delivery) = world.next_message(now, held.set, held.cursor, held.capacity) {
        return deliver(world, now, held.set, &delivery);
    }
    if now < held.until {
        return Reply::Held(held.clone());
    }
    let mut response: Response<Vec<u8>> = finish(world, now, Ok(Said::NoContent));
    *response.status_mut() = StatusCode::ACCEPTED;
    Reply::Answer(response)
}

fn deliver(world: &mut World, now: Duration, set: ScaleSetId, delivery: &Delivery) -> Reply {
    let fault = world.faults_mut().take_for_message();
    let statistics = match fault {
        Some(What::ZeroStatistics) => Default::default(),
        _ => world.scale_set_statistics(set),
    };
    let base = world.config().base_url.clone();
    let mut events: Vec<Value> = delivery.events.iter().map(|event| wire::event(&base, set, event)).collect();
    if fault == Some(What::UnknownEvent) {
        events.push(json!({ "messageType": "JobPondered", "jobId": "00000000-0000-4000-8000-000000000000" }));
    }
    let message_type = match fault {
        Some(What::UnknownMessage) => "RunnerScaleSetWeatherMessages",
        _ => "RunnerScaleSetJobMessages",
    };
    let message = json!({
        "messageId": delivery.id,
        "messageType": message_type,
        "body": Value::Array(events).to_string(),
        "statistics": statistics,
    });
    let mut response = finish(world, now, Ok(Said::Json(message)));
    if fault == Some(What::ByteOrderMark) {
        mark(&mut response);
    }
    mishap::late(fault.as_ref(), now, response)
}

pub(super) fn delete(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let (set, _) = enter(world, ask)?;
    match world.delete_message(set, ask.route.id) {
        true => Ok(Said::NoContent),
        false => Err(Refusal::new(404, "MessageNotFoundException", "The message is gone.")),
    }
}

/// The listener claims jobs. Where the server assigns by itself there is no such route.
pub(super) fn acquire(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let set = own_queue(world, ask)?;
    let body = ask.json()?;
    let requests: Vec<u64> = serde_json::from_value(body)
        .map_err(|_| Refusal::new(400, "ArgumentException", "The body has to be a list of request ids."))?;
    let taken = world.acquire_requests(ask.now, set, &requests);
    Ok(Said::Json(wire::list(taken.into_iter().map(|id| json!(id)).collect())))
}

pub(super) fn acquirable(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let id = ScaleSetId(ask.route.id);
    world.scale_set(&scope, id).ok_or_else(|| Refusal::no_scale_set(id.0))?;
    let jobs: Vec<Value> =
        world.acquirable(id).into_iter().map(|(request, job)| wire::acquirable(world, request, job)).collect();
    match jobs.is_empty() {
        true => Ok(Said::NoContent),
        false => Ok(Said::Json(wire::list(jobs))),
    }
}

/// The set of a queue token, which has to be the one the path names.
fn own_queue(world: &mut World, ask: &Ask<'_>) -> Result<ScaleSetId, Refusal> {
    if world.config().scale_sets.assignment == Assignment::Automatic {
        return Err(Refusal::no_route());
    }
    let token = ask.credential("Bearer").ok_or_else(Refusal::bad_token)?;
    match world.enter_queue(ask.now, token) {
        Ok((set, _)) if set.0 == ask.route.id => Ok(set),
        Ok(_) => Err(Refusal::no_scale_set(ask.route.id)),
        Err(QueueError::BadToken) => Err(Refusal::bad_token()),
        Err(QueueError::Gone) => Err(gone()),
    }
}
