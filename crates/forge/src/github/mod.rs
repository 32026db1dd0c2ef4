//! GitHub by REST: polling for jobs, one-job registrations (docs/github.md#listing-jobs, docs/github.md#registrations).

mod app;
mod discovery;
mod governed;
mod governor;
mod groups;
mod models;
mod pages;
pub(crate) mod permissions;
mod probe;
pub(crate) mod refusal;
mod rest;
mod routes;
pub mod scale_set;
mod session;
mod sets;
pub mod transport;

#[cfg(test)]
mod tests;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use contract::Grant;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use settings::{Settings, Target};

pub use self::{
    app::{App, Installation},
    rest::Rest,
    routes::Login,
    session::Session,
    sets::ScaleSets,
};
use self::{
    governed::Governed,
    models::{DeprecationModel, Jit, JobModel, JobsPage, RepositoryModel, Run, RunnersPage, RunsPage},
    pages::{Page, PageCache, below_root, next_path},
    refusal::refusal,
    routes::Routes,
    transport::{Answer, Call, Transport},
};
use super::{
    Allowance, Deletion, ErrorKind, Forge, ForgeError, Job, JobStatus, Minted, RateLimit, Repository, Runner,
    RunnerDeprecation, RunnerGroup, Scope, Standing, Traffic,
};

/// Pages read of one listing at most; 1,000 is also what GitHub itself caps a filtered listing at.
const PAGES: usize = 10;
/// Pages of runners read at most: as many as a group can hold (docs/github.md#platform-limits).
const RUNNER_PAGES: usize = 100;
/// Runs whose jobs are read at the same time.
const PARALLEL: usize = 6;
/// Every so many looks, one without the status filter, which has been seen to return nothing for a while
/// (docs/github.md#workflow-runs).
const SWEEP_EVERY: u32 = 30;
/// Every so many looks, two more listings: of what the forge holds back, for an approval or a concurrency group. Nothing is
/// booted for it, but somebody may ask why it waits. That is a call a minute where something goes on, and one in six
/// elsewhere; lists that did not change cost nothing of the rate limit.
const HELD_EVERY: u32 = 12;
const HELD: [&str; 2] = ["status=waiting&", "status=pending&"];
/// What began longer ago has no queued jobs any more: they die after a day (docs/github.md#platform-limits).
const HORIZON: Duration = Duration::from_secs(86_400 + 3_600);

/// The client for every target there is, whatever opens it.
#[derive(Debug)]
pub struct Github<T> {
    logins: Vec<LoginClient<T>>,
    routes: Routes,
    /// By repository or target.
    kept: RefCell<BTreeMap<String, RepositoryCache>>,
    /// Ids of the runner groups that runners join, by scope.
    groups: RefCell<BTreeMap<String, u64>>,
}

/// A login with its transport.
#[derive(Debug)]
struct LoginClient<T> {
    /// Name of its credential.
    credential: String,
    transport: Rc<Governed<T>>,
    api_url: String,
    /// Path of the API root, e.g. `/api/v3`, or empty.
    root_path: String,
    /// It is an installation of a GitHub App.
    is_installation: bool,
}

/// A target and the login that serves it.
#[derive(Debug)]
struct Route<'a, T> {
    target: &'a Target,
    login: &'a LoginClient<T>,
}

#[derive(Debug, Default)]
struct RepositoryCache {
    looks: u32,
    /// Jobs of runs that the forge held back when it was last asked for them.
    held: Vec<Job>,
    runs: PageCache<Run>,
    jobs: PageCache<JobModel>,
    repositories: PageCache<RepositoryModel>,
}

