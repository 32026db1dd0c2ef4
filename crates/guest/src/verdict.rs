//! What the container's exit status says, from what the runner said and how it ended.

use contract::event::{GuestExit, JobResult, Trouble};

/// What was heard of the runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// It took a job.
    pub took_job: bool,
    /// The result it reported last.
    pub result: Option<JobResult>,
    /// The trouble that explains an ending without a job.
    pub trouble: Option<Trouble>,
    /// It was asked to stop when its job had no result yet.
    pub stopped: bool,
    /// That was because the job had reached its limit.
    pub timed_out: bool,
    /// The guest killed it, because the container is to stop.
    pub killed: bool,
    /// It has a session with the forge.
    pub listens: bool,
}

impl Heard {
    /// Notes trouble that ends a runner; trouble that passes does not replace it.
    pub fn note(&mut self, trouble: Trouble) {
        if matches!(
            trouble,
            Trouble::SessionConflict
                | Trouble::RegistrationDeleted
                | Trouble::VersionRefused
                | Trouble::RunnerFailed
                | Trouble::SetupFailed
                | Trouble::ForkRefused
                | Trouble::NoNetwork
        ) {
            self.trouble = Some(trouble);
        }
    }

    /// Notes that its job reached its limit.
    pub fn note_limit(&mut self) {
        self.timed_out |= self.result.is_none();
    }

    /// Notes that the runner is asked to stop.
    pub fn note_stop(&mut self) {
        self.stopped |= self.took_job && self.result.is_none();
    }
}

