//! Status over HTTP, read-only: `GET /health` and `GET /status`.

mod server;

use std::{
    convert::Infallible,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::server::serve;
use crate::controller::status::Status;

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

/// The routes.
pub fn router(status: watch::Receiver<Status>) -> Router {
    Router::new().route("/health", get(get_health)).route("/status", get(get_status)).with_state(status)
}

async fn get_health(State(status): State<watch::Receiver<Status>>) -> impl IntoResponse {
    let health = health(&status.borrow(), now_ms());
    let code = if health.reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(health))
}

async fn get_status(State(status): State<watch::Receiver<Status>>) -> Result<Json<Status>, Infallible> {
    let status = status.borrow().clone();
    Ok(Json(status.at(now_ms())))
}

/// The wall clock, in milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
