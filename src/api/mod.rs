//! Status over HTTP, read-only: `GET /health`, `GET /status` and `GET /metrics`.

mod metrics;
mod server;

use std::{
    convert::Infallible,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::server::serve;
use crate::{controller::status::Status, webhook::Counters};

/// A controller that has not gone round for so long hangs.
const STALE: u64 = 60_000;

/// The answer of `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// What there is to tell.
#[derive(Debug, Clone)]
struct Sources {
    status: watch::Receiver<Status>,
    webhook: Option<Arc<Counters>>,
}

impl Sources {
    /// The status as the controller last told it, and the deliveries, which it does not see.
    fn status(&self) -> Status {
        let webhook = self.webhook.as_ref().map(|counters| counters.counts());
        Status { webhook, ..self.status.borrow().clone() }
    }
}

/// The routes. `webhook` counts deliveries, where they are listened for.
pub fn router(status: watch::Receiver<Status>, webhook: Option<Arc<Counters>>) -> Router {
    Router::new()
        .route("/health", get(get_health))
        .route("/status", get(get_status))
        .route("/metrics", get(get_metrics))
        .with_state(Sources { status, webhook })
}

async fn get_health(State(sources): State<Sources>) -> impl IntoResponse {
    let health = health(&sources.status.borrow(), now_ms());
    let code = if health.reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(health))
}

async fn get_status(State(sources): State<Sources>) -> Result<Json<Status>, Infallible> {
    Ok(Json(sources.status().at(now_ms())))
}

async fn get_metrics(State(sources): State<Sources>) -> Response {
    match metrics::render(sources.status(), now_ms()) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response(),
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
