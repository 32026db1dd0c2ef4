//! What we read of the Actions service's JSON, leniently: a field may be null, missing or new
//! (docs/github.md#scale-sets).

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::timestamp::Timestamp;

/// The one envelope that is known to carry jobs.
const JOB_MESSAGES: &str = "RunnerScaleSetJobMessages";

/// Null is as good as missing.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A count is never negative, whatever a backend in trouble says.
fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let number: i64 = nullable(from)?;
    Ok(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}

/// How many jobs and runners the scale set has, as GitHub counts them (docs/github.md#messages-and-statistics).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Jobs that match and are not assigned yet.
    #[serde(default, alias = "totalAvailableJobs", deserialize_with = "count")]
    pub available_jobs: u32,
    /// Jobs claimed but not assigned.
    #[serde(default, alias = "totalAcquiredJobs", deserialize_with = "count")]
    pub acquired_jobs: u32,
    /// Jobs assigned to the set and not over: waiting for a runner, and running.
    #[serde(default, alias = "totalAssignedJobs", deserialize_with = "count")]
    pub assigned_jobs: u32,
    /// Of these, those that run.
    #[serde(default, alias = "totalRunningJobs", deserialize_with = "count")]
    pub running_jobs: u32,
    /// Runners registered with the set.
    #[serde(default, alias = "totalRegisteredRunners", deserialize_with = "count")]
    pub registered_runners: u32,
    /// Of these, those with a job.
    #[serde(default, alias = "totalBusyRunners", deserialize_with = "count")]
    pub busy_runners: u32,
    /// Of these, those that wait for one.
    #[serde(default, alias = "totalIdleRunners", deserialize_with = "count")]
    pub idle_runners: u32,
}

/// `{count, value: […]}`
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub(super) struct Listing<T> {
    #[serde(default = "Vec::new", deserialize_with = "nullable")]
    pub value: Vec<T>,
}

/// A runner group.
#[derive(Debug, Deserialize)]
pub(super) struct Group {
    pub id: u64,
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
}

/// A scale set.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SetModel {
    pub id: u64,
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub labels: Vec<LabelModel>,
    #[serde(default, rename = "RunnerSetting", alias = "runnerSetting", deserialize_with = "nullable")]
    pub setting: SettingModel,
    #[serde(default)]
    pub statistics: Option<Statistics>,
}

/// A label of a scale set.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct LabelModel {
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
}

/// How the set's runners behave.
#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct SettingModel {
    #[serde(default, rename = "disableUpdate")]
    pub disable_update: Option<bool>,
}

/// A message session. Holds a secret: never printed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionModel {
    pub session_id: String,
    pub message_queue_url: String,
    pub message_queue_access_token: String,
    #[serde(default)]
    pub statistics: Option<Statistics>,
}

/// `generatejitconfig`. Holds a secret: never printed.
#[derive(Deserialize)]
pub(super) struct JitModel {
    pub runner: AgentModel,
    #[serde(rename = "encodedJITConfig")]
    pub encoded_jit_config: String,
}

/// A runner, which the Actions service calls an agent.
#[derive(Debug, Deserialize)]
pub(super) struct AgentModel {
    pub id: u64,
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    #[serde(default, rename = "runnerScaleSetId")]
    pub set_id: Option<u64>,
}

/// `POST …/registration-token`. Holds a secret: never printed.
#[derive(Deserialize)]
pub(super) struct RegistrationToken {
    pub token: String,
}

/// `POST /actions/runner-registration`. Holds a secret: never printed.
#[derive(Deserialize)]
pub(super) struct Registration {
    pub url: String,
    pub token: String,
}

/// An error of the Actions service.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Trouble {
    #[serde(default, rename = "typeName", deserialize_with = "nullable")]
    pub type_name: String,
}

/// A message of the queue, as it arrives.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeModel {
    message_id: u64,
    #[serde(default, deserialize_with = "nullable")]
    message_type: String,
    #[serde(default, deserialize_with = "nullable")]
    body: String,
    #[serde(default)]
    statistics: Option<Statistics>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobModel {
    #[serde(default, deserialize_with = "nullable")]
    message_type: String,
    #[serde(default, deserialize_with = "nullable")]
    runner_request_id: i64,
    #[serde(default, deserialize_with = "nullable")]
    repository_name: String,
    #[serde(default, deserialize_with = "nullable")]
    owner_name: String,
    #[serde(default, deserialize_with = "nullable")]
    job_id: String,
    #[serde(default, deserialize_with = "nullable")]
    job_workflow_ref: String,
    #[serde(default, deserialize_with = "nullable")]
    job_display_name: String,
    #[serde(default, deserialize_with = "nullable")]
    workflow_run_id: u64,
    #[serde(default, deserialize_with = "nullable")]
    event_name: String,
    #[serde(default, deserialize_with = "nullable")]
    request_labels: Vec<String>,
    #[serde(default)]
    queue_time: Timestamp,
    #[serde(default)]
    scale_set_assign_time: Timestamp,
    #[serde(default, deserialize_with = "nullable")]
    runner_name: String,
    #[serde(default, deserialize_with = "nullable")]
    result: String,
}