impl<T: Transport> Github<T> {
    /// A client for the targets of `settings`; `transport` makes what sends calls with a login.
    ///
    /// # Errors
    /// Those of `transport`.
    pub fn open<E>(settings: &Settings, mut transport: impl FnMut(&Login) -> Result<T, E>) -> Result<Self, E> {
        let (logins, routes) = Routes::plan(settings);
        let open = |login: &Login| {
            let uri = login.credential.api_url.parse::<http::Uri>();
            let root_path = uri.map(|uri| uri.path().trim_end_matches('/').to_owned()).unwrap_or_default();
            Ok(LoginClient {
                credential: login.credential.name.clone(),
                transport: Rc::new(Governed::new(transport(login)?, login.credential.share)),
                api_url: login.credential.api_url.clone(),
                root_path,
                is_installation: login.installation.is_some(),
            })
        };
        let logins = logins.iter().map(open).collect::<Result<_, E>>()?;
        Ok(Self { logins, routes, kept: RefCell::default(), groups: RefCell::default() })
    }

    fn route(&self, name: &str) -> Result<Route<'_, T>, ForgeError> {
        let route =
            self.routes.find(name).and_then(|(target, login)| Some(Route { target, login: self.logins.get(login)? }));
        route.ok_or_else(|| ForgeError::new(ErrorKind::NotFound, format!("{name} belongs to no configured target")))
    }

    /// What opens the scope or repository `name`, and the API root it is for.
    fn transport_of(&self, name: &str) -> Result<(Rc<Governed<T>>, String), ForgeError> {
        let login = self.route(name)?.login;
        Ok((login.transport.clone(), login.api_url.clone()))
    }

    fn kept<R>(&self, name: &str, change: impl FnOnce(&mut RepositoryCache) -> R) -> R {
        let mut all = self.kept.borrow_mut();
        match all.get_mut(name) {
            Some(kept) => change(kept),
            None => change(all.entry(name.to_owned()).or_default()),
        }
    }

    /// Sends a call and turns every status but `accepted` into an error.
    async fn call(&self, route: &Route<'_, T>, call: Call, accepted: &[StatusCode]) -> Result<Answer, ForgeError> {
        let shown = format!("{} {}", call.method, call.path);
        let transport = &route.login.transport;
        let answer = transport.send(call).await.map_err(|error| no_answer(&shown, &error))?;
        if accepted.contains(&answer.status) {
            return Ok(answer);
        }
        if matches!(answer.status.as_u16(), 301 | 302 | 307 | 308) {
            return Err(self.moved(route, &shown, &answer).await);
        }
        Err(refusal(&shown, &answer, transport.now()))
    }

    /// What was asked about has another address: a repository was renamed or given to somebody else.
    async fn moved(&self, route: &Route<'_, T>, shown: &str, answer: &Answer) -> ForgeError {
        #[derive(Deserialize)]
        struct Named {
            full_name: String,
        }
        let location = answer.headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok());
        let path = location.and_then(|location| below_root(location, &route.login.root_path));
        // `/repositories/ID/…`: followed as far as the repository, to learn its name.
        let repository = path.as_deref().and_then(|path| {
            let id = path.strip_prefix("/repositories/")?.split(['/', '?']).next()?;
            id.parse::<u64>().ok().map(|id| format!("/repositories/{id}"))
        });
        let mut name = None;
        if let Some(path) = repository
            && let Ok(answer) = route.login.transport.send(Call::get(&path)).await
            && answer.status == StatusCode::OK
        {
            name = parse::<Named>(&path, &answer).ok().map(|named| named.full_name);
        }
        let message = match name {
            Some(name) => format!("{shown}: renamed, now {name}. Remedy: write the new name in the configuration"),
            None => format!("{shown}: {}, moved. Remedy: write its new name in the configuration", answer.status),
        };
        ForgeError::new(ErrorKind::Quarantined, message)
    }

    /// All items of a listing, page by page, unchanged pages from what is kept for `name`; no further than the page of
    /// which `is_last` says so.
    #[allow(clippy::too_many_arguments)]
    async fn pages<M: DeserializeOwned, I: Clone>(
        &self,
        route: &Route<'_, T>,
        name: &str,
        first: String,
        limit: usize,
        cache: impl Fn(&mut RepositoryCache) -> &mut PageCache<I>,
        items: impl Fn(M) -> Vec<I>,
        is_last: impl Fn(&[I]) -> bool,
    ) -> Result<Vec<I>, ForgeError> {
        let mut all = Vec::new();
        let mut next = Some(first);
        for _ in 0..limit {
            let Some(path) = next else { break };
            let etag = self.kept(name, |kept| cache(kept).etag(&path));
            let call = Call { if_none_match: etag, ..Call::get(&path) };
            let answer = self.call(route, call, &[StatusCode::OK, StatusCode::NOT_MODIFIED]).await?;
            let page = if answer.status == StatusCode::NOT_MODIFIED {
                self.kept(name, |kept| cache(kept).unchanged(&path)).ok_or_else(|| {
                    ForgeError::new(ErrorKind::Unavailable, format!("GET {path}: 304 for a page not asked about"))
                })?
            } else {
                let parsed: M = parse(&path, &answer)?;
                let page = Page { items: items(parsed), next: next_path(&answer.headers, &route.login.root_path) };
                let etag =
                    answer.headers.get(http::header::ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
                self.kept(name, |kept| cache(kept).keep(&path, etag, &page));
                page
            };
            next = page.next.filter(|_| !is_last(&page.items));
            all.extend(page.items);
        }
        Ok(all)
    }
}

