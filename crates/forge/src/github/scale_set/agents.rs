//! The runners of a scale set, which the Actions service calls agents (docs/github.md#runners-of-a-scale-set).

use contract::Grant;
use http::{Method, StatusCode};
use serde_json::json;

use super::{
    models::{AgentModel, JitModel, Listing, read},
    registry::SETS,
    service::{Service, ServiceCall, refused, type_name},
};
use crate::{Deletion, ErrorKind, ForgeError, Minted, github::transport::Transport, wire::Wire};

const AGENTS: &str = "_apis/distributedtask/pools/0/agents";

/// A registered runner, as the Actions service shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The same id as in REST.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The scale set it belongs to.
    pub set_id: Option<u64>,
}

impl From<AgentModel> for Agent {
    fn from(agent: AgentModel) -> Self {
        Self { id: agent.id, name: agent.name, set_id: agent.set_id }
    }
}

/// Registers a one-job runner. Sent once: after an error it may or may not exist.
pub(super) async fn mint<T: Transport, W: Wire>(
    service: &Service<T, W>,
    set_id: u64,
    runner_name: &str,
) -> Result<Minted, ForgeError> {
    let call = ServiceCall::new(Method::POST, format!("{SETS}/{set_id}/generatejitconfig"))
        .body(json!({"name": runner_name, "workFolder": "_work"}));
    let answer = service.expect(call, &[StatusCode::OK, StatusCode::CREATED]).await?;
    let jit: JitModel = read(&answer.body)
        .map_err(|error| ForgeError::new(ErrorKind::Unavailable, format!("generatejitconfig: {error}")))?;
    Ok(Minted { runner_id: jit.runner.id, grant: Grant::GithubJit { encoded_jit_config: jit.encoded_jit_config } })
}

/// Looks a runner up by its exact name.
pub(super) async fn find<T: Transport, W: Wire>(
    service: &Service<T, W>,
    runner_name: &str,
) -> Result<Option<Agent>, ForgeError> {
    let query = [("agentName", runner_name)];
    let answer = service.expect(ServiceCall::new(Method::GET, AGENTS).query(&query), &[StatusCode::OK]).await?;
    let agents: Listing<AgentModel> = read(&answer.body)
        .map_err(|error| ForgeError::new(ErrorKind::Unavailable, format!("runners by name: {error}")))?;
    Ok(agents.value.into_iter().map(Agent::from).find(|agent| agent.name == runner_name))
}

/// Removes a registration.
pub(super) async fn delete<T: Transport, W: Wire>(
    service: &Service<T, W>,
    runner_id: u64,
) -> Result<Deletion, ForgeError> {
    let call = ServiceCall::new(Method::DELETE, format!("{AGENTS}/{runner_id}"));
    let shown = call.shown();
    let answer = service.call(call).await?;
    Ok(match answer.status {
        StatusCode::NO_CONTENT | StatusCode::OK => Deletion::Deleted,
        StatusCode::NOT_FOUND | StatusCode::GONE => Deletion::AlreadyGone,
        _ if type_name(&answer).contains("JobStillRunning") => Deletion::Busy,
        _ if type_name(&answer).contains("AgentNotFound") => Deletion::AlreadyGone,
        _ => return Err(refused(&shown, &answer, service.wire.now())),
    })
}
