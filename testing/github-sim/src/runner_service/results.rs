//! The results service: how far the steps are, and their logs.

use super::{Answer, Ask, BLOBS};
use crate::world::{Conclusion, JobId, RunnerKey, StepUpdate, World};
use serde_json::{Value, json};

/// What a runner is told to keep below.
const SOFT_LIMIT: u64 = 1024 * 1024;

/// A call of either service.
pub(super) fn call(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let RunnerKey::Job(runner, job) = ask.key(world)? else {
        return Err(Answer::plain(403, "Forbidden"));
    };
    let (service, method) = ask.path.rsplit_once('/').unwrap_or_default();
    let body = ask.json()?;
    match (service, method) {
        ("github.actions.results.api.v1.WorkflowStepUpdateService", "WorkflowStepsUpdate") => {
            let updates: Vec<StepUpdate> = body["steps"].as_array().into_iter().flatten().map(update).collect();
            // Too late is no error for a runner.
            let _ = world.runner_steps(ask.now, runner, job, &updates);
            Ok(Answer::ok(json!({ "ok": true })))
        }
        ("results.services.receiver.Receiver", "GetStepLogsSignedBlobURL") => {
            let step = body["step_backend_id"].as_str().unwrap_or_default();
            Ok(signed(world, job, &format!("steps/{step}"), "logs_url"))
        }
        ("results.services.receiver.Receiver", "GetJobLogsSignedBlobURL") => Ok(signed(world, job, "job", "logs_url")),
        ("results.services.receiver.Receiver", "GetJobDiagLogsSignedBlobURL") => {
            Ok(signed(world, job, "diagnostics", "diag_logs_url"))
        }
        ("results.services.receiver.Receiver", "GetStepSummarySignedBlobURL") => {
            Ok(signed(world, job, "summary", "summary_url"))
        }
        ("results.services.receiver.Receiver", method)
            if method.starts_with("Create") && method.ends_with("Metadata") =>
        {
            Ok(Answer::ok(json!({ "ok": true })))
        }
        _ => Err(Answer::plain(404, "Not Found")),
    }
}

/// Where something of this job is put. The name of the job is nobody's secret, and so a signature is asked for.
fn signed(world: &mut World, job: JobId, what: &str, field: &str) -> Answer {
    let address = format!("{}{BLOBS}{job}/{what}?sig={}", world.config().base_url, signature(job));
    Answer::ok(json!({
        field: address,
        "blob_storage_type": "BLOB_STORAGE_TYPE_AZURE",
        "soft_size_limit": SOFT_LIMIT,
    }))
}

/// Good enough for something that only tests upload to.
fn signature(job: JobId) -> String {
    format!("{:016x}", job.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn update(step: &Value) -> StepUpdate {
    let conclusion = match step["conclusion"].as_u64() {
        Some(2) => Some(Conclusion::Success),
        Some(3) => Some(Conclusion::Failure),
        Some(4) => Some(Conclusion::Cancelled),
        Some(7) => Some(Conclusion::Skipped),
        _ => None,
    };
    let status = step["status"].as_u64();
    let (has_begun, is_over) = (status == Some(3), status == Some(6));
    StepUpdate {
        id: step["external_id"].as_str().unwrap_or_default().to_owned(),
        name: step["name"].as_str().unwrap_or_default().to_owned(),
        conclusion: conclusion.filter(|_| is_over),
        began: has_begun || is_over && conclusion != Some(Conclusion::Skipped),
    }
}

/// Something is uploaded: at once (`BlockBlob`), or begun empty (`AppendBlob`) and gone on with.
pub(super) fn put(world: &mut World, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let (job, what) = ask.path.split_once('/').unwrap_or_default();
    let job = JobId(job.parse().map_err(|_| Answer::empty(404))?);
    if ask.query("sig") != Some(signature(job)) {
        return Err(Answer::empty(403));
    }
    // The job's own record repeats what its steps have.
    if let Some(step) = what.strip_prefix("steps/") {
        let goes_on = ask.query("comp").as_deref() == Some("appendblock");
        world.runner_log(job, step, ask.request.body(), goes_on);
    }
    Ok(Answer::empty(201).with("etag", "\"1\"").with("x-ms-request-id", "1"))
}
