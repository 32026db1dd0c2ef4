//! The token service: a runner proves who it is by a JWT signed with the key in its configuration.

use super::{Answer, Ask, TOKEN};
use crate::{
    jit::RsaParamsFile,
    key::Algorithm,
    stamp,
    world::{Refusal, World},
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::time::Duration;

/// Clocks may differ by so much.
const SKEW: Duration = Duration::from_secs(300);
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(super) fn give(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let field = |name: &str| {
        form_urlencoded::parse(ask.request.body()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    if field("grant_type").as_deref() != Some("client_credentials")
        || field("client_assertion_type").as_deref() != Some(ASSERTION)
    {
        return Err(no("unsupported_grant_type", "Only client credentials with a signed assertion are taken."));
    }
    let assertion = field("client_assertion").unwrap_or_default();
    let claims = claims(&assertion).ok_or_else(|| no("invalid_client", "The assertion is not signed by the key."))?;
    let audience = format!("{}{TOKEN}", world.config().base_url);
    if claims["aud"] != audience.as_str() || claims["iss"] != claims["sub"] {
        return Err(no("invalid_client", "The assertion is not for this service."));
    }
    let seconds = |name: &str| claims[name].as_u64().map(Duration::from_secs);
    let is_late = seconds("exp").is_none_or(|at| at + SKEW < ask.now);
    if is_late || seconds("nbf").is_some_and(|at| at > ask.now + SKEW) {
        return Err(skew(ask.now));
    }
    let runner = world.admit_runner(claims["sub"].as_str().unwrap_or_default()).map_err(|refusal| match refusal {
        Refusal::ClockSkew => skew(ask.now),
        other => no("invalid_client", &format!("Registration was not found: {other}.")),
    })?;
    let token = world.new_listener_token(ask.now, runner);
    Ok(Answer::ok(json!({ "access_token": token, "expires_in": 3600, "token_type": "JWT" })))
}

/// What the assertion says, if the simulator's key signed it.
fn claims(assertion: &str) -> Option<Value> {
    let (signed, signature) = assertion.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    let algorithm = Algorithm::named(read(header)?["alg"].as_str()?)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let is_genuine = RsaParamsFile::of_the_simulator().verifies(algorithm, signed.as_bytes(), &signature);
    read(claims).filter(|_| is_genuine)
}

fn no(error: &str, description: &str) -> Answer {
    Answer { status: 400, body: Some(json!({ "error": error, "error_description": description })), headers: Vec::new() }
}

fn skew(now: Duration) -> Answer {
    let time = stamp::rfc3339_millis(now);
    no("invalid_client", &format!("The assertion is not valid at this time. Current server time is {time}."))
}
