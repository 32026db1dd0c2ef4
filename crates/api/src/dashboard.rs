//! The page at `/`: three files in the program, nothing from elsewhere. It holds no secret, so it is served without the
//! token, and asks for it where one is set.

use axum::{
    Router,
    http::{HeaderName, header},
    response::IntoResponse,
    routing::get,
};

/// The page may load its own script and style, ask this controller, and nothing else; nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("dashboard/page.html"))))
        .route("/dashboard.css", get(async || file("text/css; charset=utf-8", include_str!("dashboard/dashboard.css"))))
        .route(
            "/dashboard.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("dashboard/dashboard.js"))),
        )
}

fn file(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, media_type),
        // A newer program has a newer page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text)
}
