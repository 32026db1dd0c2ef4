//! `/rate_limit`: where a credential stands.

use super::Ask;
use super::answer::Answer;
use crate::world::{Charge, World};
use serde_json::{Value, json};

pub(super) fn rate_limit(world: &mut World, ask: &Ask<'_>) -> Answer {
    match world.limits_mut().standing(&ask.payer, ask.now) {
        Some(standing) => Answer::ok(rate_limit_body(standing)),
        None => Answer::error(404, "Rate limiting is not enabled."),
    }
}

fn rate_limit_body(standing: Charge) -> Value {
    let core = json!({
        "limit": standing.limit,
        "used": standing.used,
        "remaining": standing.remaining(),
        "reset": standing.reset.as_secs(),
        "resource": "core",
    });
    json!({ "resources": { "core": core }, "rate": core })
}
