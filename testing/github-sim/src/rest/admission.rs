//! Who may ask, whether they asked too often already, and whether the repository lets them.

use super::answer::Answer;
use super::route::Call;
use super::{Ask, apps, named_repo, permission};
use crate::world::{Bearer, World};
use http::HeaderMap;

/// The versions of the API there are. Who names none gets the first.
const API_VERSIONS: [&str; 2] = ["2022-11-28", "2026-03-10"];

/// Who may ask, in which version, and whether they asked too often already.
pub(super) fn admit(world: &mut World, ask: &Ask<'_>, bearer: &Bearer, headers: &HeaderMap) -> Result<(), Answer> {
    if !headers.contains_key(http::header::USER_AGENT) {
        return Err(Answer::error(
            403,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
        ));
    }
    check_version(headers)?;
    match (bearer, ask.route.call.wants_jwt()) {
        (Bearer::Accepted(_), false) => {}
        (Bearer::Jwt(token), true) => apps::check_jwt(ask.now, token)?,
        (Bearer::Missing, _) => return Err(Answer::error(401, "Requires authentication")),
        (Bearer::Accepted(_), true) => {
            return Err(Answer::error(401, "A JSON web token could not be decoded"));
        }
        (Bearer::Bad, _) | (Bearer::Jwt(_), false) => {
            return Err(Answer::error(401, "Bad credentials"));
        }
    }
    if ask.route.call == Call::RateLimit {
        return Ok(());
    }
    match world.limits_mut().standing(&ask.payer, ask.resource(), ask.now) {
        Some(standing) if standing.remaining() == 0 => return Err(rate_limited(world)),
        _ => {}
    }
    let rules = world.config().limits.clone();
    if let Some(budget) = rules.points_per_minute {
        let points = if ask.method == "GET" { 1 } else { 5 };
        world
            .limits_mut()
            .spend(&ask.payer, ask.now, points, budget)
            .map_err(|seconds| too_fast(rules.retry_after.then_some(seconds)))?;
    }
    if let Some(known) = world.token(&ask.account) {
        permission::check(world, ask, &known.grant)?;
    }
    repo_allows(world, ask)
}

/// A version is named at most once, and is one that there is.
fn check_version(headers: &HeaderMap) -> Result<(), Answer> {
    let mut named = headers.get_all("x-github-api-version").iter();
    let is_known = |value: &http::HeaderValue| API_VERSIONS.iter().any(|version| value == *version);
    match (named.next(), named.next()) {
        (None, _) => Ok(()),
        (Some(version), None) if is_known(version) => Ok(()),
        (Some(_), None) => Err(Answer::error(400, "Unsupported value for the X-GitHub-Api-Version header")),
        (Some(_), Some(_)) => Err(Answer::error(400, "The X-GitHub-Api-Version header is there more than once")),
    }
}

/// What the state of a repository keeps from being done there.
fn repo_allows(world: &World, ask: &Ask<'_>) -> Result<(), Answer> {
    let Some(repo) = named_repo(world, &ask.route.place) else {
        return Ok(());
    };
    let is_about_actions = ask.route.tail.starts_with("/actions/") && ask.route.call != Call::ActionsPermissions;
    if repo.settings.disabled {
        return Err(Answer::error(403, "Repository access blocked"));
    }
    if repo.settings.archived && ask.method != "GET" {
        return Err(Answer::error(403, "Repository was archived so is read-only."));
    }
    if !repo.settings.actions_enabled && is_about_actions {
        return Err(Answer::error(403, "Actions has been disabled for this repository."));
    }
    Ok(())
}

pub(super) fn rate_limited(world: &World) -> Answer {
    Answer::error(world.config().limits.status, "API rate limit exceeded for user ID 1.")
}

pub(super) fn too_fast(retry_after: Option<u64>) -> Answer {
    let answer =
        Answer::error(403, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.");
    match retry_after {
        Some(seconds) => answer.header("retry-after", seconds.to_string()),
        None => answer,
    }
}
