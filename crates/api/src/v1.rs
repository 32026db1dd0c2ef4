//! `/api/v1`: what there is to know, and over the local socket what there is to do. The OpenAPI document is made from this
//! file.

use std::time::Duration;

use axum::{
    Extension, Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    routing::{get, post},
};
use controller::{
    event::{Event, What},
    history::{ClassMemory, Filter, MOST, Summary, Window},
    operation::{Denied, Done, LoopCommand, Operation, OperatorOrder},
    status::{ActiveContainer, Finished, QueuedJob, Status},
};
use rmcp::schemars;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::{IntoParams, IntoResponses, OpenApi, ToSchema};

use super::{
    Health, Sources, events, get_health, get_status, now_ms,
    problem::{ErrorAnswer, Refused},
    server::Peer,
};

/// Longest wait for the controller to do something.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pauses between tries where the controller says "in a moment".
const MOMENT: Duration = Duration::from_millis(300);
const HOUR_MS: u64 = 3_600_000;

/// Jobs that wait and jobs that run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Jobs {
    /// Queued jobs, and why each is not running.
    pub queued: Vec<QueuedJob>,
    /// Containers whose runner has a job.
    pub running: Vec<ActiveContainer>,
}

/// Containers from the request to the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Containers {
    /// All of them.
    pub containers: Vec<ActiveContainer>,
}

/// Ended containers, the last first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Entries {
    /// Those that pass the filter.
    pub entries: Vec<Finished>,
    /// There may be more: ask again with this as `before_ms`.
    pub next_before_ms: Option<u64>,
}

/// What is summed up.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Span {
    /// Hours up to now [default: 24].
    #[param(minimum = 1, maximum = 87600)]
    hours: Option<u32>,
}

/// The host, or one class of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(default, deny_unknown_fields)]
pub struct Part {
    /// A class; none = the host.
    pub class: Option<String>,
}

/// A container to boot though no job asks for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct ProvisionRequest {
    /// `owner/repository` whose jobs it is to take, or another place runners are registered with.
    pub repo: String,
    /// Of this class; none = the smallest that serves there.
    pub class: Option<String>,
}

/// What an order may be answered.
#[derive(IntoResponses)]
#[allow(dead_code)]
enum Operated {
    /// It is done
    #[response(status = 200)]
    Done(Done),
    /// It cannot be read
    #[response(status = 400)]
    Unreadable(ErrorAnswer),
    /// Only over the local socket
    #[response(status = 403)]
    Forbidden(ErrorAnswer),
    /// There is no such class, repository or container
    #[response(status = 404)]
    Missing(ErrorAnswer),
    /// Not as things are now
    #[response(status = 409)]
    Conflict(ErrorAnswer),
    /// It is too large
    #[response(status = 413)]
    TooLarge(ErrorAnswer),
    /// The controller cannot do it
    #[response(status = 503)]
    Failed(ErrorAnswer),
}

/// The document.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "gha-runner-controller",
        description = "One freshly booted container for each CI job.\n\n\
        Whatever reads is served over HTTP and over the local socket; whatever changes something over the local socket \
        alone, to root and to the operators' group. Over HTTP it is answered 403."
    ),
    paths(
        status,
        health,
        jobs,
        containers,
        container,
        history,
        history_summary,
        event_stream,
        drain,
        resume,
        stop_container,
        provision
    ),
    components(schemas(Done, Event, ErrorAnswer, What))
)]
struct Document;

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

pub(super) fn routes() -> Router<Sources> {
    Router::new()
        .route("/status", get(get_status))
        .route("/health", get(get_health))
        .route("/jobs", get(jobs))
        .route("/containers", get(containers))
        .route("/containers/{name}", get(container))
        .route("/containers/{name}/stop", post(stop_container))
        .route("/history", get(history))
        .route("/history/summary", get(history_summary))
        .route("/events", get(events::stream))
        .route("/drain", post(drain))
        .route("/resume", post(resume))
        .route("/provision", post(provision))
        .route("/openapi.json", get(async || Json(document())))
        .fallback(async || Refused(StatusCode::NOT_FOUND, "there is nothing here; see openapi.json".to_owned()))
}

