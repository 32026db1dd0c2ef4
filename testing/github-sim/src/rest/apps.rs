//! What a GitHub App needs before it has a token: find its installation and get a token for it.

use super::answer::Answer;
use super::route::Place;
use super::{Ask, find_repo, profile};
use crate::{
    stamp::rfc3339,
    world::{InstallationError, InstallationSpec, Permissions, RepoId, TOKEN_LIFE, World},
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// GitHub's clock and ours may differ by this much.
const LEEWAY: u64 = 60;
const LONGEST: u64 = 600;

/// Looks at the claims; nobody verifies the signature, as nobody here has the App's public key.
pub(super) fn check_jwt(now: Duration, token: &str) -> Result<(), Answer> {
    let undecodable = || Answer::error(401, "A JSON web token could not be decoded");
    let mut parts = token.split('.');
    let mut part = || -> Option<Value> {
        let bytes = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    let header = part().ok_or_else(undecodable)?;
    let claims = part().ok_or_else(undecodable)?;
    let (Some(issued), Some(expires)) = (claims["iat"].as_u64(), claims["exp"].as_u64()) else {
        return Err(undecodable());
    };
    if header["alg"] != "RS256" || claims["iss"].is_null() {
        return Err(undecodable());
    }
    let now = now.as_secs();
    if issued > now + LEEWAY {
        return Err(Answer::error(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        ));
    }
    if expires <= now || expires > now + LONGEST {
        return Err(Answer::error(
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the \
             assertion expires",
        ));
    }
    Ok(())
}

pub(super) fn list(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let all: Vec<(u64, &InstallationSpec)> = world.installations().collect();
    Ok(ask.query.cut(&ask.address, None, all, |(id, spec)| render(world, ask, id, spec)))
}

pub(super) fn find(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let (owner, repo) = match &ask.route.place {
        Place::Org(owner) => (world.organization(owner).ok_or_else(Answer::not_found)?, None),
        Place::User(owner) => (owner.clone(), None),
        _ => {
            let repo = world.repo(find_repo(world, ask)?).ok_or_else(Answer::not_found)?;
            (repo.owner.clone(), Some(repo.full_name()))
        }
    };
    let is_selected = |spec: &InstallationSpec| match (&spec.repositories, &repo) {
        (Some(names), Some(repo)) => names.iter().any(|name| name.eq_ignore_ascii_case(repo)),
        _ => true,
    };
    let (id, spec) = world
        .installations()
        .find(|(_, spec)| spec.owner.eq_ignore_ascii_case(&owner) && is_selected(spec))
        .ok_or_else(Answer::not_found)?;
    Ok(Answer::ok(render(world, ask, id, spec)))
}

pub(super) fn mint_token(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let body = ask.json()?;
    let permissions: Option<Permissions> = serde_json::from_value(body["permissions"].clone())
        .map_err(|_| Answer::error(422, "Invalid request.\n\n\"permissions\" are not understood."))?;
    let repositories = wanted_repositories(world, ask, &body)?;
    let (token, spec) =
        world.new_installation_token(ask.route.id, permissions, repositories).map_err(|error| match error {
            InstallationError::Missing => Answer::not_found(),
            InstallationError::Suspended => Answer::error(403, "This installation has been suspended"),
            InstallationError::TooMuch(_) => {
                Answer::error(422, "The permissions or repositories requested are not granted to this installation.")
            }
        })?;
    let selected = matches!(&spec.grant, crate::world::Grant::Installation { repositories: Some(_), .. });
    let mut answer = json!({
        "token": token,
        "expires_at": rfc3339(ask.now + Duration::from_secs(TOKEN_LIFE)),
        "permissions": spec.grant.permissions(),
        "repository_selection": if selected { "selected" } else { "all" },
    });
    if selected {
        let repos = world.repos().filter(|repo| spec.grant.covers(repo));
        answer["repositories"] = repos.map(|repo| profile::repository(&ask.api, repo)).collect();
    }
    Ok(Answer::with(201, answer))
}

/// Repositories a request narrows the token to, by name within the account or by id.
fn wanted_repositories(world: &World, ask: &Ask<'_>, body: &Value) -> Result<Option<BTreeSet<String>>, Answer> {
    let owner = world.installations().find(|(id, _)| *id == ask.route.id).map(|(_, spec)| spec.owner.clone());
    let owner = owner.ok_or_else(Answer::not_found)?;
    let names = body["repositories"].as_array().into_iter().flatten();
    let names = names.filter_map(Value::as_str).map(|name| format!("{owner}/{name}"));
    let ids = body["repository_ids"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    let ids = ids.map(|id| world.repo(RepoId(id)).map(|repo| repo.full_name()).unwrap_or_default());
    let all: BTreeSet<String> = names.chain(ids).collect();
    Ok((!all.is_empty()).then_some(all))
}

fn render(world: &World, ask: &Ask<'_>, id: u64, spec: &InstallationSpec) -> Value {
    let kind = match world.organization(&spec.owner) {
        Some(_) => "Organization",
        None => "User",
    };
    json!({
        "id": id,
        "app_id": 1,
        "app_slug": "runners",
        "account": profile::account(&ask.api, &spec.owner, kind),
        "target_id": 1,
        "target_type": kind,
        "repository_selection": if spec.repositories.is_some() { "selected" } else { "all" },
        "access_tokens_url": format!("{}/app/installations/{id}/access_tokens", ask.api),
        "repositories_url": format!("{}/installation/repositories", ask.api),
        "permissions": spec.permissions,
        "events": ["workflow_job"],
        "single_file_name": null,
        "html_url": format!("{}/settings/installations/{id}", ask.api),
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "suspended_by": null,
        "suspended_at": spec.suspended.then(|| rfc3339(ask.now)),
    })
}
