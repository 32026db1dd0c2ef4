//! Calls of the Actions service, opened by the admin connection (docs/github.md#actions-service-requests).

use std::cell::Cell;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::Url;

use super::{
    SetSpec,
    bootstrap::{self, Connection},
    models::{Trouble, without_mark},
};
use crate::{
    ErrorKind, ForgeError,
    github::{refusal, transport::Transport},
    wire::{Answer, CALL_TIMEOUT, PRODUCT, Request, Wire},
};

const API_VERSION: &str = "6.0-preview";
/// The connection is made anew when less than this is left of its token.
const LEFT: std::time::Duration = std::time::Duration::from_secs(60);

/// The Actions service as one scope's administrator.
#[derive(Debug)]
pub(super) struct Service<T, W> {
    pub wire: W,
    transport: T,
    spec: SetSpec,
    /// For the user agent; 0 before it is known.
    pub set_id: Cell<u64>,
    connection: Mutex<Option<Connection>>,
}

/// What to call.
#[derive(Debug)]
pub(super) struct ServiceCall<'a> {
    pub method: Method,
    /// Below the service's base, without a slash before it.
    pub path: String,
    pub query: &'a [(&'a str, &'a str)],
    pub body: Option<Value>,
    /// Opens the call instead of the admin token.
    pub bearer: Option<HeaderValue>,
}

impl<'a> ServiceCall<'a> {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: &[], body: None, bearer: None }
    }

    pub fn query(self, query: &'a [(&'a str, &'a str)]) -> Self {
        Self { query, ..self }
    }

    pub fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    pub fn bearer(self, bearer: HeaderValue) -> Self {
        Self { bearer: Some(bearer), ..self }
    }

    pub fn shown(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl<T: Transport, W: Wire> Service<T, W> {
    pub fn new(spec: SetSpec, transport: T, wire: W) -> Self {
        Self { wire, transport, spec, set_id: Cell::new(0), connection: Mutex::new(None) }
    }

    pub fn spec(&self) -> &SetSpec {
        &self.spec
    }

    /// One call and its answer, whatever its status. A refused admin token is replaced once: a 401 was not carried out.
    pub async fn call(&self, call: ServiceCall<'_>) -> Result<Answer, ForgeError> {
        let answer = self.attempt(&call, false).await?;
        if answer.status == StatusCode::UNAUTHORIZED && call.bearer.is_none() {
            return self.attempt(&call, true).await;
        }
        Ok(answer)
    }

    /// As [`Service::call`]; every status but `accepted` is an error.
    pub async fn expect(&self, call: ServiceCall<'_>, accepted: &[StatusCode]) -> Result<Answer, ForgeError> {
        let shown = call.shown();
        let answer = self.call(call).await?;
        if accepted.contains(&answer.status) {
            return Ok(answer);
        }
        Err(refused(&shown, &answer, self.wire.now()))
    }

    async fn attempt(&self, call: &ServiceCall<'_>, renew: bool) -> Result<Answer, ForgeError> {
        let connection = self.connection(renew).await?;
        let request = Request {
            method: call.method.clone(),
            url: joined(connection.url, &call.path, call.query),
            headers: self.headers(call.bearer.clone().unwrap_or(connection.bearer)),
            body: call.body.as_ref().map(|body| body.to_string().into_bytes()),
            timeout: CALL_TIMEOUT,
        };
        exchange(&self.wire, &call.shown(), request).await
    }

    /// The headers of every call, opened by `bearer`.
    pub fn headers(&self, bearer: HeaderValue) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, bearer);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, self.user_agent());
        headers
    }

    /// Whether answers may only name URLs with TLS.
    pub fn secure(&self) -> bool {
        self.spec.api_url.starts_with("https:")
    }

    /// The connection, made anew near the end of its token's life or when `renew` says it is refused. One at a time.
    async fn connection(&self, renew: bool) -> Result<Connection, ForgeError> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|_| !renew)
            && connection.expires_at > self.wire.now() + LEFT
        {
            return Ok(connection.clone());
        }
        let place = (self.spec.api_url.as_str(), self.spec.config_url.as_str(), &self.spec.scope);
        let fresh = bootstrap::connect(&self.transport, &self.wire, place, self.user_agent()).await?;
        *kept = Some(fresh.clone());
        Ok(fresh)
    }

    /// Who we are, in the form the service expects (docs/github.md#actions-service-requests).
    fn user_agent(&self) -> HeaderValue {
        let version = env!("CARGO_PKG_VERSION");
        let text = json!({
            "system": PRODUCT,
            "version": version,
            "commit_sha": "",
            "scale_set_id": self.set_id.get(),
            "subsystem": "controller",
            "build_version": version,
            "build_commit_sha": "",
            "kind": "scaleset",
        });
        HeaderValue::from_str(&text.to_string()).unwrap_or(HeaderValue::from_static(PRODUCT))
    }
}

