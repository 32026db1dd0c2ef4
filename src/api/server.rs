//! Serves routes to whoever can reach a port: few clients at once, none for long.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tracing::warn;

/// Most clients served at once; more wait to be accepted.
const CLIENTS: usize = 64;
/// Longest life of a connection: a slow client is cut off.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    serve_one(stream, router).await;
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

async fn serve_one(stream: TcpStream, router: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that goes away or is cut off is no event.
    let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
}