/// Everything the controller tells about itself.
#[utoipa::path(get, path = "/api/v1/status", tag = "read", responses((status = 200, body = Status)))]
#[allow(dead_code)]
async fn status() {}

/// Whether all is well, and what is not.
#[utoipa::path(get, path = "/api/v1/health", tag = "read", responses(
    (status = 200, body = Health, description = "All is well"),
    (status = 503, body = Health, description = "Something is not"),
))]
#[allow(dead_code)]
async fn health() {}

/// Everything that happens from now on, as server-sent events; each `data` is an Event. The first is `ready`, with the
/// time. A reader that does not keep up is cut off.
#[utoipa::path(get, path = "/api/v1/events", tag = "read", responses(
    (status = 200, content_type = "text/event-stream", body = String),
    (status = 503, body = ErrorAnswer, description = "Too many listen already"),
))]
#[allow(dead_code)]
async fn event_stream() {}

/// Jobs that wait, with the reason, and jobs that run.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "read", responses((status = 200, body = Jobs)))]
async fn jobs(State(sources): State<Sources>) -> Json<Jobs> {
    let status = sources.status().at(now_ms());
    let running = status.active_containers.into_iter().filter(|one| one.timeline.job_started_ms.is_some());
    Json(Jobs { queued: status.queue, running: running.collect() })
}

/// Containers from the request to the end.
#[utoipa::path(get, path = "/api/v1/containers", tag = "read", responses((status = 200, body = Containers)))]
async fn containers(State(sources): State<Sources>) -> Json<Containers> {
    Json(Containers { containers: sources.status().at(now_ms()).active_containers })
}

/// One container.
#[utoipa::path(
    get, path = "/api/v1/containers/{name}", tag = "read",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = ActiveContainer),
        (status = 400, body = ErrorAnswer),
        (status = 404, body = ErrorAnswer, description = "There is none of that name now"),
    )
)]
async fn container(
    State(sources): State<Sources>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ActiveContainer>, Refused> {
    let Path(name) = name?;
    let found = sources.status().at(now_ms()).active_containers.into_iter().find(|one| one.name == name);
    found.map(Json).ok_or_else(|| Refused(StatusCode::NOT_FOUND, "there is no container of that name".to_owned()))
}

/// Ended containers, the last first.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "read", params(Filter),
    responses(
        (status = 200, body = Entries),
        (status = 400, body = ErrorAnswer),
        (status = 503, body = ErrorAnswer, description = "The history cannot be read"),
    )
)]
async fn history(
    State(sources): State<Sources>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Entries>, Refused> {
    let Query(filter) = filter?;
    let limit = filter.limit.unwrap_or(100) as usize;
    if !(1..=MOST).contains(&limit) {
        return Err(Refused(StatusCode::BAD_REQUEST, format!("limit is a number from 1 to {MOST}")));
    }
    if filter.has_number_out_of_range() {
        let error = format!("job_id, since_ms and before_ms are numbers up to {}", i64::MAX);
        return Err(Refused(StatusCode::BAD_REQUEST, error));
    }
    let entries = sources.history.find(filter).await?;
    let last = entries.last().filter(|_| entries.len() == limit);
    let next_before_ms = last.map(|last| last.timeline.ended_ms.unwrap_or(last.concluded_ms));
    Ok(Json(Entries { entries, next_before_ms }))
}

/// How long jobs waited, who keeps the host busy, what outgrew its class; waits and load in steps.
#[utoipa::path(
    get, path = "/api/v1/history/summary", tag = "read", params(Span),
    responses(
        (status = 200, body = Summary),
        (status = 400, body = ErrorAnswer),
        (status = 503, body = ErrorAnswer, description = "The history cannot be read"),
    )
)]
async fn history_summary(
    State(sources): State<Sources>,
    span: Result<Query<Span>, QueryRejection>,
) -> Result<Json<Summary>, Refused> {
    let Query(span) = span?;
    let hours = span.hours.unwrap_or(24);
    if !(1..=87_600).contains(&hours) {
        return Err(Refused(StatusCode::BAD_REQUEST, "hours is a number from 1 to 87600".to_owned()));
    }
    let until_ms = now_ms();
    let window = Window { since_ms: until_ms.saturating_sub(u64::from(hours) * HOUR_MS), until_ms };
    let classes: Vec<ClassMemory> = sources
        .status()
        .classes
        .into_iter()
        .map(|class| ClassMemory { name: class.name, labels: class.labels, memory: class.memory })
        .collect();
    Ok(Json(sources.history.summarise(window, classes).await?))
}

