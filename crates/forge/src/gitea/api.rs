//! Calls with one credential: JSON below the API root with its token, and the runners' protocol with a runner's own.

use std::time::Duration;

use contract::ActRunner;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::{
    ErrorKind, ForgeError, Held,
    answer::{kind_of, retry_after, said},
    standing::{Heard, Standing},
    tally::Tally,
    wire::{Answer, CALL_TIMEOUT, NoAnswer, PRODUCT, Request, Wire},
};

/// Pause after a refusal for a limit that names none: these forges have none, but what is in front of them may.
const LIMIT_PAUSE: Duration = Duration::from_secs(60);
/// Path of the runners' protocol (Connect, in JSON) below the forge's root.
const RUNNER_SERVICE: &str = "/api/actions/runner.v1.RunnerService";

/// A forge and what opens it.
#[derive(Debug)]
pub(super) struct Api<W> {
    wire: W,
    /// Without a slash at its end.
    pub root: String,
    token: Held,
    pub tally: Tally,
    heard: Heard,
}

impl<W: Wire> Api<W> {
    pub fn new(wire: W, root: &str, token: Held) -> Self {
        Self { wire, root: root.to_owned(), token, tally: Tally::default(), heard: Heard::default() }
    }

    /// How the token stands.
    pub fn standing(&self) -> Standing {
        self.heard.standing(|| self.token.has_fresh())
    }

    /// The wall clock, since the Unix epoch.
    pub fn now(&self) -> Duration {
        self.wire.now()
    }

    /// What a GET is answered with.
    pub async fn get<M: DeserializeOwned>(&self, path: &str) -> Result<M, ForgeError> {
        self.ask(Method::GET, path, None).await
    }

    /// The same; None if there is no such thing.
    pub async fn find<M: DeserializeOwned>(&self, path: &str) -> Result<Option<M>, ForgeError> {
        match self.get(path).await {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// What a call is answered with.
    pub async fn ask<M: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<M, ForgeError> {
        let shown = format!("{method} {path}");
        parse(&shown, &self.call(method, path, body).await?)
    }

    /// Makes a call below the API root; every status but 2xx is an error.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, ForgeError> {
        let shown = format!("{method} {path}");
        self.token.renewed(false);
        let mut answer = self.authorized(&shown, method.clone(), path, body.clone()).await?;
        // A call that was refused was not carried out: it can be repeated whatever it is.
        if answer.status == StatusCode::UNAUTHORIZED && self.token.renewed(true) {
            answer = self.authorized(&shown, method, path, body).await?;
        }
        self.heard.answer(&shown, &answer);
        if answer.status.is_success() { Ok(answer) } else { Err(self.refusal(&shown, &answer)) }
    }

    async fn authorized(
        &self,
        shown: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, ForgeError> {
        let mut authorization = header_value(&format!("token {}", self.token.token().expose()), shown)?;
        authorization.set_sensitive(true);
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, authorization)]);
        self.exchange(shown, method, &format!("/api/v1{path}"), headers, body).await
    }

    /// Calls the runners' protocol, as `runner` if there is one already.
    pub async fn rpc<M: DeserializeOwned>(
        &self,
        method: &str,
        body: Value,
        runner: Option<&ActRunner>,
    ) -> Result<M, ForgeError> {
        let mut headers = HeaderMap::new();
        if let Some(runner) = runner {
            for (name, value) in [("x-runner-uuid", &runner.uuid), ("x-runner-token", &runner.token)] {
                let mut value = header_value(value, method)?;
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        let path = format!("{RUNNER_SERVICE}/{method}");
        let answer = self.exchange(method, Method::POST, &path, headers, Some(body)).await?;
        if answer.status.is_success() {
            return parse(method, &answer);
        }
        let said = said(&answer);
        // Gitea answers every error with 500; what it says tells whether the same may be answered another time.
        let known = ["unregistered runner", "invalid runner for task", "registration token"];
        let refused = answer.status.is_client_error() || known.iter().any(|words| said.contains(words));
        let kind = if refused { ErrorKind::Refused } else { ErrorKind::Unavailable };
        Err(ForgeError::new(kind, format!("{method}: {}: {said}", answer.status)))
    }

    async fn exchange(
        &self,
        shown: &str,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Option<Value>,
    ) -> Result<Answer, ForgeError> {
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(PRODUCT));
        if body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let failed = |error: String| ForgeError::new(ErrorKind::Unavailable, format!("{shown}: {error}"));
        let url = Url::parse(&format!("{}{path}", self.root)).map_err(|error| failed(error.to_string()))?;
        let body = body.map(|body| body.to_string().into_bytes());
        let sent = self.now();
        let answer = self.wire.send(Request { method, url, headers, body, timeout: CALL_TIMEOUT }).await;
        self.tally.made(answer.as_ref().ok(), sent, self.now());
        answer.map_err(|NoAnswer(error)| failed(error))
    }

    /// The error that an answer of the API amounts to.
    fn refusal(&self, shown: &str, answer: &Answer) -> ForgeError {
        let said = said(answer);
        let colon = if said.is_empty() { "" } else { ": " };
        let mut message = format!("{shown}: {}{colon}{said}", answer.status);
        let kind = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => {
                ErrorKind::RateLimited(self.now() + retry_after(answer).unwrap_or(LIMIT_PAUSE))
            }
            status if status.is_redirection() => {
                let to = answer.headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
                message = format!("{shown}: moved to {to}. Remedy: write its new name in the configuration");
                ErrorKind::Quarantined
            }
            status => {
                match status {
                    StatusCode::FORBIDDEN => {
                        let remedy = |scope| format!(". Remedy: give the token the scope {scope}");
                        message += &missing_scope(&said).map(remedy).unwrap_or_default();
                    }
                    StatusCode::NOT_FOUND => message += " (deleted, or the token may not see it)",
                    _ => {}
                }
                kind_of(status)
            }
        };
        ForgeError::new(kind, message)
    }
}

/// The scope that a token has not, as the forge says it: `required=[write:repository]`.
fn missing_scope(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("required=[")?;
    rest.split_once(']').map(|(scope, _)| scope)
}

fn header_value(value: &str, shown: &str) -> Result<HeaderValue, ForgeError> {
    let refused = |_| ForgeError::new(ErrorKind::Refused, format!("{shown}: a token that no header may have"));
    HeaderValue::from_str(value).map_err(refused)
}

fn parse<M: DeserializeOwned>(shown: &str, answer: &Answer) -> Result<M, ForgeError> {
    // serde_json's message names line and column, never the content.
    serde_json::from_slice(&answer.body)
        .map_err(|error| ForgeError::new(ErrorKind::Unavailable, format!("{shown}: answer not understood: {error}")))
}
