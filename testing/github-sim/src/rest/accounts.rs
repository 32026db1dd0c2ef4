//! Organisations and users.

use super::Ask;
use super::answer::Answer;
use super::profile;
use super::route::Place;
use crate::world::{AccountKind, World};

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
    Ok(Answer::ok(profile::account_in_full(&ask.api, &login, kind == AccountKind::Organization)))
}

/// `/user`: whose the token is.
pub(super) fn own(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let known = world.token(&ask.account).ok_or_else(Answer::not_found)?;
    let login = match known.login.as_str() {
        "" => "monalisa",
        login => login,
    };
    Ok(Answer::ok(profile::with_private(profile::account_in_full(&ask.api, login, false))))
}
