//! Sockets and a real clock around a [`World`].

use crate::{
    control::{self, ControlCommand},
    rest::Reply,
    runner_service,
    scale_set::{self, Held},
    world::World,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// Largest request taken.
const MAX_REQUEST: usize = 4 * 1024 * 1024;
/// How often the answer to a held question is looked for.
const POLL_STEP: Duration = Duration::from_millis(20);
/// No client waits longer than this, so neither does a fault that never answers.
const HANG: Duration = Duration::from_secs(3_600);

/// A world that several connections share.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<World>>);

/// Which doors a listener opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doors {
    /// What clients and runners use.
    Public,
    /// The same and the back door.
    All,
}

impl Shared {
    /// Shares a world.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// The world itself. A panic elsewhere does not make it unusable: tests want to look at it then.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a TCP listener until the future is dropped.
    ///
    /// # Errors
    /// If the listener breaks.
    pub async fn serve_tcp(self, listener: TcpListener, doors: Doors) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            // Small answers must not wait for more to come.
            let _ = stream.set_nodelay(true);
            tokio::spawn(self.clone().connection(stream, doors));
        }
    }

    /// Serves a Unix listener until the future is dropped.
    ///
    /// # Errors
    /// If the listener breaks.
    pub async fn serve_unix(self, listener: UnixListener, doors: Doors) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(self.clone().connection(stream, doors));
        }
    }

    async fn connection<S>(self, stream: S, doors: Doors)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| self.clone().answer(request, doors));
        // A client that goes away in the middle is no news.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    /// An error makes hyper close the connection without an answer, which is what a lost answer looks like.
    async fn answer(self, request: Request<Incoming>, doors: Doors) -> io::Result<Response<Full<Bytes>>> {
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, MAX_REQUEST).collect().await {
            Ok(body) => body.to_bytes().to_vec(),
            Err(_) => return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "too large")),
        };
        let request = Request::from_parts(parts, body);
        if request.uri().path().starts_with(control::PATH) {
            return Ok(match doors {
                Doors::All => self.command(&request),
                Doors::Public => plain(StatusCode::NOT_FOUND, "not here"),
            });
        }
        let hold = Instant::now() + self.lock().config().message_hold;
        let response = loop {
            let reply = self.lock().handle(now(), &request);
            match reply {
                Reply::Answer(response)
                    if runner_service::is_held(request.uri().path(), &response) && Instant::now() < hold =>
                {
                    tokio::time::sleep(POLL_STEP).await;
                }
                reply => break self.settle(reply).await?,
            }
        };
        Ok(response.map(|body| Full::new(Bytes::from(body))))
    }

    /// Waits as a reply says.
    async fn settle(&self, mut reply: Reply) -> io::Result<Response<Vec<u8>>> {
        let mut poll = Poll { world: self, held: None };
        loop {
            poll.held = match &reply {
                Reply::Held(held) => Some(held.clone()),
                _ => None,
            };
            match reply {
                Reply::Answer(response) => return Ok(response),
                Reply::Slow(after, response) => {
                    tokio::time::sleep(after).await;
                    return Ok(response);
                }
                Reply::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
                Reply::Hang => {
                    tokio::time::sleep(HANG).await;
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Reply::Held(held) => {
                    tokio::time::sleep(POLL_STEP).await;
                    reply = self.lock().look_again(now(), &held);
                }
            }
        }
    }

    fn command(&self, request: &Request<Vec<u8>>) -> Response<Full<Bytes>> {
        let command: ControlCommand = match serde_json::from_slice(request.body()) {
            Ok(command) => command,
            Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        match self.lock().command(now(), command) {
            Ok(value) => plain(StatusCode::OK, &value.to_string()),
            Err(error) => plain(StatusCode::CONFLICT, &error.to_string()),
        }
    }
}

/// A poll that is being held; dropped as such, it was given up.
struct Poll<'a> {
    world: &'a Shared,
    held: Option<Held>,
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            scale_set::gave_up(&mut self.world.lock(), now(), &held);
        }
    }
}

/// The real time, as a [`World`] wants it.
#[must_use]
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn plain(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_owned())));
    *response.status_mut() = status;
    response
}
