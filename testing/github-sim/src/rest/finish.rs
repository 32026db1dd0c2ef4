//! From an answer to HTTP: entity tags, limits and the headers every answer has.

use super::answer::Answer;
use super::route::Call;
use super::{Ask, permission};
use crate::{
    mishap::set,
    stamp,
    world::{Bearer, Grant, World},
};
use http::{Request, Response, StatusCode};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Entity tags, limits and the headers every answer has.
pub(super) fn finish(
    world: &mut World,
    ask: &Ask<'_>,
    request: &Request<Vec<u8>>,
    bearer: &Bearer,
    answer: Answer,
) -> Response<Vec<u8>> {
    let known = matches!(bearer, Bearer::Accepted(_));
    let mut body = answer.body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let mut status = answer.status;
    let mut etag = None;
    if ask.method == "GET" && status == 200 {
        let tag = entity_tag(world, request, &ask.account, &body);
        if let Some(made_from) = answer.made_from {
            world.given_mut().note(&ask.account, ask.asked, &tag, made_from);
        }
        let wanted = request.headers().get(http::header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        if wanted.is_some_and(|wanted| tag_matches(wanted, &tag)) {
            status = 304;
            body.clear();
        }
        etag = Some(tag);
    } else if status == 304 {
        etag = ask.has.map(str::to_owned);
    }
    if known && status != 304 && ask.route.call != Call::RateLimit && status != 401 {
        world.limits_mut().count(&ask.payer, ask.resource(), ask.now);
    }
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !response.body().is_empty() {
        set(&mut response, "content-type", "application/json; charset=utf-8");
    }
    if let Some(tag) = etag {
        set(&mut response, "etag", &tag);
        set(&mut response, "cache-control", "private, max-age=60, s-maxage=60");
    }
    set(&mut response, "date", &stamp::http_date(ask.now));
    set(&mut response, "x-github-media-type", "github.v3; format=json");
    if known && let Some(standing) = world.limits_mut().standing(&ask.payer, ask.resource(), ask.now) {
        set(&mut response, "x-ratelimit-limit", &standing.limit.to_string());
        set(&mut response, "x-ratelimit-remaining", &standing.remaining().to_string());
        set(&mut response, "x-ratelimit-used", &standing.used.to_string());
        set(&mut response, "x-ratelimit-reset", &standing.reset.as_secs().to_string());
        set(&mut response, "x-ratelimit-resource", ask.resource().name());
    }
    name_grant(world, ask, bearer, &mut response);
    for (name, value) in &answer.headers {
        set(&mut response, name, value);
    }
    response
}

/// What the token allows and what was needed, as GitHub says it for each kind of token.
fn name_grant(world: &World, ask: &Ask<'_>, bearer: &Bearer, response: &mut Response<Vec<u8>>) {
    let Bearer::Accepted(token) = bearer else {
        return;
    };
    let Some(known) = world.token(token) else {
        return;
    };
    let need = permission::needed(ask);
    match &known.grant {
        Grant::Everything => {}
        Grant::Classic { scopes } => {
            set(response, "x-oauth-scopes", &scopes.iter().cloned().collect::<Vec<_>>().join(", "));
            set(response, "x-accepted-oauth-scopes", &need.map(|need| need.scopes()).unwrap_or_default());
        }
        Grant::FineGrained { .. } | Grant::Installation { .. } => {
            if let Some(permission) = need.and_then(|need| need.permission()) {
                set(response, "x-accepted-github-permissions", &permission);
            }
        }
    }
    if let (Some(at), Grant::Classic { .. } | Grant::FineGrained { .. }) = (known.expires_at, &known.grant) {
        let at = stamp::rfc3339(at).replace('T', " ").replace('Z', " UTC");
        set(response, "github-authentication-token-expiration", &at);
    }
}

/// Weak, and different for every address, token and content.
fn entity_tag(world: &mut World, request: &Request<Vec<u8>>, account: &str, body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    request.uri().path_and_query().map(ToString::to_string).hash(&mut hasher);
    account.hash(&mut hasher);
    world.faults_mut().etag_salt.hash(&mut hasher);
    body.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

fn tag_matches(wanted: &str, tag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    wanted.trim() == "*" || wanted.split(',').any(|one| bare(one) == bare(tag))
}
