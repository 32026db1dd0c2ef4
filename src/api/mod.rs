//! Status over HTTP, read-only: `GET /health` and `GET /status`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tracing::warn;

use crate::controller::status::Status;

/// Most clients served at once; more wait to be accepted.
const CLIENTS: usize = 64;
/// Longest life of a connection: a slow client is cut off.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
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

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, status: watch::Receiver<Status>) {
    let router = router(status);
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    serve_one(stream, peer, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a client cannot be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn serve_one(stream: TcpStream, _peer: SocketAddr, router: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that goes away or is cut off is no event.
    let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
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
