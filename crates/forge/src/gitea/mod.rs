//! Gitea and Forgejo by their API and, for registering and ending, by their runners' protocol (docs/forges.md). Forgejo
//! is a dialect of it: what differs is told apart by its flavour.
//!
//! Neither binds a runner of ours to a job by itself (Forgejo does where it is asked to), neither refuses to delete a
//! runner that has one, and neither reports a cancelled job to a runner for one job: its registration goes, and that is
//! all. Whoever holds a runner's identity may end its job.

mod api;
mod listings;
mod models;
mod place;
mod probe;

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use chrono::DateTime;
use contract::{ActFlavour, ActRunner, Grant};
use http::Method;
use serde_json::{Value, json};
use settings::{ForgeKind, Settings, Target, TargetKind};

use self::{
    api::Api,
    listings::Listings,
    models::{
        JobModel, JobsPage, LogTaken, Origin, PullRequest, Registered, RegisteredRunner, RegistrationToken,
        RepositoriesPage, RepositoryModel, RunModel, RunnerModel, RunnersPage,
    },
    place::{Place, page},
};
use super::{
    Allowance, Deletion, ErrorKind, Finish, Forge, ForgeError, ForgeTraits, Held, Job, JobStatus, Minted, RateLimit,
    Repository, Runner, Standing, Traffic, wire::Wire,
};

/// Entries of a page: more are cut off silently.
const PAGE: usize = 50;
/// Pages read of one listing at most.
const PAGES: usize = 100;
/// Every so many looks at a repository that the operator named, one at what it is itself: jobs of one that is archived or
/// has no Actions are an empty list.
const ITSELF_EVERY: u32 = 30;

/// Runs that are looked through for the job of a runner, beside the one it is likely to be of.
const OTHER_RUNS: usize = 10;

/// The client of one credential.
#[derive(Debug)]
pub struct Gitea<W> {
    api: Api<W>,
    flavour: ActFlavour,
    credential: String,
    targets: Vec<Target>,
    listings: Listings,
    looks: RefCell<BTreeMap<String, u32>>,
    /// What is known of runs, by repository and id. It does not change.
    origins: RefCell<BTreeMap<(String, u64), Origin>>,
    /// Forgejo: names of repositories by number.
    names: RefCell<BTreeMap<u64, String>>,
    /// Runs of jobs that were looked at lately, by repository and id.
    runs: RefCell<BTreeMap<(String, u64), u64>>,
}

impl<W: Wire> Gitea<W> {
    /// A client for the targets of this credential; None if it is not one of these forges'.
    pub fn open(settings: &Settings, credential: &str, wire: W, token: impl Into<Held>) -> Option<Self> {
        let known = settings.credentials.get(credential)?;
        let flavour = match known.forge {
            ForgeKind::Github => return None,
            ForgeKind::Gitea => ActFlavour::Gitea,
            ForgeKind::Forgejo => ActFlavour::Forgejo,
        };
        let targets = settings.targets.iter().filter(|target| target.credential == credential).cloned().collect();
        Some(Self {
            api: Api::new(wire, &known.api_url, token.into()),
            flavour,
            credential: credential.to_owned(),
            targets,
            listings: Listings::default(),
            looks: RefCell::default(),
            origins: RefCell::default(),
            names: RefCell::default(),
            runs: RefCell::default(),
        })
    }

    /// As the controller calls what the forge calls `name`.
    fn full(&self, name: &str) -> String {
        format!("{}:{name}", self.credential)
    }

