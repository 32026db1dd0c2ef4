//! The server's side of the protocol: Connect with JSON.

use anyhow::{Result, anyhow, bail};
use gitea::http;
use serde_json::Value;
use url::Url;

use crate::Registration;

/// The service a runner speaks to.
#[derive(Debug)]
pub(crate) struct Remote {
    root: String,
    uuid: String,
    token: String,
}

impl Remote {
    pub(crate) fn new(registration: &Registration) -> Result<Self> {
        let Registration { uuid, token, address, .. } = registration.clone();
        Ok(Self { root: format!("{address}/api/actions/runner.v1.RunnerService"), uuid, token })
    }

    /// One call. The error is in the real runner's words.
    pub(crate) async fn call(&self, method: &str, body: &Value) -> Result<Value> {
        let url = Url::parse(&format!("{}/{method}", self.root))?;
        let headers =
            [("Content-Type", "application/json"), ("x-runner-uuid", &*self.uuid), ("x-runner-token", &*self.token)];
        let answer = http::send("POST", &url, &headers, &body.to_string()).await;
        let answer = answer.map_err(|error| anyhow!("unavailable: {error:#}"))?;
        let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        if answer.status != 200 {
            bail!("{}: {}", told["code"].as_str().unwrap_or("unknown"), told["message"].as_str().unwrap_or_default());
        }
        Ok(told)
    }
}
