//! The scale-set half: registration, the Actions service and the message queue (docs/github.md#scale-sets).
//!
//! `POST /actions/runner-registration` answers where the Actions service is: `/actions-service/rest`. The queue of a
//! session is at `/actions-service/scalesets/message`, with a query that clients have to keep.

mod queue;
mod refusal;
mod registration;
mod route;
mod runners;
mod sessions;
mod sets;
mod wire;

pub use queue::Held;

use crate::{
    mishap::{self, Early, set},
    rest::{Call, Reply},
    stamp,
    world::{LogEntry, Scope, What, World},
};
use http::{Request, Response, StatusCode};
use refusal::Refusal;
use route::Route;
use serde_json::Value;
use std::time::Duration;

/// Where the Actions service is, relative to the simulator.
const SERVICE: &str = "actions-service/rest";
/// Where message queues are.
const QUEUE: &str = "actions-service/scalesets/message";

/// What every call gets to see.
struct Ask<'a> {
    now: Duration,
    route: Route<'a>,
    request: &'a Request<Vec<u8>>,
}

impl Ask<'_> {
    fn json(&self) -> Result<Value, Refusal> {
        serde_json::from_slice(self.request.body()).map_err(|error| {
            Refusal::new(400, "VssPropertyValidationException", &format!("The body is no JSON: {error}"))
        })
    }

    /// What follows the scheme in the `Authorization` header.
    fn credential(&self, scheme: &str) -> Option<&str> {
        let header = self.request.headers().get(http::header::AUTHORIZATION)?.to_str().ok()?;
        let (own, token) = header.split_once(' ')?;
        own.eq_ignore_ascii_case(scheme).then(|| token.trim())
    }

    fn query(&self, name: &str) -> Option<String> {
        let query = self.request.uri().query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The scope whose scale sets the caller may use.
    fn scope(&self, world: &World) -> Result<Scope, Refusal> {
        let token = self.credential("Bearer").ok_or_else(Refusal::bad_token)?;
        world.admin_scope(self.now, token).ok_or_else(Refusal::bad_token)
    }
}

/// An answer before it becomes HTTP.
enum Said {
    Json(Value),
    NoContent,
}

/// Whether a path belongs to this half.
pub(crate) fn is_for_us(path: &str) -> bool {
    route::parse("", path).is_some()
}

pub(crate) fn serve(world: &mut World, now: Duration, request: &Request<Vec<u8>>) -> Reply {
    let (method, path) = (request.method().as_str(), request.uri().path());
    let Some(route) = route::parse(method, path) else {
        return Reply::Answer(finish(world, now, Err(Refusal::no_route())));
    };
    let call = route.call;
    let ask = Ask { now, route, request };
    let reply = reply(world, &ask);
    record(world, now, request_line(request), call, &reply);
    reply
}

fn reply(world: &mut World, ask: &Ask<'_>) -> Reply {
    let fault = world.faults_mut().take(ask.route.call, ask.request.method().as_str(), None);
    match mishap::early(fault.as_ref()) {
        Early::GoOn => {}
        Early::Hang => return Reply::Hang,
        Early::Reset => return Reply::Reset,
        Early::Refuse(refusal) => {
            let mut response = finish(world, ask.now, Err(Refusal::untyped(refusal.status, &refusal.message)));
            for (name, value) in &refusal.headers {
                set(&mut response, name, value);
            }
            return Reply::Answer(response);
        }
    }
    let refused = match &fault {
        Some(What::Exception { code, type_name }) => Some(Refusal::new(*code, type_name, "Injected.")),
        Some(What::Unauthorized) => Some(Refusal::bad_token()),
        Some(What::RateLimitPrimary { reset_after: seconds }) => Some(Refusal::too_many(Some(*seconds))),
        Some(What::RateLimitSecondary { retry_after }) => Some(Refusal::too_many(*retry_after)),
        _ => None,
    };
    if let Some(refusal) = refused {
        return Reply::Answer(finish(world, ask.now, Err(refusal)));
    }
    if ask.route.call == Call::GetMessage {
        return queue::poll(world, ask, fault.as_ref());
    }
    let said = dispatch(world, ask);
    let mut response = finish(world, ask.now, said);
    if fault == Some(What::ByteOrderMark) {
        mark(&mut response);
    }
    mishap::late(fault.as_ref(), ask.now, response)
}

