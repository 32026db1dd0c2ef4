//! Sends what webhooks of a [`World`](crate::World) have to send, over real HTTP.

use crate::{
    http_client::{self, AnswerLimits},
    server::{Shared, now},
    world::HookDelivery,
};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// How often the world is asked.
const STEP: Duration = Duration::from_millis(20);
/// GitHub gives a receiver so much time.
const LIMITS: AnswerLimits = AnswerLimits { time: Duration::from_secs(10), bytes: 64 * 1024 };

/// Sends deliveries one after the other, which keeps their order, until the future is dropped.
pub async fn run(world: Shared) {
    loop {
        let due = world.lock().take_deliveries(now());
        for delivery in due {
            // Nobody there, or no answer in time: GitHub does not try again either.
            let status = send(&delivery).await.unwrap_or(0);
            world.lock().delivery_sent(delivery.record, status);
        }
        tokio::time::sleep(STEP).await;
    }
}

async fn send(delivery: &HookDelivery) -> io::Result<u16> {
    let uri: http::Uri = delivery.url.parse().map_err(io::Error::other)?;
    let host = uri.host().ok_or(io::ErrorKind::InvalidInput)?;
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80)));
    let stream = tokio::time::timeout(LIMITS.time, stream).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = http::Request::post(path);
    for (name, value) in &delivery.headers {
        request = request.header(name, value);
    }
    let request = request.body(delivery.body.clone()).map_err(io::Error::other)?;
    let response = http_client::send(stream, authority, request, LIMITS).await?;
    Ok(response.status().as_u16())
}
