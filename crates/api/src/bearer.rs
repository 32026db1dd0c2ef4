//! The token that readers over HTTP must show, where one is set.

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hmac::{Hmac, Mac};
use settings::token_file::Token;
use sha2::Sha256;

use super::problem::Refused;

pub(super) async fn check(State(token): State<Token>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.split_once(' '));
    let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    if shown.is_some_and(|shown| is_same(shown, token.expose())) {
        return next.run(request).await;
    }
    let why = "a token is needed. Remedy: send \"Authorization: Bearer TOKEN\" with what http.token_file holds";
    let mut answer = Refused(StatusCode::UNAUTHORIZED, why.to_owned()).into_response();
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    answer
}

/// Compared so that the time taken says nothing of how much is right.
fn is_same(shown: &str, token: &str) -> bool {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(token.as_bytes()) else { return false };
    let tag = mac.clone().chain_update(token).finalize().into_bytes();
    mac.chain_update(shown).verify(&tag).is_ok()
}
