//! REST with a credential, as the GitHub client sees it: one call relative to the API root.

use std::time::Duration;

use http::Method;

pub use crate::wire::{Answer, NoAnswer};

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

    /// That a job is run again.
    pub(super) fn rerun(repository: &str, job_id: u64) -> Self {
        Self { method: Method::POST, ..Self::get(format!("/repos/{repository}/actions/jobs/{job_id}/rerun")) }
    }

    /// What it asks, whoever it is about: method and path without accounts, repositories, numbers and versions.
    pub(super) fn route(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let first = parts.next().unwrap_or_default();
        let names = match first {
            "repos" => 2,
            "orgs" | "users" | "enterprises" => 1,
            _ => 0,
        };
        let rest = parts.skip(names).filter(|part| !part.starts_with(|c: char| c.is_ascii_digit()));
        [self.method.as_str(), first].into_iter().chain(rest).collect::<Vec<_>>().join(" ")
    }
}

/// Sends calls with one credential.
#[allow(async_fn_in_trait)]
pub trait Transport {
    /// Exchanges one call for one answer. Never retries.
    async fn send(&self, call: Call) -> Result<Answer, NoAnswer>;
    /// The wall clock, since the Unix epoch, to turn `retry-after` into a time.
    fn now(&self) -> Duration;
    /// The credential's secret was renewed, and no call has used the new one yet.
    fn has_fresh_secret(&self) -> bool {
        false
    }
}

impl<T: Transport> Transport for std::rc::Rc<T> {
    async fn send(&self, call: Call) -> Result<Answer, NoAnswer> {
        T::send(self, call).await
    }

    fn now(&self) -> Duration {
        T::now(self)
    }

    fn has_fresh_secret(&self) -> bool {
        T::has_fresh_secret(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_names_nobody() {
        for (path, route) in [
            ("/repos/acme/api/actions/runs?status=queued", "GET repos actions runs"),
            ("/repos/acme/actions/actions/runs/7/jobs", "GET repos actions runs jobs"),
            ("/orgs/acme/actions/runners?name=x", "GET orgs actions runners"),
            ("/enterprises/octo/actions/runners/deprecations/2.336.0", "GET enterprises actions runners deprecations"),
            ("/installation/repositories", "GET installation repositories"),
            ("", "GET "),
        ] {
            assert_eq!(Call::get(path).route(), route);
        }
    }
}
