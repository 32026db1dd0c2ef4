//! The seam below the GitHub client: one HTTP exchange, relative to the API root, authenticated.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

/// One request. `path` starts with `/` and carries its query; the API root and the credential are the transport's.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query below the API root.
    pub path: String,
    /// ETag of an earlier answer, exactly as received.
    pub if_none_match: Option<String>,
    /// JSON body.
    pub body: Option<serde_json::Value>,
}

/// One answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`BODY_LIMIT`] bytes.
    pub body: Vec<u8>,
}

/// Largest body accepted, in bytes: a full page of 100 runs is about 2 MiB.
pub const BODY_LIMIT: usize = 16 << 20;
/// Longest wait for one exchange.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// No answer came: not connected, cut off, too slow, too large. Says nothing about whether the request was carried out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// Sends calls with one credential.
#[allow(async_fn_in_trait)]
pub trait Transport {
    /// Exchanges one call for one answer. Never retries.
    async fn send(&self, call: Call) -> Result<Answer, NoAnswer>;
    /// The wall clock, since the Unix epoch, to turn `retry-after` into a time.
    fn now(&self) -> Duration;
}
