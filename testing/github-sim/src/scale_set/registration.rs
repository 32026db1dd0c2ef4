//! From a registration token to the Actions service and an admin token
//! (docs/github.md#connecting-to-the-actions-service).

use super::refusal::Refusal;
use super::{Ask, SERVICE, Said};
use crate::world::World;
use serde_json::json;

pub(super) fn register(world: &mut World, ask: &Ask<'_>) -> Result<Said, Refusal> {
    let scope = ask
        .credential("RemoteAuth")
        .and_then(|token| world.registration_scope(ask.now, token))
        .ok_or_else(|| Refusal::untyped(401, "Bad credentials"))?;
    let body = ask.json()?;
    let named = body["url"].as_str().and_then(|url| world.scope_of_url(url));
    if body["runner_event"] != "register" || named.is_none_or(|named| named != scope) {
        return Err(Refusal::untyped(404, "Not Found"));
    }
    let token = world.new_admin_token(ask.now, scope);
    let base = world.config().base_url.clone();
    Ok(Said::Json(json!({
        "url": format!("{base}{SERVICE}"),
        "token": token,
        "token_schema": "OAuthAccessToken",
        "use_v2_flow": true,
    })))
}
