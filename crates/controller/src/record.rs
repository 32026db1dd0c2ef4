//! What the controller remembers of a container: only what systemd, machined and the forge cannot tell it.

use contract::ContainerName;
use forge::Scope;
use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::{cause::Cause, phase::Phase};

/// One container, from before its first side effect until nothing of it is left anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Unit instance, machine name, directory name.
    pub name: ContainerName,
    /// Its class.
    pub class: String,
    /// Where its runner is registered, as [`Scope`](forge::Scope) is written.
    #[serde(alias = "target")]
    pub scope: String,
    /// Its runner is the scale set's of its class and scope.
    #[serde(default)]
    pub set: bool,
    /// Its subnet.
    pub subnet: Ipv4Network,
    /// The job it was booted for.
    pub job_id: Option<u64>,
    /// `owner/repository` of the job it took, as far as known, else of the one it was booted for.
    #[serde(default)]
    pub repository: Option<String>,
    /// That job's display name.
    #[serde(default)]
    pub job_name: String,
    /// The job its runner took, as the forge says.
    #[serde(default)]
    pub took: Option<u64>,
    /// What its runner is bound to the job it was booted for by, where the forge binds runners to jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// Its job in the forge's number for runners, where the runner says it: the job may be ended by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// The forge was asked to run its job again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rerun: bool,
    /// The runner's name at the forge; unique to this attempt.
    pub runner_name: String,
    /// The runner's id at the forge, once the registration was answered.
    pub runner_id: Option<u64>,
    /// How far it got; decides what is left to undo.
    pub stage: Stage,
    /// Boot of the host it was made in.
    pub boot_id: String,
    /// When what happened.
    pub timeline: Timeline,
}

/// How far a container got, in side effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Stage {
    /// A registration is being asked for; it may exist.
    Minting,
    /// The registration exists; a unit may have been started.
    Started,
    /// The controller asked the unit to stop.
    Stopping {
        /// Why.
        cause: Cause,
    },
    /// No unit any more; the registration may still exist.
    Settling {
        /// Why it ended.
        cause: Cause,
    },
}

/// Times in milliseconds since the Unix epoch; absent = has not happened, or nobody saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Timeline {
    /// The forge queued the job.
    pub queued_ms: Option<u64>,
    /// The controller first saw it queued.
    pub visible_ms: Option<u64>,
    /// The record was written.
    pub recorded_ms: Option<u64>,
    /// The registration was answered.
    pub minted_ms: Option<u64>,
    /// systemd took the request to start the unit.
    pub unit_started_ms: Option<u64>,
    /// systemd said the unit is active: the container's init runs.
    pub active_ms: Option<u64>,
    /// The guest ran.
    pub booted_ms: Option<u64>,
    /// The guest's network was ready.
    pub network_ms: Option<u64>,
    /// The runner program was started.
    pub runner_started_ms: Option<u64>,
    /// The runner listened.
    pub listening_ms: Option<u64>,
    /// The runner took a job.
    pub job_started_ms: Option<u64>,
    /// The runner said the job ended.
    pub job_ended_ms: Option<u64>,
    /// The unit was gone.
    pub ended_ms: Option<u64>,
    /// How long teardown took, in microseconds.
    pub teardown_us: Option<u64>,
}

impl Timeline {
    /// How long its job waited, in milliseconds; none if none started, or nobody knows since when.
    pub fn waited_ms(&self) -> Option<u64> {
        between(self.queued_ms.or(self.visible_ms), self.job_started_ms)
    }

    /// From the start of the unit to the runner's listening, in milliseconds.
    pub fn boot_ms(&self) -> Option<u64> {
        between(self.unit_started_ms, self.listening_ms)
    }

    /// How long its job ran, in milliseconds.
    pub fn ran_ms(&self) -> Option<u64> {
        between(self.job_started_ms, self.job_ended_ms.or(self.ended_ms))
    }
}

/// 0 where the clocks of two machines say that the end came first.
pub fn between(from_ms: Option<u64>, to_ms: Option<u64>) -> Option<u64> {
    Some(to_ms?.saturating_sub(from_ms?))
}

impl Record {
    /// `owner/repository` of its job: as told, or because its runner is registered there.
    pub fn repository(&self) -> Option<&str> {
        let scope = Some(self.scope.as_str());
        self.repository.as_deref().or(scope.filter(|scope| matches!(Scope::parse(scope), Scope::Repository(_))))
    }

    /// The phase a record alone stands for, before anything is heard of its unit.
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Minting => Phase::Requested,
            Stage::Started if self.timeline.job_ended_ms.is_some() => Phase::Finishing,
            Stage::Started if self.timeline.job_started_ms.is_some() => Phase::Running,
            Stage::Started if self.timeline.listening_ms.is_some() => Phase::Idle,
            Stage::Started => Phase::Requested,
            Stage::Stopping { .. } => Phase::Finishing,
            Stage::Settling { cause } if cause.is_good_order() => Phase::Gone,
            Stage::Settling { .. } => Phase::Failed,
        }
    }
}