/// The guest's exit status; `status` is the runner's, or 128 + signal.
pub fn verdict(heard: Heard, status: i32) -> GuestExit {
    match (heard.result, heard.trouble, status) {
        (Some(JobResult::Succeeded | JobResult::SucceededWithIssues), ..) => GuestExit::Succeeded,
        // The runner reports such a job as failed, if it gets that far.
        (_, Some(Trouble::ForkRefused), _) => GuestExit::ForkRefused,
        _ if heard.timed_out => GuestExit::TimedOut,
        // A runner that is stopped prints that its job was cancelled, and reports to the forge that it failed.
        _ if heard.stopped => GuestExit::Stopped,
        // It said that it took one after all.
        _ if heard.killed && heard.took_job => GuestExit::Stopped,
        (Some(JobResult::Abandoned), ..) => GuestExit::JobLost,
        // It cancels a job that it has when its version is refused.
        (Some(JobResult::Canceled), Some(Trouble::VersionRefused), _) => GuestExit::VersionRefused,
        (Some(JobResult::Canceled), ..) => GuestExit::JobCanceled,
        (Some(JobResult::Failed | JobResult::Skipped), ..) => GuestExit::JobFailed,
        (None, Some(Trouble::VersionRefused), _) | (None, _, 7) => GuestExit::VersionRefused,
        // It could not renew its job even once, or the job was cancelled before it began: the runner prints neither.
        (None, _, 0) if heard.took_job => GuestExit::NoResult,
        (None, Some(Trouble::RegistrationDeleted), _) => GuestExit::RegistrationDeleted,
        (None, Some(Trouble::NoNetwork), _) if !heard.listens && !heard.killed => GuestExit::NoNetwork,
        (None, Some(Trouble::SessionConflict), 1..) | (None, _, 5) => GuestExit::SessionConflict,
        // Where the runner is started by a script, that may have made 0 of its status.
        (None, Some(Trouble::RunnerFailed), _) => GuestExit::RunnerFailed,
        (None, _, 0) => GuestExit::NoJob,
        _ if heard.killed => GuestExit::NoJob,
        (None, ..) => GuestExit::RunnerFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reported_result_outweighs_the_runners_status() {
        for (result, exit) in [
            (JobResult::Succeeded, GuestExit::Succeeded),
            (JobResult::SucceededWithIssues, GuestExit::Succeeded),
            (JobResult::Failed, GuestExit::JobFailed),
            (JobResult::Canceled, GuestExit::JobCanceled),
            (JobResult::Skipped, GuestExit::JobFailed),
            (JobResult::Abandoned, GuestExit::JobLost),
        ] {
            for status in [0, 1, 137] {
                let trouble = Some(Trouble::RegistrationDeleted);
                let heard = Heard { took_job: true, result: Some(result), trouble, ..Heard::default() };
                assert_eq!(verdict(heard, status), exit);
            }
        }
    }

    #[test]
    fn without_a_job_the_status_and_the_trouble_tell() {
        let with = |trouble| Heard { trouble, ..Heard::default() };
        for (trouble, status, exit) in [
            (None, 0, GuestExit::NoJob),
            (None, 1, GuestExit::RunnerFailed),
            (None, 2, GuestExit::RunnerFailed),
            (None, 5, GuestExit::SessionConflict),
            (None, 7, GuestExit::VersionRefused),
            (None, 137, GuestExit::RunnerFailed),
            (Some(Trouble::RegistrationDeleted), 0, GuestExit::RegistrationDeleted),
            (Some(Trouble::RegistrationDeleted), 1, GuestExit::RegistrationDeleted),
            (Some(Trouble::VersionRefused), 1, GuestExit::VersionRefused),
            (Some(Trouble::SessionConflict), 5, GuestExit::SessionConflict),
            // It got its session after all.
            (Some(Trouble::SessionConflict), 0, GuestExit::NoJob),
            (Some(Trouble::RunnerFailed), 0, GuestExit::RunnerFailed),
            (Some(Trouble::RunnerFailed), 1, GuestExit::RunnerFailed),
            // It says of a conflict as well that it failed to create its session.
            (Some(Trouble::RunnerFailed), 5, GuestExit::SessionConflict),
        ] {
            assert_eq!(verdict(with(trouble), status), exit, "{trouble:?} {status}");
        }
    }

    #[test]
    fn a_runner_that_took_a_job_was_not_without_one() {
        for (trouble, status, exit) in [
            (None, 0, GuestExit::NoResult),
            (Some(Trouble::ConnectError), 0, GuestExit::NoResult),
            (Some(Trouble::RegistrationDeleted), 0, GuestExit::NoResult),
            (Some(Trouble::ForkRefused), 0, GuestExit::ForkRefused),
            (Some(Trouble::VersionRefused), 7, GuestExit::VersionRefused),
            (None, 1, GuestExit::RunnerFailed),
            (None, 137, GuestExit::RunnerFailed),
        ] {
            let heard = Heard { took_job: true, result: None, trouble, ..Heard::default() };
            assert_eq!(verdict(heard, status), exit, "{trouble:?} {status}");
        }
    }

    #[test]
    fn a_job_that_was_refused_did_not_fail_by_itself() {
        let trouble = Some(Trouble::ForkRefused);
        let refused = |result| verdict(Heard { took_job: true, result, trouble, ..Heard::default() }, 1);
        assert_eq!(refused(Some(JobResult::Failed)), GuestExit::ForkRefused);
        assert_eq!(refused(None), GuestExit::ForkRefused, "the runner ended before it could report");
        assert_eq!(refused(Some(JobResult::Succeeded)), GuestExit::Succeeded, "a job that ran was not refused");
    }

    #[test]
    fn a_job_that_ends_with_a_refused_version_was_not_cancelled_by_anybody() {
        let trouble = Some(Trouble::VersionRefused);
        let refused = |result| verdict(Heard { took_job: true, result: Some(result), trouble, ..Heard::default() }, 7);
        assert_eq!(refused(JobResult::Canceled), GuestExit::VersionRefused);
        assert_eq!(refused(JobResult::Failed), GuestExit::JobFailed);
    }

    #[test]
    fn a_job_that_a_stop_of_the_container_ended_was_neither_cancelled_nor_failed() {
        for (result, exit) in [
            (None, GuestExit::Stopped),
            (Some(JobResult::Canceled), GuestExit::Stopped),
            (Some(JobResult::Failed), GuestExit::Stopped),
            (Some(JobResult::Succeeded), GuestExit::Succeeded),
        ] {
            let mut heard = Heard { took_job: true, ..Heard::default() };
            heard.note_stop();
            heard.result = result;
            assert_eq!(verdict(heard, 0), exit, "{result:?}");
        }
        let mut over = Heard { took_job: true, result: Some(JobResult::Failed), ..Heard::default() };
        over.note_stop();
        assert_eq!(verdict(over, 0), GuestExit::JobFailed, "it had failed before");
        let mut idle = Heard::default();
        idle.note_stop();
        assert_eq!(verdict(idle, 0), GuestExit::NoJob);
    }

    #[test]
    fn an_idle_runner_that_the_guest_killed_did_not_fail() {
        let mut idle = Heard { killed: true, ..Heard::default() };
        idle.note_stop();
        assert_eq!(verdict(idle, 137), GuestExit::NoJob);
        idle.took_job = true;
        assert_eq!(verdict(idle, 137), GuestExit::Stopped, "it said so too late");
        let mut busy = Heard { killed: true, took_job: true, ..Heard::default() };
        busy.note_stop();
        assert_eq!(verdict(busy, 137), GuestExit::Stopped);
    }

    #[test]
    fn a_runner_that_reached_the_forge_did_not_lack_a_network() {
        let mut heard = Heard::default();
        heard.note(Trouble::NoNetwork);
        assert_eq!(verdict(heard, 137), GuestExit::NoNetwork);
        assert_eq!(verdict(heard, 1), GuestExit::NoNetwork);
        assert_eq!(verdict(Heard { listens: true, ..heard }, 1), GuestExit::RunnerFailed);
        assert_eq!(verdict(Heard { killed: true, ..heard }, 137), GuestExit::NoJob, "the container is to stop");
    }

    #[test]
    fn passing_trouble_explains_nothing() {
        let mut heard = Heard::default();
        heard.note(Trouble::RegistrationDeleted);
        heard.note(Trouble::ConnectError);
        assert_eq!(heard.trouble, Some(Trouble::RegistrationDeleted));
    }
}
