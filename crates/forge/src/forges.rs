//! All forges there are credentials for, as one: each call goes to the one that serves what it is about.

use std::{collections::BTreeMap, rc::Rc};

use contract::Grant;

use crate::{
    Allowance, Deletion, ErrorKind, Finding, Finish, Forge, ForgeError, ForgeTraits, Job, Minted, RateLimit,
    Repository, Runner, RunnerDeprecation, RunnerGroup, Standing, Traffic,
    gitea::Gitea,
    github::{Github, transport::Transport},
    wire::Wire,
};

/// GitHub by what `T` sends, and each other forge by `W`. A new forge is an arm of [`Self::of`]'s answer.
#[derive(Debug)]
pub struct Forges<T, W> {
    github: Rc<Github<T>>,
    /// By credential.
    others: BTreeMap<String, Gitea<W>>,
}

/// The forge that serves something.
enum AnyForge<'a, T, W> {
    Github(&'a Github<T>),
    Gitea(&'a Gitea<W>),
}

/// Calls the forge that serves `$name`.
macro_rules! served {
    ($self:ident, $name:expr, |$forge:ident| $call:expr) => {
        match $self.of($name)? {
            AnyForge::Github($forge) => $call,
            AnyForge::Gitea($forge) => $call,
        }
    };
}

impl<T: Transport, W: Wire> Forges<T, W> {
    /// All of them: `others` by credential.
    pub fn new(github: Rc<Github<T>>, others: BTreeMap<String, Gitea<W>>) -> Self {
        Self { github, others }
    }

    /// GitHub, whose scale sets are its own.
    pub fn github(&self) -> &Rc<Github<T>> {
        &self.github
    }

    /// The one that serves `name`: a target, a scope or a repository. What is not at GitHub has its credential in front.
    fn of(&self, name: &str) -> Result<AnyForge<'_, T, W>, ForgeError> {
        let Some((credential, _)) = name.split_once(':') else { return Ok(AnyForge::Github(&self.github)) };
        let unknown = || ForgeError::new(ErrorKind::NotFound, format!("{name} belongs to no configured target"));
        self.others.get(credential).map(AnyForge::Gitea).ok_or_else(unknown)
    }

    /// Tries whether jobs of `target` may be run again. None = its forge has no way to, or nothing to try it with.
    pub async fn probe_rerun(&self, target: &str) -> Option<Finding> {
        match self.of(target) {
            Ok(AnyForge::Gitea(_)) => None,
            _ => self.github.probe_rerun(target).await,
        }
    }

    /// Tries everything that serving `target` needs.
    pub async fn probe(&self, target: &str) -> Vec<Finding> {
        match self.of(target) {
            Ok(AnyForge::Gitea(forge)) => forge.probe(target).await,
            _ => self.github.probe(target).await,
        }
    }
}

impl<T: Transport, W: Wire> Forge for Forges<T, W> {
    async fn discover(&self, target: &str) -> Result<Vec<Repository>, ForgeError> {
        served!(self, target, |forge| forge.discover(target).await)
    }

    async fn look(&self, repository: &str) -> Result<Vec<Job>, ForgeError> {
        served!(self, repository, |forge| forge.look(repository).await)
    }

    async fn mint(
        &self,
        scope: &str,
        runner_name: &str,
        labels: &[String],
        handle: Option<&str>,
    ) -> Result<Minted, ForgeError> {
        served!(self, scope, |forge| forge.mint(scope, runner_name, labels, handle).await)
    }

    async fn find_runner(&self, scope: &str, runner_name: &str) -> Result<Option<Runner>, ForgeError> {
        served!(self, scope, |forge| forge.find_runner(scope, runner_name).await)
    }

    async fn list_runners(&self, scope: &str) -> Result<Vec<Runner>, ForgeError> {
        served!(self, scope, |forge| forge.list_runners(scope).await)
    }

    async fn is_registered(&self, scope: &str, runner_id: u64) -> Result<bool, ForgeError> {
        served!(self, scope, |forge| forge.is_registered(scope, runner_id).await)
    }

    async fn delete_runner(&self, scope: &str, runner_id: u64) -> Result<Deletion, ForgeError> {
        served!(self, scope, |forge| forge.delete_runner(scope, runner_id).await)
    }

    async fn job(&self, repository: &str, job_id: u64) -> Result<Option<Job>, ForgeError> {
        served!(self, repository, |forge| forge.job(repository, job_id).await)
    }

    async fn job_of_run(&self, repository: &str, run_id: u64, runner_name: &str) -> Result<Option<Job>, ForgeError> {
        served!(self, repository, |forge| forge.job_of_run(repository, run_id, runner_name).await)
    }

    async fn runner_group(&self, scope: &str) -> Result<Option<RunnerGroup>, ForgeError> {
        served!(self, scope, |forge| forge.runner_group(scope).await)
    }

    async fn runner_deprecation(&self, name: &str, version: &str) -> Result<Option<RunnerDeprecation>, ForgeError> {
        served!(self, name, |forge| forge.runner_deprecation(name, version).await)
    }

    async fn finish(&self, scope: &str, grant: &Grant, task: u64, end: Finish, why: &str) -> Result<bool, ForgeError> {
        served!(self, scope, |forge| forge.finish(scope, grant, task, end, why).await)
    }

    async fn rerun(&self, repository: &str, job_id: u64) -> Result<(), ForgeError> {
        served!(self, repository, |forge| forge.rerun(repository, job_id).await)
    }

    fn traits_of(&self, name: &str) -> ForgeTraits {
        match self.of(name) {
            Ok(AnyForge::Gitea(forge)) => forge.traits_of(name),
            _ => self.github.traits_of(name),
        }
    }

    fn rate_limit(&self, name: &str) -> Option<RateLimit> {
        match self.of(name).ok()? {
            AnyForge::Github(forge) => forge.rate_limit(name),
            AnyForge::Gitea(forge) => forge.rate_limit(name),
        }
    }

    fn allowance(&self, name: &str) -> Option<Allowance> {
        match self.of(name).ok()? {
            AnyForge::Github(forge) => forge.allowance(name),
            AnyForge::Gitea(forge) => forge.allowance(name),
        }
    }

    fn traffic(&self, credential: &str) -> Traffic {
        match self.others.get(credential) {
            Some(forge) => forge.traffic(credential),
            None => self.github.traffic(credential),
        }
    }

    fn standing(&self, credential: &str) -> Standing {
        match self.others.get(credential) {
            Some(forge) => forge.standing(credential),
            None => self.github.standing(credential),
        }
    }
}
