//! Phase events the guest reports to the controller.
//!
//! The guest listens on [`SOCKET_FILE`] in a directory that *prepare* made for this container alone; the controller
//! connects and reads JSON lines, oldest first from the beginning on every connection, so a restarted controller
//! hears the whole story again. Everything here is said by code that may be hostile: size-limited, parsed strictly,
//! believed only for its own container, and never more than a hint about the job's result.

use serde::{Deserialize, Serialize};
use strum::VariantArray;

/// Name of the guest's listening socket in its event directory.
pub const SOCKET_FILE: &str = "events.sock";
/// Host directory with one event directory a container, made by *prepare*: `<EVENTS_DIR>/<name>/`.
pub const EVENTS_DIR: &str = "/run/gha-runner-events";
/// Longest line, in bytes, newline included.
pub const LINE_LIMIT: usize = 4096;
/// Most events one guest may send; more is a protocol violation.
pub const EVENT_LIMIT: usize = 64;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// 0, 1, 2 … in the order of reporting.
    pub seq: u32,
    /// The guest's wall clock, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The guest runs; nothing is set up yet.
    Booted,
    /// Address, route and resolver are in place.
    NetworkReady,
    /// The runner program was started.
    RunnerStarted,
    /// The runner said which version it is (`Current runner version: …`), just before it listens.
    RunnerVersion {
        /// Digits and dots.
        version: String,
    },
    /// The runner has a session with the forge and waits for a job (`Listening for Jobs`).
    Listening,
    /// The runner took a job (`Running job: …`).
    JobStarted {
        /// The job's display name: text chosen by the workflow's author, shown only. Empty where the runner does not name
        /// its job.
        job: String,
        /// The number by which the forge knows this attempt of the job, where the runner says it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<u64>,
    },
    /// The runner reported the job's end (`… completed with result: …`).
    JobEnded {
        /// What the runner said.
        result: JobResult,
    },
    /// Something went wrong that a person should know.
    Trouble {
        /// Which known kind of trouble.
        kind: Trouble,
        /// One line from the runner or the guest, shortened.
        message: String,
    },
    /// The runner program ended; the container ends next.
    RunnerExited {
        /// Its exit status, or 128 + signal.
        status: i32,
    },
}

/// A job's result in the runner's words (docs/github.md#runner-console-lines).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum JobResult {
    Succeeded,
    SucceededWithIssues,
    Failed,
    Canceled,
    Skipped,
    Abandoned,
}

impl JobResult {
    /// The job did what it was to do.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Succeeded | Self::SucceededWithIssues)
    }
}

/// Trouble the guest recognises in the runner's output or in its own set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// The guest could not set up network, files or the runner.
    SetupFailed,
    /// Lost connection to the forge; the runner retries by itself.
    ConnectError,
    /// Another session exists for this runner.
    SessionConflict,
    /// The registration is gone at the forge.
    RegistrationDeleted,
    /// The forge refuses this runner version.
    VersionRefused,
    /// The runner gives up, for a reason that it names.
    RunnerFailed,
    /// The runner took a job and ended without a word on how it went.
    NoResult,
    /// The runner tried to update itself, which must not happen here.
    SelfUpdate,
    /// The forge and this machine disagree about the time.
    ClockSkew,
    /// Its job comes from a fork, or may, and was not run.
    ForkRefused,
    /// The forge cannot be reached from the container: no address for its name, or no connection.
    NoNetwork,
}

/// Exit status of the guest, and so of the container. A hint: payload code can forge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::FromRepr, VariantArray)]
#[repr(u8)]
pub enum GuestExit {
    /// The runner ran a job and said it succeeded.
    Succeeded = 0,
    /// The runner ran a job and said it failed (or was skipped).
    JobFailed = 10,
    /// The runner ran a job that was cancelled.
    JobCanceled = 11,
    /// The runner ended in good order without a job.
    NoJob = 12,
    /// The forge refused the runner's version (the runner says so, or exits with 7).
    VersionRefused = 13,
    /// The runner's registration was gone.
    RegistrationDeleted = 14,
    /// Session conflict (runner exit 5).
    SessionConflict = 15,
    /// The runner failed otherwise.
    RunnerFailed = 16,
    /// The guest could not set up or start the runner.
    SetupFailed = 17,
    /// The runner's job comes from a fork, or may, and was not run.
    ForkRefused = 18,
    /// The runner took a job and ended in good order without a word on how it went.
    NoResult = 19,
    /// The forge had forgotten the runner's job, which was given up.
    JobLost = 20,
    /// The container was stopped before its job had ended.
    Stopped = 21,
    /// The job reached its limit and was stopped.
    TimedOut = 22,
    /// The forge could not be reached from the container, and the runner did not listen.
    NoNetwork = 23,
}

impl Trouble {
    /// What was so before a runner listened, and is over once it does.
    pub fn ends_with_listening(self) -> bool {
        matches!(self, Self::ConnectError | Self::SessionConflict | Self::ClockSkew | Self::NoNetwork)
    }
}

impl GuestExit {
    /// Every value, for tables and reverse look-up.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The status as a process exit code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The status alone does not say why: the words that go with it have to arrive.
    pub fn needs_words(self) -> bool {
        matches!(
            self,
            Self::VersionRefused
                | Self::RegistrationDeleted
                | Self::SessionConflict
                | Self::RunnerFailed
                | Self::SetupFailed
                | Self::ForkRefused
                | Self::NoResult
                | Self::NoNetwork
        )
    }

    /// Back from a container's exit status; `None` for one the guest does not use.
    pub fn from_code(code: i32) -> Option<Self> {
        u8::try_from(code).ok().and_then(Self::from_repr)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_event_is_one_flat_json_object() {
        let event = Event { seq: 3, at_ms: 5, what: What::JobEnded { result: JobResult::SucceededWithIssues } };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, r#"{"seq":3,"at_ms":5,"event":"job-ended","result":"succeeded-with-issues"}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }

    #[test]
    fn a_started_job_may_have_a_task() {
        for (text, task) in [
            (r#"{"seq":1,"at_ms":5,"event":"job-started","job":"build"}"#, None),
            (r#"{"seq":1,"at_ms":5,"event":"job-started","job":"build","task":7}"#, Some(7)),
        ] {
            let event = Event { seq: 1, at_ms: 5, what: What::JobStarted { job: "build".into(), task } };
            assert_eq!(serde_json::from_str::<Event>(text).unwrap(), event);
            assert_eq!(serde_json::to_string(&event).unwrap(), text);
        }
    }

    #[test]
    fn an_unknown_event_is_refused() {
        assert!(serde_json::from_str::<Event>(r#"{"seq":0,"at_ms":0,"event":"root-please"}"#).is_err());
    }
}