/// `path` below `base`, with the query of both and the API version.
fn joined(mut base: Url, path: &str, query: &[(&str, &str)]) -> Url {
    let below = format!("{}/{path}", base.path().trim_end_matches('/'));
    base.set_path(&below);
    let versioned = base.query_pairs().any(|(key, _)| key == "api-version");
    {
        let mut pairs = base.query_pairs_mut();
        pairs.extend_pairs(query);
        if !versioned {
            pairs.append_pair("api-version", API_VERSION);
        }
    }
    base
}

/// One exchange, without the byte order mark. `shown` names it in an error.
pub(super) async fn exchange<W: Wire>(wire: &W, shown: &str, request: Request) -> Result<Answer, ForgeError> {
    let mut answer = wire
        .send(request)
        .await
        .map_err(|error| ForgeError::new(ErrorKind::Unavailable, format!("{shown}: {error}")))?;
    let clean = without_mark(&answer.body).len();
    answer.body.drain(..answer.body.len() - clean);
    Ok(answer)
}

/// What the service's error is named, e.g. `AgentExistsException`; empty if it names none.
pub(super) fn type_name(answer: &Answer) -> String {
    serde_json::from_slice::<Trouble>(&answer.body).unwrap_or_default().type_name
}

/// What a status that was not hoped for means, with all that helps GitHub's support find it.
pub(super) fn refused(shown: &str, answer: &Answer, now: std::time::Duration) -> ForgeError {
    let mut error = refusal(shown, answer, now);
    let name = type_name(answer);
    for (part, kind) in [
        ("AgentExistsException", ErrorKind::Conflict),
        ("SessionConflictException", ErrorKind::Conflict),
        ("AgentNotFoundException", ErrorKind::NotFound),
        ("SessionExpiredException", ErrorKind::NotFound),
        ("InvalidTokenException", ErrorKind::Unauthorized),
    ] {
        if name.contains(part) {
            error.kind = kind;
        }
    }
    let plain = || match serde_json::from_slice::<Trouble>(&answer.body) {
        Ok(_) => String::new(),
        Err(_) => String::from_utf8_lossy(&answer.body).into_owned(),
    };
    let shorten = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    // A full name ends with the part that tells: `GitHub.DistributedTask.WebApi.TaskAgentExistsException, …`.
    let short = name.split(',').next().unwrap_or_default().rsplit('.').next().unwrap_or_default();
    for said in [shorten(short), shorten(&plain())].into_iter().filter(|said| !said.is_empty()) {
        error.message = format!("{}: {said}", error.message);
    }
    for header in ["activityid", "x-github-request-id"] {
        if let Some(id) = answer.headers.get(header).and_then(|value| value.to_str().ok()) {
            error.message = format!("{} ({header} {})", error.message, shorten(id));
        }
    }
    error
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_is_joined_below_the_base_and_what_is_asked_of_the_base_stays() {
        let url = |base: &str, query: &[(&str, &str)]| joined(Url::parse(base).unwrap(), "_apis/x", query).to_string();
        assert_eq!(
            url("https://b.example/rest", &[("name", "my group & co")]),
            "https://b.example/rest/_apis/x?name=my+group+%26+co&api-version=6.0-preview"
        );
        assert_eq!(url("https://b.example/t/?api-version=7", &[]), "https://b.example/t/_apis/x?api-version=7");
    }

    #[test]
    fn an_error_says_what_the_service_named_it() {
        let mut answer = Answer {
            status: StatusCode::CONFLICT,
            headers: HeaderMap::new(),
            body: br#"{"typeName":"GitHub.X.TaskAgentExistsException, GitHub.X","message":"taken"}"#.to_vec(),
        };
        answer.headers.insert("ActivityId", HeaderValue::from_static("a-1"));
        let error = refused("POST p", &answer, std::time::Duration::ZERO);
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert_eq!(error.message, "POST p: 409 Conflict: taken: TaskAgentExistsException (activityid a-1)");
        answer.body = b"no such route".to_vec();
        answer.status = StatusCode::NOT_FOUND;
        let error = refused("POST p", &answer, std::time::Duration::ZERO);
        assert_eq!((error.kind, error.message.contains("no such route")), (ErrorKind::NotFound, true));
    }
}
