//! Repositories: names, renames, and which runs they have.

use super::{RepoId, RunId, World, WorldError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A repository to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoSpec {
    /// `owner/name`.
    pub name: String,
    /// Whether outsiders cannot see it.
    #[serde(default)]
    pub private: bool,
}

#[derive(Debug)]
pub(crate) struct Repo {
    pub(crate) id: RepoId,
    pub(crate) owner: String,
    pub(crate) name: String,
    pub(crate) private: bool,
    /// All runs, oldest first.
    pub(crate) runs: Vec<RunId>,
    /// Runs that are not completed.
    pub(crate) open_runs: BTreeSet<RunId>,
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
        self.repos
            .insert(id, Repo { id, owner, name, private: spec.private, runs: Vec::new(), open_runs: BTreeSet::new() });
        Ok(id)
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
            self.former_names.insert(former, id);
        }
        Ok(())
    }

    /// Deletes a repository with its runs, jobs and runners.
    ///
    /// # Errors
    /// If there is no such repository.
    pub fn delete_repo(&mut self, name: &str) -> Result<(), WorldError> {
        let id = self.repo_id(name)?;
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
