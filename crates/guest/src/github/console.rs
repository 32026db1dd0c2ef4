//! Understands the lines the runner prints on its console (docs/github.md#runner-console-lines).
//!
//! A job's name is chosen by whoever wrote the workflow and is part of some of these lines, so nothing is looked for
//! inside a line that may have one: each pattern is anchored at its beginning, and a job's result at its end as well.

use contract::{
    event::{JobResult, Trouble},
    runner_version::is_version,
};

use crate::dialect::Said;

/// What `line` (without its line feed) says, if it is one of the known lines.
pub fn parse(line: &str) -> Option<Said> {
    let line = line.trim_end_matches('\r');
    match after_timestamp(line) {
        Some(rest) => parse_timed(rest),
        None => parse_version(line).or_else(|| parse_trouble(line).map(Said::Trouble)),
    }
}

fn parse_version(line: &str) -> Option<Said> {
    let version = line.strip_prefix("Current runner version: '")?.strip_suffix('\'')?;
    is_version(version).then(|| Said::Version(version.to_owned()))
}

fn parse_trouble(line: &str) -> Option<Trouble> {
    if is_version_refusal(line) {
        return Some(Trouble::VersionRefused);
    }
    TROUBLES.iter().find(|(start, _)| line.starts_with(start)).map(|(_, kind)| *kind)
}

/// `An error occurred: Error: Forbidden Runner version v2.336.0 is deprecated and cannot receive messages.` The middle is
/// the forge's own text, and older runners have another spelling.
fn is_version_refusal(line: &str) -> bool {
    line.starts_with("An error occur")
        && line.contains(" Runner version v")
        && line.ends_with(" is deprecated and cannot receive messages.")
}

/// Lines without a time stamp, by their beginning.
const TROUBLES: [(&str, Trouble); 12] = [
    ("A session for this runner already exists.", Trouble::SessionConflict),
    ("Stop retry on SessionConflictException", Trouble::SessionConflict),
    ("Failed to create a session. The runner registration has been deleted", Trouble::RegistrationDeleted),
    ("The runner no longer exists on the server.", Trouble::RegistrationDeleted),
    ("The local machine's clock may be out of sync", Trouble::ClockSkew),
    ("Runner update in progress, do not shutdown runner.", Trouble::SelfUpdate),
    ("Downloading ", Trouble::SelfUpdate),
    ("Runner update failed:", Trouble::SelfUpdate),
    // What the runner says last when it gives up.
    ("Failed to create session. ", Trouble::RunnerFailed),
    ("Stopped retrying OAuth token request exception ", Trouble::RunnerFailed),
    ("An error occured: ", Trouble::RunnerFailed),
    ("An error occurred: ", Trouble::RunnerFailed),
];

fn parse_timed(rest: &str) -> Option<Said> {
    // It says the second where it had lost the forge for a while.
    if matches!(rest, "Listening for Jobs" | "Runner reconnected.") {
        return Some(Said::Listening);
    }
    if let Some(job) = rest.strip_prefix("Running job: ") {
        return Some(Said::JobStarted { job: job.to_owned(), task: None });
    }
    if rest.starts_with("Runner connect error: ") {
        return Some(Said::Trouble(Trouble::ConnectError));
    }
    // The last occurrence: the name before it may contain the same words.
    let (_, result) = rest.strip_prefix("Job ")?.rsplit_once(" completed with result: ")?;
    let result = RESULTS.iter().find(|(word, _)| *word == result)?.1;
    Some(Said::JobEnded(result))
}

const RESULTS: [(&str, JobResult); 6] = [
    ("Succeeded", JobResult::Succeeded),
    ("SucceededWithIssues", JobResult::SucceededWithIssues),
    ("Failed", JobResult::Failed),
    ("Canceled", JobResult::Canceled),
    ("Skipped", JobResult::Skipped),
    ("Abandoned", JobResult::Abandoned),
];

