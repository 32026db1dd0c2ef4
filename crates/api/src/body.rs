//! How much a request may bring.

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::Limited;

use super::problem::Refused;

/// Largest body of a request, in bytes.
const LIMIT: usize = 16 << 10;

/// Refuses what is too large: what is promised at once, what just comes when it is more.
pub(super) async fn limit(request: Request, next: Next) -> Response {
    if request.body().size_hint().lower() > LIMIT as u64 {
        return Refused(StatusCode::PAYLOAD_TOO_LARGE, format!("a body is at most {LIMIT} bytes")).into_response();
    }
    next.run(request.map(|body| Body::new(Limited::new(body, LIMIT)))).await
}
