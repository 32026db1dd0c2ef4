//! `/rate_limit`: where a credential stands.

use super::Ask;
use super::answer::Answer;
use crate::world::{Charge, Resource, World};
use serde_json::{Value, json};

pub(super) fn rate_limit(world: &mut World, ask: &Ask<'_>) -> Answer {
    let mut standing = |resource| world.limits_mut().standing(&ask.payer, resource, ask.now).map(body);
    match (standing(Resource::Core), standing(Resource::Registration)) {
        (Some(core), Some(registration)) => Answer::ok(json!({
            // Nobody here searches.
            "resources": { "core": core, "search": core, "actions_runner_registration": registration },
            "rate": core,
        })),
        _ => Answer::error(404, "Rate limiting is not enabled."),
    }
}

fn body(standing: Charge) -> Value {
    json!({
        "limit": standing.limit,
        "used": standing.used,
        "remaining": standing.remaining(),
        "reset": standing.reset.as_secs(),
    })
}
