//! Serves routes to whoever can reach a port or a socket: so many clients at once, none that is slow, none for long
//! unless it listens to events.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};
use tokio_io_timeout::TimeoutStream;
use tracing::warn;

/// Largest head of a request, in bytes.
const HEAD_SIZE: usize = 16 << 10;
/// What a client may be sent ahead of what it takes, in bytes; the kernel keeps as much again for itself.
const SEND_BUFFER: usize = 128 << 10;

/// What clients may take of us.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientLimits {
    /// Most clients served at once; more wait to be accepted.
    pub clients: usize,
    /// Longest life of a connection: a slow client is cut off.
    pub connection: Duration,
    /// Longest life of one that listens to events; it may come again.
    pub stream: Duration,
    /// Longest wait for a request's head.
    pub head: Duration,
    /// Longest wait for a client to take what is sent.
    pub write: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            clients: 384,
            connection: Duration::from_secs(30),
            stream: Duration::from_secs(3600),
            head: Duration::from_secs(5),
            write: Duration::from_secs(10),
        }
    }
}

/// Who a request came from, for the journal.
#[derive(Debug, Clone)]
pub struct Peer(pub String);

/// How long a connection may live.
#[derive(Debug, Clone, Default)]
pub struct Life(Arc<AtomicBool>);

impl Life {
    /// It listens to events: it may stay.
    pub fn prolong(&self) {
        self.0.store(true, Relaxed);
    }

    fn is_prolonged(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Where clients come from.
#[allow(async_fn_in_trait)]
pub trait Listener {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + 'static;
    /// The next client, and who it is.
    async fn next(&self) -> io::Result<(Self::Stream, Peer)>;
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, at) = self.accept().await?;
        set_socket_send_buffer_size(&stream, SEND_BUFFER)?;
        Ok((stream, Peer(at.ip().to_string())))
    }
}

impl Listener for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = self.accept().await?;
        set_socket_send_buffer_size(&stream, SEND_BUFFER)?;
        // The kernel's word (SO_PEERCRED): as it was when the client connected.
        let peer = match stream.peer_cred() {
            Ok(cred) => format!("uid {}", cred.uid()),
            Err(error) => format!("unknown: {error}"),
        };
        Ok((stream, Peer(peer)))
    }
}

/// Serves until the process ends.
pub async fn serve<L: Listener>(listener: L, router: Router) {
    serve_within(ClientLimits::default(), listener, router).await;
}

pub(super) async fn serve_within<L: Listener>(limits: ClientLimits, listener: L, router: Router) {
    let places = Arc::new(Semaphore::new(limits.clients));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.next().await {
            Ok((stream, peer)) => {
                let life = Life::default();
                let router = router.clone().layer(Extension(peer)).layer(Extension(life.clone()));
                tokio::spawn(async move {
                    serve_one(limits, stream, router, life).await;
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

async fn serve_one(
    limits: ClientLimits,
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    router: Router,
    life: Life,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(HEAD_SIZE)
        .max_buf_size(4 * HEAD_SIZE)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    tokio::pin!(connection);
    // A client that goes away or is cut off is no event.
    if tokio::time::timeout(limits.connection, &mut connection).await.is_err() && life.is_prolonged() {
        let _ = tokio::time::timeout(limits.stream, &mut connection).await;
    }
}
