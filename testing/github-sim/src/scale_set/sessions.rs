//! Message sessions: open, refresh, close (docs/github.md#message-sessions).

use super::refusal::Refusal;
use super::{Ask, Said, wire};
use crate::world::{ScaleSetId, Scope, SessionError, World};

pub(super) fn open(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let body = ask.json()?;
    let owner = body["ownerName"].as_str().unwrap_or_default();
    let id = ScaleSetId(ask.route.id);
    let opened = world.open_message_session(ask.now, &scope, id, owner).map_err(|error| refuse(error, id))?;
    shown(world, &scope, id, &opened)
}

pub(super) fn refresh(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let id = ScaleSetId(ask.route.id);
    let opened = world.refresh_message_session(ask.now, &scope, id, ask.route.text).map_err(|error| match error {
        SessionError::Gone => Refusal::new(404, "RunnerAdminException", "The session was not found."),
        error => refuse(error, id),
    })?;
    shown(world, &scope, id, &opened)
}

pub(super) fn close(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask.scope(world)?;
    let id = ScaleSetId(ask.route.id);
    world.close_message_session(&scope, id, ask.route.text).map_err(|error| refuse(error, id))?;
    Ok(Said::NoContent)
}

fn shown(world: &World, scope: &Scope, id: ScaleSetId, opened: &crate::world::Opened) -> Result<Said, Refusal> {
    let set = world.scale_set(scope, id).ok_or_else(|| Refusal::no_scale_set(id.0))?;
    Ok(Said::Json(wire::session(world, set, opened)))
}

fn refuse(error: SessionError, id: ScaleSetId) -> Refusal {
    match error {
        SessionError::NoScaleSet => Refusal::no_scale_set(id.0),
        SessionError::Conflict(owner) => Refusal::new(
            409,
            "RunnerScaleSetSessionConflictException",
            &format!("The runner scale set {id} already has an active session for owner {owner}."),
        ),
        SessionError::Gone => {
            Refusal::new(400, "RunnerScaleSetSessionExpiredException", "The session is expired or was deleted.")
        }
    }
}
