//! The fork gate: whether a job may run, by what triggered it. Pure.
//!
//! Anybody can fork a public repository and open a pull request, and the workflow file, and so every command of the
//! job, is then the fork's (docs/github.md#jobs-of-forks). Such a job is refused unless its target allows forks. What
//! cannot be known is refused as well, except in a repository known to be private: who can fork that was let in by its
//! owner.
//!
//! The same rule is applied three times: to queued jobs ([`admit`]), to the assignments of a scale set
//! ([`admit_assignment`]) and, since a forge binds no job to a runner, inside the container just before the first
//! step ([`guest::admit`]).

use std::fmt;

/// Events whose workflow is read from the repository itself, whoever caused them: from its default branch, or from a
/// commit that somebody with write access pushed, tagged, queued or deployed. GitHub, "Events that trigger workflows".
///
/// `pull_request_target`, `workflow_run` and `issue_comment` are among them although a stranger can cause them: every
/// command is written by the repository's own people, as in a push. A workflow of theirs that then checks out and runs
/// a fork's code is a mistake nobody can see from outside; the throw-away container limits it as it limits every job.
///
/// Not among them, and so judged by where their commit lies: `pull_request`, `pull_request_review`,
/// `pull_request_review_comment` (the fork's workflow), `dynamic` (GitHub's own workflows, which may build a fork's
/// code), and words that did not exist when this was written.
const OWN_WORKFLOW: [&str; 32] = [
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "create",
    "delete",
    "deployment",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "gollum",
    "image_version",
    "issue_comment",
    "issues",
    "label",
    "merge_group",
    "milestone",
    "page_build",
    "project",
    "project_card",
    "project_column",
    "public",
    "pull_request_target",
    "push",
    "registry_package",
    "release",
    "repository_dispatch",
    "schedule",
    "status",
    "watch",
    "workflow_dispatch",
    "workflow_run",
];

/// Why a job is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Its commit lies in a fork of a repository that is public, or not known to be private.
    Fork,
    /// Whether it does cannot be known.
    Unknown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fork => "it comes from a fork of a repository that is not known to be private",
            Self::Unknown => "it may come from a fork of a repository that is not known to be private",
        })
    }
}

/// Whether a job may run.
///
/// `event`: what triggered its run, in the forge's word. `from_fork`: the run's commit lies in another repository.
/// `public`: everybody can read its repository. Each is `None` where it is not known. `allow_forks`: what the operator
/// decided for its target.
pub fn admit(
    event: Option<&str>,
    from_fork: Option<bool>,
    public: Option<bool>,
    allow_forks: bool,
) -> Result<(), Refusal> {
    if allow_forks || public == Some(false) || event.is_some_and(|event| OWN_WORKFLOW.contains(&event)) {
        return Ok(());
    }
    match from_fork {
        Some(false) => Ok(()),
        Some(true) => Err(Refusal::Fork),
        None => Err(Refusal::Unknown),
    }
}

/// Whether a job that a scale set's message assigned may run (docs/github.md#messages-and-statistics).
///
/// The message names the event and no more that helps: `jobWorkflowRef` is the workflow that holds the job, which for a
/// reusable workflow is another repository's, and ends in `@refs/pull/N/merge` for a branch of the repository and for a
/// fork alike. So a pull request's job of a public repository is [`Refusal::Unknown`] here, until the run
/// (`workflowRunId`) is looked up and [`admit`] is asked with what it says.
pub fn admit_assignment(event_name: Option<&str>, public: Option<bool>, allow_forks: bool) -> Result<(), Refusal> {
    admit(event_name.filter(|name| !name.is_empty()), None, public, allow_forks)
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*, sample::select};

    use super::*;

    const FORKS_WORKFLOW: [&str; 5] =
        ["pull_request", "pull_request_review", "pull_request_review_comment", "dynamic", "tomorrows_event"];

    #[test]
    fn a_pull_request_from_a_fork_of_a_public_repository_is_refused_unless_allowed() {
        for event in FORKS_WORKFLOW {
            assert_eq!(admit(Some(event), Some(true), Some(true), false), Err(Refusal::Fork), "{event}");
            assert_eq!(admit(Some(event), Some(true), Some(true), true), Ok(()), "{event}");
            assert_eq!(admit(Some(event), Some(true), Some(false), false), Ok(()), "private: {event}");
            assert_eq!(admit(Some(event), Some(false), Some(true), false), Ok(()), "own branch: {event}");
        }
    }

    #[test]
    fn what_runs_the_repositorys_own_workflow_is_admitted() {
        for event in ["push", "schedule", "pull_request_target", "workflow_run", "issue_comment", "merge_group"] {
            assert_eq!(admit(Some(event), None, None, false), Ok(()), "{event}");
            assert_eq!(admit(Some(event), Some(true), Some(true), false), Ok(()), "{event}");
        }
    }

    #[test]
    fn what_cannot_be_known_is_refused() {
        assert_eq!(admit(None, None, None, false), Err(Refusal::Unknown));
        assert_eq!(admit(Some("pull_request"), None, Some(true), false), Err(Refusal::Unknown));
        assert_eq!(admit(Some("pull_request"), Some(true), None, false), Err(Refusal::Fork));
        assert_eq!(admit(Some("Push"), None, Some(true), false), Err(Refusal::Unknown), "another word");
    }

    #[test]
    fn an_assignment_says_enough_of_a_push_and_too_little_of_a_pull_request() {
        assert_eq!(admit_assignment(Some("push"), Some(true), false), Ok(()));
        assert_eq!(admit_assignment(Some("pull_request"), Some(true), false), Err(Refusal::Unknown));
        assert_eq!(admit_assignment(Some("pull_request"), Some(false), false), Ok(()));
        assert_eq!(admit_assignment(Some("pull_request"), Some(true), true), Ok(()));
        for silent in [None, Some("")] {
            assert_eq!(admit_assignment(silent, None, false), Err(Refusal::Unknown));
        }
    }

    fn events() -> impl Strategy<Value = Option<String>> {
        option::of(prop_oneof![
            select(FORKS_WORKFLOW.to_vec()).prop_map(str::to_owned),
            select(OWN_WORKFLOW.to_vec()).prop_map(str::to_owned),
            "[a-z_]{0,12}",
        ])
    }

    proptest! {
        #[test]
        fn no_forks_workflow_runs_for_a_stranger(
            event in option::of(select(FORKS_WORKFLOW.to_vec())), from_fork in option::of(Just(true)),
            public in option::of(Just(true)),
        ) {
            prop_assert!(admit(event, from_fork, public, false).is_err());
        }

        #[test]
        fn knowing_less_never_admits_more(
            event in events(), from_fork in option::of(any::<bool>()), public in option::of(any::<bool>()),
        ) {
            let event = event.as_deref();
            if admit(event, from_fork, public, false).is_err() {
                prop_assert!(admit(None, from_fork, public, false).is_err());
                prop_assert!(admit(event, None, public, false).is_err());
                prop_assert!(admit(event, from_fork, None, false).is_err());
            }
        }

        #[test]
        fn allowing_forks_or_being_private_refuses_nothing(
            event in events(), from_fork in option::of(any::<bool>()), public in option::of(any::<bool>()),
        ) {
            prop_assert!(admit(event.as_deref(), from_fork, public, true).is_ok());
            prop_assert!(admit(event.as_deref(), from_fork, Some(false), false).is_ok());
        }
    }
}
