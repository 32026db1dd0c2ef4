//! Runner records: minted, connected, busy, lingering, gone.

use super::{JobId, RepoId, RunnerId, ScaleSetId, World, ids};
use crate::jit::{CredentialsData, CredentialsFile, JitConfig, RsaParamsFile, RunnerFile};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest runner name GitHub takes.
const MAX_NAME: usize = 64;
/// Longest label.
const MAX_LABEL: usize = 256;
/// Most labels.
const MAX_LABELS: usize = 100;

/// Where a runner is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One repository.
    Repo(RepoId),
    /// All repositories of an organisation.
    Org(String),
    /// All repositories of all organisations of an enterprise.
    Enterprise(String),
}

/// How a runner record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerState {
    /// Minted, and nobody ever connected.
    Minted,
    /// Connected and waiting.
    Idle,
    /// Has a job.
    Busy,
    /// Its job is over; GitHub has not forgotten it yet.
    Lingering,
    /// Was connected once and is not any more.
    Offline,
}

/// What is known of a runner record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerView {
    /// Id.
    pub id: RunnerId,
    /// Name.
    pub name: String,
    /// Where it is registered.
    pub scope: Scope,
    /// Its labels.
    pub labels: Vec<String>,
    /// The scale set it belongs to.
    #[serde(default)]
    pub scale_set: Option<ScaleSetId>,
    /// How it stands.
    pub state: RunnerState,
    /// Whether somebody is connected.
    pub online: bool,
    /// When it was minted.
    pub minted_at: Duration,
    /// When somebody first connected.
    pub connected_at: Option<Duration>,
    /// Its job.
    pub job: Option<JobId>,
    /// Version it told.
    pub version: Option<String>,
}

/// A connection of a runner.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(super) session: String,
    /// Set when it is known to be dead.
    pub(super) lost_at: Option<Duration>,
    /// Last sign of life of a runner that has to give any; runners inside a simulation do not.
    pub(super) seen_at: Option<Duration>,
}

impl Link {
    /// Since when nothing was heard of it, if that is so.
    pub(super) fn silent_since(&self, now: Duration, offline_after: Duration) -> Option<Duration> {
        self.lost_at.or(self.seen_at.filter(|&seen| now >= seen + offline_after))
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Minted,
    Idle(Link),
    Busy { link: Link, job: JobId },
    Lingering { until: Duration },
    Offline { since: Duration },
}

#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) id: RunnerId,
    pub(crate) name: String,
    pub(crate) scope: Scope,
    pub(crate) group_id: u64,
    pub(crate) labels: Vec<String>,
    pub(crate) version: Option<String>,
    pub(crate) phase: Phase,
    pub(crate) scale_set: Option<ScaleSetId>,
    pub(crate) minted_at: Duration,
    pub(super) connected_at: Option<Duration>,
    /// What only the holder of the blob knows.
    pub(super) client_id: String,
    /// Belongs to somebody else; appears and goes with the job it steals.
    pub(super) is_stranger: bool,
    /// Told to die in the middle of its job.
    pub(super) doomed: bool,
    /// Connected, and never offered anything.
    pub(super) deaf: bool,
    /// Whatever it asks for fails.
    pub(super) cut_off: bool,
    /// The offer it was told of last: the job, and until when it stood.
    pub(super) told: Option<(JobId, Duration)>,
}

impl Runner {
    pub(super) fn is_of(&self, repo: RepoId) -> bool {
        self.scope == Scope::Repo(repo)
    }

    pub(super) fn link(&self) -> Option<&Link> {
        match &self.phase {
            Phase::Idle(link) | Phase::Busy { link, .. } => Some(link),
            Phase::Minted | Phase::Lingering { .. } | Phase::Offline { .. } => None,
        }
    }

    pub(super) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.phase {
            Phase::Idle(link) | Phase::Busy { link, .. } => Some(link),
            Phase::Minted | Phase::Lingering { .. } | Phase::Offline { .. } => None,
        }
    }

    /// GitHub goes on believing in the job for a while after it ended.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Busy { .. } | Phase::Lingering { .. })
    }

    pub(super) fn job(&self) -> Option<JobId> {
        match self.phase {
            Phase::Busy { job, .. } => Some(job),
            _ => None,
        }
    }
}

