//! What a GitHub App needs before it has a token: find its installation and get a token for it.

use super::answer::Answer;
use super::route::Place;
use super::{Ask, find_repo};
use crate::stamp::rfc3339;
use crate::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::time::Duration;

/// The only installation there is.
const INSTALLATION: u64 = 4_711;
const TOKEN_TTL: Duration = Duration::from_secs(3_600);
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

pub(super) fn list(_world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    Ok(ask.query.cut(&ask.address, None, vec![INSTALLATION], |id| render(ask, id)))
}

pub(super) fn find(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    match &ask.route.place {
        Place::Owner(owner) if world.repos().any(|repo| repo.belongs_to(owner)) => {}
        Place::Owner(_) => return Err(Answer::not_found()),
        _ => {
            find_repo(world, ask)?;
        }
    }
    Ok(Answer::ok(render(ask, INSTALLATION)))
}

pub(super) fn mint_token(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    if ask.route.id != INSTALLATION {
        return Err(Answer::not_found());
    }
    let token = world.new_secret("ghs_", 36);
    let expires_at = ask.now + TOKEN_TTL;
    world.add_token(&token, Some(expires_at));
    Ok(Answer::with(
        201,
        json!({
            "token": token,
            "expires_at": rfc3339(expires_at),
            "permissions": { "actions": "write", "administration": "write", "metadata": "read" },
            "repository_selection": "all",
        }),
    ))
}

fn render(ask: &Ask<'_>, id: u64) -> Value {
    json!({
        "id": id,
        "app_id": 1,
        "target_type": "Organization",
        "repository_selection": "all",
        "access_tokens_url": format!("{}/app/installations/{id}/access_tokens", ask.api),
        "repositories_url": format!("{}/installation/repositories", ask.api),
        "permissions": { "actions": "write", "administration": "write", "metadata": "read" },
        "events": [],
    })
}
