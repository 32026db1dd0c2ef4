//! Where readers show no token, only who asks this host by one of its own names is answered. A page from elsewhere, in
//! a browser on this host, can have its name lead here (DNS rebinding), and would read what it is answered; but the
//! browser still says the page's name.

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::Refused;

pub(super) async fn check(request: Request, next: Next) -> Response {
    match asked(request.uri(), request.headers()) {
        // No browser leaves it out; a probe by HTTP/1.0 may.
        None => next.run(request).await,
        Some(name) if is_own(&name) => next.run(request).await,
        Some(_) => {
            let why = "this host has another name. Remedy: ask by localhost or 127.0.0.1, also through a proxy, or set \
                       http.token_file";
            Refused(StatusCode::FORBIDDEN, why.to_owned()).into_response()
        }
    }
}

/// The host that is asked; an address that is written out counts before the header (RFC 9112, section 3.2.2). Empty if
/// it is none.
fn asked(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    if let Some(host) = uri.host() {
        return Some(host.to_owned());
    }
    let host = headers.get(header::HOST)?.to_str().unwrap_or_default();
    Some(host.parse().map_or_else(|_| String::new(), |authority: Authority| authority.host().to_owned()))
}

fn is_own(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
