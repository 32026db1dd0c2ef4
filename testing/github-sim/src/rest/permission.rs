//! What a token has to allow for a call (docs/github.md#permissions), and what is answered if it does not.

use super::Ask;
use super::answer::Answer;
use super::route::{Call, Place};
use crate::world::{Access, Grant, Repo, World};

/// What a call asks of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// Fine-grained permission; none that a fine-grained token could have for what is empty.
    permission: &'static str,
    access: Access,
    /// Classic scopes, any of which will do.
    scopes: &'static [&'static str],
}

impl Need {
    const fn new(permission: &'static str, access: Access, scopes: &'static [&'static str]) -> Self {
        Self { permission, access, scopes }
    }

    /// As `x-accepted-github-permissions` says it.
    pub(super) fn permission(&self) -> Option<String> {
        (!self.permission.is_empty()).then(|| format!("{}={}", self.permission, self.access.as_str()))
    }

    /// As `x-accepted-oauth-scopes` says it.
    pub(super) fn scopes(&self) -> String {
        self.scopes.join(", ")
    }
}

/// What this request needs; nothing special for what every token may ask.
pub(super) fn needed(ask: &Ask<'_>) -> Option<Need> {
    use Access::{Read, Write};
    let at_runners = |access| match (&ask.route.place, access) {
        (Place::Org(_), access) => Need::new("organization_self_hosted_runners", access, &["admin:org"]),
        (Place::Enterprise(_), access) => Need::new("", access, &["manage_runners:enterprise", "admin:enterprise"]),
        (_, access) => Need::new("administration", access, &["repo"]),
    };
    Some(match ask.route.call {
        Call::ListRuns | Call::GetRun | Call::ListJobs | Call::GetJob => {
            Need::new("actions", Read, &["repo", "public_repo"])
        }
        Call::CancelRun | Call::ForceCancelRun | Call::RerunRun | Call::RerunFailed | Call::RerunJob => {
            Need::new("actions", Write, &["repo", "public_repo"])
        }
        Call::ListRunners
        | Call::GetRunner
        | Call::RunnerDownloads
        | Call::RunnerDeprecation
        | Call::ListRunnerGroups
        | Call::GroupRepos => at_runners(Read),
        Call::RunnerLabels if ask.method == "GET" => at_runners(Read),
        Call::Mint | Call::DeleteRunner | Call::RegistrationToken | Call::RemoveToken | Call::RunnerLabels => {
            at_runners(Write)
        }
        Call::ActionsPermissions => Need::new("administration", Read, &["repo"]),
        _ => return None,
    })
}

/// Whether the token allows this request.
pub(super) fn check(world: &World, ask: &Ask<'_>, grant: &Grant) -> Result<(), Answer> {
    let repo = super::named_repo(world, &ask.route.place);
    if repo.is_some_and(|repo| repo.private && !grant.covers(repo)) {
        return Err(Answer::not_found());
    }
    let need = needed(ask);
    if let (Grant::Installation { .. }, Call::UserRepos | Call::GetUser) = (grant, ask.route.call) {
        return Err(refused(grant));
    }
    match need {
        Some(need) if !allows(grant, need, ask, repo) => Err(refused(grant)),
        _ => Ok(()),
    }
}

fn allows(grant: &Grant, need: Need, ask: &Ask<'_>, repo: Option<&Repo>) -> bool {
    if let Grant::Classic { scopes } = grant {
        let has = need.scopes.iter().any(|scope| scopes.contains(*scope));
        // Everybody sees the runs of a public repository.
        return has || (need.permission == "actions" && need.access == Access::Read);
    }
    let Some(permissions) = grant.permissions() else {
        return true;
    };
    let reached = match (&ask.route.place, grant) {
        (Place::Org(org), Grant::Installation { owner, .. } | Grant::FineGrained { owner: Some(owner), .. }) => {
            org.eq_ignore_ascii_case(owner)
        }
        _ => repo.is_none_or(|repo| grant.covers(repo)),
    };
    let has = reached && permissions.get(need.permission).is_some_and(|own| *own >= need.access);
    has || (need.permission == "actions" && need.access == Access::Read && repo.is_some_and(|repo| !repo.private))
}

fn refused(grant: &Grant) -> Answer {
    Answer::error(
        403,
        match grant {
            Grant::Installation { .. } => "Resource not accessible by integration",
            Grant::FineGrained { .. } => "Resource not accessible by personal access token",
            Grant::Classic { .. } | Grant::Everything => "Must have admin rights to Repository.",
        },
    )
}