/// What a client asks for when it mints.
#[derive(Debug, Clone)]
pub(crate) struct MintRequest {
    pub(crate) name: String,
    pub(crate) group_id: u64,
    pub(crate) labels: Vec<String>,
    pub(crate) work_folder: String,
    /// Only jobs of this set.
    pub(crate) scale_set: Option<ScaleSetId>,
    pub(crate) disable_update: bool,
}

/// Why minting was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MintError {
    /// The name is taken.
    Exists,
    /// There is no such runner group.
    NoGroup,
    /// Something about the request is wrong.
    Invalid(String),
}

impl World {
    /// Makes a record and the blob for it.
    pub(crate) fn mint(
        &mut self,
        now: Duration,
        scope: Scope,
        request: MintRequest,
    ) -> Result<(RunnerId, String), MintError> {
        check(&request)?;
        let group = self.runner_group(&scope, request.group_id).ok_or(MintError::NoGroup)?;
        if self.runners.values().any(|runner| runner.scope == scope && runner.name == request.name) {
            return Err(MintError::Exists);
        }
        let id = self.ids.runner();
        let client_id = ids::uuid(&mut self.rng);
        let base = self.config.base_url.clone();
        let yes_or_no = |yes: bool| if yes { "True" } else { "False" }.to_owned();
        let broker = format!("{base}{}", crate::runner_service::BROKER);
        let blob = JitConfig {
            runner: RunnerFile {
                agent_id: id.to_string(),
                agent_name: request.name.clone(),
                disable_update: yes_or_no(request.disable_update),
                ephemeral: yes_or_no(true),
                git_hub_url: self.page_of(&scope),
                pool_id: request.group_id.to_string(),
                pool_name: group.name,
                server_url: broker.clone(),
                server_url_v2: broker,
                use_v2_flow: "true".to_owned(),
                work_folder: request.work_folder,
            },
            credentials: CredentialsFile {
                scheme: "OAuth".to_owned(),
                data: CredentialsData {
                    client_id: client_id.clone(),
                    authorization_url: format!("{base}{}", crate::runner_service::TOKEN),
                    require_fips_cryptography: "True".to_owned(),
                },
            },
            rsa_params: RsaParamsFile::of_the_simulator(),
        }
        .encode()
        .map_err(|error| MintError::Invalid(error.to_string()))?;
        self.runners.insert(
            id,
            Runner {
                id,
                name: request.name,
                scope,
                group_id: request.group_id,
                labels: request.labels,
                version: None,
                phase: Phase::Minted,
                scale_set: request.scale_set,
                minted_at: now,
                connected_at: None,
                client_id,
                is_stranger: false,
                doomed: false,
                deaf: false,
                cut_off: false,
                told: None,
            },
        );
        Ok((id, blob))
    }

    /// The page of a scope. A runner tells by its host whether GitHub is hosted.
    fn page_of(&self, scope: &Scope) -> String {
        let path = match scope {
            Scope::Repo(id) => self.repo_name(*id),
            Scope::Org(org) => org.clone(),
            Scope::Enterprise(enterprise) => format!("enterprises/{enterprise}"),
        };
        format!("https://github.com/{path}")
    }

    /// Runners of a scope, oldest first.
    pub(crate) fn runners_of(&self, scope: &Scope) -> impl Iterator<Item = &Runner> {
        self.runners.values().filter(move |runner| runner.scope == *scope)
    }

    pub(crate) fn runner(&self, scope: &Scope, id: RunnerId) -> Option<&Runner> {
        self.runners.get(&id).filter(|runner| runner.scope == *scope)
    }

    pub(crate) fn runner_mut(&mut self, scope: &Scope, id: RunnerId) -> Option<&mut Runner> {
        self.runners.get_mut(&id).filter(|runner| runner.scope == *scope)
    }

