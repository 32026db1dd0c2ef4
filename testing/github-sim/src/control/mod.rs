//! The back door: queue jobs, break things, look at what happened.
//!
//! Every method of [`World`] that a test in the same process would call is also a [`ControlCommand`], so that a test in
//! another process or network namespace can send it as JSON.

mod client;

pub use client::{ControlClient, ControlError};

use crate::world::{
    AccountSpec, Conclusion, Fault, Gate, HookFault, HookSpec, InstallationSpec, JobId, JobSpec, LimitRules, Picking,
    RepoSettings, RepoSpec, RunId, RunSpec, RunStatusRule, RunnerFault, RunnerGroupSpec, ScaleSetId, ScaleSetRules,
    Scope, TokenSpec, World, WorldError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// Where commands go.
pub const PATH: &str = "/_control/";

/// One thing to do or to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the methods of `World` they call say it")]
pub enum ControlCommand {
    AddRepo(RepoSpec),
    /// Answers the ids.
    AddRepos {
        owner: String,
        prefix: String,
        count: u32,
        #[serde(default)]
        private: bool,
    },
    /// Answers the settings.
    Repo {
        repo: String,
    },
    /// What `settings` does not name is as in a new public repository.
    SetRepo {
        repo: String,
        settings: RepoSettings,
    },
    RenameRepo {
        from: String,
        to: String,
    },
    DeleteRepo {
        repo: String,
    },
    /// Answers `{run_id, job_ids}`.
    QueueRun {
        repo: String,
        run: RunSpec,
    },
    /// Answers `{run_id, job_ids}`.
    QueueJob {
        repo: String,
        job: JobSpec,
    },
    AddJob {
        run: RunId,
        job: JobSpec,
    },
    CancelRun {
        run: RunId,
        #[serde(default)]
        force: bool,
    },
    CancelJob {
        job: JobId,
    },
    FinishJob {
        job: JobId,
        conclusion: Conclusion,
    },
    /// Answers the new job ids.
    Rerun {
        run: RunId,
        #[serde(default)]
        only_failed: bool,
    },
    /// A waiting or pending job becomes queued.
    ReleaseJob {
        job: JobId,
    },
    HoldJob {
        job: JobId,
        gate: Gate,
    },
    Job {
        job: JobId,
    },
    Jobs,
    Run {
        run: RunId,
    },
    Runners,
    LeakedRunners,
    Traffic,
    ResetTraffic,
    Inject {
        fault: Fault,
    },
    InjectRunner {
        fault: RunnerFault,
    },
    ClearFaults,
    /// Answers `{rest, runner}`: faults that have not happened yet.
    PendingFaults,
    SetPicking {
        picking: Picking,
    },
    SetRunStatusRule {
        rule: RunStatusRule,
    },
    SetMinimumRunnerVersion {
        version: Option<(u32, u32, u32)>,
    },
    /// Makes a runner version known, refused from that second since the epoch on.
    SetRunnerDeprecation {
        version: String,
        #[serde(default)]
        at_s: Option<u64>,
    },
    SetRateLimit {
        limit: Option<u64>,
    },
    /// What `rules` does not name is as at the start of a world.
    SetLimitRules {
        rules: LimitRules,
    },
    AddToken {
        token: String,
        #[serde(default)]
        lives_s: Option<u64>,
    },
    SetToken(TokenSpec),
    /// Answers how many there were.
    RevokeInstallationTokens,
    /// Answers the id of the installation.
    SetInstallation(InstallationSpec),
    RevokeToken {
        token: String,
    },
    /// Answers the hook's id.
    SetHook(HookSpec),
    InjectHook {
        fault: HookFault,
    },
    Deliveries,
    SetAccount(AccountSpec),
    /// Answers the group's id.
    SetRunnerGroup {
        scope: Scope,
        group: RunnerGroupSpec,
    },
    ScaleSets,
    /// Answers the rules of the scale-set half.
    ScaleSetRules,
    /// What `rules` does not name is as at the start of a world.
    SetScaleSetRules {
        rules: ScaleSetRules,
    },
    LoseSession {
        scale_set: ScaleSetId,
    },
    RestoreMessages {
        scale_set: ScaleSetId,
    },
    RevokeScaleSetTokens,
    DropAssignment {
        job: JobId,
    },
    /// Answers the simulator's time.
    Now,
}

impl World {
    /// Does one thing and answers as JSON.
    ///
    /// # Errors
    /// If what it names is not there or not in the state for it.
    pub fn command(&mut self, now: Duration, command: ControlCommand) -> Result<Value, WorldError> {
        self.advance(now);
        let done = Ok(Value::Null);
        match command {
            ControlCommand::AddRepo(spec) => self.add_repo(&spec).map(|id| json!(id)),
            ControlCommand::AddRepos { owner, prefix, count, private } => {
                self.add_repos(&owner, &prefix, count, private).map(|ids| json!(ids))
            }
            ControlCommand::Repo { repo } => self.repo_settings(&repo).map(|settings| json!(settings)),
            ControlCommand::SetRepo { repo, settings } => self.set_repo(&repo, settings).map(|()| Value::Null),
            ControlCommand::RenameRepo { from, to } => self.rename_repo(&from, &to).map(|()| Value::Null),
            ControlCommand::DeleteRepo { repo } => self.delete_repo(&repo).map(|()| Value::Null),
            ControlCommand::QueueRun { repo, run } => self.queue_run(now, &repo, run).map(|queued| json!(queued)),
            ControlCommand::QueueJob { repo, job } => {
                self.queue_run(now, &repo, RunSpec::push(vec![job])).map(|queued| json!(queued))
            }
            ControlCommand::AddJob { run, job } => self.add_job(now, run, job).map(|id| json!(id)),
            ControlCommand::CancelRun { run, force } => self.cancel_run(now, run, force).map(|()| Value::Null),
            ControlCommand::CancelJob { job } => self.cancel_job(now, job).map(|()| Value::Null),
            ControlCommand::FinishJob { job, conclusion } => self.end_job(now, job, conclusion).map(|()| Value::Null),
            ControlCommand::Rerun { run, only_failed } => self.rerun(now, run, only_failed).map(|jobs| json!(jobs)),
            ControlCommand::ReleaseJob { job } => self.release_job(now, job).map(|()| Value::Null),
            ControlCommand::HoldJob { job, gate } => self.hold_job(now, job, gate).map(|()| Value::Null),
            ControlCommand::Job { job } => self.job_view(job).map(|view| json!(view)),
            ControlCommand::Jobs => Ok(json!(self.job_views())),
            ControlCommand::Run { run } => self.run_view(run).map(|view| json!(view)),
            ControlCommand::Runners => Ok(json!(self.runner_views())),
            ControlCommand::LeakedRunners => Ok(json!(self.leaked_runners())),
            ControlCommand::Traffic => Ok(json!(self.traffic())),
            ControlCommand::ResetTraffic => {
                self.reset_traffic();
                done
            }
            ControlCommand::Inject { fault } => {
                self.inject(fault);
                done
            }
            ControlCommand::InjectRunner { fault } => {
                self.inject_runner(fault);
                done
            }
            ControlCommand::ClearFaults => {
                self.clear_faults();
                done
            }
            ControlCommand::PendingFaults => {
                let (rest, runner) = self.pending_faults();
                Ok(json!({ "rest": rest, "runner": runner }))
            }
            ControlCommand::SetPicking { picking } => {
                self.set_picking(picking);
                done
            }
            ControlCommand::SetRunStatusRule { rule } => {
                self.set_run_status_rule(rule);
                done
            }
            ControlCommand::SetMinimumRunnerVersion { version } => {
                self.set_minimum_runner_version(version);
                done
            }
            ControlCommand::SetRunnerDeprecation { version, at_s } => {
                self.set_runner_deprecation(&version, at_s.map(Duration::from_secs));
                done
            }
            ControlCommand::SetRateLimit { limit } => {
                self.set_rate_limit(limit);
                done
            }
            ControlCommand::SetLimitRules { rules } => {
                self.set_limit_rules(rules);
                done
            }
            ControlCommand::AddToken { token, lives_s } => {
                self.add_token(&token, lives_s.map(|s| now + Duration::from_secs(s)));
                done
            }
            ControlCommand::SetToken(spec) => {
                self.set_token(now, spec);
                done
            }
            ControlCommand::RevokeInstallationTokens => Ok(json!(self.revoke_installation_tokens())),
            ControlCommand::SetInstallation(spec) => self.set_installation(spec).map(|id| json!(id)),
            ControlCommand::RevokeToken { token } => Ok(json!(self.revoke_token(&token))),
            ControlCommand::SetHook(spec) => self.set_hook(now, spec).map(|id| json!(id)),
            ControlCommand::InjectHook { fault } => {
                self.inject_hook(fault);
                done
            }
            ControlCommand::Deliveries => Ok(json!(self.deliveries())),
            ControlCommand::SetAccount(spec) => self.set_account(spec).map(|()| Value::Null),
            ControlCommand::SetRunnerGroup { scope, group } => self.set_runner_group(&scope, group).map(|id| json!(id)),
            ControlCommand::ScaleSets => Ok(json!(self.scale_set_views())),
            ControlCommand::ScaleSetRules => Ok(json!(self.config().scale_sets)),
            ControlCommand::SetScaleSetRules { rules } => {
                self.set_scale_set_rules(rules);
                done
            }
            ControlCommand::LoseSession { scale_set } => self.lose_session(now, scale_set).map(|()| Value::Null),
            ControlCommand::RestoreMessages { scale_set } => {
                self.restore_messages(now, scale_set).map(|()| Value::Null)
            }
            ControlCommand::RevokeScaleSetTokens => {
                self.revoke_scale_set_tokens();
                done
            }
            ControlCommand::DropAssignment { job } => self.drop_assignment(now, job).map(|()| Value::Null),
            ControlCommand::Now => Ok(json!(now)),
        }
    }
}