impl<T: Transport> Forge for Github<T> {
    async fn discover(&self, target: &str) -> Result<Vec<Repository>, ForgeError> {
        self.repositories(target).await
    }

    async fn look(&self, repository: &str) -> Result<Vec<Job>, ForgeError> {
        let route = self.route(repository)?;
        let looks = self.kept(repository, |kept| {
            kept.looks = kept.looks.wrapping_add(1);
            kept.looks
        });
        let sweep = looks.is_multiple_of(SWEEP_EVERY);
        let held = looks.is_multiple_of(HELD_EVERY);
        let base = format!("/repos/{repository}/actions/runs");
        let horizon = route.login.transport.now().saturating_sub(HORIZON);
        let too_old = |page: &[Run]| page.iter().all(|run| run.began().is_some_and(|began| began < horizon));
        let mut filters = vec!["status=queued&", "status=in_progress&"];
        if sweep {
            filters.push("");
        }
        if held {
            filters.extend(HELD);
        }
        let mut runs: BTreeMap<u64, Run> = BTreeMap::new();
        for filter in filters {
            let listing = format!("{base}?{filter}per_page=100");
            // A job may run for days after its run began, and wait for an approval for weeks before.
            let is_last = |page: &[Run]| matches!(filter, "status=queued&" | "") && too_old(page);
            let runs_of = |page: RunsPage| page.workflow_runs;
            let found = self.pages(&route, repository, listing, PAGES, |kept| &mut kept.runs, runs_of, is_last).await?;
            // A run on a page that shifted while we read is seen twice (docs/github.md#pagination).
            runs.extend(found.into_iter().filter(|run| !run.is_over()).map(|run| (run.id, run)));
        }
        let jobs: Vec<Vec<JobModel>> = stream::iter(runs.keys().copied())
            .map(async |run| {
                let listing = format!("{base}/{run}/jobs?filter=latest&per_page=100");
                let jobs_of = |page: JobsPage| page.jobs;
                let jobs = self.pages(&route, repository, listing, PAGES, |kept| &mut kept.jobs, jobs_of, |_| false);
                match jobs.await {
                    // Deleted since it was listed. If the repository were gone, so would be its list of runs.
                    Err(error) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
                    jobs => jobs,
                }
            })
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let jobs =
            runs.values().zip(jobs).flat_map(|(run, jobs)| jobs.into_iter().map(|job| job.of(repository, Some(run))));
        let mut jobs: BTreeMap<u64, Job> = jobs.map(|job| (job.id, job)).collect();
        self.kept(repository, |kept| {
            // Of a run that is listed, the listing is right; the others are as they were until they are asked for.
            let unlisted = |job: &Job| !held && !runs.contains_key(&job.run_id);
            kept.held.retain(unlisted);
            kept.held.extend(jobs.values().filter(|job| job.status == JobStatus::NotReady).cloned());
            jobs.extend(kept.held.iter().map(|job| (job.id, job.clone())));
            kept.jobs.forget_unused("");
            if sweep {
                kept.runs.forget_unused("");
            }
        });
        Ok(jobs.into_values().collect())
    }

