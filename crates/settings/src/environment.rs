//! The environment, laid over the file: the variables a service manager or a person sets.

use std::{path::PathBuf, str::FromStr, time::Duration};

use super::{
    Problem, Problems,
    file::{SettingsWritten, TargetWritten},
};

/// Every variable read, with what it sets; the README's table is checked against this.
pub const VARIABLES: [(&str, &str); 9] = [
    ("GITHUB_REPO", "owner/repository, or several separated by commas; replaces the file's targets"),
    ("GITHUB_TOKEN_FILE", "file with the token for every target that names none"),
    ("MAX_CONCURRENT", "most containers at once"),
    ("POLL_INTERVAL", "time between polls, in seconds or as 10s, 1m"),
    ("JOB_TIMEOUT", "longest run of a job, in seconds or as 2h"),
    ("RUNNER_LABELS", "labels of the class `default`, separated by commas"),
    ("RUNNERS", "classes in a word each, separated by commas: cpu-small, gpu-max-docker"),
    ("STATE_DIR", "the controller's state"),
    ("HTTP_PORT", "port for /health and /status"),
];

/// Overrides what the file says with what `env` says. An empty variable counts as not set.
pub fn apply(written: &mut SettingsWritten, env: impl Fn(&str) -> Option<String>) -> Result<(), Problems> {
    let mut problems = Vec::new();
    let var = |key: &str| env(key).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());

    if let Some(repos) = var("GITHUB_REPO") {
        let named = |repo: String| {
            let in_file = written.targets.iter().find(|target| target.repo.as_ref() == Some(&repo)).cloned();
            in_file.unwrap_or_else(|| TargetWritten { repo: Some(repo), ..TargetWritten::default() })
        };
        written.targets = list(&repos).into_iter().map(named).collect();
    }
    if let Some(path) = var("GITHUB_TOKEN_FILE") {
        written.token_file = Some(PathBuf::from(path));
    }
    if let Some(labels) = var("RUNNER_LABELS") {
        written.runner_labels = Some(list(&labels));
    }
    if let Some(runners) = var("RUNNERS") {
        written.runners = list(&runners);
    }
    if let Some(dir) = var("STATE_DIR").or_else(|| var("STATE_DIRECTORY")) {
        written.state_dir = PathBuf::from(dir);
    }
    if let Some(value) = var("MAX_CONCURRENT") {
        written.max_concurrent = number("MAX_CONCURRENT", &value, &mut problems).unwrap_or(written.max_concurrent);
    }
    if let Some(value) = var("HTTP_PORT") {
        written.http.port = number("HTTP_PORT", &value, &mut problems).unwrap_or(written.http.port);
    }
    if let Some(value) = var("POLL_INTERVAL") {
        written.poll_interval = duration("POLL_INTERVAL", &value, &mut problems).unwrap_or(written.poll_interval);
    }
    if let Some(value) = var("JOB_TIMEOUT") {
        written.job_timeout = duration("JOB_TIMEOUT", &value, &mut problems).or(written.job_timeout);
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn number<T: FromStr>(key: &str, value: &str, problems: &mut Vec<Problem>) -> Option<T> {
    let parsed = value.parse().ok();
    if parsed.is_none() {
        problems.push(Problem::new(
            key,
            format!("{value:?} is not a whole number in range"),
            "write digits only, e.g. 7 (a port is at most 65535)",
        ));
    }
    parsed
}

fn duration(key: &str, value: &str, problems: &mut Vec<Problem>) -> Option<Duration> {
    let parsed = value.parse::<u64>().ok().map(Duration::from_secs).or_else(|| humantime::parse_duration(value).ok());
    if parsed.is_none() {
        problems.push(Problem::new(
            key,
            format!("{value:?} is not a duration"),
            "write seconds (10) or a duration such as 10s, 5m, 2h 30m",
        ));
    }
    parsed
}
