//! Organisations and users.

use super::Ask;
use super::answer::Answer;
use super::route::Place;
use crate::world::{AccountKind, World};
use serde_json::{Value, json};

/// `/orgs/{org}` and `/users/{user}`; the first knows no users.
pub(super) fn get(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let (login, only_orgs) = match &ask.route.place {
        Place::Org(login) => (login, true),
        Place::User(login) => (login, false),
        _ => return Err(Answer::not_found()),
    };
    let (login, kind) = world.account(login).ok_or_else(Answer::not_found)?;
    if only_orgs && kind == AccountKind::User {
        return Err(Answer::not_found());
    }
    Ok(Answer::ok(render(ask, &login, kind)))
}

/// `/user`: whose the token is.
pub(super) fn own(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let known = world.token(&ask.account).ok_or_else(Answer::not_found)?;
    let login = match known.login.as_str() {
        "" => "monalisa",
        login => login,
    };
    Ok(Answer::ok(render(ask, login, AccountKind::User)))
}

fn render(ask: &Ask<'_>, login: &str, kind: AccountKind) -> Value {
    let (kind, at) = match kind {
        AccountKind::Organization => ("Organization", "orgs"),
        AccountKind::User => ("User", "users"),
    };
    json!({
        "login": login,
        "id": 1,
        "node_id": "A_1",
        "type": kind,
        "url": format!("{}/{at}/{login}", ask.api),
        "html_url": format!("{}/{login}", ask.api),
        "repos_url": format!("{}/{at}/{login}/repos", ask.api),
        "site_admin": false,
    })
}