fn dispatch(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    if ask.route.wants_version && ask.query("api-version").is_none() {
        return Err(Refusal::new(
            400,
            "VssVersionNotSpecifiedException",
            "No api-version was supplied for the request.",
        ));
    }
    match ask.route.call {
        Call::RunnerRegistration => registration::register(world, ask),
        Call::FindScaleSetGroup => sets::find_group(world, ask),
        Call::ListScaleSets => sets::list(world, ask),
        Call::GetScaleSet => sets::get(world, ask),
        Call::CreateScaleSet => sets::create(world, ask),
        Call::UpdateScaleSet => sets::update(world, ask),
        Call::DeleteScaleSet => sets::delete(world, ask),
        Call::MintScaleSetRunner => runners::mint(world, ask),
        Call::GetAgent => runners::get(world, ask),
        Call::FindAgent => runners::find(world, ask),
        Call::DeleteAgent => runners::delete(world, ask),
        Call::OpenMessageSession => sessions::open(world, ask),
        Call::RefreshMessageSession => sessions::refresh(world, ask),
        Call::CloseMessageSession => sessions::close(world, ask),
        Call::DeleteMessage => queue::delete(world, ask),
        Call::AcquireJobs => queue::acquire(world, ask),
        Call::AcquirableJobs => queue::acquirable(world, ask),
        _ => Err(Refusal::no_route()),
    }
}

/// Looks again whether a held poll can be answered.
pub(crate) fn look_again(world: &mut World, now: Duration, held: &Held) -> Reply {
    let reply = queue::look_again(world, now, held);
    record(world, now, held.request_line.clone(), Call::GetMessage, &reply);
    reply
}

fn request_line(request: &Request<Vec<u8>>) -> (String, String) {
    let uri = request.uri();
    let path = uri.path_and_query().map_or(uri.path(), http::uri::PathAndQuery::as_str);
    (request.method().to_string(), path.to_owned())
}

/// The client of a held poll went away before the answer, as one does whose capacity changed.
pub(crate) fn gave_up(world: &mut World, now: Duration, held: &Held) {
    record(world, now, held.request_line.clone(), Call::GetMessage, &Reply::Hang);
}

/// A poll that is held is counted when it is answered or given up.
fn record(world: &mut World, now: Duration, (method, path): (String, String), call: Call, reply: &Reply) {
    let status = match reply {
        Reply::Answer(response) | Reply::Slow(_, response) => response.status().as_u16(),
        Reply::Reset | Reply::Hang => 0,
        Reply::Held(_) => return,
    };
    let credential = match call {
        Call::RunnerRegistration => "registration token",
        Call::GetMessage | Call::DeleteMessage | Call::AcquireJobs => "scale set queue",
        _ => "scale set admin",
    };
    let credential = credential.to_owned();
    world.traffic_mut().record(LogEntry { at: now, method, path, call, status, credential });
}

/// The headers every answer has.
fn finish(world: &mut World, now: Duration, said: Result<Said, Refusal>) -> Response<Vec<u8>> {
    let (status, body, retry_after) = match said {
        Ok(Said::Json(value)) => (200, value.to_string().into_bytes(), None),
        Ok(Said::NoContent) => (204, Vec::new(), None),
        Err(refusal) => (refusal.status, refusal.body(), refusal.retry_after),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !response.body().is_empty() {
        set(&mut response, "content-type", "application/json; charset=utf-8; api-version=6.0-preview");
    }
    if let Some(seconds) = retry_after {
        set(&mut response, "retry-after", &seconds.to_string());
    }
    set(&mut response, "date", &stamp::http_date(now));
    let activity = world.new_uuid();
    set(&mut response, "activityid", &activity);
    set(&mut response, "x-github-request-id", &world.new_secret("", 16));
    response
}

/// Puts a byte order mark before a body.
fn mark(response: &mut Response<Vec<u8>>) {
    if !response.body().is_empty() {
        response.body_mut().splice(0..0, [0xef, 0xbb, 0xbf]);
    }
}
