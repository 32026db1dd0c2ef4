//! What happens in a random history: jobs of all kinds, faults of GitHub and of the host, and what people do to their
//! repositories.

use std::time::Duration;

use github_sim::{
    Call,
    world::{Fault, HookFault, HookWhat, JobSpec, Picking, RunSpec, RunnerFault, RunnerWhat, What, World},
};
use rand::{Rng, seq::IndexedRandom};

use crate::{PUBLIC, Simulation, host::HostFault, repo_spec};

const MINUTE: Duration = Duration::from_secs(60);
/// What was done to a repository may show so long after it was taken back: it is tried again now and then.
const SHOWS_FOR: Duration = Duration::from_secs(25 * 60);

/// What is taken back after a while.
#[derive(Debug, Clone)]
pub enum Undo {
    /// It gets its old name again.
    Rename { from: String, to: String },
    /// It is made anew.
    Delete(String),
    /// Its Actions are enabled again.
    Disable(String),
}

impl Simulation {
    pub fn something_happens(&mut self) {
        let now = self.clock.now();
        let repo = *self.served.choose(&mut self.rng).unwrap();
        let hub = self.hub.clone();
        let mut hub = hub.borrow_mut();
        match self.rng.random_range(0..100) {
            0..43 => {
                for _ in 0..self.rng.random_range(1..4) {
                    let kinds: [&[&str]; 3] = [&["self-hosted"], &["Linux", "BIG"], &["self-hosted", "linux"]];
                    let labels = kinds.choose(&mut self.rng).unwrap();
                    let spec = JobSpec::new("build", labels, &["true"]);
                    // A pull request of the repository's own: what a scale set's message says of it is not enough.
                    let event = *["push", "pull_request"].choose(&mut self.rng).unwrap();
                    let run = RunSpec { event: event.into(), ..RunSpec::push(vec![spec]) };
                    // It may be gone at the moment, or have another name.
                    let Ok(queued) = hub.queue_run(now, repo, run) else { return };
                    self.ours.extend(queued.job_ids);
                }
            }
            43..46 => {
                // From a fork of a public repository: nothing may be booted for it, and it may not be run.
                let repo = *PUBLIC.choose(&mut self.rng).unwrap();
                let event = *["pull_request", "pull_request_review", "dynamic"].choose(&mut self.rng).unwrap();
                let jobs = vec![JobSpec::new("fork", &["self-hosted"], &["true"])];
                let run = RunSpec { event: event.into(), ..RunSpec::pull_request_from_fork(jobs) };
                let _ = hub.queue_run(now, repo, run);
            }
            46..47 => {
                // From a fork of a private one: who made it was let in, so it is a job as every other.
                let jobs = vec![JobSpec::new("build", &["self-hosted"], &["true"])];
                if let Ok(queued) = hub.queue_run(now, self.served[0], RunSpec::pull_request_from_fork(jobs)) {
                    self.ours.extend(queued.job_ids);
                }
            }
            47..49 => {
                // Not ours: never to be picked.
                let _ = hub.queue_job(now, repo, JobSpec::new("foreign", &["windows"], &["true"]));
            }
            49..56 => {
                if let Some(job) = self.ours.choose(&mut self.rng).copied()
                    && hub.cancel_job(now, job).is_ok()
                {
                    self.ours.retain(|other| *other != job);
                }
            }
            56..58 => self.repository_trouble(&mut hub, repo, now),
            58..60 => hub.set_picking(Picking::Random),
            60..62 => {
                let delay = self.rng.random_range(1_000..600_000);
                let what = *[
                    HookWhat::Duplicate,
                    HookWhat::OutOfOrder,
                    HookWhat::BadSignature,
                    HookWhat::Lost,
                    HookWhat::Delayed { ms: delay },
                ]
                .choose(&mut self.rng)
                .unwrap();
                hub.inject_hook(HookFault { count: self.rng.random_range(1..4), ..HookFault::once(what) });
            }
            // Further off, nothing starts for as long as it stays so (faults.rs).
            62..64 => *self.clock.skew.borrow_mut() = self.rng.random_range(-240.0..240.0),
            64..84 => {
                let fault = self.forge_fault();
                hub.inject(fault);
            }
            84..87 => self.scale_set_trouble(&mut hub, now),
            87..90 => {
                let what = *[
                    RunnerWhat::StealJob,
                    RunnerWhat::NeverListening,
                    RunnerWhat::VersionTooOld,
                    RunnerWhat::TooOldInJob,
                    RunnerWhat::SessionConflict,
                    RunnerWhat::SessionForbidden,
                    RunnerWhat::ClockSkew,
                    RunnerWhat::SessionInvalid,
                    RunnerWhat::CancelledAtOnce,
                    RunnerWhat::RenewalFails,
                    RunnerWhat::VanishMidJob,
                    RunnerWhat::SessionBroken,
                    RunnerWhat::AssignmentLost,
                    RunnerWhat::GivenNothing,
                    RunnerWhat::CutOff,
                ]
                .choose(&mut self.rng)
                .unwrap();
                // So many runners are deaf from the beginning to their end.
                let count = if what == RunnerWhat::GivenNothing { self.rng.random_range(1..6) } else { 1 };
                hub.inject_runner(RunnerFault { count, ..RunnerFault::once(what) });
            }
            _ => {
                let fault = *[
                    HostFault::PrepareFails,
                    HostFault::BootHangs,
                    HostFault::Killed,
                    HostFault::StartAnswerLost,
                    HostFault::StartRefused,
                    HostFault::SignalsLost,
                    HostFault::SignalsLate,
                    HostFault::StopRefused,
                    HostFault::StopHangs,
                    HostFault::BusLost,
                    HostFault::DiskFull,
                ]
                .choose(&mut self.rng)
                .unwrap();
                self.host.borrow_mut().faults.push(fault);
            }
        }
    }

