//! What differs between the runner programs the guest can run. Each is prepared by a module of its own.

use std::{os::fd::OwnedFd, path::PathBuf};

use contract::event::{JobResult, Trouble};

use crate::verdict::Heard;

/// A forge's runner program, to be spoken to in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// GitHub's `Runner.Listener`.
    Github,
    /// `gitea-runner`.
    Gitea,
    /// `forgejo-runner`.
    Forgejo,
}

/// What a line of the runner says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The runner has a session and waits.
    Listening,
    /// It is this version.
    Version(String),
    /// It took a job.
    JobStarted {
        /// The job's display name, if the runner names it.
        job: String,
        /// The forge's number of it, if the runner says it.
        task: Option<u64>,
    },
    /// Its job ended so.
    JobEnded(JobResult),
    /// Something is wrong.
    Trouble(Trouble),
}

/// Where a runner printed a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// A runner that can be started.
#[derive(Debug)]
pub struct Prepared {
    /// How it is spoken to.
    pub dialect: Dialect,
    /// What it is called with.
    pub arguments: Vec<String>,
    /// Where it is started.
    pub directory: PathBuf,
    /// All of its environment.
    pub environment: Vec<(String, String)>,
    /// Where it leaves the job's output, if not at the forge alone.
    pub pages: Option<OwnedFd>,
    /// URL of what it speaks to, as far as that is known.
    pub forge: Option<String>,
    /// It asks this program before the first step of its job.
    pub asks: bool,
}

impl Dialect {
    /// Whether a runner that ended with `status` is to be started again.
    pub fn may_pass(self, heard: Heard, status: i32) -> bool {
        let passing = match self {
            // GitHub's own script does so (docs/github.md#runner-exit-codes).
            Self::Github => status == 2,
            // One that does not reach the forge gives up at once.
            Self::Gitea | Self::Forgejo => status == 1 && heard.trouble.is_none(),
        };
        passing && !heard.took_job
    }

    /// Whether the runner, asked to stop, ends its job as one that did not succeed. Before its release 2.0 Gitea's reports
    /// success, so it is killed, and the controller reports to the forge in its place.
    pub fn can_be_asked_to_stop(self) -> bool {
        self != Self::Gitea
    }

    /// Whether a runner whose registration is gone gives up.
    pub fn gives_up(self) -> bool {
        self == Self::Github
    }

    /// Whether the runner says how its job went.
    pub fn tells_result(self) -> bool {
        self == Self::Github
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_runner_without_a_job_is_started_again_and_only_after_an_error_that_may_pass() {
        let with_job = Heard { took_job: true, ..Heard::default() };
        for (dialect, passes) in [(Dialect::Github, 2), (Dialect::Gitea, 1), (Dialect::Forgejo, 1)] {
            assert!(dialect.may_pass(Heard::default(), passes));
            assert!(!dialect.may_pass(with_job, passes));
            let others = [0, 1, 2, 5, 7, 137].into_iter().filter(|status| *status != passes);
            assert_eq!(others.filter(|status| dialect.may_pass(Heard::default(), *status)).count(), 0);
        }
        let mut gone = Heard::default();
        gone.note(Trouble::RegistrationDeleted);
        assert!(!Dialect::Gitea.may_pass(gone, 1));
    }
}
