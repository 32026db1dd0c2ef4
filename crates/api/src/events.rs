//! The event stream.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::sse::{Event as Sent, KeepAlive, Sse},
};
use controller::event::Event;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{Semaphore, broadcast};

use super::{Sources, now_ms, problem::Refused, server::Life};

/// Events kept for a reader that is behind; one that is further behind is cut off.
const KEPT: usize = 1024;
/// Most readers at once.
const READERS: usize = 256;
/// How often something is sent where nothing happens, so that either end knows that the other is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What happens, to whoever listens.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    places: Arc<Semaphore>,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(KEPT), places: Arc::new(Semaphore::new(READERS)) }
    }
}

impl Events {
    /// How many listen.
    #[cfg(test)]
    pub(super) fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Tells everybody. Waits for nobody.
    pub fn tell(&self, event: Event) {
        // Nobody listens: nobody is told.
        let _ = self.sender.send(Arc::new(event));
    }
}

pub(super) async fn stream(
    State(sources): State<Sources>,
    Extension(life): Extension<Life>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Refused> {
    let full = |_| Refused(StatusCode::SERVICE_UNAVAILABLE, format!("{READERS} listen already"));
    let place = sources.events.places.clone().try_acquire_owned().map_err(full)?;
    life.prolong();
    let ready = Sent::default().event("ready").data(format!("{{\"at_ms\":{}}}", now_ms()));
    let receiver = sources.events.sender.subscribe();
    let happening = stream::unfold((receiver, place), async |(mut receiver, place)| {
        // Too far behind, or nothing will happen any more: the end. A reader comes again and asks for the status.
        let event = receiver.recv().await.ok()?;
        let sent = Sent::default().event(event.what.name());
        let data = serde_json::to_string(&*event).ok()?;
        Some((Ok(sent.data(data)), (receiver, place)))
    });
    Ok(Sse::new(stream::iter([Ok(ready)]).chain(happening)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
