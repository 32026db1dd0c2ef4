//! Why a container ended, in words a person can act on.

use std::fmt;

use contract::{
    Ending,
    event::{GuestExit, JobResult, Trouble},
};
use rmcp::schemars;
use serde::{Deserialize, Serialize};

/// Why a container ended.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
    utoipa::ToSchema,
    schemars::JsonSchema,
)]
#[schemars(crate = "rmcp::schemars")]
#[derive(strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Cause {
    /// Its job succeeded.
    Succeeded,
    /// Its job failed.
    JobFailed,
    /// Its job was cancelled while it ran.
    JobCancelled,
    /// Its job comes from a fork, or may, and was refused inside before its first step.
    ForkRefused,
    /// The job it was booted for was cancelled before any runner took it.
    CancelledBeforePickup,
    /// Another runner took the job it was booted for, and no other came.
    TakenByAnotherRunner,
    /// No job came within the grace.
    IdleTooLong,
    /// Its idle runner was of no use: gone or offline at the forge, cut off from it, or not given any of the jobs that
    /// waited for it. Another took its place.
    Replaced,
    /// Its job, or the container itself, reached its class's limit.
    TimedOut,
    /// It used more memory than its class allows.
    OutOfMemory,
    /// It, or its runner, did not come up.
    BootFailed,
    /// Its runner did not come up, since the forge could not be reached from the container.
    NoNetwork,
    /// The forge refused to register its runner.
    RegistrationRefused,
    /// The forge refuses the runner's version.
    RunnerRefused,
    /// The runner program failed.
    RunnerFailed,
    /// The forge forgot its job while it ran.
    LostAtTheForge,
    /// The operator stopped it, or something on the host did.
    StoppedByOperator,
    /// The host was restarted.
    HostRebooted,
    /// It ended while the controller was away and left no word, or nothing else fits.
    Unknown,
}

impl Cause {
    /// Ended as it should: not a failure of this host, the forge or the runner.
    pub fn is_good_order(self) -> bool {
        matches!(
            self,
            Self::Succeeded
                | Self::JobFailed
                | Self::JobCancelled
                | Self::ForkRefused
                | Self::CancelledBeforePickup
                | Self::TakenByAnotherRunner
                | Self::IdleTooLong
        )
    }

    /// Speaks against booting more of the same class at once.
    pub fn is_boot_failure(self) -> bool {
        matches!(self, Self::BootFailed | Self::NoNetwork | Self::RunnerRefused | Self::RunnerFailed)
    }

    /// The host knows better than the forge, which only says that the job failed.
    pub fn outranks_the_forge(self) -> bool {
        matches!(self, Self::TimedOut | Self::OutOfMemory | Self::BootFailed)
    }

    /// As documents, the database and metrics have it: `out-of-memory`.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word().replace('-', " "))
    }
}

/// What is known about an end, from the most to the least trustworthy.
#[derive(Debug, Clone, Default)]
pub struct Evidence<'a> {
    /// What the controller itself decided before the end: it stopped the container for this.
    pub decided: Option<Cause>,
    /// What systemd told *teardown*.
    pub ending: Option<&'a Ending>,
    /// Whether the guest said that its runner took a job.
    pub had_job: bool,
    /// What the forge says of the job this runner took.
    pub conclusion: Option<&'a str>,
    /// Whether the unit was stopped on the host before the job ended, and not by the controller.
    pub stopped: bool,
    /// The unit was active and the guest was never heard: the container's init did not get as far.
    pub unheard: bool,
    /// What the guest said of the job's result.
    pub result: Option<JobResult>,
    /// The guest said that the job ended.
    pub job_ended: bool,
    /// The last trouble the guest reported.
    pub trouble: Option<Trouble>,
}

impl Evidence<'_> {
    fn guest_exit(&self) -> Option<GuestExit> {
        let status = self.ending?.exit_status.as_deref()?.parse().ok()?;
        GuestExit::from_code(status)
    }

    /// The runner gave its job up because the forge had forgotten it.
    fn was_lost(&self) -> bool {
        self.result == Some(JobResult::Abandoned) || self.guest_exit() == Some(GuestExit::JobLost)
    }

    /// The runner gave its job up because the forge refused its version.
    fn was_refused_in_its_job(&self) -> bool {
        self.trouble == Some(Trouble::VersionRefused) || self.guest_exit() == Some(GuestExit::VersionRefused)
    }

    /// The guest says that it let nothing of the job run.
    fn refused_inside(&self) -> bool {
        self.trouble == Some(Trouble::ForkRefused) || self.guest_exit() == Some(GuestExit::ForkRefused)
    }
}

