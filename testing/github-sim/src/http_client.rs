//! One request over one connection, with limits. Enough for the back door, webhooks and the runner stand-in.

use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// How long an answer may take and how large it may be.
#[derive(Debug, Clone, Copy)]
pub struct AnswerLimits {
    /// Time for everything.
    pub time: Duration,
    /// Size of the body.
    pub bytes: usize,
}

/// Posts JSON and reads the whole answer.
///
/// # Errors
/// If the connection breaks, the answer is too large or does not come in time.
pub async fn post<S>(
    stream: S,
    host: &str,
    path: &str,
    body: Vec<u8>,
    limits: AnswerLimits,
) -> io::Result<Response<Vec<u8>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::post(path)
        .header(header::USER_AGENT, "github-sim")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(io::Error::other)?;
    send(stream, host, request, limits).await
}

/// Sends a request, whose address is a path (to a proxy: a whole URL), and reads the whole answer.
///
/// # Errors
/// As [`post`].
pub async fn send<S>(
    stream: S,
    host: &str,
    request: Request<Vec<u8>>,
    limits: AnswerLimits,
) -> io::Result<Response<Vec<u8>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::time::timeout(limits.time, exchange(stream, host, request, limits.bytes))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn exchange<S>(
    stream: S,
    host: &str,
    mut request: Request<Vec<u8>>,
    max_answer: usize,
) -> io::Result<Response<Vec<u8>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let host = HeaderValue::try_from(host).map_err(io::Error::other)?;
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let request = request.map(|body| Full::new(Bytes::from(body)));
    let answer = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, max_answer).collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Response::from_parts(parts, body.to_vec()))
    };
    tokio::pin!(answer);
    tokio::pin!(connection);
    let mut connected = true;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            // The answer may still be in the pipe when the connection is done.
            _ = &mut connection, if connected => connected = false,
        }
    }
}