    /// As the forge calls what the controller calls `name`.
    fn local<'a>(&self, name: &'a str) -> Result<&'a str, ForgeError> {
        let of_this = name.split_once(':').filter(|(credential, _)| *credential == self.credential);
        of_this.map(|(_, local)| local).ok_or_else(|| unknown(name))
    }

    /// The target that `name` (a target, a scope or a repository) belongs to.
    fn target_of(&self, name: &str) -> Result<&Target, ForgeError> {
        let owner = name.split_once('/').map_or(name, |(owner, _)| owner);
        let named = |wanted: &str| self.targets.iter().find(|target| target.name.eq_ignore_ascii_case(wanted));
        let instance = || self.targets.iter().find(|target| target.kind == TargetKind::Instance);
        named(name).or_else(|| named(owner)).or_else(instance).ok_or_else(|| unknown(name))
    }

    /// The place that is called `name`: a target, a scope or a repository.
    fn place(&self, name: &str) -> Result<Place, ForgeError> {
        let local = self.local(name)?;
        Ok(match self.target_of(name)?.kind {
            _ if local.contains('/') => Place::Repository(local.to_owned()),
            TargetKind::Instance => Place::Instance,
            TargetKind::User => Place::Account(local.to_owned()),
            TargetKind::Organisation | TargetKind::Repository | TargetKind::Enterprise => {
                Place::Organisation(local.to_owned())
            }
        })
    }

    /// The jobs of a place that are not over.
    async fn list(&self, place: &Place) -> Result<Rc<Vec<JobModel>>, ForgeError> {
        let list = async || {
            let path = place.jobs(self.flavour);
            if self.flavour == ActFlavour::Forgejo {
                return Ok(self.api.get::<JobsPage>(&path).await?.jobs());
            }
            // In no order, and pages shift while they are read: some may be there twice.
            let jobs = self.pages(&path, JobsPage::jobs).await?;
            let jobs: BTreeMap<u64, JobModel> = jobs.into_iter().map(|job| (job.id, job)).collect();
            Ok::<Vec<JobModel>, ForgeError>(jobs.into_values().collect())
        };
        match place {
            // Nobody else asks.
            Place::Repository(_) => list().await.map(Rc::new),
            _ => self.listings.of(place, list).await,
        }
    }

    /// All entries of a listing.
    async fn pages<M: serde::de::DeserializeOwned, I>(
        &self,
        path: &str,
        items: impl Fn(M) -> Vec<I>,
    ) -> Result<Vec<I>, ForgeError> {
        let mut all = Vec::new();
        for number in 1..=PAGES {
            let page = items(self.api.get(&page(path, PAGE, number)).await?);
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    /// The repositories of a place, as the controller calls them.
    async fn repositories(&self, place: &Place) -> Result<Vec<Repository>, ForgeError> {
        let path = place.repositories();
        let found = match place {
            Place::Repository(_) => vec![self.api.get::<RepositoryModel>(&path).await?],
            _ => self.pages(&path, RepositoriesPage::repositories).await?,
        };
        let named = |repository: RepositoryModel| {
            let name = self.full(&repository.full_name);
            repository.named(name)
        };
        Ok(found.into_iter().map(named).collect())
    }

    /// The repository of a listed job, as the forge calls it; None if it is there no more.
    async fn repository_of(&self, job: &JobModel) -> Result<Option<String>, ForgeError> {
        let Some(id) = job.repo_id else { return Ok(job.repository()) };
        if let Some(name) = self.names.borrow().get(&id) {
            return Ok(Some(name.clone()));
        }
        let Some(found) = self.api.find::<RepositoryModel>(&format!("/repositories/{id}")).await? else {
            return Ok(None);
        };
        self.names.borrow_mut().insert(id, found.full_name.clone());
        Ok(Some(found.full_name))
    }

    /// What the fork gate has to know of a run. What the token may not see is not known, and so refused.
    async fn origin(&self, repository: &str, run: Option<u64>) -> Result<Origin, ForgeError> {
        let Some(run) = run else {
            // Forgejo 15 names no run: of a public repository any may be a fork's.
            let found = self.api.find::<RepositoryModel>(&format!("/repos/{repository}")).await?;
            return Ok(Origin { public: found.and_then(|found| found.public()), ..Origin::default() });
        };
        let key = (repository.to_owned(), run);
        if let Some(known) = self.origins.borrow().get(&key) {
            return Ok(known.clone());
        }
        let found: RunModel = match self.api.get(&format!("/repos/{repository}/actions/runs/{run}")).await {
            Err(error) if !error.kind.is_passing() => return Ok(Origin::default()),
            found => found?,
        };
        let public = found.repository.as_ref().and_then(RepositoryModel::public);
        let from_fork = match (found.is_fork_pull_request, found.pull_request()) {
            (Some(told), _) => Some(told),
            // Who can fork a private repository was let in.
            (None, Some(_)) if public == Some(false) => None,
            (None, Some(number)) => {
                let path = format!("/repos/{repository}/pulls/{number}");
                self.api.find::<PullRequest>(&path).await?.map(|request| request.is_from_fork())
            }
            (None, None) if found.path.contains("@refs/") => Some(false),
            (None, None) => None,
        };
        let origin = Origin { event: found.trigger_event.or(found.event), from_fork, public };
        self.origins.borrow_mut().insert(key, origin.clone());
        Ok(origin)
    }

    /// Forgets what is known of runs and jobs of a repository that are over.
    fn forget(&self, repository: &str, runs: &[u64], jobs: &[JobModel]) {
        self.origins.borrow_mut().retain(|(of, run), _| of != repository || runs.contains(run));
        let mut known = self.runs.borrow_mut();
        // How a job ended is asked for some time after it was listed last.
        while known.len() > 10_000 {
            known.pop_first();
        }
        known.extend(jobs.iter().filter_map(|job| Some(((repository.to_owned(), job.id), job.run_id?))));
    }

    /// The job that a runner has now, as far as the forge tells.
    async fn has_job(&self, place: &Place, runner: &RunnerModel) -> Result<bool, ForgeError> {
        match self.flavour {
            ActFlavour::Gitea => {
                let jobs = self.pages(&place.jobs(self.flavour), JobsPage::jobs).await?;
                Ok(jobs.iter().any(|job| job.runner_id == Some(runner.id) && job.status == "in_progress"))
            }
            // It tells nowhere which runner has which job.
            ActFlavour::Forgejo => Ok(runner.is_active()),
        }
    }

    async fn register(&self, place: &Place, name: &str, labels: &[String]) -> Result<RegisteredRunner, ForgeError> {
        let runners = place.runners();
        if self.flavour == ActFlavour::Forgejo {
            let body = json!({"name": name, "description": "one job", "ephemeral": true});
            return self.api.ask(Method::POST, &runners, Some(body)).await;
        }
        let path = format!("{runners}/registration-token");
        let RegistrationToken { token } = self.api.ask(Method::POST, &path, None).await?;
        let names: Vec<&str> =
            labels.iter().map(|label| label.split_once(':').map_or(&**label, |(name, _)| name)).collect();
        let body = json!({"name": name, "token": token, "version": "gha-runner-controller", "labels": names,
            "ephemeral": true});
        Ok(self.api.rpc::<Registered>("Register", body, None).await?.runner)
    }
}

fn unknown(name: &str) -> ForgeError {
    ForgeError::new(ErrorKind::NotFound, format!("{name} belongs to no configured target"))
}

/// A time as the runners' protocol has it.
fn timestamp(since_epoch: Duration) -> String {
    let time = i64::try_from(since_epoch.as_millis()).ok().and_then(DateTime::from_timestamp_millis);
    time.unwrap_or_default().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

impl<W: Wire> Forge for Gitea<W> {
    async fn discover(&self, target: &str) -> Result<Vec<Repository>, ForgeError> {
        self.repositories(&self.place(target)?).await
    }

    async fn look(&self, repository: &str) -> Result<Vec<Job>, ForgeError> {
        let local = self.local(repository)?;
        let place = self.place(&self.target_of(repository)?.name)?;
        let looks = *self.looks.borrow_mut().entry(local.to_owned()).and_modify(|looks| *looks += 1).or_default();
        if matches!(place, Place::Repository(_)) && looks.is_multiple_of(ITSELF_EVERY) {
            let path = place.repositories();
            let itself: RepositoryModel = self.api.get(&path).await?;
            if let Some(why) = itself.closed() {
                return Err(ForgeError::new(ErrorKind::Quarantined, format!("GET {path}: it {why}")));
            }
        }
        let mut own = Vec::new();
        for job in self.list(&place).await?.iter() {
            let is_own = match &place {
                Place::Repository(_) => true,
                _ => self.repository_of(job).await?.is_some_and(|name| name.eq_ignore_ascii_case(local)),
            };
            if is_own {
                own.push(job.clone());
            }
        }
        let runs: Vec<u64> = own.iter().filter_map(|job| job.run_id).collect();
        self.forget(local, &runs, &own);
        let mut jobs = Vec::new();
        for model in own {
            let mut job = model.clone().of(self.flavour, repository, &Origin::default());
            if job.status == JobStatus::Queued {
                let origin = self.origin(local, model.run_id).await?;
                job = model.of(self.flavour, repository, &origin);
            }
            jobs.push(job);
        }
        Ok(jobs)
    }

    async fn mint(
        &self,
        scope: &str,
        runner_name: &str,
        labels: &[String],
        handle: Option<&str>,
    ) -> Result<Minted, ForgeError> {
        let place = self.place(scope)?;
        let RegisteredRunner { id, uuid, token } = self.register(&place, runner_name, labels).await?;
        let runner = ActRunner {
            flavour: self.flavour,
            url: self.api.root.clone(),
            id,
            uuid,
            token,
            name: runner_name.to_owned(),
            labels: labels.to_vec(),
            handle: handle.map(str::to_owned),
        };
        Ok(Minted { runner_id: id, grant: Grant::ActRunner(runner) })
    }

    async fn find_runner(&self, scope: &str, runner_name: &str) -> Result<Option<Runner>, ForgeError> {
        // Names are not unique there; ours are.
        Ok(self.list_runners(scope).await?.into_iter().find(|runner| runner.name == runner_name))
    }

    async fn list_runners(&self, scope: &str) -> Result<Vec<Runner>, ForgeError> {
        let runners = self.pages(&self.place(scope)?.runners(), RunnersPage::runners).await?;
        let runners: BTreeMap<u64, Runner> = runners.into_iter().map(|it| (it.id, it.into())).collect();
        Ok(runners.into_values().collect())
    }

    async fn is_registered(&self, scope: &str, runner_id: u64) -> Result<bool, ForgeError> {
        let path = format!("{}/{runner_id}", self.place(scope)?.runners());
        Ok(self.api.find::<RunnerModel>(&path).await?.is_some())
    }

    /// These forges delete a runner that has a job, whose job then hangs. So it is disabled first, which keeps it from
    /// getting one, and then looked for among the running jobs.
    async fn delete_runner(&self, scope: &str, runner_id: u64) -> Result<Deletion, ForgeError> {
        let place = self.place(scope)?;
        let path = format!("{}/{runner_id}", place.runners());
        let (method, body) = match self.flavour {
            ActFlavour::Gitea => (Method::PATCH, Some(json!({"disabled": true}))),
            // It cannot disable one.
            ActFlavour::Forgejo => (Method::GET, None),
        };
        let runner = match self.api.ask::<RunnerModel>(method, &path, body).await {
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Deletion::AlreadyGone),
            runner => runner?,
        };
        if self.has_job(&place, &runner).await? {
            return Ok(Deletion::Busy);
        }
        match self.api.call(Method::DELETE, &path, None).await {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Deletion::AlreadyGone),
            Err(error) => Err(error),
            Ok(_) => Ok(Deletion::Deleted),
        }
    }

    async fn job(&self, repository: &str, job_id: u64) -> Result<Option<Job>, ForgeError> {
        let local = self.local(repository)?;
        let found = match self.flavour {
            ActFlavour::Gitea => self.api.find(&format!("/repos/{local}/actions/jobs/{job_id}")).await?,
            ActFlavour::Forgejo => {
                let run = self.runs.borrow().get(&(local.to_owned(), job_id)).copied();
                let jobs = match run {
                    None => None,
                    Some(run) => self.api.find::<JobsPage>(&format!("/repos/{local}/actions/runs/{run}/jobs")).await?,
                };
                jobs.and_then(|jobs| jobs.jobs().into_iter().find(|job: &JobModel| job.id == job_id))
            }
        };
        Ok(found.map(|job: JobModel| job.of(self.flavour, repository, &Origin::default())))
    }

    /// Of that run, or of another one that was looked at lately: a Gitea gives a runner any job that it fits.
    async fn job_of_run(&self, repository: &str, run_id: u64, runner_name: &str) -> Result<Option<Job>, ForgeError> {
        if self.flavour == ActFlavour::Forgejo {
            return Ok(None);
        }
        let local = self.local(repository)?.to_owned();
        let known: BTreeSet<(u64, String)> =
            self.runs.borrow().iter().map(|((repository, _), run)| (*run, repository.clone())).collect();
        let others = known.into_iter().rev().filter(|(run, of)| (*run, of) != (run_id, &local)).take(OTHER_RUNS);
        for (run, repository) in std::iter::once((run_id, local.clone())).chain(others.collect::<Vec<_>>()) {
            let path = format!("/repos/{repository}/actions/runs/{run}/jobs");
            let jobs = match self.pages(&path, JobsPage::jobs).await {
                Err(error) if !error.kind.is_passing() => continue,
                jobs => jobs?,
            };
            if let Some(job) = jobs.into_iter().find(|job: &JobModel| job.runner_name.as_deref() == Some(runner_name)) {
                return Ok(Some(job.of(self.flavour, &self.full(&repository), &Origin::default())));
            }
        }
        Ok(None)
    }

    async fn finish(&self, _: &str, grant: &Grant, task: u64, end: Finish, why: &str) -> Result<bool, ForgeError> {
        let Grant::ActRunner(runner) = grant else { return Ok(false) };
        match self.end_task(runner, task, end, why).await {
            // It is over, and its registration gone with it.
            Err(error) if error.kind == ErrorKind::Refused => Ok(false),
            Err(error) => Err(error),
            Ok(()) => Ok(true),
        }
    }

    fn traits_of(&self, name: &str) -> ForgeTraits {
        let lists_together = self.target_of(name).is_ok_and(|target| target.kind != TargetKind::Repository);
        let look_age = if lists_together { listings::SHARED } else { Duration::ZERO };
        ForgeTraits { tells_of_cancel: false, lists_together, look_age }
    }

    fn rate_limit(&self, _: &str) -> Option<RateLimit> {
        None
    }

    fn allowance(&self, _: &str) -> Option<Allowance> {
        None
    }

    fn traffic(&self, _: &str) -> Traffic {
        Traffic { calls: self.api.tally.calls(), clock_offset: self.api.tally.clock_offset() }
    }

    fn standing(&self, _: &str) -> Standing {
        self.api.standing()
    }
}

impl<W: Wire> Gitea<W> {
    /// Ends a runner's task in its place, with a last line in the job's log.
    async fn end_task(&self, runner: &ActRunner, task: u64, end: Finish, why: &str) -> Result<(), ForgeError> {
        let (id, now) = (task.to_string(), timestamp(self.api.now()));
        let log = |index: u64, rows: Value| json!({"taskId": &id, "index": index.to_string(), "rows": rows, "noMore": index > 0});
        // Without lines it tells how many there are.
        let known: LogTaken = self.api.rpc("UpdateLog", log(0, json!([])), Some(runner)).await?;
        let row = json!([{"time": &now, "content": format!("gha-runner-controller: {why}")}]);
        let mut last = log(known.ack_index, row);
        last["noMore"] = Value::Bool(true);
        let _: LogTaken = self.api.rpc("UpdateLog", last, Some(runner)).await?;
        let result = match end {
            Finish::Failed => "RESULT_FAILURE",
            Finish::Cancelled => "RESULT_CANCELLED",
        };
        let state = json!({"state": {"id": &id, "result": result, "startedAt": &now, "stoppedAt": &now}});
        let _: Value = self.api.rpc("UpdateTask", state, Some(runner)).await?;
        Ok(())
    }
}
