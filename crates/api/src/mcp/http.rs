//! Tools over HTTP: each request for itself, no sessions to keep.

use std::sync::Arc;

use axum::{Router, body::Body};
use futures_util::FutureExt;
use http::{Method, Request};
use http_body_util::{BodyExt, Limited};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use serde_json::Value;
use tower::ServiceExt;

use super::{Answer, Api, Tools};
use crate::Peer;

/// Largest answer, in bytes; requests are limited with all others.
const ANSWER_LIMIT: usize = 16 << 20;

/// The tools, asking `routes` in this process. By which names this host may be asked is decided for all routes alike.
pub(crate) fn service(routes: Router) -> StreamableHttpService<Tools, NeverSessionManager> {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .disable_allowed_hosts()
        .enforce_origin_validation();
    let tools = Tools::new(Arc::new(Routes(routes)), None);
    StreamableHttpService::new(move || Ok(tools.clone()), Arc::new(NeverSessionManager::default()), config)
}

/// The API in this process.
struct Routes(Router);

impl Api for Routes {
    fn ask(&self, method: Method, path: String, body: Option<Value>) -> Answer {
        let routes = self.0.clone();
        async move {
            let mut request = Request::builder().method(method).uri(path);
            if body.is_some() {
                request = request.header("content-type", "application/json");
            }
            let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
            let mut request = request.body(body)?;
            request.extensions_mut().insert(Peer("a tool".to_owned()));
            let (parts, body) = routes.oneshot(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(anyhow::Error::from_boxed)?;
            Ok((parts.status, body.to_bytes()))
        }
        .boxed()
    }
}
