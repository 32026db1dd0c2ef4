//! A client of the back door for tests that run somewhere else.

use super::{ControlCommand, PATH};
use crate::{
    http_client::{self, AnswerLimits},
    world::{
        AccountSpec, DeliveryView, Fault, HookFault, HookSpec, InstallationSpec, JobId, JobSpec, JobStatus, JobView,
        LimitRules, Queued, RepoId, RepoSettings, RepoSpec, RunId, RunSpec, RunView, RunnerFault, RunnerGroupSpec,
        RunnerView, ScaleSetId, ScaleSetRules, ScaleSetView, Scope, TokenSpec, TrafficReport,
    },
};
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// A command takes milliseconds; more means the simulator is gone.
const LIMITS: AnswerLimits = AnswerLimits { time: Duration::from_secs(10), bytes: 256 * 1024 * 1024 };

/// Why a command failed.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The socket or the simulator behind it.
    #[error("no answer from the simulator at {0}: {1}")]
    Io(PathBuf, io::Error),
    /// The simulator said no.
    #[error("the simulator refused: {0}")]
    Refused(String),
    /// It said something else than expected.
    #[error("the simulator answered something unexpected: {0}")]
    Unexpected(#[from] serde_json::Error),
    /// What was waited for did not happen.
    #[error("not so after {0:?}: {1}")]
    TooLate(Duration, String),
}

/// Sends commands over the control socket and waits for the answers. May be used inside and outside of an
/// asynchronous runtime; it blocks its thread for the few milliseconds a command takes.
#[derive(Debug, Clone)]
pub struct ControlClient {
    socket: PathBuf,
}

impl ControlClient {
    /// Checks that a simulator answers there.
    ///
    /// # Errors
    /// If none does.
    pub fn connect(socket: impl AsRef<Path>) -> Result<Self, ControlError> {
        let client = Self { socket: socket.as_ref().to_owned() };
        client.call::<Duration>(&ControlCommand::Now)?;
        Ok(client)
    }

    /// Keeps trying until a simulator answers there.
    ///
    /// # Errors
    /// If none does in time.
    pub fn connect_within(socket: impl AsRef<Path>, limit: Duration) -> Result<Self, ControlError> {
        let deadline = Instant::now() + limit;
        loop {
            match Self::connect(&socket) {
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
                client => return client,
            }
        }
    }

    /// Sends one command and reads its answer as that type.
    ///
    /// # Errors
    /// If the simulator is not there, refuses, or answers something else.
    pub fn call<T: DeserializeOwned>(&self, command: &ControlCommand) -> Result<T, ControlError> {
        Ok(serde_json::from_slice(&self.call_raw(serde_json::to_vec(command)?)?)?)
    }

