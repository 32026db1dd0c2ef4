//! Repositories: names, renames, and which runs they have.

use super::{Conclusion, JobId, RepoId, RunId, World, WorldError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// A repository to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoSpec {
    /// `owner/name`.
    pub name: String,
    /// Whether outsiders cannot see it.
    #[serde(default)]
    pub private: bool,
}

/// What can be changed of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepoSettings {
    /// Whether outsiders cannot see it.
    pub private: bool,
    /// Private, and open to the whole enterprise.
    pub internal: bool,
    /// Read-only: what would change it is 403.
    pub archived: bool,
    /// Blocked by GitHub: everything is 403.
    pub disabled: bool,
    /// Whether it is a copy of another one.
    pub fork: bool,
    /// Without Actions everything below `actions/` but its `permissions` is 403.
    pub actions_enabled: bool,
    /// Topics.
    pub topics: Vec<String>,
    /// Last push.
    pub pushed_at: Option<Duration>,
}

impl Default for RepoSettings {
    fn default() -> Self {
        Self {
            private: false,
            internal: false,
            archived: false,
            disabled: false,
            fork: false,
            actions_enabled: true,
            topics: Vec::new(),
            pushed_at: None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Repo {
    pub(crate) id: RepoId,
    pub(crate) owner: String,
    pub(crate) name: String,
    pub(crate) private: bool,
    pub(crate) settings: RepoSettings,
    /// All runs, oldest first.
    pub(crate) runs: Vec<RunId>,
    /// Runs that are not completed.
    pub(crate) open_runs: BTreeSet<RunId>,
    /// Counts what changed of it or its runs: a list of them is the same as long as this is.
    pub(crate) revision: u64,
}

impl Repo {
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    fn is_called(&self, full_name: &str) -> bool {
        full_name
            .split_once('/')
            .is_some_and(|(owner, name)| self.belongs_to(owner) && self.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn belongs_to(&self, owner: &str) -> bool {
        self.owner.eq_ignore_ascii_case(owner)
    }
}

/// Where a repository name leads.
pub(crate) enum Found {
    /// To this repository.
    Here(RepoId),
    /// To a repository that has another name by now.
    Moved(RepoId),
    /// Nowhere.
    Nowhere,
}

impl World {
    /// Adds a repository. Adding one that is there changes nothing.
    ///
    /// # Errors
    /// If the name is not `owner/name`.
    pub fn add_repo(&mut self, spec: &RepoSpec) -> Result<RepoId, WorldError> {
        let (owner, name) = split(&spec.name)?;
        if let Found::Here(id) = self.find_repo(&spec.name) {
            return Ok(id);
        }
        let id = self.ids.repo();
        self.note_owner(&owner);
        let settings = RepoSettings { private: spec.private, ..RepoSettings::default() };
        let (runs, open_runs) = (Vec::new(), BTreeSet::new());
        let repo = Repo { id, owner, name, private: spec.private, settings, runs, open_runs, revision: 0 };
        self.repos.insert(id, repo);
        Ok(id)
    }

    /// Adds so many repositories, `owner/prefix-001` and so on. Gives their ids.
    ///
    /// # Errors
    /// If the names would not be `owner/name`.
    pub fn add_repos(
        &mut self,
        owner: &str,
        prefix: &str,
        count: u32,
        private: bool,
    ) -> Result<Vec<RepoId>, WorldError> {
        (1..=count)
            .map(|number| self.add_repo(&RepoSpec { name: format!("{owner}/{prefix}-{number:03}"), private }))
            .collect()
    }

    /// What can be changed of a repository, as it is.
    ///
    /// # Errors
    /// If there is no such repository.
    pub fn repo_settings(&self, name: &str) -> Result<RepoSettings, WorldError> {
        let id = self.repo_id(name)?;
        Ok(self.repos.get(&id).map(|repo| repo.settings.clone()).unwrap_or_default())
    }

    /// Changes a repository.
    ///
    /// # Errors
    /// If there is no such repository.
    pub fn set_repo(&mut self, name: &str, settings: RepoSettings) -> Result<(), WorldError> {
        let id = self.repo_id(name)?;
        if let Some(repo) = self.repos.get_mut(&id) {
            repo.private = settings.private || settings.internal;
            repo.settings = settings;
            repo.revision += 1;
        }
        Ok(())
    }

    /// Gives a repository another name; the old one redirects from now on.
    ///
    /// # Errors
    /// If there is no such repository or the new name is not `owner/name`.
    pub fn rename_repo(&mut self, from: &str, to: &str) -> Result<(), WorldError> {
        let id = self.repo_id(from)?;
        let (owner, name) = split(to)?;
        if let Some(repo) = self.repos.get_mut(&id) {
            let former = repo.full_name().to_lowercase();
            repo.owner = owner;
            repo.name = name;
            repo.revision += 1;
            self.former_names.insert(former, id);
            let owner = repo.owner.clone();
            self.note_owner(&owner);
        }
        Ok(())
    }

    /// Deletes a repository with its runs, jobs and runners. Runners of its organisation lose the jobs they had there.
    ///
    /// # Errors
    /// If there is no such repository.
    pub fn delete_repo(&mut self, name: &str) -> Result<(), WorldError> {
        let id = self.repo_id(name)?;
        let open: Vec<JobId> = self
            .jobs
            .values()
            .filter(|job| job.repo == id && self.open_jobs.contains(&job.id))
            .map(|job| job.id)
            .collect();
        for job in open {
            self.finish_job(job, self.now, Conclusion::Cancelled, None);
        }
        self.repos.remove(&id);
        self.former_names.retain(|_, repo| *repo != id);
        self.runs.retain(|_, run| run.repo != id);
        self.jobs.retain(|_, job| job.repo != id);
        let jobs = &self.jobs;
        self.open_jobs.retain(|job| jobs.contains_key(job));
        self.forget_scale_sets_of(id);
        self.runners.retain(|_, runner| !runner.is_of(id));
        Ok(())
    }

    pub(crate) fn repo(&self, id: RepoId) -> Option<&Repo> {
        self.repos.get(&id)
    }

    pub(crate) fn repos(&self) -> impl Iterator<Item = &Repo> {
        self.repos.values()
    }

    pub(crate) fn find_repo(&self, full_name: &str) -> Found {
        if let Some(repo) = self.repos.values().find(|repo| repo.is_called(full_name)) {
            return Found::Here(repo.id);
        }
        match self.former_names.get(&full_name.to_lowercase()) {
            Some(id) => Found::Moved(*id),
            None => Found::Nowhere,
        }
    }

    pub(super) fn repo_id(&self, name: &str) -> Result<RepoId, WorldError> {
        match self.find_repo(name) {
            Found::Here(id) => Ok(id),
            Found::Moved(_) | Found::Nowhere => Err(WorldError::NoRepo(name.to_owned())),
        }
    }

    pub(super) fn repo_name(&self, id: RepoId) -> String {
        self.repos.get(&id).map(Repo::full_name).unwrap_or_default()
    }
}

fn split(full_name: &str) -> Result<(String, String), WorldError> {
    match full_name.split_once('/') {
        Some((owner, name)) if !owner.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((owner.to_owned(), name.to_owned()))
        }
        _ => Err(WorldError::Refused(format!("{full_name:?} is not of the form owner/name"))),
    }
}