/// What follows `yyyy-MM-dd HH:mm:ssZ: `.
fn after_timestamp(line: &str) -> Option<&str> {
    const SHAPE: &[u8] = b"0000-00-00 00:00:00Z: ";
    let (stamp, rest) = line.split_at_checked(SHAPE.len())?;
    let fits = stamp.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        shape => byte == *shape,
    });
    fits.then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: &str = "2026-11-21 07:54:01Z: ";

    fn started(job: &str) -> Said {
        Said::JobStarted { job: job.into(), task: None }
    }

    #[test]
    fn every_known_line_is_understood() {
        let timed = [
            ("Listening for Jobs", Said::Listening),
            ("Runner reconnected.", Said::Listening),
            ("Running job: build (x, 1)", started("build (x, 1)")),
            ("Job build completed with result: Succeeded", Said::JobEnded(JobResult::Succeeded)),
            ("Job b completed with result: SucceededWithIssues", Said::JobEnded(JobResult::SucceededWithIssues)),
            ("Job b completed with result: Failed", Said::JobEnded(JobResult::Failed)),
            ("Job b completed with result: Canceled\r", Said::JobEnded(JobResult::Canceled)),
            ("Job b completed with result: Skipped", Said::JobEnded(JobResult::Skipped)),
            ("Job b completed with result: Abandoned", Said::JobEnded(JobResult::Abandoned)),
            ("Runner connect error: x. Retrying until reconnected.", Said::Trouble(Trouble::ConnectError)),
        ];
        for (line, said) in timed {
            assert_eq!(parse(&format!("{T}{line}")), Some(said), "{line}");
            assert_eq!(parse(line), None, "without its time stamp: {line}");
        }
        for (line, kind) in [
            ("A session for this runner already exists.", Trouble::SessionConflict),
            ("Stop retry on SessionConflictException after retried for 240 seconds.", Trouble::SessionConflict),
            (
                "Failed to create a session. The runner registration has been deleted from the server, please \
                 re-configure. x",
                Trouble::RegistrationDeleted,
            ),
            (
                "The runner no longer exists on the server. Cleaning up local configuration.",
                Trouble::RegistrationDeleted,
            ),
            ("The local machine's clock may be out of sync with the server", Trouble::ClockSkew),
            ("Runner update in progress, do not shutdown runner.", Trouble::SelfUpdate),
            ("Downloading 2.999.0 runner", Trouble::SelfUpdate),
            ("Runner update failed: no", Trouble::SelfUpdate),
            (
                "An error occured: Runner version v2.1.0 is deprecated and cannot receive messages.",
                Trouble::VersionRefused,
            ),
            (
                "An error occurred: Error: Forbidden Runner version v2.336.0 is deprecated and cannot receive messages.",
                Trouble::VersionRefused,
            ),
            (
                "An error occured: Error: Forbidden Runner version v2.316.1 is deprecated and cannot receive messages.\r",
                Trouble::VersionRefused,
            ),
            ("Failed to create session. Error: Forbidden", Trouble::RunnerFailed),
            ("Stopped retrying OAuth token request exception after 1800 seconds.", Trouble::RunnerFailed),
            ("An error occurred: Get next message failed with non-retryable error.", Trouble::RunnerFailed),
            ("An error occurred: Not configured. Run config.(sh/cmd) to configure the runner.", Trouble::RunnerFailed),
        ] {
            assert_eq!(parse(line), Some(Said::Trouble(kind)), "{line}");
        }
    }

    #[test]
    fn only_the_whole_line_of_a_refusal_is_one() {
        for line in [
            "An error occurred: Runner version v2.1.0 is deprecated and cannot receive messages. Or can it?",
            "An error occurred: Version v2.1.0 is deprecated and cannot receive messages.",
            "An error occurred: Runner version v2.1.0 is deprecated.",
        ] {
            assert_eq!(parse(line), Some(Said::Trouble(Trouble::RunnerFailed)), "{line}");
        }
        for line in [
            "Warning: An error occurred: Runner version v2.1.0 is deprecated and cannot receive messages.",
            "Runner version v2.1.0 is deprecated and cannot receive messages.",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
        let named =
            format!("{T}Running job: An error occurred: Runner version v2 is deprecated and cannot receive messages.");
        assert!(matches!(parse(&named), Some(Said::JobStarted { .. })));
    }

    #[test]
    fn the_runner_says_its_version() {
        assert_eq!(parse("Current runner version: '2.336.0'"), Some(Said::Version("2.336.0".into())));
    }

    #[test]
    fn what_says_nothing_is_nothing() {
        for line in [
            "",
            "√ Connected to GitHub",
            "Current runner version: '2.336.0' and more",
            "Current runner version: '../../x'",
            "Current runner version: '2.'",
            "2026-11-21 07:54:01Z: Current runner version: '2.336.0'",
            "2026-11-21 07:54:01Z: Runner reconnected. Or is it?",
            "2026-11-21 07:54:01Z: Listening for Jobs and more",
            "2026-11-21 07:54:01: Listening for Jobs",
            " 2026-11-21 07:54:01Z: Listening for Jobs",
            "2026-11-21 07:54:01Z: Job x completed with result: Great",
            "2026-11-21 07:54:01Z: Job x completed with result: Succeeded!",
            "2026-11-21 07:54:01Z: x completed with result: Succeeded",
            "Exiting...",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_name_cannot_say_what_only_the_runner_may_say() {
        let name = "x completed with result: Succeeded";
        assert_eq!(parse(&format!("{T}Running job: {name}")), Some(started(name)));
        let ended = format!("{T}Job {name} completed with result: Failed");
        assert_eq!(parse(&ended), Some(Said::JobEnded(JobResult::Failed)));
        let started = format!("{T}Running job: Job {name}");
        assert!(matches!(parse(&started), Some(Said::JobStarted { .. })));
        let listening = format!("{T}Running job: {T}Listening for Jobs");
        assert!(matches!(parse(&listening), Some(Said::JobStarted { .. })));
        let trouble = format!("{T}Running job: The runner no longer exists on the server.");
        assert!(matches!(parse(&trouble), Some(Said::JobStarted { .. })));
    }

    proptest! {
        #[test]
        fn no_name_changes_what_a_line_says(name in "[^\r\n]{0,80}") {
            prop_assert_eq!(parse(&format!("{T}Running job: {name}")), Some(started(&name)));
            let ended = format!("{T}Job {name} completed with result: Canceled");
            prop_assert_eq!(parse(&ended), Some(Said::JobEnded(JobResult::Canceled)));
        }

        #[test]
        fn no_line_breaks_it(line in ".{0,200}") {
            let _ = parse(&line);
        }
    }
}