/// What happened to one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobMessage {
    /// GitHub's key of the job: a UUID, which is **not** the REST job id. Where a backend leaves it out, one made of
    /// the runner request id.
    pub job_id: String,
    /// Names an offered job in `acquirejobs`; 0 on github.com.
    pub request_id: i64,
    /// What happened.
    pub event: JobEvent,
    /// `owner/name`.
    pub repository: String,
    /// The workflow run; the same id as in REST.
    pub run_id: u64,
    /// Display name of the job: text chosen by the workflow's author.
    pub job_name: String,
    /// What started the run, e.g. `push`.
    pub event_name: String,
    /// The workflow file and its ref.
    pub workflow_ref: String,
    /// `runs-on`.
    pub labels: Vec<String>,
    /// When it was queued, since the Unix epoch.
    pub queued_at: Option<Duration>,
    /// When it was assigned to the set, since the Unix epoch.
    pub assigned_at: Option<Duration>,
}

/// The kinds of message about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// It may be claimed (GHES and older backends).
    Available,
    /// It belongs to the set now.
    Assigned,
    /// A runner has it.
    Started {
        /// That runner.
        runner_name: String,
    },
    /// It is over.
    Completed {
        /// GitHub's word for how: `succeeded`, `failed`, `canceled` were seen; others may come.
        result: String,
        /// The runner that had it; empty if none had.
        runner_name: String,
    },
}

/// A message of the queue, understood.
#[derive(Debug)]
pub(super) struct Envelope {
    pub message_id: u64,
    pub statistics: Option<Statistics>,
    pub content: Content,
}

/// What is in it.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// Messages about jobs; those of a kind unknown to us are left out.
    Jobs(Vec<JobMessage>),
    /// Nothing we can read: an envelope of a kind unknown to us, or a body that is not what it should be. In words.
    NotUnderstood(String),
}

/// The answer of a long poll; `None` = it is empty (docs/github.md#polling-for-messages).
pub(super) fn envelope(body: &[u8]) -> Result<Option<Envelope>, serde_json::Error> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let model: EnvelopeModel = serde_json::from_slice(body)?;
    let content = if model.message_type != JOB_MESSAGES {
        let kind: String = model.message_type.chars().filter(|c| !c.is_control()).take(80).collect();
        Content::NotUnderstood(format!("its type is {kind:?}"))
    } else if model.body.trim().is_empty() {
        Content::Jobs(Vec::new())
    } else {
        match serde_json::from_slice::<Vec<Value>>(without_mark(model.body.as_bytes())) {
            Ok(items) => Content::Jobs(items.into_iter().filter_map(job).collect()),
            Err(error) => Content::NotUnderstood(format!("its body is not a list in JSON: {error}")),
        }
    };
    Ok(Some(Envelope { message_id: model.message_id, statistics: model.statistics, content }))
}

/// One inner message; `None` = not about a job in a way we know.
fn job(value: Value) -> Option<JobMessage> {
    let job: JobModel = serde_json::from_value(value).ok()?;
    let event = match job.message_type.as_str() {
        "JobAvailable" => JobEvent::Available,
        "JobAssigned" => JobEvent::Assigned,
        "JobStarted" => JobEvent::Started { runner_name: job.runner_name },
        "JobCompleted" => JobEvent::Completed { result: job.result, runner_name: job.runner_name },
        _ => return None,
    };
    let job_id = match (job.job_id.is_empty(), job.runner_request_id) {
        (false, _) => job.job_id,
        (true, 0) => return None,
        (true, request) => format!("request-{request}"),
    };
    Some(JobMessage {
        job_id,
        request_id: job.runner_request_id,
        event,
        repository: format!("{}/{}", job.owner_name, job.repository_name),
        run_id: job.workflow_run_id,
        job_name: job.job_display_name,
        event_name: job.event_name,
        workflow_ref: job.job_workflow_ref,
        labels: job.request_labels,
        queued_at: job.queue_time.0,
        assigned_at: job.scale_set_assign_time.0,
    })
}

/// Takes off the byte order mark that the Actions service puts before some bodies
/// (docs/github.md#actions-service-requests).
pub(super) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Reads a body; `serde_json` names line and column, and of a wrong value no more than fields that are not secret.
pub(super) fn read<M: DeserializeOwned>(body: &[u8]) -> Result<M, String> {
    serde_json::from_slice(body).map_err(|error| format!("answer not understood: {error}"))
}