/// Takes no new jobs any more, over restarts as well; running jobs go on, idle containers go.
#[utoipa::path(
    post, path = "/api/v1/drain", tag = "operate", request_body = Part, responses(Operated)
)]
async fn drain(
    State(sources): State<Sources>,
    Extension(peer): Extension<Peer>,
    part: Body<Part>,
) -> Result<Json<Done>, Refused> {
    order(&sources, peer, part, |Part { class }| Operation::Drain { class }).await
}

/// Takes jobs again.
#[utoipa::path(
    post, path = "/api/v1/resume", tag = "operate", request_body = Part, responses(Operated)
)]
async fn resume(
    State(sources): State<Sources>,
    Extension(peer): Extension<Peer>,
    part: Body<Part>,
) -> Result<Json<Done>, Refused> {
    order(&sources, peer, part, |Part { class }| Operation::Resume { class }).await
}

/// Ends a container, whatever it does. Its job, if it has one, fails at the forge.
#[utoipa::path(
    post, path = "/api/v1/containers/{name}/stop", tag = "operate",
    params(("name" = String, Path, description = "Its name")), responses(Operated)
)]
async fn stop_container(
    State(sources): State<Sources>,
    Extension(peer): Extension<Peer>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Done>, Refused> {
    let local = sources.local()?;
    let Path(container) = name?;
    // One that is being registered or started can be stopped a moment later.
    let deadline = tokio::time::Instant::now() + PATIENCE / 2;
    loop {
        let stop = Operation::Stop { container: container.clone() };
        match operate(local.clone(), peer.clone(), stop).await {
            Err(Refused(StatusCode::CONFLICT, _)) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(MOMENT).await;
            }
            answer => return answer,
        }
    }
}

/// Boots a container though no job asks for one. It goes by itself when none comes.
#[utoipa::path(
    post, path = "/api/v1/provision", tag = "operate", request_body = ProvisionRequest, responses(Operated)
)]
async fn provision(
    State(sources): State<Sources>,
    Extension(peer): Extension<Peer>,
    wanted: Body<ProvisionRequest>,
) -> Result<Json<Done>, Refused> {
    order(&sources, peer, wanted, |ProvisionRequest { repo, class }| Operation::Provision { repo, class }).await
}

/// A request's body, read or not.
type Body<T> = Result<Json<T>, JsonRejection>;

async fn order<T>(
    sources: &Sources,
    peer: Peer,
    body: Body<T>,
    operation: impl FnOnce(T) -> Operation,
) -> Result<Json<Done>, Refused> {
    // Who may not is told so, whatever is asked.
    let local = sources.local()?;
    let Json(asked) = body?;
    operate(local, peer, operation(asked)).await
}

type Commands = tokio::sync::mpsc::Sender<LoopCommand>;

impl Sources {
    /// Where orders go, if they came by the local socket.
    fn local(&self) -> Result<Commands, Refused> {
        let closed = || {
            let remedy = "Remedy: use the local socket, as root or as a member of the operators' group";
            Refused(StatusCode::FORBIDDEN, format!("over HTTP the controller can only be read. {remedy}"))
        };
        self.commands.clone().ok_or_else(closed)
    }
}

async fn operate(commands: Commands, Peer(by): Peer, operation: Operation) -> Result<Json<Done>, Refused> {
    let (answer, result) = oneshot::channel();
    let order = LoopCommand::Operate(OperatorOrder { operation, by, answer });
    let told = async {
        let gone = || Denied::Failed("the controller is stopping".to_owned());
        commands.send(order).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    };
    let late = || Denied::Failed(format!("the controller did not answer within {} s", PATIENCE.as_secs()));
    Ok(Json(tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| Err(late()))?))
}