    /// Sends a command as it is and gives the answer as it came.
    ///
    /// # Errors
    /// If the simulator is not there or refuses.
    pub fn call_raw(&self, command: Vec<u8>) -> Result<Vec<u8>, ControlError> {
        let failed = |error| ControlError::Io(self.socket.clone(), error);
        // A runtime of its own on a thread of its own: the caller may be inside one already.
        let response = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                        let stream = tokio::net::UnixStream::connect(&self.socket).await?;
                        http_client::post(stream, "control", PATH, command, LIMITS).await
                    })
                })
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the client thread panicked")))
        })
        .map_err(failed)?;
        match response.status().is_success() {
            true => Ok(response.into_body()),
            false => Err(ControlError::Refused(String::from_utf8_lossy(response.body()).into_owned())),
        }
    }

    fn done(&self, command: &ControlCommand) -> Result<(), ControlError> {
        self.call::<serde_json::Value>(command).map(|_| ())
    }

    /// Adds a public repository, `owner/name`; [`Self::change_repo`] makes it private. Runners and scale sets of
    /// organisations serve public ones only if [`Self::set_runner_group`] says so.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn add_repo(&self, name: &str) -> Result<RepoId, ControlError> {
        self.call(&ControlCommand::AddRepo(RepoSpec { name: name.to_owned(), private: false }))
    }

    /// Adds so many repositories, `owner/prefix-001` and so on.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn add_repos(&self, owner: &str, prefix: &str, count: u32, private: bool) -> Result<Vec<RepoId>, ControlError> {
        self.call(&ControlCommand::AddRepos { owner: owner.to_owned(), prefix: prefix.to_owned(), count, private })
    }

    /// Changes a repository: private, archived, disabled, without Actions and so on. `change` gets it as it is.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn change_repo(&self, repo: &str, change: impl FnOnce(&mut RepoSettings)) -> Result<(), ControlError> {
        let mut settings = self.call(&ControlCommand::Repo { repo: repo.to_owned() })?;
        change(&mut settings);
        self.done(&ControlCommand::SetRepo { repo: repo.to_owned(), settings })
    }

    /// Gives a repository another name; requests for the old one are redirected.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn rename_repo(&self, from: &str, to: &str) -> Result<(), ControlError> {
        self.done(&ControlCommand::RenameRepo { from: from.to_owned(), to: to.to_owned() })
    }

    /// Deletes a repository with everything in it.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn delete_repo(&self, repo: &str) -> Result<(), ControlError> {
        self.done(&ControlCommand::DeleteRepo { repo: repo.to_owned() })
    }

    /// Changes how limits are enforced.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn set_limit_rules(&self, rules: LimitRules) -> Result<(), ControlError> {
        self.done(&ControlCommand::SetLimitRules { rules })
    }

    /// Accepts one more token for what it allows, or changes one.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn set_token(&self, token: TokenSpec) -> Result<(), ControlError> {
        self.done(&ControlCommand::SetToken(token))
    }

    /// Refuses a token from now on. Says whether it was accepted before.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn revoke_token(&self, token: &str) -> Result<bool, ControlError> {
        self.call(&ControlCommand::RevokeToken { token: token.to_owned() })
    }

    /// Refuses all installation tokens given out so far. Gives how many there were.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn revoke_installation_tokens(&self) -> Result<usize, ControlError> {
        self.call(&ControlCommand::RevokeInstallationTokens)
    }

    /// Changes what the GitHub App may do in an account. Gives the id of the installation.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn set_installation(&self, installation: InstallationSpec) -> Result<u64, ControlError> {
        self.call(&ControlCommand::SetInstallation(installation))
    }

    /// Queues a run with one job.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn queue_job(&self, repo: &str, job: JobSpec) -> Result<(RunId, JobId), ControlError> {
        let queued = self.queue_run(repo, RunSpec::push(vec![job]))?;
        match queued.job_ids.first() {
            Some(job) => Ok((queued.run_id, *job)),
            None => Err(ControlError::Refused("the run has no job".to_owned())),
        }
    }

    /// Queues a run.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn queue_run(&self, repo: &str, run: RunSpec) -> Result<Queued, ControlError> {
        self.call(&ControlCommand::QueueRun { repo: repo.to_owned(), run })
    }

    /// Cancels a run.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn cancel_run(&self, run: RunId) -> Result<(), ControlError> {
        self.done(&ControlCommand::CancelRun { run, force: false })
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn cancel_job(&self, job: JobId) -> Result<(), ControlError> {
        self.done(&ControlCommand::CancelJob { job })
    }

    /// A waiting or pending job becomes queued.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn release_job(&self, job: JobId) -> Result<(), ControlError> {
        self.done(&ControlCommand::ReleaseJob { job })
    }

    /// Everything known of a job.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn job(&self, job: JobId) -> Result<JobView, ControlError> {
        self.call(&ControlCommand::Job { job })
    }

    /// Everything known of all jobs.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn jobs(&self) -> Result<Vec<JobView>, ControlError> {
        self.call(&ControlCommand::Jobs)
    }

    /// What is known of a run.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn run(&self, run: RunId) -> Result<RunView, ControlError> {
        self.call(&ControlCommand::Run { run })
    }

    /// Waits until a job is as wanted and gives it as it is then.
    ///
    /// # Errors
    /// As [`Self::call`], and if it is not so in time.
    pub fn wait_for_job(
        &self,
        job: JobId,
        limit: Duration,
        wanted: impl Fn(&JobView) -> bool,
    ) -> Result<JobView, ControlError> {
        let deadline = Instant::now() + limit;
        loop {
            let view = self.job(job)?;
            if wanted(&view) {
                return Ok(view);
            }
            if Instant::now() >= deadline {
                return Err(ControlError::TooLate(limit, format!("{view:?}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a job is over.
    ///
    /// # Errors
    /// As [`Self::call`], and if it is not over in time.
    pub fn wait_completed(&self, job: JobId, limit: Duration) -> Result<JobView, ControlError> {
        self.wait_for_job(job, limit, |job| job.status == JobStatus::Completed)
    }

    /// All runner records.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn runners(&self) -> Result<Vec<RunnerView>, ControlError> {
        self.call(&ControlCommand::Runners)
    }

    /// Runner records nobody is connected to and that no job explains.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn leaked_runners(&self) -> Result<Vec<RunnerView>, ControlError> {
        self.call(&ControlCommand::LeakedRunners)
    }

    /// What was asked of the REST half.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn traffic(&self) -> Result<TrafficReport, ControlError> {
        self.call(&ControlCommand::Traffic)
    }

    /// Counts from zero again.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn reset_traffic(&self) -> Result<(), ControlError> {
        self.done(&ControlCommand::ResetTraffic)
    }

    /// Injects a fault of the REST half.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn inject(&self, fault: Fault) -> Result<(), ControlError> {
        self.done(&ControlCommand::Inject { fault })
    }

    /// Injects a fault of the runners.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn inject_runner(&self, fault: RunnerFault) -> Result<(), ControlError> {
        self.done(&ControlCommand::InjectRunner { fault })
    }

    /// Takes back all faults that have not happened yet.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn clear_faults(&self) -> Result<(), ControlError> {
        self.done(&ControlCommand::ClearFaults)
    }

    /// Configures a webhook of a repository or organisation; deliveries go out from the simulator's process.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn set_hook(&self, hook: HookSpec) -> Result<u64, ControlError> {
        self.call(&ControlCommand::SetHook(hook))
    }

    /// Injects a fault of the webhooks.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn inject_hook(&self, fault: HookFault) -> Result<(), ControlError> {
        self.done(&ControlCommand::InjectHook { fault })
    }

    /// How the deliveries of all webhooks went.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn deliveries(&self) -> Result<Vec<DeliveryView>, ControlError> {
        self.call(&ControlCommand::Deliveries)
    }

    /// Adds an owner or changes what is known of it: organisation or user, and in which enterprise.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn set_account(&self, account: AccountSpec) -> Result<(), ControlError> {
        self.done(&ControlCommand::SetAccount(account))
    }

    /// Makes or changes a runner group of an organisation or enterprise. As at GitHub no group serves public
    /// repositories unless told to, not even `Default`; what is registered at a repository is beyond this.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn set_runner_group(&self, scope: Scope, group: RunnerGroupSpec) -> Result<u64, ControlError> {
        self.call(&ControlCommand::SetRunnerGroup { scope, group })
    }

    /// All scale sets with their statistics, messages and jobs.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn scale_sets(&self) -> Result<Vec<ScaleSetView>, ControlError> {
        self.call(&ControlCommand::ScaleSets)
    }

    /// Changes some rules of the scale-set half: `change` gets those in force.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn change_scale_set_rules(&self, change: impl FnOnce(&mut ScaleSetRules)) -> Result<(), ControlError> {
        let mut rules = self.call(&ControlCommand::ScaleSetRules)?;
        change(&mut rules);
        self.done(&ControlCommand::SetScaleSetRules { rules })
    }

    /// The server loses the session of a set: queue and refresh answer 404.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn lose_session(&self, scale_set: ScaleSetId) -> Result<(), ControlError> {
        self.done(&ControlCommand::LoseSession { scale_set })
    }

    /// Messages that were deleted are there again.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn restore_messages(&self, scale_set: ScaleSetId) -> Result<(), ControlError> {
        self.done(&ControlCommand::RestoreMessages { scale_set })
    }

    /// All admin and queue tokens are refused from now on.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn revoke_scale_set_tokens(&self) -> Result<(), ControlError> {
        self.done(&ControlCommand::RevokeScaleSetTokens)
    }

    /// A job that waits for a runner of its scale set is not the set's any more, and no message says so.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn drop_assignment(&self, job: JobId) -> Result<(), ControlError> {
        self.done(&ControlCommand::DropAssignment { job })
    }
}
