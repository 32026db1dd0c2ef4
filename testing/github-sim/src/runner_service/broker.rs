//! The broker: a runner's session and its messages.

use super::{Answer, Ask, RUN, refused};
use crate::world::{Refusal, RunnerId, RunnerKey, RunnerSession, Told, World};
use serde_json::{Value, json};

/// How long a runner may take to end a job that was cancelled.
const CANCEL_LIMIT: &str = "00:05:00";

/// None if there is never an answer.
pub(super) fn serve(world: &mut World, ask: &Ask<'_>) -> Result<Option<Answer>, Answer> {
    let RunnerKey::Listener(runner) = ask.key(world)? else {
        return Err(Answer::plain(403, "Forbidden"));
    };
    match (ask.request.method().as_str(), ask.path) {
        ("POST", "session") => open(world, ask, runner),
        ("DELETE", "session") => {
            if let Ok(session) = world.session_of(runner) {
                // Whoever has no session any more has ended it as well.
                let _ = world.runner_stop(ask.now, &session);
            }
            Ok(Some(Answer::ok(json!({}))))
        }
        ("GET", "message") => message(world, ask, runner).map(Some),
        ("POST", "acknowledge") => {
            let session = session(ask, runner);
            world.runner_acknowledges(ask.now, &session).map_err(|refusal| match refusal {
                Refusal::JobGone => {
                    refused("actions-broker-listener", 404, "AcknowledgeJobNotFound", "The job is gone.")
                }
                other => broker_refusal(&other),
            })?;
            Ok(Some(Answer::ok(json!({}))))
        }
        _ => Err(Answer::plain(404, "Not Found")),
    }
}

fn open(world: &mut World, ask: &Ask<'_>, runner: RunnerId) -> Result<Option<Answer>, Answer> {
    let body = ask.json()?;
    let field = |of: &Value, name: &str| {
        let found = of.as_object().and_then(|all| all.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let agent = field(&body, "agent");
    let version = field(&agent, "version").as_str().unwrap_or_default().to_owned();
    let session = match world.open_session(ask.now, runner, &version, true) {
        Ok(session) => session,
        Err(Refusal::NeverListening) => return Ok(None),
        Err(Refusal::SessionConflict) => return Err(Answer::plain(409, "A session exists.")),
        Err(Refusal::Forbidden) => return Err(Answer::plain(403, "Forbidden")),
        Err(Refusal::Broken) => return Err(Answer::plain(500, "Internal Server Error")),
        Err(_) => return Err(Answer::plain(404, "Not Found")),
    };
    let owner = field(&body, "ownerName");
    Ok(Some(Answer::ok(json!({ "sessionId": session.id, "ownerName": owner, "agent": agent }))))
}

fn session(ask: &Ask<'_>, runner: RunnerId) -> RunnerSession {
    RunnerSession { id: ask.query("sessionId").unwrap_or_default(), runner }
}

fn message(world: &mut World, ask: &Ask<'_>, runner: RunnerId) -> Result<Answer, Answer> {
    let told = world.runner_message(ask.now, &session(ask, runner)).map_err(|refusal| broker_refusal(&refusal))?;
    let base = world.config().base_url.clone();
    let (kind, body) = match told {
        None => return Ok(Answer::empty(202)),
        Some(Told::Job(job)) => (
            "RunnerJobRequest",
            json!({
                "id": job,
                "runner_request_id": job,
                "should_acknowledge": true,
                "run_service_url": format!("{base}{RUN}"),
                "billing_owner_id": "",
            }),
        ),
        Some(Told::Cancel(job)) => ("JobCancellation", json!({ "jobId": job, "timeout": CANCEL_LIMIT })),
        Some(Told::RefreshConfig) => (
            "RunnerRefreshConfig",
            json!({
                "runnerQualifiedId": format!("simulated/runners/{runner}"),
                "configType": "runner",
                "serviceType": "pipelines",
                "configRefreshUrl": format!("{base}_broker/refresh"),
            }),
        ),
    };
    // The body is a text inside.
    Ok(Answer::ok(json!({ "messageId": 1, "messageType": kind, "body": body.to_string() })))
}

fn broker_refusal(refusal: &Refusal) -> Answer {
    if *refusal == Refusal::Broken {
        return Answer::plain(500, "Internal Server Error");
    }
    let (status, kind) = match refusal {
        Refusal::VersionTooOld(_) => (403, "RunnerVersionTooOld"),
        Refusal::SessionInvalid => (401, "RunnerSessionInvalid"),
        Refusal::Deprovisioned => (403, "HostedRunnerDeprovisioned"),
        _ => (404, "RunnerNotFound"),
    };
    refused("actions-broker-listener", status, kind, &refusal.to_string())
}
