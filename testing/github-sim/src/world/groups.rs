//! Runner groups: which repositories the runners of an organisation or enterprise serve.

use super::{DEFAULT_GROUP, Repo, RepoId, Scope, World, WorldError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Who sees a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Every repository of the scope.
    #[default]
    All,
    /// These repositories, `owner/name`.
    Selected(BTreeSet<String>),
}

/// A runner group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerGroup {
    /// Id; the default one has 1.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Which repositories it serves.
    pub visibility: Visibility,
    /// Whether it serves public ones, which no group does unless told.
    pub allows_public_repositories: bool,
}

impl RunnerGroup {
    fn default_one() -> Self {
        Self {
            id: DEFAULT_GROUP,
            name: "Default".to_owned(),
            visibility: Visibility::All,
            allows_public_repositories: false,
        }
    }

    /// Whether it names that repository; one that all see names none.
    pub(crate) fn selects(&self, repo: &Repo) -> bool {
        match &self.visibility {
            Visibility::All => false,
            Visibility::Selected(names) => names.iter().any(|name| name.eq_ignore_ascii_case(&repo.full_name())),
        }
    }
}

/// A group to make or to change; it is found by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerGroupSpec {
    /// Name; `Default` changes the group every scope has.
    pub name: String,
    /// Which repositories it serves.
    #[serde(default)]
    pub visibility: Visibility,
    /// Whether it serves public ones.
    #[serde(default)]
    pub allows_public_repositories: bool,
}

impl World {
    /// Makes or changes a runner group of an organisation or enterprise. Gives its id.
    ///
    /// # Errors
    /// For a repository: its only group is the default one, and no policy holds there.
    pub fn set_runner_group(&mut self, scope: &Scope, spec: RunnerGroupSpec) -> Result<u64, WorldError> {
        if matches!(scope, Scope::Repo(_)) {
            return Err(WorldError::Refused("a repository has no runner groups of its own".to_owned()));
        }
        let key = group_key(scope);
        let groups = self.groups.entry(key).or_insert_with(|| vec![RunnerGroup::default_one()]);
        let id = match groups.iter().find(|group| group.name.eq_ignore_ascii_case(&spec.name)) {
            Some(group) => group.id,
            None => groups.iter().map(|group| group.id).max().unwrap_or(0) + 1,
        };
        groups.retain(|group| group.id != id);
        groups.push(RunnerGroup {
            id,
            name: spec.name,
            visibility: spec.visibility,
            allows_public_repositories: spec.allows_public_repositories,
        });
        groups.sort_by_key(|group| group.id);
        Ok(id)
    }

    /// The groups of a scope, the default one first.
    #[must_use]
    pub fn runner_groups(&self, scope: &Scope) -> Vec<RunnerGroup> {
        self.groups.get(&group_key(scope)).cloned().unwrap_or_else(|| vec![RunnerGroup::default_one()])
    }

    pub(crate) fn runner_group(&self, scope: &Scope, id: u64) -> Option<RunnerGroup> {
        self.runner_groups(scope).into_iter().find(|group| group.id == id)
    }

    /// Whether runners of that scope and group get jobs of a repository. What is registered at the repository itself
    /// is beyond the policy of any group.
    pub(super) fn serves(&self, scope: &Scope, group: u64, repo: RepoId) -> bool {
        let Some(repo) = self.repos.get(&repo) else {
            return false;
        };
        let reached = match scope {
            Scope::Repo(own) => return *own == repo.id,
            Scope::Org(owner) => repo.belongs_to(owner),
            Scope::Enterprise(name) => {
                self.enterprise_of(&repo.owner).is_some_and(|own| own.eq_ignore_ascii_case(name))
            }
        };
        reached
            && self.runner_group(scope, group).is_some_and(|group| {
                (repo.private || group.allows_public_repositories)
                    && (group.visibility == Visibility::All || group.selects(repo))
            })
    }
}

/// Groups are kept by the name of what they belong to; every repository shares the one that cannot be changed.
fn group_key(scope: &Scope) -> String {
    match scope {
        Scope::Repo(_) => String::new(),
        Scope::Org(owner) => format!("orgs/{}", owner.to_lowercase()),
        Scope::Enterprise(name) => format!("enterprises/{}", name.to_lowercase()),
    }
}