/// What the forge says of jobs, once a container has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word<'a> {
    /// Its runner had a job, which ended like this; None if the forge does not say how.
    Had(Option<&'a str>),
    /// The job it was booted for went to another runner.
    Taken,
    /// The job it was booted for was cancelled before any runner took it.
    Cancelled,
    /// Nothing of use.
    Nothing,
}

/// The cause for good, from the one found when the container ended and what the forge says since.
pub fn certain(before: Cause, word: Word<'_>, evidence: &Evidence<'_>) -> Cause {
    let certain = match word {
        Word::Had(conclusion) if !before.outranks_the_forge() => {
            let evidence = evidence.clone();
            cause(&Evidence { decided: None, ending: None, had_job: true, conclusion, unheard: false, ..evidence })
        }
        // It never had a job: what became of the one it was booted for?
        Word::Taken if before == Cause::IdleTooLong && !evidence.had_job => Cause::TakenByAnotherRunner,
        Word::Cancelled if before == Cause::IdleTooLong && !evidence.had_job => Cause::CancelledBeforePickup,
        _ => before,
    };
    match certain {
        Cause::Unknown => before,
        // The forge calls a job failed whose host went away under it.
        Cause::JobFailed if before == Cause::HostRebooted && !evidence.job_ended => before,
        // Nor does the forge know why the container would not run it, or why the runner gave it up.
        Cause::JobFailed if matches!(before, Cause::ForkRefused | Cause::LostAtTheForge) => before,
        Cause::JobFailed | Cause::JobCancelled if before == Cause::RunnerRefused => before,
        certain => certain,
    }
}