    /// What GitHub does to scale sets (tests/README.md#faults, 13 to 17).
    fn scale_set_trouble(&mut self, hub: &mut World, now: Duration) {
        let sets = hub.scale_set_views();
        let Some(set) = sets.choose(&mut self.rng) else { return };
        match self.rng.random_range(0..4) {
            0 => hub.lose_session(now, set.id).unwrap(),
            1 => hub.restore_messages(now, set.id).unwrap(),
            2 => hub.revoke_scale_set_tokens(),
            _ => {
                // The set never gets it again.
                if let Some(job) = set.assigned_jobs.choose(&mut self.rng).copied() {
                    let _ = hub.drop_assignment(now, job);
                }
            }
        }
    }

    /// What people do to a repository (tests/README.md#faults, 12).
    fn repository_trouble(&mut self, hub: &mut World, repo: &str, now: Duration) {
        if self.undo.iter().any(|(_, undo)| undo.repo() == repo) {
            return;
        }
        let undo = match self.rng.random_range(0..3) {
            0 => {
                let to = format!("{repo}-moved");
                hub.rename_repo(repo, &to).unwrap();
                Undo::Rename { from: repo.into(), to }
            }
            1 => {
                let gone: Vec<_> =
                    hub.job_views().into_iter().filter(|job| job.repo == repo).map(|job| job.id).collect();
                self.ours.retain(|job| !gone.contains(job));
                hub.delete_repo(repo).unwrap();
                Undo::Delete(repo.into())
            }
            _ => {
                let settings = hub.repo_settings(repo).unwrap();
                hub.set_repo(repo, github_sim::world::RepoSettings { actions_enabled: false, ..settings }).unwrap();
                Undo::Disable(repo.into())
            }
        };
        self.disturbed.insert(repo.into(), Duration::MAX);
        if let Undo::Rename { to, .. } = &undo {
            self.disturbed.insert(to.clone(), Duration::MAX);
        }
        self.undo.push((now + self.rng.random_range(5..60) * MINUTE, undo));
    }

