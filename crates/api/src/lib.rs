//! Status over HTTP and over the local socket: `GET /health`, `GET /status`, `GET /metrics`, and [`v1`] below `/api/v1`;
//! over HTTP a page for people as well.
//! Over HTTP it is read-only; what changes something is for the local socket.

mod bearer;
mod body;
mod dashboard;
mod events;
pub mod mcp;
mod measures;
mod metrics;
mod own_name;
mod problem;
mod server;
pub mod v1;
pub mod webhook;

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use contract::unit_name;
use controller::{event, history::Reader, operation::LoopCommand, status::Status};
use kernel::cgroup::Usage;
use serde::{Deserialize, Serialize};
use settings::token_file::Token;
use tokio::sync::{mpsc, watch};
use utoipa::ToSchema;

pub use self::{
    events::Events,
    measures::Measures,
    problem::ErrorAnswer,
    server::{Listener, Peer, serve},
};
use crate::webhook::Counters;

/// A controller that has not gone round for so long hangs.
const STALE: u64 = 60_000;

/// The answer of `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `degraded`.
    pub status: String,
    /// What is wrong, with the thing's name and what was last said about it.
    pub reasons: Vec<String>,
}

/// Healthy or not, and why not, as of `now_ms`.
pub fn health(status: &Status, now_ms: u64) -> Health {
    let mut reasons = status.problems.clone();
    let age = now_ms.saturating_sub(status.updated_ms);
    if status.updated_ms == 0 {
        reasons.push("starting: nothing is adopted yet".to_owned());
    } else if age > STALE {
        reasons.push(format!("the controller's loop stands still since {} s", age / 1000));
    }
    Health { status: if reasons.is_empty() { "ok" } else { "degraded" }.to_owned(), reasons }
}

/// What there is to tell, and where orders go.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The status as the controller last told it.
    pub status: watch::Receiver<Status>,
    /// Deliveries, where they are listened for.
    pub webhook: Option<Arc<Counters>>,
    /// What happens.
    pub events: Events,
    /// What is counted of what ended.
    pub measures: Measures,
    /// What ended.
    pub history: Reader,
    /// Where the controller keeps its state.
    pub state_dir: PathBuf,
    /// Where orders go; `None` = none are taken.
    pub commands: Option<mpsc::Sender<LoopCommand>>,
    /// The last status in writing.
    pub written: Written,
}

impl Sources {
    /// The status as the controller last told it, and what it does not see: deliveries, and what containers use now.
    fn status(&self) -> Status {
        let webhook = self.webhook.as_ref().map(|counters| counters.counts());
        let mut status = Status { webhook, ..self.status.borrow().clone() };
        for container in &mut status.active_containers {
            let Ok(name) = container.name.parse() else { continue };
            let unit = unit_name::container_unit(&container.class, &name);
            let usage = Usage::of_unit(&unit_name::class_slice(&container.class), &unit);
            (container.memory, container.cpu_us) = (usage.memory, usage.cpu_us);
        }
        status
    }

    /// Takes note of what happened, and tells everybody.
    pub fn observe(&self, before: &Status, after: &Status) {
        for event in event::changes(before, after) {
            self.measures.count(&event.what);
            self.events.tell(event);
        }
    }
}

/// A status in writing, for as long as it says the same: many who ask at once cost no more than one.
#[derive(Debug, Clone, Default)]
pub struct Written(Arc<Mutex<Option<Text>>>);

/// A text, and the round and second it is of.
type Text = ((u64, u64), Bytes);

impl Written {
    /// Of `round`, with its `_seconds` as of `second`.
    fn get_or(&self, round: u64, second: u64, write: impl FnOnce() -> Bytes) -> Bytes {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((of, text)) if *of == (round, second) => text.clone(),
            _ => {
                let text = write();
                *last = Some(((round, second), text.clone()));
                text
            }
        }
    }
}

/// The routes for readers who come by HTTP; with a token, for those alone who show it.
pub fn public(sources: Sources, token: Option<Token>) -> Router {
    let router = with_tools(routes(Sources { commands: None, ..sources }));
    // What is not the page is the rest's to answer, also what is not there: who shows no token learns nothing.
    let router = match token {
        Some(token) => {
            let router = router.layer(middleware::from_fn_with_state(token, bearer::check));
            dashboard::routes().fallback_service(router)
        }
        None => dashboard::routes().fallback_service(router).layer(middleware::from_fn(own_name::check)),
    };
    router.layer(middleware::from_fn(body::limit))
}

/// The routes of the local socket. Who can connect to it may operate: its file mode is the permission.
pub fn local(sources: Sources) -> Router {
    with_tools(routes(sources)).layer(middleware::from_fn(body::limit))
}

/// The same as tools at `/mcp`.
fn with_tools(router: Router) -> Router {
    let tools = mcp::service(router.clone());
    router.route_service("/mcp", tools)
}

fn routes(sources: Sources) -> Router {
    Router::new()
        .route("/health", get(get_health))
        .route("/status", get(get_status))
        .route("/metrics", get(get_metrics))
        .nest("/api/v1", v1::routes())
        .with_state(sources)
}

async fn get_health(State(sources): State<Sources>) -> impl IntoResponse {
    let health = health(&sources.status.borrow(), now_ms());
    let code = if health.reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(health))
}

async fn get_status(State(sources): State<Sources>) -> Result<Response, Infallible> {
    let (now, round) = (now_ms(), sources.status.borrow().rounds);
    let text = sources
        .written
        .get_or(round, now / 1000, || serde_json::to_vec(&sources.status().at(now)).unwrap_or_default().into());
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

async fn get_metrics(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    let format = metrics::Format::accepted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    match metrics::render(&sources, format, now_ms()) {
        Ok(text) => ([(header::CONTENT_TYPE, format.media_type()), (header::VARY, "accept")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The wall clock, in milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