/// The cause. systemd's word on timeouts and memory comes before anything said inside the container, and the forge's
/// word on a job before the runner's: payload code can forge an exit status and console lines.
pub fn cause(evidence: &Evidence<'_>) -> Cause {
    if let Some(decided) = evidence.decided {
        return decided;
    }
    let ending = evidence.ending;
    // Before anything of the container ran, and so nothing inside can have caused it.
    if ending.is_some_and(|ending| ending.error.is_some()) {
        return Cause::BootFailed;
    }
    match ending.map(|ending| ending.service_result.as_str()) {
        Some("timeout") => return Cause::TimedOut,
        Some("oom-kill") => return Cause::OutOfMemory,
        _ => {}
    }
    // The job may have ended over it before systemd could say so. One that got over it, and succeeded, did not.
    let succeeded = matches!(evidence.conclusion, Some("success" | "neutral"))
        || evidence.result.is_some_and(JobResult::is_success);
    if ending.and_then(|ending| ending.oom_kills).is_some_and(|kills| kills > 0) && !succeeded {
        return Cause::OutOfMemory;
    }
    match evidence.conclusion {
        Some("success" | "neutral") => return Cause::Succeeded,
        // A runner that is stopped says that its job failed.
        _ if evidence.stopped => return Cause::StoppedByOperator,
        // So does one whose guest ended it at the job's limit.
        _ if evidence.guest_exit() == Some(GuestExit::TimedOut) => return Cause::TimedOut,
        Some("cancelled") if evidence.was_refused_in_its_job() => return Cause::RunnerRefused,
        Some("cancelled") => return Cause::JobCancelled,
        Some(_) if evidence.refused_inside() => return Cause::ForkRefused,
        Some(_) if evidence.was_lost() => return Cause::LostAtTheForge,
        Some(_) => return Cause::JobFailed,
        None => {}
    }
    match evidence.result {
        Some(result) if result.is_success() => return Cause::Succeeded,
        Some(JobResult::Failed | JobResult::Skipped) if !evidence.refused_inside() => return Cause::JobFailed,
        Some(JobResult::Abandoned) => return Cause::LostAtTheForge,
        Some(JobResult::Canceled) if !evidence.was_refused_in_its_job() => return Cause::JobCancelled,
        _ => {}
    }
    match evidence.trouble {
        Some(Trouble::ForkRefused) => return Cause::ForkRefused,
        Some(Trouble::VersionRefused) => return Cause::RunnerRefused,
        Some(Trouble::SetupFailed) => return Cause::BootFailed,
        Some(Trouble::NoNetwork) if !evidence.had_job => return Cause::NoNetwork,
        _ => {}
    }
    match evidence.guest_exit() {
        Some(GuestExit::VersionRefused) => Cause::RunnerRefused,
        Some(GuestExit::SetupFailed) => Cause::BootFailed,
        Some(GuestExit::NoNetwork) if evidence.had_job => Cause::Unknown,
        Some(GuestExit::NoNetwork) => Cause::NoNetwork,
        Some(GuestExit::JobFailed) => Cause::JobFailed,
        Some(GuestExit::ForkRefused) => Cause::ForkRefused,
        Some(GuestExit::JobCanceled) => Cause::JobCancelled,
        Some(GuestExit::JobLost) => Cause::LostAtTheForge,
        // Code inside can have its own systemd stop the guest.
        Some(GuestExit::Stopped) if ending.is_some_and(|ending| ending.asked_to_stop) => Cause::StoppedByOperator,
        Some(GuestExit::Stopped) if evidence.had_job => Cause::Unknown,
        Some(GuestExit::Stopped) => Cause::IdleTooLong,
        Some(GuestExit::TimedOut) => Cause::TimedOut,
        // How the job went, only the forge can say.
        Some(GuestExit::NoResult) => Cause::Unknown,
        Some(GuestExit::NoJob | GuestExit::RegistrationDeleted) if evidence.had_job => Cause::Unknown,
        Some(GuestExit::NoJob | GuestExit::RegistrationDeleted) => Cause::IdleTooLong,
        Some(GuestExit::SessionConflict | GuestExit::RunnerFailed) => Cause::RunnerFailed,
        // A power-off inside gives 0 as well.
        Some(GuestExit::Succeeded) if evidence.had_job => Cause::Unknown,
        Some(GuestExit::Succeeded) => Cause::RunnerFailed,
        None if evidence.unheard && ending.is_some_and(|ending| !ending.asked_to_stop) => Cause::BootFailed,
        None if ending.is_some_and(|ending| ending.asked_to_stop || ending.was_killed()) => Cause::StoppedByOperator,
        None => Cause::Unknown,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ending(result: &str, status: &str) -> Ending {
        Ending {
            name: "j0000001".parse().unwrap(),
            class: "default".into(),
            service_result: result.into(),
            exit_code: Some("exited".into()),
            exit_status: Some(status.into()),
            error: None,
            last_words: None,
            asked_to_stop: false,
            memory_peak: None,
            oom_kills: None,
            cpu_us: None,
            ended_at_ms: 0,
            teardown_us: 0,
            left_behind: vec![],
        }
    }

    #[test]
    fn a_cause_has_one_word_everywhere() {
        use clap::ValueEnum;
        for cause in Cause::value_variants() {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.word());
            assert_eq!(Cause::from_str(cause.word(), false), Ok(*cause));
        }
    }

    #[test]
    fn what_ends_before_its_guest_speaks_failed_to_boot_unless_somebody_stopped_it() {
        let refused = Ending { error: Some("Invalid user".into()), ..ending("exit-code", "1") };
        let slow = Ending { error: Some("it ended before it was up (timeout)".into()), ..ending("timeout", "255") };
        let silent = ending("exit-code", "1");
        let killed = Ending { exit_code: Some("killed".into()), ..ending("signal", "KILL") };
        let stopped = Ending { asked_to_stop: true, ..ending("exit-code", "255") };
        for (ending, unheard, expected) in [
            (&refused, false, Cause::BootFailed),
            (&slow, false, Cause::BootFailed),
            (&silent, true, Cause::BootFailed),
            (&silent, false, Cause::Unknown),
            (&killed, false, Cause::StoppedByOperator),
            (&stopped, true, Cause::StoppedByOperator),
        ] {
            assert_eq!(
                cause(&Evidence { ending: Some(ending), unheard, ..Default::default() }),
                expected,
                "{ending:?}"
            );
        }
    }

    #[test]
    fn a_runner_that_never_reached_the_forge_lacked_a_network_and_did_not_fail() {
        let ending = ending("exit-code", "23");
        let found = |had_job| cause(&Evidence { ending: Some(&ending), had_job, ..Default::default() });
        assert_eq!((found(false), found(true)), (Cause::NoNetwork, Cause::Unknown));
        assert!(Cause::NoNetwork.is_boot_failure() && !Cause::NoNetwork.is_good_order());
    }

    #[test]
    fn a_timeout_with_status_0_is_a_timeout_whatever_the_runner_said() {
        let ending = ending("timeout", "0");
        let evidence =
            Evidence { ending: Some(&ending), result: Some(JobResult::Succeeded), had_job: true, ..Default::default() };
        assert_eq!(cause(&evidence), Cause::TimedOut);
    }

    #[test]
    fn out_of_memory_with_status_0_is_out_of_memory() {
        let ending = ending("oom-kill", "0");
        assert_eq!(cause(&Evidence { ending: Some(&ending), ..Default::default() }), Cause::OutOfMemory);
    }

    #[test]
    fn a_job_that_fails_because_a_process_was_killed_for_memory_is_out_of_memory() {
        let ending = Ending { oom_kills: Some(1), ..ending("exit-code", "10") };
        let found = |result| {
            cause(&Evidence { ending: Some(&ending), had_job: true, result: Some(result), ..Default::default() })
        };
        assert_eq!(found(JobResult::Failed), Cause::OutOfMemory);
        assert_eq!(found(JobResult::Succeeded), Cause::Succeeded);
    }

    #[test]
    fn a_power_off_inside_is_not_a_success() {
        let ending = ending("success", "0");
        for had_job in [true, false] {
            let found = cause(&Evidence { ending: Some(&ending), had_job, ..Default::default() });
            assert_ne!(found, Cause::Succeeded);
        }
    }

    #[test]
    fn a_job_without_a_result_is_what_the_forge_says_and_never_too_little_to_do() {
        for status in ["12", "14", "19"] {
            let ending = ending("exit-code", status);
            for (conclusion, expected) in [
                (None, Cause::Unknown),
                (Some("cancelled"), Cause::JobCancelled),
                (Some("failure"), Cause::JobFailed),
                (Some("success"), Cause::Succeeded),
            ] {
                let evidence = Evidence { ending: Some(&ending), had_job: true, conclusion, ..Default::default() };
                assert_eq!(cause(&evidence), expected, "{status} {conclusion:?}");
            }
        }
        let none = ending("exit-code", "12");
        assert_eq!(cause(&Evidence { ending: Some(&none), ..Default::default() }), Cause::IdleTooLong);
    }

    #[test]
    fn a_job_whose_unit_was_stopped_did_not_fail_by_itself() {
        let ending = ending("exit-code", "10");
        for (conclusion, expected) in [
            (None, Cause::StoppedByOperator),
            (Some("failure"), Cause::StoppedByOperator),
            (Some("success"), Cause::Succeeded),
        ] {
            let evidence = Evidence {
                ending: Some(&ending),
                had_job: true,
                stopped: true,
                conclusion,
                result: Some(JobResult::Failed),
                ..Default::default()
            };
            assert_eq!(cause(&evidence), expected, "{conclusion:?}");
        }
    }

    #[test]
    fn a_job_of_a_fork_that_was_refused_inside_did_not_fail_by_itself() {
        let (refused, failed) = (ending("exit-code", "18"), ending("exit-code", "10"));
        let trouble = Some(Trouble::ForkRefused);
        for (ending, trouble, conclusion, expected) in [
            (&refused, None, None, Cause::ForkRefused),
            (&refused, None, Some("failure"), Cause::ForkRefused),
            (&failed, trouble, Some("failure"), Cause::ForkRefused),
            (&failed, trouble, None, Cause::ForkRefused),
            (&failed, trouble, Some("success"), Cause::Succeeded),
            (&failed, None, Some("failure"), Cause::JobFailed),
        ] {
            let (ending, result) = (Some(ending), Some(JobResult::Failed));
            let found = cause(&Evidence { ending, trouble, conclusion, result, had_job: true, ..Default::default() });
            assert_eq!(found, expected, "{trouble:?} {conclusion:?}");
        }
    }

    #[test]
    fn a_job_that_the_forge_forgot_is_not_blamed() {
        let lost = ending("exit-code", "20");
        for (ending, result, conclusion, expected) in [
            (None, Some(JobResult::Abandoned), None, Cause::LostAtTheForge),
            (None, Some(JobResult::Abandoned), Some("failure"), Cause::LostAtTheForge),
            (Some(&lost), None, None, Cause::LostAtTheForge),
            (Some(&lost), None, Some("failure"), Cause::LostAtTheForge),
            // Somebody ended its run while the runner was at it, or it was done after all.
            (Some(&lost), None, Some("cancelled"), Cause::JobCancelled),
            (Some(&lost), None, Some("success"), Cause::Succeeded),
        ] {
            let found = cause(&Evidence { ending, result, conclusion, had_job: true, ..Default::default() });
            assert_eq!(found, expected, "{result:?} {conclusion:?}");
        }
        assert!(!Cause::LostAtTheForge.is_good_order() && !Cause::LostAtTheForge.is_boot_failure());
    }

    #[test]
    fn a_job_that_ends_with_the_refusal_of_its_runner_was_not_cancelled_by_anybody() {
        let refused = ending("exit-code", "13");
        let trouble = Some(Trouble::VersionRefused);
        for (ending, trouble, conclusion, expected) in [
            (Some(&refused), trouble, None, Cause::RunnerRefused),
            (Some(&refused), None, Some("cancelled"), Cause::RunnerRefused),
            (None, trouble, Some("cancelled"), Cause::RunnerRefused),
            (None, trouble, Some("failure"), Cause::JobFailed),
            (None, trouble, Some("success"), Cause::Succeeded),
            (None, None, Some("cancelled"), Cause::JobCancelled),
        ] {
            let result = Some(JobResult::Canceled);
            let found = cause(&Evidence { ending, trouble, result, conclusion, had_job: true, ..Default::default() });
            assert_eq!(found, expected, "{trouble:?} {conclusion:?}");
        }
    }

    #[test]
    fn the_forge_is_believed_before_the_runner() {
        let ending = ending("success", "0");
        let evidence = Evidence {
            ending: Some(&ending),
            had_job: true,
            conclusion: Some("failure"),
            result: Some(JobResult::Succeeded),
            ..Default::default()
        };
        assert_eq!(cause(&evidence), Cause::JobFailed);
    }

    #[test]
    fn the_forges_word_makes_a_cause_certain_unless_the_host_knows_better() {
        let idle = Evidence::default();
        let rebooted = Evidence { had_job: true, ..Evidence::default() };
        let ended = Evidence { had_job: true, job_ended: true, ..Evidence::default() };
        let failed = Word::Had(Some("failure"));
        for (before, word, evidence, expected) in [
            (Cause::Unknown, failed, &idle, Cause::JobFailed),
            (Cause::RunnerFailed, Word::Had(Some("success")), &idle, Cause::Succeeded),
            (Cause::RunnerFailed, Word::Had(None), &idle, Cause::RunnerFailed),
            (Cause::TimedOut, failed, &ended, Cause::TimedOut),
            (Cause::OutOfMemory, Word::Had(Some("success")), &ended, Cause::OutOfMemory),
            (Cause::ForkRefused, failed, &ended, Cause::ForkRefused),
            (Cause::LostAtTheForge, failed, &idle, Cause::LostAtTheForge),
            (Cause::RunnerRefused, Word::Had(Some("cancelled")), &idle, Cause::RunnerRefused),
            (Cause::HostRebooted, failed, &rebooted, Cause::HostRebooted),
            (Cause::HostRebooted, failed, &ended, Cause::JobFailed),
            (Cause::IdleTooLong, Word::Taken, &idle, Cause::TakenByAnotherRunner),
            (Cause::IdleTooLong, Word::Cancelled, &idle, Cause::CancelledBeforePickup),
            (Cause::IdleTooLong, Word::Nothing, &idle, Cause::IdleTooLong),
            (Cause::IdleTooLong, Word::Taken, &ended, Cause::IdleTooLong),
            (Cause::BootFailed, Word::Taken, &idle, Cause::BootFailed),
        ] {
            assert_eq!(certain(before, word, evidence), expected, "{before} {word:?}");
        }
    }
}
