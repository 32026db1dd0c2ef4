//! The seam below the scale set client: one HTTP exchange with an absolute URL, a clock, and dice for waits.

use std::time::Duration;

use http::{HeaderMap, Method};
use url::Url;

pub use crate::github::transport::{Answer, NoAnswer};

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
