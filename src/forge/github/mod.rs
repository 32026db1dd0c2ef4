//! GitHub by REST: polling for jobs, one-job registrations (PROTOCOLS A and B).

mod models;
mod octocrab;
mod pages;
pub mod scale_set;
pub mod transport;

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::json;

pub use self::octocrab::OctocrabTransport;
use self::{
    models::{DeprecationModel, ErrorBody, Jit, JobModel, JobsPage, Run, RunnersPage, RunsPage},
    pages::{Page, PageCache, below_root, next_path},
    transport::{Answer, Call, Transport},
};
use super::{
    Deletion, ErrorKind, Forge, ForgeError, Job, Minted, RateLimit, Repository, Runner, RunnerDeprecation, Scope,
};
use crate::handover::Grant;

/// Pages read of one listing at most; 1,000 is also what GitHub itself caps a filtered listing at.
const PAGES: usize = 10;
/// Runs whose jobs are read at the same time.
const PARALLEL: usize = 6;
/// Every so many looks, one without the status filter, which has been seen to return nothing for a while
/// (PROTOCOLS A.2).
const SWEEP_EVERY: u32 = 30;
/// Pause after a secondary limit that names none (PROTOCOLS A.8).
const SECONDARY_PAUSE: Duration = Duration::from_secs(60);
/// Redirects followed for one call (a renamed repository answers with one).
const REDIRECTS: usize = 3;

/// The client: one transport for each target, since each may have a credential of its own.
#[derive(Debug)]
pub struct Github<T> {
    /// Path of the API root, e.g. `/api/v3`, or empty.
    root_path: String,
    targets: BTreeMap<String, TargetState<T>>,
}

#[derive(Debug)]
struct TargetState<T> {
    transport: T,
    kept: RefCell<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    looks: u32,
    runs: PageCache<Run>,
    jobs: PageCache<JobModel>,
    rate_limit: Option<RateLimit>,
}

impl<T: Transport> Github<T> {
    /// A client for `targets` (`owner/repository` and its transport) of the API at `api_url`.
    pub fn new(api_url: &str, targets: impl IntoIterator<Item = (String, T)>) -> Self {
        let root_path = api_url.parse::<http::Uri>().map(|uri| uri.path().to_owned()).unwrap_or_default();
        Self {
            root_path: root_path.trim_end_matches('/').to_owned(),
            targets: targets
                .into_iter()
                .map(|(name, transport)| (name, TargetState { transport, kept: RefCell::default() }))
                .collect(),
        }
    }

    fn target(&self, name: &str) -> Result<&TargetState<T>, ForgeError> {
        self.targets
            .get(name)
            .ok_or_else(|| ForgeError::new(ErrorKind::NotFound, format!("{name} is not a configured target")))
    }

    /// Sends a call, follows redirects of a GET inside the API, notes the rate limit, and turns every status but
    /// `accepted` into an error.
    async fn call(&self, state: &TargetState<T>, call: Call, accepted: &[StatusCode]) -> Result<Answer, ForgeError> {
        let shown = format!("{} {}", call.method, call.path);
        let mut call = call;
        for _ in 0..=REDIRECTS {
            let answer = state
                .transport
                .send(call.clone())
                .await
                .map_err(|error| ForgeError::new(ErrorKind::Unavailable, format!("{shown}: {error}")))?;
            if let Some(limit) = rate_limit(&answer) {
                state.kept.borrow_mut().rate_limit = Some(limit);
            }
            if accepted.contains(&answer.status) {
                return Ok(answer);
            }
            let moved = answer.status.is_redirection() && call.method == Method::GET;
            let location = answer.headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok());
            match location.and_then(|location| below_root(location, &self.root_path)).filter(|_| moved) {
                Some(path) => call.path = path,
                None => return Err(refusal(&shown, &answer, state.transport.now())),
            }
        }
        Err(ForgeError::new(ErrorKind::Unavailable, format!("{shown}: more than {REDIRECTS} redirects")))
    }

    /// All items of a listing, page by page, unchanged pages from the cache.
    async fn pages<M: DeserializeOwned, I: Clone>(
        &self,
        state: &TargetState<T>,
        first: String,
        cache: impl Fn(&mut Kept) -> &mut PageCache<I>,
        items: impl Fn(M) -> Vec<I>,
    ) -> Result<Vec<I>, ForgeError> {
        let mut all = Vec::new();
        let mut next = Some(first);
        for _ in 0..PAGES {
            let Some(path) = next else { break };
            let etag = cache(&mut state.kept.borrow_mut()).etag(&path);
            let call = Call { method: Method::GET, path: path.clone(), if_none_match: etag, body: None };
            let answer = self.call(state, call, &[StatusCode::OK, StatusCode::NOT_MODIFIED]).await?;
            let page = if answer.status == StatusCode::NOT_MODIFIED {
                cache(&mut state.kept.borrow_mut()).unchanged(&path).ok_or_else(|| {
                    ForgeError::new(ErrorKind::Unavailable, format!("GET {path}: 304 for a page not asked about"))
                })?
            } else {
                let parsed: M = parse(&path, &answer)?;
                let page = Page { items: items(parsed), next: next_path(&answer.headers, &self.root_path) };
                let etag =
                    answer.headers.get(http::header::ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
                cache(&mut state.kept.borrow_mut()).keep(&path, etag, &page);
                page
            };
            all.extend(page.items);
            next = page.next;
        }
        Ok(all)
    }
}