    async fn mint(
        &self,
        scope: &str,
        runner_name: &str,
        labels: &[String],
        _: Option<&str>,
    ) -> Result<Minted, ForgeError> {
        let route = self.route(scope)?;
        let group = self.group(&route, scope).await?;
        let path = format!("{}/actions/runners/generate-jitconfig", path_of(&Scope::parse(scope)));
        let body = json!({"name": runner_name, "runner_group_id": group, "labels": labels, "work_folder": "_work"});
        let call = Call { method: Method::POST, path: path.clone(), if_none_match: None, body: Some(body) };
        let answer = self.call(&route, call, &[StatusCode::CREATED, StatusCode::OK]).await.inspect_err(|error| {
            // The group may have been made anew: it is looked up again.
            if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Refused) {
                self.groups.borrow_mut().remove(scope);
            }
        })?;
        let jit: Jit = parse(&path, &answer)?;
        Ok(Minted { runner_id: jit.runner.id, grant: Grant::GithubJit { encoded_jit_config: jit.encoded_jit_config } })
    }

    async fn find_runner(&self, scope: &str, runner_name: &str) -> Result<Option<Runner>, ForgeError> {
        let route = self.route(scope)?;
        let path = format!("{}/actions/runners?name={runner_name}&per_page=100", path_of(&Scope::parse(scope)));
        let call = Call::get(&path);
        let answer = self.call(&route, call, &[StatusCode::OK]).await?;
        let page: RunnersPage = parse(&path, &answer)?;
        // An old server may ignore the filter.
        Ok(page.runners.into_iter().map(Runner::from).find(|runner| runner.name == runner_name))
    }

    async fn list_runners(&self, scope: &str) -> Result<Vec<Runner>, ForgeError> {
        let route = self.route(scope)?;
        let mut runners = BTreeMap::new();
        let mut next = Some(format!("{}/actions/runners?per_page=100", path_of(&Scope::parse(scope))));
        for _ in 0..RUNNER_PAGES {
            let Some(path) = next else { break };
            let call = Call::get(&path);
            let answer = self.call(&route, call, &[StatusCode::OK]).await?;
            let page: RunnersPage = parse(&path, &answer)?;
            runners.extend(page.runners.into_iter().map(|runner| (runner.id, Runner::from(runner))));
            next = next_path(&answer.headers, &route.login.root_path);
        }
        Ok(runners.into_values().collect())
    }

    async fn delete_runner(&self, scope: &str, runner_id: u64) -> Result<Deletion, ForgeError> {
        let route = self.route(scope)?;
        let path = format!("{}/actions/runners/{runner_id}", path_of(&Scope::parse(scope)));
        let call = Call { method: Method::DELETE, path, if_none_match: None, body: None };
        let accepted =
            [StatusCode::NO_CONTENT, StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::UNPROCESSABLE_ENTITY];
        Ok(match self.call(&route, call, &accepted).await?.status {
            StatusCode::NOT_FOUND => Deletion::AlreadyGone,
            StatusCode::UNPROCESSABLE_ENTITY => Deletion::Busy,
            _ => Deletion::Deleted,
        })
    }

    async fn job(&self, repository: &str, job_id: u64) -> Result<Option<Job>, ForgeError> {
        let route = self.route(repository)?;
        let path = format!("/repos/{repository}/actions/jobs/{job_id}");
        let answer = self.call(&route, Call::get(&path), &[StatusCode::OK, StatusCode::NOT_FOUND]).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let job: JobModel = parse(&path, &answer)?;
        Ok(Some(job.of(repository, None)))
    }

    async fn job_of_run(&self, repository: &str, run_id: u64, runner_name: &str) -> Result<Option<Job>, ForgeError> {
        let route = self.route(repository)?;
        let mut next = Some(format!("/repos/{repository}/actions/runs/{run_id}/jobs?filter=all&per_page=100"));
        for _ in 0..PAGES {
            let Some(path) = next else { break };
            let answer = self.call(&route, Call::get(&path), &[StatusCode::OK, StatusCode::NOT_FOUND]).await?;
            if answer.status == StatusCode::NOT_FOUND {
                break;
            }
            let page: JobsPage = parse(&path, &answer)?;
            if let Some(job) = page.jobs.into_iter().find(|job| job.runner_name.as_deref() == Some(runner_name)) {
                return Ok(Some(job.of(repository, None)));
            }
            next = next_path(&answer.headers, &route.login.root_path);
        }
        Ok(None)
    }

    async fn rerun(&self, repository: &str, job_id: u64) -> Result<(), ForgeError> {
        let call = Call::rerun(repository, job_id);
        self.call(&self.route(repository)?, call, &[StatusCode::CREATED]).await.map(drop)
    }

    async fn runner_group(&self, scope: &str) -> Result<Option<RunnerGroup>, ForgeError> {
        self.group_joined(scope).await
    }

    async fn runner_deprecation(&self, name: &str, version: &str) -> Result<Option<RunnerDeprecation>, ForgeError> {
        let route = self.route(name)?;
        let path = format!("{}/actions/runners/deprecations/{version}", path_of(&Scope::parse(name)));
        let answer = self.call(&route, Call::get(&path), &[StatusCode::OK, StatusCode::NOT_FOUND]).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let model: DeprecationModel = parse(&path, &answer)?;
        Ok(Some(model.into()))
    }

    fn rate_limit(&self, name: &str) -> Option<RateLimit> {
        self.route(name).ok()?.login.transport.governor().limit()
    }

    fn allowance(&self, name: &str) -> Option<Allowance> {
        let transport = &self.route(name).ok()?.login.transport;
        let governor = transport.governor();
        Some(Allowance {
            calls_per_minute: governor.calls_per_minute(),
            paused_until: governor.paused_until(transport.now()),
            limit: governor.limit(),
        })
    }

    fn traffic(&self, credential: &str) -> Traffic {
        let tallies = self.logins.iter().filter(|login| login.credential == credential);
        tallies.map(|login| login.transport.tally()).fold(Traffic::default(), |sum, tally| {
            let offsets = sum.clock_offset.into_iter().chain(tally.clock_offset());
            Traffic {
                calls: sum.calls + tally.calls(),
                clock_offset: offsets.max_by(|one, other| one.abs().total_cmp(&other.abs())),
            }
        })
    }

    fn standing(&self, credential: &str) -> Standing {
        let logins = self.logins.iter().filter(|login| login.credential == credential);
        let standings = logins.map(|login| {
            let mut standing = login.transport.standing();
            // What is told of an App's token is renewed each hour.
            standing.ends_at = standing.ends_at.filter(|_| !login.is_installation);
            standing
        });
        standings.fold(Standing::default(), Standing::and)
    }
}

/// Path below the API root under which a place's runners are found (docs/github.md#jit-configuration).
fn path_of(scope: &Scope) -> String {
    match scope {
        Scope::Repository(name) => format!("/repos/{name}"),
        Scope::Organisation(name) => format!("/orgs/{name}"),
        Scope::Enterprise(name) => format!("/enterprises/{name}"),
    }
}

fn no_answer(shown: &str, error: &dyn std::fmt::Display) -> ForgeError {
    ForgeError::new(ErrorKind::Unavailable, format!("{shown}: {error}"))
}

fn parse<M: DeserializeOwned>(path: &str, answer: &Answer) -> Result<M, ForgeError> {
    // serde_json's message names line and column, never the content.
    serde_json::from_slice(&answer.body)
        .map_err(|error| ForgeError::new(ErrorKind::Unavailable, format!("{path}: answer not understood: {error}")))
}
