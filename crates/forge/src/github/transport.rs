//! REST with a credential, as the GitHub client sees it: one call relative to the API root.

use std::time::Duration;

use http::Method;

pub use super::wire::{Answer, NoAnswer};

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
