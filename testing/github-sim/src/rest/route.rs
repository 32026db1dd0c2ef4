//! Which call a method and a path mean.

use serde::{Deserialize, Serialize};

/// The calls the REST half knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Call {
    RateLimit,
    GetRepo,
    ListRuns,
    GetRun,
    ListJobs,
    GetJob,
    CancelRun,
    ForceCancelRun,
    RerunRun,
    RerunFailed,
    RerunJob,
    ListRunners,
    GetRunner,
    DeleteRunner,
    Mint,
    RegistrationToken,
    RemoveToken,
    RunnerDownloads,
    RunnerDeprecation,
    RunnerLabels,
    ListRunnerGroups,
    ListOrgRepos,
    UserRepos,
    GetAccount,
    GetUser,
    GroupRepos,
    ActionsPermissions,
    InstallationRepos,
    ListInstallations,
    FindInstallation,
    InstallationToken,
    RunnerRegistration,
    FindScaleSetGroup,
    ListScaleSets,
    GetScaleSet,
    CreateScaleSet,
    UpdateScaleSet,
    DeleteScaleSet,
    MintScaleSetRunner,
    GetAgent,
    FindAgent,
    DeleteAgent,
    OpenMessageSession,
    RefreshMessageSession,
    CloseMessageSession,
    GetMessage,
    DeleteMessage,
    AcquireJobs,
    AcquirableJobs,
    Unknown,
}

impl Call {
    /// Calls a GitHub App makes as itself, with a JWT instead of a token.
    pub(super) fn wants_jwt(self) -> bool {
        matches!(self, Self::ListInstallations | Self::FindInstallation | Self::InstallationToken)
    }
}

/// What the path is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The credential itself.
    Server,
    /// A repository by its full name.
    Repo(String),
    /// A repository by its id, as redirects name it.
    RepoId(u64),
    /// An organisation.
    Org(String),
    /// A user, or any account by its name.
    User(String),
    /// An enterprise.
    Enterprise(String),
}

/// A request understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route<'a> {
    pub(super) call: Call,
    pub(super) place: Place,
    /// Run, job, runner or installation.
    pub(super) id: u64,
    /// Attempt of a run; 0 for none.
    pub(super) attempt: u32,
    /// Name of a label, or a runner version.
    pub(super) text: &'a str,
    /// `/api/v3` or nothing.
    pub(super) prefix: &'static str,
    /// Path behind the repository, for redirects.
    pub(super) tail: String,
}

/// Understands a request.
pub(super) fn parse<'a>(method: &str, path: &'a str) -> Route<'a> {
    let (prefix, path) = match path.strip_prefix("/api/v3/") {
        Some(rest) => ("/api/v3", rest),
        None => ("", path.trim_start_matches('/')),
    };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (place, rest) = match parts.as_slice() {
        ["repos", owner, name, rest @ ..] => (Place::Repo(format!("{owner}/{name}")), rest),
        ["repositories", id, rest @ ..] if number(id) > 0 => (Place::RepoId(number(id)), rest),
        ["orgs", owner, rest @ ..] => (Place::Org((*owner).to_owned()), rest),
        ["users", owner, rest @ ..] => (Place::User((*owner).to_owned()), rest),
        ["enterprises", name, rest @ ..] => (Place::Enterprise((*name).to_owned()), rest),
        rest => (Place::Server, rest),
    };
    let (call, id, attempt, text) = match place {
        Place::Repo(_) | Place::RepoId(_) => in_repo(method, rest),
        Place::Org(_) => in_org(method, rest),
        Place::User(_) => in_user(method, rest),
        Place::Enterprise(_) => match rest {
            ["actions", "runners", rest @ ..] => at_runners(method, rest),
            ["actions", "runner-groups"] if method == "GET" => (Call::ListRunnerGroups, 0, 0, ""),
            _ => UNKNOWN,
        },
        Place::Server => at_server(method, rest),
    };
    Route { call, tail: rest.iter().map(|part| format!("/{part}")).collect(), place, id, attempt, text, prefix }
}

type Found<'a> = (Call, u64, u32, &'a str);

fn in_repo<'a>(method: &str, rest: &[&'a str]) -> Found<'a> {
    let id = |call, id: &str| (call, number(id), 0, "");
    match (method, rest) {
        ("GET", []) => (Call::GetRepo, 0, 0, ""),
        ("GET", ["actions", "permissions"]) => (Call::ActionsPermissions, 0, 0, ""),
        ("GET", ["installation"]) => (Call::FindInstallation, 0, 0, ""),
        ("GET", ["actions", "runs"]) => (Call::ListRuns, 0, 0, ""),
        ("GET", ["actions", "runs", run]) => id(Call::GetRun, run),
        ("GET", ["actions", "runs", run, "jobs"]) => id(Call::ListJobs, run),
        ("GET", ["actions", "runs", run, "attempts", attempt, "jobs"]) => {
            (Call::ListJobs, number(run), attempt.parse().unwrap_or(u32::MAX), "")
        }
        ("GET", ["actions", "jobs", job]) => id(Call::GetJob, job),
        ("POST", ["actions", "runs", run, "cancel"]) => id(Call::CancelRun, run),
        ("POST", ["actions", "runs", run, "force-cancel"]) => id(Call::ForceCancelRun, run),
        ("POST", ["actions", "runs", run, "rerun"]) => id(Call::RerunRun, run),
        ("POST", ["actions", "runs", run, "rerun-failed-jobs"]) => id(Call::RerunFailed, run),
        ("POST", ["actions", "jobs", job, "rerun"]) => id(Call::RerunJob, job),
        (_, ["actions", "runners", rest @ ..]) => at_runners(method, rest),
        _ => UNKNOWN,
    }
}

