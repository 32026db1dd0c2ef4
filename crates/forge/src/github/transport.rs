//! The seams below the GitHub client: one HTTP exchange relative to the API root, and the same authenticated.

use std::{error::Error, time::Duration};

use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use settings::token_file::Token;

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

impl Call {
    /// A GET of `path`.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), if_none_match: None, body: None }
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
    pub(super) fn made_up(status: StatusCode, message: &str) -> Self {
        let body = serde_json::json!({ "message": message }).to_string().into_bytes();
        Self { status, headers: HeaderMap::new(), body }
    }
}

/// Largest body accepted, in bytes: a full page of 100 runs is about 2 MiB.
pub const BODY_LIMIT: usize = 16 << 20;
/// Longest wait for one exchange.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// No answer came: not connected, cut off, too slow, too large. Says nothing about whether the request was carried out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// Sends calls with the token it is given: the layer below [`Transport`], which knows the credential.
#[allow(async_fn_in_trait)]
pub trait Exchange {
    /// Exchanges one call for one answer. Never retries.
    async fn exchange(&self, call: Call, bearer: &Token) -> Result<Answer, NoAnswer>;
    /// The wall clock, since the Unix epoch.
    fn now(&self) -> Duration;
}

/// Sends calls with one credential.
#[allow(async_fn_in_trait)]
pub trait Transport {
    /// Exchanges one call for one answer. Never retries.
    async fn send(&self, call: Call) -> Result<Answer, NoAnswer>;
    /// The wall clock, since the Unix epoch, to turn `retry-after` into a time.
    fn now(&self) -> Duration;
}

impl<T: Transport> Transport for std::rc::Rc<T> {
    async fn send(&self, call: Call) -> Result<Answer, NoAnswer> {
        T::send(self, call).await
    }

    fn now(&self) -> Duration {
        T::now(self)
    }
}