    /// Takes back what is due.
    pub fn take_back(&mut self) {
        let now = self.clock.now();
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.undo).into_iter().partition(|(at, _)| *at <= now);
        self.undo = later;
        let hub = self.hub.clone();
        let mut hub = hub.borrow_mut();
        for (_, undo) in due {
            match &undo {
                Undo::Rename { from, to } => hub.rename_repo(to, from).unwrap(),
                Undo::Delete(repo) => {
                    hub.add_repo(&repo_spec(repo)).unwrap();
                }
                Undo::Disable(repo) => {
                    let settings = hub.repo_settings(repo).unwrap();
                    hub.set_repo(repo, github_sim::world::RepoSettings { actions_enabled: true, ..settings }).unwrap();
                }
            }
            for name in [undo.repo().to_owned(), format!("{}-moved", undo.repo())] {
                if let Some(until) = self.disturbed.get_mut(&name) {
                    *until = now + SHOWS_FOR;
                }
            }
        }
    }

    /// Whatever is not over yet.
    pub fn take_everything_back(&mut self) {
        for (at, _) in &mut self.undo {
            *at = Duration::ZERO;
        }
        self.take_back();
    }

    /// What was done to one repository shows in no other.
    pub fn check_others(&self) {
        let now = self.clock.now();
        let Some(status) = &self.status else { return };
        for repository in &status.borrow().repositories {
            let Some(reason) = &repository.quarantine else { continue };
            let disturbed = self.disturbed.get(&repository.repo).is_some_and(|until| now <= *until);
            assert!(disturbed, "{} is not served though nothing was done to it: {reason}", repository.repo);
        }
    }

    fn forge_fault(&mut self) -> Fault {
        let count = self.rng.random_range(1..4);
        let calls = [
            Call::Mint,
            Call::DeleteRunner,
            Call::ListRuns,
            Call::ListJobs,
            Call::ListRunners,
            Call::GetJob,
            Call::ListOrgRepos,
            Call::UserRepos,
            Call::MintScaleSetRunner,
            Call::OpenMessageSession,
            Call::RefreshMessageSession,
            Call::GetMessage,
            Call::DeleteMessage,
            Call::AcquireJobs,
        ];
        let call = *calls.choose(&mut self.rng).unwrap();
        let status = |code, message: &str| What::Status { code, message: message.into(), headers: vec![] };
        let what = match self.rng.random_range(0..19) {
            0 => status(500, "oops"),
            1 => status(502, "bad gateway"),
            2 => What::LostAnswer,
            3 => What::Refused,
            4 => What::Hang,
            5 => What::EmptyList,
            6 => What::EmptyJobs,
            7 => What::StaleEtag,
            8 => What::RateLimitPrimary { reset_after: 120 },
            9 => What::RateLimitSecondary { retry_after: Some(30) },
            10 => What::RateLimitSecondary { retry_after: None },
            11 => What::PageShift,
            12 => What::Unauthorized,
            13 => What::BadJson,
            _ if call == Call::Mint && self.rng.random_bool(0.3) => What::NoRunners,
            _ if call == Call::Mint => status(409, "Already exists"),
            14 if call == Call::GetMessage => What::ZeroStatistics,
            15 if call == Call::GetMessage => What::UnknownEvent,
            16 if call == Call::GetMessage => What::ByteOrderMark,
            17 if call == Call::GetMessage => What::NothingAtOnce,
            18 if call == Call::GetMessage => What::EmptyMessage,
            _ => What::Slow { ms: 20_000 },
        };
        Fault::times(count, call, what)
    }
}

impl Undo {
    fn repo(&self) -> &str {
        match self {
            Self::Rename { from, .. } => from,
            Self::Delete(repo) | Self::Disable(repo) => repo,
        }
    }
}
