//! One request to the forge and its answer.

use crate::proxy;
use github_sim::http_client::{self, AnswerLimits};
use http::{Request, Response, header};
use serde_json::Value;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A question for a message is held for 50 seconds.
const LIMITS: AnswerLimits = AnswerLimits { time: Duration::from_secs(100), bytes: 4 * 1024 * 1024 };

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Null where there is none or it is no JSON.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What kind of error a broker names.
    pub(crate) fn error_kind(&self) -> &str {
        self.body["errorKind"].as_str().unwrap_or_default()
    }
}

/// Sends JSON, or nothing, to an address, with a token.
pub(crate) async fn ask(method: &str, address: &str, token: &str, body: Option<&Value>) -> io::Result<Answer> {
    let request =
        Request::builder().method(method).uri(address).header(header::AUTHORIZATION, format!("Bearer {token}"));
    let request = match body {
        Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(body.to_string().into_bytes()),
        None => request.body(Vec::new()),
    };
    send(request.map_err(io::Error::other)?).await
}

/// Sends a form.
pub(crate) async fn post_form(address: &str, form: String) -> io::Result<Answer> {
    let request = Request::post(address)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form.into_bytes())
        .map_err(io::Error::other)?;
    send(request).await
}

/// Uploads a block.
pub(crate) async fn put(address: &str, blob_type: &str, block: Vec<u8>) -> io::Result<Answer> {
    let request = Request::put(address).header("x-ms-blob-type", blob_type).body(block).map_err(io::Error::other)?;
    send(request).await
}

async fn send(request: Request<Vec<u8>>) -> io::Result<Answer> {
    let uri = request.uri().clone();
    if uri.scheme_str() != Some("http") {
        return Err(io::Error::other(format!("{uri} is no http address, and this stand-in speaks nothing else")));
    }
    let authority = uri.authority().ok_or_else(|| io::Error::other("the address has no host"))?.to_string();
    let target = match uri.port() {
        Some(_) => authority.clone(),
        None => format!("{authority}:80"),
    };
    let proxy = proxy::of(uri.host().unwrap_or_default());
    let connect = TcpStream::connect(proxy.unwrap_or(&target));
    let stream =
        tokio::time::timeout(CONNECT_LIMIT, connect).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let _ = stream.set_nodelay(true);
    let (mut parts, body) = request.into_parts();
    if proxy.is_none() {
        parts.uri = uri.path_and_query().map_or("/", |path| path.as_str()).parse().map_err(io::Error::other)?;
    }
    let response: Response<Vec<u8>> =
        http_client::send(stream, &authority, Request::from_parts(parts, body), LIMITS).await?;
    let status = response.status().as_u16();
    Ok(Answer { status, body: serde_json::from_slice(response.body()).unwrap_or_default() })
}