    pub(crate) fn is_online(&self, runner: &Runner) -> bool {
        runner.link().is_some_and(|link| link.silent_since(self.now, self.config.offline_after).is_none())
    }

    pub(crate) fn remove_runner(&mut self, id: RunnerId) {
        self.runners.remove(&id);
        for job in &self.open_jobs {
            if let Some(job) = self.jobs.get_mut(job) {
                job.offer = job.offer.filter(|(runner, _)| *runner != id);
            }
        }
    }

    /// After its job a record stays a little longer.
    pub(super) fn retire_runner(&mut self, id: RunnerId, at: Duration) {
        let until = at + self.between(self.config.linger);
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.phase = Phase::Lingering { until };
        }
    }

    /// All runner records of all scopes, oldest first.
    #[must_use]
    pub fn runner_views(&self) -> Vec<RunnerView> {
        self.runners.values().map(|runner| self.runner_view(runner)).collect()
    }

    /// Records nobody is connected to and that no job explains: what a controller has to clean up.
    #[must_use]
    pub fn leaked_runners(&self) -> Vec<RunnerView> {
        self.runners
            .values()
            .filter(|runner| !runner.is_busy() && !self.is_online(runner))
            .map(|runner| self.runner_view(runner))
            .collect()
    }

    fn runner_view(&self, runner: &Runner) -> RunnerView {
        RunnerView {
            id: runner.id,
            name: runner.name.clone(),
            scope: runner.scope.clone(),
            labels: runner.labels.clone(),
            scale_set: runner.scale_set,
            state: match runner.phase {
                Phase::Minted => RunnerState::Minted,
                Phase::Idle(_) => RunnerState::Idle,
                Phase::Busy { .. } => RunnerState::Busy,
                Phase::Lingering { .. } => RunnerState::Lingering,
                Phase::Offline { .. } => RunnerState::Offline,
            },
            online: self.is_online(runner),
            minted_at: runner.minted_at,
            connected_at: runner.connected_at,
            job: runner.job(),
            version: runner.version.clone(),
        }
    }

    /// A runner of somebody else takes a job.
    pub(super) fn steal(&mut self, now: Duration, job: JobId) {
        let Some((repo, labels)) = self.jobs.get(&job).map(|job| (job.repo, job.spec.labels.clone())) else {
            return;
        };
        let id = self.ids.runner();
        let name = format!("stranger-{id}");
        let link = Link { session: ids::uuid(&mut self.rng), lost_at: None, seen_at: None };
        self.runners.insert(
            id,
            Runner {
                id,
                name,
                scope: Scope::Repo(repo),
                group_id: DEFAULT_GROUP,
                labels,
                version: None,
                phase: Phase::Idle(link),
                scale_set: None,
                minted_at: now,
                connected_at: Some(now),
                client_id: ids::uuid(&mut self.rng),
                is_stranger: true,
                doomed: false,
                deaf: false,
                cut_off: false,
                told: None,
            },
        );
        self.assign(now, id, job);
        let at = now + self.config.stranger_runs;
        if let Some(job) = self.jobs.get_mut(&job) {
            job.started_at = Some(now);
            job.due = Some(super::jobs::Due {
                at,
                conclusion: super::Conclusion::Success,
                note: "Ran on a foreign runner.".to_owned(),
            });
        }
    }
}

/// The runner group every scope has; repository runners always live in it.
pub(crate) const DEFAULT_GROUP: u64 = 1;

fn check(request: &MintRequest) -> Result<(), MintError> {
    let invalid = |what: String| Err(MintError::Invalid(what));
    let name = &request.name;
    if name.is_empty() || name.chars().count() > MAX_NAME {
        return invalid(format!("Invalid name: must have between 1 and {MAX_NAME} characters"));
    }
    if request.labels.is_empty() || request.labels.len() > MAX_LABELS {
        return invalid(format!("Invalid labels: there must be between 1 and {MAX_LABELS}"));
    }
    if request.labels.iter().any(|label| label.trim().is_empty() || label.len() > MAX_LABEL) {
        return invalid(format!("Invalid label: must have between 1 and {MAX_LABEL} characters"));
    }
    Ok(())
}