impl<T: Transport> Forge for Github<T> {
    async fn discover(&self, target: &str) -> Result<Vec<Repository>, ForgeError> {
        self.target(target)?;
        Ok(vec![Repository { name: target.to_owned(), public: None, archived: false, pushed_at: None }])
    }

    async fn look(&self, target: &str) -> Result<Vec<Job>, ForgeError> {
        let state = self.target(target)?;
        let sweep = {
            let mut kept = state.kept.borrow_mut();
            kept.looks = kept.looks.wrapping_add(1);
            kept.looks.is_multiple_of(SWEEP_EVERY)
        };
        let base = format!("/repos/{target}/actions/runs");
        let mut filters = vec!["status=queued&", "status=in_progress&"];
        if sweep {
            filters.push("");
        }
        let mut runs: BTreeMap<u64, Run> = BTreeMap::new();
        for filter in filters {
            let listing = format!("{base}?{filter}per_page=100");
            // The sweep reads one page: what matters is recent.
            let found = self.pages(state, listing, |kept| &mut kept.runs, |page: RunsPage| page.workflow_runs).await?;
            runs.extend(found.into_iter().map(|run| (run.id, run)));
        }
        let jobs: Vec<Vec<JobModel>> = stream::iter(runs.keys().copied())
            .map(|run| {
                let listing = format!("{base}/{run}/jobs?filter=latest&per_page=100");
                self.pages(state, listing, |kept| &mut kept.jobs, |page: JobsPage| page.jobs)
            })
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let jobs =
            runs.values().zip(jobs).flat_map(|(run, jobs)| jobs.into_iter().map(|job| job.of(target, Some(run))));
        // A job on a page that shifted while we read is seen twice (PROTOCOLS A.6).
        let jobs: BTreeMap<u64, Job> = jobs.map(|job| (job.id, job)).collect();
        let mut kept = state.kept.borrow_mut();
        kept.jobs.forget_unused("");
        if sweep {
            kept.runs.forget_unused("");
        }
        Ok(jobs.into_values().collect())
    }

    async fn mint(&self, target: &str, runner_name: &str, labels: &[String]) -> Result<Minted, ForgeError> {
        let state = self.target(target)?;
        let path = format!("{}/actions/runners/generate-jitconfig", Scope::parse(target).path());
        // Repository runners live in group 1 (PROTOCOLS A.4).
        let body = json!({"name": runner_name, "runner_group_id": 1, "labels": labels, "work_folder": "_work"});
        let call = Call { method: Method::POST, path: path.clone(), if_none_match: None, body: Some(body) };
        let answer = self.call(state, call, &[StatusCode::CREATED, StatusCode::OK]).await?;
        let jit: Jit = parse(&path, &answer)?;
        Ok(Minted { runner_id: jit.runner.id, grant: Grant::GithubJit { encoded_jit_config: jit.encoded_jit_config } })
    }

    async fn find_runner(&self, target: &str, runner_name: &str) -> Result<Option<Runner>, ForgeError> {
        let state = self.target(target)?;
        let path = format!("{}/actions/runners?name={runner_name}&per_page=100", Scope::parse(target).path());
        let call = Call { method: Method::GET, path: path.clone(), if_none_match: None, body: None };
        let answer = self.call(state, call, &[StatusCode::OK]).await?;
        let page: RunnersPage = parse(&path, &answer)?;
        // An old server may ignore the filter.
        Ok(page.runners.into_iter().map(Runner::from).find(|runner| runner.name == runner_name))
    }

    async fn list_runners(&self, target: &str) -> Result<Vec<Runner>, ForgeError> {
        let state = self.target(target)?;
        let mut runners = Vec::new();
        let mut next = Some(format!("{}/actions/runners?per_page=100", Scope::parse(target).path()));
        for _ in 0..PAGES {
            let Some(path) = next else { break };
            let call = Call { method: Method::GET, path: path.clone(), if_none_match: None, body: None };
            let answer = self.call(state, call, &[StatusCode::OK]).await?;
            let page: RunnersPage = parse(&path, &answer)?;
            runners.extend(page.runners.into_iter().map(Runner::from));
            next = next_path(&answer.headers, &self.root_path);
        }
        Ok(runners)
    }