fn in_user<'a>(method: &str, rest: &[&'a str]) -> Found<'a> {
    match (method, rest) {
        ("GET", []) => (Call::GetAccount, 0, 0, ""),
        ("GET", ["repos"]) => (Call::ListOrgRepos, 0, 0, ""),
        ("GET", ["installation"]) => (Call::FindInstallation, 0, 0, ""),
        _ => UNKNOWN,
    }
}

fn in_org<'a>(method: &str, rest: &[&'a str]) -> Found<'a> {
    match (method, rest) {
        ("GET", []) => (Call::GetAccount, 0, 0, ""),
        ("GET", ["actions", "runner-groups", group, "repositories"]) => (Call::GroupRepos, number(group), 0, ""),
        ("GET", ["repos"]) => (Call::ListOrgRepos, 0, 0, ""),
        ("GET", ["installation"]) => (Call::FindInstallation, 0, 0, ""),
        ("GET", ["actions", "runner-groups"]) => (Call::ListRunnerGroups, 0, 0, ""),
        (_, ["actions", "runners", rest @ ..]) => at_runners(method, rest),
        _ => UNKNOWN,
    }
}

fn at_runners<'a>(method: &str, rest: &[&'a str]) -> Found<'a> {
    match (method, rest) {
        ("GET", []) => (Call::ListRunners, 0, 0, ""),
        ("GET", ["downloads"]) => (Call::RunnerDownloads, 0, 0, ""),
        ("GET", ["deprecations", version]) => (Call::RunnerDeprecation, 0, 0, *version),
        ("POST", ["registration-token"]) => (Call::RegistrationToken, 0, 0, ""),
        ("POST", ["remove-token"]) => (Call::RemoveToken, 0, 0, ""),
        ("POST", ["generate-jitconfig"]) => (Call::Mint, 0, 0, ""),
        ("GET", [runner]) => (Call::GetRunner, number(runner), 0, ""),
        ("DELETE", [runner]) => (Call::DeleteRunner, number(runner), 0, ""),
        ("GET" | "POST" | "PUT" | "DELETE", [runner, "labels"]) => (Call::RunnerLabels, number(runner), 0, ""),
        ("DELETE", [runner, "labels", label]) => (Call::RunnerLabels, number(runner), 0, *label),
        _ => UNKNOWN,
    }
}

fn at_server<'a>(method: &str, rest: &[&'a str]) -> Found<'a> {
    match (method, rest) {
        ("GET", ["rate_limit"]) => (Call::RateLimit, 0, 0, ""),
        ("GET", ["installation", "repositories"]) => (Call::InstallationRepos, 0, 0, ""),
        ("GET", ["user"]) => (Call::GetUser, 0, 0, ""),
        ("GET", ["user", "repos"]) => (Call::UserRepos, 0, 0, ""),
        ("GET", ["app", "installations"]) => (Call::ListInstallations, 0, 0, ""),
        ("POST", ["app", "installations", id, "access_tokens"]) => (Call::InstallationToken, number(id), 0, ""),
        _ => UNKNOWN,
    }
}

const UNKNOWN: Found<'static> = (Call::Unknown, 0, 0, "");

/// No id is 0, so what is not a number finds nothing.
fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_same_at_the_root_and_below_the_server_prefix() {
        for prefix in ["", "/api/v3"] {
            let path = format!("{prefix}/repos/o/r/actions/runs/7/jobs");
            let route = parse("GET", &path);
            assert_eq!(route.call, Call::ListJobs);
            assert_eq!(route.place, Place::Repo("o/r".to_owned()));
            assert_eq!((route.id, route.prefix), (7, prefix));
            assert_eq!(route.tail, "/actions/runs/7/jobs");
        }
    }

    #[test]
    fn runners_of_both_scopes() {
        assert_eq!(parse("POST", "/repos/o/r/actions/runners/generate-jitconfig").call, Call::Mint);
        assert_eq!(parse("POST", "/orgs/o/actions/runners/generate-jitconfig").call, Call::Mint);
        assert_eq!(parse("DELETE", "/orgs/o/actions/runners/4").call, Call::DeleteRunner);
    }

    #[test]
    fn the_wrong_method_is_nothing() {
        assert_eq!(parse("PUT", "/repos/o/r").call, Call::Unknown);
        assert_eq!(parse("GET", "/somewhere").call, Call::Unknown);
    }
}
