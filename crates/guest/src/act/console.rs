//! Understands the lines that the runners of Gitea and Forgejo print on their standard error: logrus's text format,
//! `time="…" level=info msg="…"`. None of them has a text that a workflow's author chose before the repository's name.

use contract::{event::Trouble, runner_version::is_version};

use crate::dialect::Said;

/// What `line` (without its line feed) says. One line says both the version and that the runner listens.
pub fn parse(line: &str) -> Vec<Said> {
    let Some((level, rest)) = after_time(line) else { return Vec::new() };
    match level {
        "info" => {
            rest.strip_prefix("msg=\"").and_then(|rest| rest.split_once('"')).map_or_else(Vec::new, |m| report(m.0))
        }
        "error" | "fatal" => trouble(rest).map(Said::Trouble).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn report(message: &str) -> Vec<Said> {
    if let Some(said) = declared(message) {
        return said;
    }
    let task = message.strip_prefix("task ").and_then(|rest| rest.split_once(" repo is ")).map(|(task, _)| task);
    match task.and_then(|task| task.parse().ok()) {
        // No line has the job's name.
        Some(task) => vec![Said::JobStarted { job: String::new(), task: Some(task) }],
        None => Vec::new(),
    }
}

/// `runner: NAME, with version: v1.0.8, with labels: [nix], declare successfully`; Forgejo's `declared`.
fn declared(message: &str) -> Option<Vec<Said>> {
    let message = message.strip_prefix("runner: ")?;
    let message =
        message.strip_suffix(", declare successfully").or_else(|| message.strip_suffix(", declared successfully"))?;
    let (_, rest) = message.split_once(", with version: ")?;
    let (version, _) = rest.split_once(", with labels: ")?;
    let version = version.strip_prefix('v').unwrap_or(version);
    let known = is_version(version).then(|| Said::Version(version.to_owned()));
    Some(known.into_iter().chain([Said::Listening]).collect())
}

fn trouble(rest: &str) -> Option<Trouble> {
    if rest.contains("unregistered runner") {
        Some(Trouble::RegistrationDeleted)
    } else if rest.contains("unavailable: ") {
        Some(Trouble::ConnectError)
    } else {
        None
    }
}

/// Level and message of a line that begins with its time.
fn after_time(line: &str) -> Option<(&str, &str)> {
    let (time, rest) = line.trim_end_matches('\r').strip_prefix("time=\"")?.split_once("\" level=")?;
    let is_time = |byte: u8| byte.is_ascii_digit() || b"-:.+TZ".contains(&byte);
    if time.is_empty() || !time.bytes().all(is_time) {
        return None;
    }
    rest.split_once(' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: &str = r#"time="2026-11-29T13:08:33Z" level="#;

    #[test]
    fn every_known_line_is_understood() {
        let started = |task| vec![Said::JobStarted { job: String::new(), task: Some(task) }];
        let declared = |version: &str| vec![Said::Version(version.into()), Said::Listening];
        for (line, said) in [
            (
                r#"info msg="runner: lab.j0000001, with version: v1.0.8, with labels: [nix], declare successfully""#,
                declared("1.0.8"),
            ),
            (
                r#"info msg="runner: N, with version: v12.1.0, with labels: [a b], declared successfully""#,
                declared("12.1.0"),
            ),
            (
                r#"info msg="runner: N, with version: dev, with labels: [], declare successfully""#,
                vec![Said::Listening],
            ),
            (r#"info msg="task 2 repo is acme/run https://github.com http://127.0.0.1:3901""#, started(2)),
            (
                r#"error msg="failed to fetch task" error="unknown: rpc error: code = Unauthenticated desc = unregistered runner""#,
                vec![Said::Trouble(Trouble::RegistrationDeleted)],
            ),
            (
                r#"error msg="fail to invoke Declare" error="unavailable: dial tcp 127.0.0.1:1: connect: connection refused""#,
                vec![Said::Trouble(Trouble::ConnectError)],
            ),
            (r#"info msg="Starting runner daemon""#, vec![]),
            (
                r#"info msg="runner: N shutdown initiated, waiting 0s for running jobs to complete before shutting down""#,
                vec![],
            ),
            // Forgejo's runner retries each second what a cancelled job's registration refuses.
            (r#"warning msg="ReportLog error: unauthenticated: unregistered runner""#, vec![]),
        ] {
            assert_eq!(parse(&format!("{T}{line}")), said, "{line}");
            assert_eq!(parse(line), [], "without its time: {line}");
            assert_eq!(parse(&format!("x {T}{line}")), [], "not at its beginning: {line}");
        }
    }

    #[test]
    fn what_a_repository_is_called_starts_no_job_and_declares_nothing() {
        for message in [
            "task x repo is acme/run",
            "task 2 repo was acme/run",
            "[ci/build] task 2 repo is acme/run",
            "runner: N declare successfully",
            "shutdown of runner: N, with version: v1.0.8, with labels: [nix], declare successfully",
        ] {
            assert_eq!(parse(&format!("{T}info msg=\"{message}\"")), [], "{message}");
        }
        assert_eq!(parse(&format!("{T}debug msg=\"task 2 repo is acme/run\"")), []);
        assert_eq!(parse("time=\"now\" level=info msg=\"task 2 repo is acme/run\""), []);
    }

    proptest! {
        #[test]
        fn no_line_breaks_it(line in ".{0,200}") {
            let _ = parse(&line);
            let _ = parse(&format!("{T}{line}"));
        }
    }
}