    async fn delete_runner(&self, target: &str, runner_id: u64) -> Result<Deletion, ForgeError> {
        let state = self.target(target)?;
        let path = format!("{}/actions/runners/{runner_id}", Scope::parse(target).path());
        let call = Call { method: Method::DELETE, path, if_none_match: None, body: None };
        let accepted =
            [StatusCode::NO_CONTENT, StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::UNPROCESSABLE_ENTITY];
        Ok(match self.call(state, call, &accepted).await?.status {
            StatusCode::NOT_FOUND => Deletion::AlreadyGone,
            StatusCode::UNPROCESSABLE_ENTITY => Deletion::Busy,
            _ => Deletion::Deleted,
        })
    }

    async fn job(&self, target: &str, job_id: u64) -> Result<Option<Job>, ForgeError> {
        let state = self.target(target)?;
        let path = format!("/repos/{target}/actions/jobs/{job_id}");
        let call = Call { method: Method::GET, path: path.clone(), if_none_match: None, body: None };
        let answer = self.call(state, call, &[StatusCode::OK, StatusCode::NOT_FOUND]).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let job: JobModel = parse(&path, &answer)?;
        Ok(Some(job.of(target, None)))
    }

    async fn runner_deprecation(&self, target: &str, version: &str) -> Result<Option<RunnerDeprecation>, ForgeError> {
        let state = self.target(target)?;
        let path = format!("{}/actions/runners/deprecations/{version}", Scope::parse(target).path());
        let call = Call { method: Method::GET, path: path.clone(), if_none_match: None, body: None };
        let answer = self.call(state, call, &[StatusCode::OK, StatusCode::NOT_FOUND]).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let model: DeprecationModel = parse(&path, &answer)?;
        Ok(Some(model.into()))
    }

    fn rate_limit(&self, target: &str) -> Option<RateLimit> {
        self.targets.get(target)?.kept.borrow().rate_limit
    }
}

fn parse<M: DeserializeOwned>(path: &str, answer: &Answer) -> Result<M, ForgeError> {
    // serde_json's message names line and column, never the content.
    serde_json::from_slice(&answer.body)
        .map_err(|error| ForgeError::new(ErrorKind::Unavailable, format!("{path}: answer not understood: {error}")))
}

fn header<N: std::str::FromStr>(answer: &Answer, name: &str) -> Option<N> {
    answer.headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn rate_limit(answer: &Answer) -> Option<RateLimit> {
    Some(RateLimit {
        limit: header(answer, "x-ratelimit-limit")?,
        remaining: header(answer, "x-ratelimit-remaining")?,
        reset: header(answer, "x-ratelimit-reset")?,
    })
}

/// What a status outside the accepted ones means (PROTOCOLS A.8, B.2).
fn refusal(shown: &str, answer: &Answer, now: Duration) -> ForgeError {
    let said = serde_json::from_slice::<ErrorBody>(&answer.body).unwrap_or_default().message.unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
    let limited = matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
    let until = if !limited {
        None
    } else if let Some(seconds) = header::<u64>(answer, "retry-after") {
        Some(now + Duration::from_secs(seconds.min(3600)))
    } else if header::<u64>(answer, "x-ratelimit-remaining") == Some(0) {
        let reset = Duration::from_secs(header::<u64>(answer, "x-ratelimit-reset").unwrap_or_default());
        Some(reset.clamp(now + Duration::from_secs(1), now + Duration::from_secs(3600)))
    } else if answer.status == StatusCode::TOO_MANY_REQUESTS || said.to_ascii_lowercase().contains("rate limit") {
        Some(now + SECONDARY_PAUSE)
    } else {
        None
    };
    let kind = match (until, answer.status) {
        (Some(until), _) => ErrorKind::RateLimited(until),
        (None, StatusCode::UNAUTHORIZED) => ErrorKind::Unauthorized,
        (None, StatusCode::FORBIDDEN) => ErrorKind::Unauthorized,
        (None, StatusCode::NOT_FOUND | StatusCode::GONE) => ErrorKind::NotFound,
        (None, StatusCode::CONFLICT) => ErrorKind::Conflict,
        (None, status) if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => ErrorKind::Refused,
        _ => ErrorKind::Unavailable,
    };
    ForgeError::new(kind, format!("{shown}: {}{}{said}", answer.status, if said.is_empty() { "" } else { ": " }))
}
