//! The seam below everything that speaks with GitHub: one HTTP exchange with an absolute URL, a clock, and dice for
//! waits.

use std::{error::Error, time::Duration};

use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use url::Url;

/// Largest body accepted, in bytes: a full page of 100 runs is about 2 MiB.
pub const BODY_LIMIT: usize = 16 << 20;
/// Longest wait for one exchange that the server does not hold.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What calls, to the service.
pub(crate) const PRODUCT: &str = "gha-runner-controller";

/// One request. Its `Authorization` header is marked sensitive, so that `Debug` does not show it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to, absolute.
    pub url: Url,
    /// All headers but those of the HTTP library.
    pub headers: HeaderMap,
    /// The body; none = empty.
    pub body: Option<Vec<u8>>,
    /// Longest wait for the whole answer.
    pub timeout: Duration,
}

impl Request {
    /// The same in the types of the HTTP library.
    ///
    /// # Errors
    /// If its URL is none for the HTTP library.
    pub fn into_http(self) -> Result<http::Request<Vec<u8>>, NoAnswer> {
        let mut built = http::Request::new(self.body.unwrap_or_default());
        *built.method_mut() = self.method;
        *built.uri_mut() =
            self.url.as_str().parse().map_err(|error| NoAnswer(format!("the URL cannot be used: {error}")))?;
        *built.headers_mut() = self.headers;
        Ok(built)
    }
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

impl Answer {
    /// The whole of a response, if its body is not too large and does not break off.
    pub(super) async fn read<B>(response: http::Response<B>) -> Result<Self, NoAnswer>
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, BODY_LIMIT)
            .collect()
            .await
            .map_err(|error| NoAnswer(format!("the answer broke off: {error}")))?;
        Ok(Self { status: parts.status, headers: parts.headers, body: body.to_bytes().into() })
    }

    /// An answer nobody gave: of a layer that did not let the call through.
    pub(crate) fn made_up(status: StatusCode, message: &str) -> Self {
        let body = serde_json::json!({ "message": message }).to_string().into_bytes();
        Self { status, headers: HeaderMap::new(), body }
    }
}

impl From<http::Response<Vec<u8>>> for Answer {
    fn from(response: http::Response<Vec<u8>>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, body }
    }
}

/// No answer came: not connected, cut off, too slow, too large. Says nothing about whether the request was carried out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// Sends requests that carry their own credential.
///
/// Futures are not `Send`: the controller runs on one thread.
#[allow(async_fn_in_trait)]
pub trait Wire {
    /// Exchanges one request for one answer. Never retries, never follows a redirect. Dropping the future gives the
    /// exchange up.
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer>;
    /// The wall clock, since the Unix epoch: tokens expire by it.
    fn now(&self) -> Duration;
    /// Any number, to spread waits: a thousand hosts must not come back in the same second.
    fn random(&self) -> u64;
}
