//! The REST half: routing, credentials, limits, entity tags, faults, and the calls themselves.

mod accounts;
mod admission;
mod answer;
mod apps;
mod finish;
mod jobs;
mod limits;
mod permission;
mod profile;
mod query;
mod route;
mod runners;
mod runs;
mod unchanged;

pub use route::Call;
pub(crate) use unchanged::Given;

use crate::{
    mishap::{self, Early},
    scale_set::Held,
    world::{Bearer, Job, JobSpec, LogEntry, Repo, RepoId, Resource, RunSpec, What, World},
};
use answer::Answer;
use http::{Request, Response};
use query::Query;
use route::{Place, Route};
use serde_json::{Value, json};
use std::time::Duration;

/// What a client gets.
#[derive(Debug)]
pub enum Reply {
    /// An answer.
    Answer(Response<Vec<u8>>),
    /// An answer that comes late.
    Slow(Duration, Response<Vec<u8>>),
    /// The connection breaks. Whatever the request asked for may have been done.
    Reset,
    /// Nothing is done and there is never an answer.
    Hang,
    /// There is nothing to say yet: ask [`World::look_again`] from time to time until there is.
    Held(Held),
}

impl Reply {
    /// The answer, however late.
    #[must_use]
    pub fn answer(self) -> Option<Response<Vec<u8>>> {
        match self {
            Self::Answer(response) | Self::Slow(_, response) => Some(response),
            Self::Reset | Self::Hang | Self::Held(_) => None,
        }
    }
}

/// What every call gets to see.
struct Ask<'a> {
    now: Duration,
    route: Route<'a>,
    query: Query,
    method: &'a str,
    body: &'a [u8],
    /// Start of all addresses in answers, without a slash at the end.
    api: String,
    /// The request's own address without its query.
    address: String,
    /// The token, as entity tags differ by it.
    account: String,
    /// What limits and counters are kept for.
    payer: String,
    /// Path and query as asked for.
    asked: &'a str,
    /// The entity tag the client has, unless a fault is to show in the answer.
    has: Option<&'a str>,
}

impl Ask<'_> {
    /// The body as JSON, which nothing and rubbish are not.
    fn json(&self) -> Result<Value, Answer> {
        if self.body.is_empty() {
            return Ok(json!({}));
        }
        serde_json::from_slice(self.body).map_err(|_| Answer::error(400, "Problems parsing JSON"))
    }

    /// What it is counted against.
    fn resource(&self) -> Resource {
        match self.route.call {
            Call::Mint | Call::RegistrationToken => Resource::Registration,
            _ => Resource::Core,
        }
    }
}

pub(crate) fn serve(world: &mut World, now: Duration, request: &Request<Vec<u8>>) -> Reply {
    let path = request.uri().path();
    let method = request.method().as_str();
    let route = route::parse(method, path);
    let call = route.call;
    let bearer = {
        let header = request.headers().get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        world.tokens_mut().judge(now, header)
    };
    let credential = world.payer(&bearer);
    let reply = reply(world, now, request, route, &bearer);
    let status = match &reply {
        Reply::Answer(response) | Reply::Slow(_, response) => response.status().as_u16(),
        Reply::Reset | Reply::Hang | Reply::Held(_) => 0,
    };
    world.traffic_mut().record(LogEntry {
        at: now,
        method: method.to_owned(),
        path: request.uri().path_and_query().map_or(path, http::uri::PathAndQuery::as_str).to_owned(),
        call,
        status,
        credential,
    });
    reply
}

fn reply(world: &mut World, now: Duration, request: &Request<Vec<u8>>, route: Route<'_>, bearer: &Bearer) -> Reply {
    let (call, method) = (route.call, request.method().as_str());
    let repo = repo_name(world, &route.place);
    let base = world.config().base_url.trim_end_matches('/').to_owned();
    let fault = world.faults_mut().take(call, method, repo.as_deref());
    let has = request.headers().get(http::header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut ask = Ask {
        now,
        api: format!("{base}{}", route.prefix),
        address: format!("{base}{}", request.uri().path()),
        query: Query::parse(request.uri().query()),
        method,
        body: request.body(),
        account: String::new(),
        payer: world.payer(bearer),
        asked: request.uri().path_and_query().map_or(request.uri().path(), http::uri::PathAndQuery::as_str),
        has: has.filter(|_| fault.is_none()),
        route,
    };
    if let Bearer::Accepted(token) | Bearer::Jwt(token) = bearer {
        ask.account.clone_from(token);
    }
    let done = match before(world, &ask, fault.as_ref()) {
        Before::Answer(answer) => answer,
        Before::Hang => return Reply::Hang,
        Before::Reset => return Reply::Reset,
        Before::GoOn => match admission::admit(world, &ask, bearer, request.headers()) {
            Ok(()) => dispatch(world, &ask),
            Err(refusal) => refusal,
        },
    };
    let done = after(world, &ask, repo.as_deref(), fault.as_ref(), done);
    let response = finish::finish(world, &ask, request, bearer, done);
    mishap::late(fault.as_ref(), now, response)
}

/// What an injected fault makes of a request before anything is done.
enum Before {
    GoOn,
    Answer(Answer),
    Hang,
    Reset,
}

fn before(world: &mut World, ask: &Ask<'_>, fault: Option<&What>) -> Before {
    match mishap::early(fault) {
        Early::GoOn => {}
        Early::Hang => return Before::Hang,
        Early::Reset => return Before::Reset,
        Early::Refuse(refusal) => {
            let mut answer = Answer::error(refusal.status, &refusal.message);
            answer.headers = refusal.headers;
            return Before::Answer(answer);
        }
    }
    match fault {
        Some(What::NoRunners) => Before::Answer(Answer { status: 403, ..Answer::no_content() }),
        Some(What::Unauthorized) => Before::Answer(Answer::error(401, "Bad credentials")),
        Some(What::RateLimitPrimary { reset_after }) => {
            let reset = ask.now + Duration::from_secs(*reset_after);
            world.limits_mut().exhaust(&ask.payer, ask.resource(), ask.now, reset);
            Before::Answer(admission::rate_limited(world))
        }
        Some(What::RateLimitSecondary { retry_after }) => Before::Answer(admission::too_fast(*retry_after)),
        Some(What::Redirect { status, to }) => Before::Answer(redirect(*status, to)),
        Some(What::StaleEtag) => {
            world.faults_mut().etag_salt += 1;
            Before::GoOn
        }
        _ => Before::GoOn,
    }
}

fn redirect(status: u16, to: &str) -> Answer {
    let body = json!({
        "message": "Moved Permanently",
        "url": to,
        "documentation_url": "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects",
    });
    Answer::with(status, body).header("location", to)
}

/// The body of a `workflow_job` delivery but for its action.
pub(crate) fn render_job_event(world: &World, job: &Job) -> Option<Value> {
    let api = world.config().base_url.trim_end_matches('/');
    let (run, repo) = (world.run(job.run)?, world.repo(job.repo)?);
    let mut body = json!({
        "workflow_job": jobs::render(world, api, run, job),
        "repository": profile::repository(api, repo),
        "sender": profile::user(api, &repo.owner),
    });
    // Null now and then where it is asked for, and never in a delivery.
    if body["workflow_job"]["html_url"].is_null() {
        body["workflow_job"]["html_url"] =
            json!(format!("{api}/{}/actions/runs/{}/job/{}", repo.full_name(), job.run, job.id));
    }
    if let Some(login) = world.organization(&repo.owner) {
        body["organization"] = profile::organization(api, &login);
    }
    Some(body)
}

/// The repository a place names, if it is there under that name.
fn named_repo<'a>(world: &'a World, place: &Place) -> Option<&'a Repo> {
    match place {
        Place::Repo(name) => match world.find_repo(name) {
            crate::world::Found::Here(id) => world.repo(id),
            _ => None,
        },
        Place::RepoId(id) => world.repo(RepoId(*id)),
        _ => None,
    }
}

/// The repository a request names, as faults name it.
fn repo_name(world: &World, place: &Place) -> Option<String> {
    match place {
        Place::Repo(name) => Some(name.clone()),
        Place::RepoId(id) => world.repo(RepoId(*id)).map(|repo| repo.full_name()),
        Place::Org(_) | Place::User(_) | Place::Enterprise(_) | Place::Server => None,
    }
}

/// The repository of a request, or what to answer instead.
fn find_repo(world: &World, ask: &Ask<'_>) -> Result<RepoId, Answer> {
    use crate::world::Found;
    match &ask.route.place {
        Place::RepoId(id) => world.repo(RepoId(*id)).map(|repo| repo.id).ok_or_else(Answer::not_found),
        Place::Repo(name) => match world.find_repo(name) {
            Found::Here(id) => Ok(id),
            Found::Moved(id) => {
                let status = if ask.method == "GET" { 301 } else { 307 };
                let to = format!("{}/repositories/{id}{}", ask.api, ask.route.tail);
                Err(redirect(status, &to))
            }
            Found::Nowhere => Err(Answer::not_found()),
        },
        Place::Org(_) | Place::User(_) | Place::Enterprise(_) | Place::Server => Err(Answer::not_found()),
    }
}

fn dispatch(world: &mut World, ask: &Ask<'_>) -> Answer {
    let result = match ask.route.call {
        Call::RateLimit => Ok(limits::rate_limit(world, ask)),
        Call::GetRepo => runs::get_repo(world, ask),
        Call::ListRuns => runs::list(world, ask),
        Call::GetRun => runs::get(world, ask),
        Call::CancelRun | Call::ForceCancelRun | Call::RerunRun | Call::RerunFailed | Call::RerunJob => {
            runs::control(world, ask)
        }
        Call::ListJobs => jobs::list(world, ask),
        Call::GetJob => jobs::get(world, ask),
        Call::ListRunners => runners::list(world, ask),
        Call::GetRunner => runners::get(world, ask),
        Call::DeleteRunner => runners::delete(world, ask),
        Call::Mint => runners::mint(world, ask),
        Call::RegistrationToken | Call::RemoveToken => runners::token(world, ask),
        Call::RunnerDownloads => runners::downloads(world, ask),
        Call::RunnerDeprecation => runners::deprecation(world, ask),
        Call::RunnerLabels => runners::labels(world, ask),
        Call::ListRunnerGroups => runners::groups(world, ask),
        Call::ListOrgRepos | Call::InstallationRepos | Call::UserRepos | Call::GroupRepos => {
            runs::list_repos(world, ask)
        }
        Call::GetAccount => accounts::get(world, ask),
        Call::GetUser => accounts::own(world, ask),
        Call::ActionsPermissions => runs::actions_permissions(world, ask),
        Call::ListInstallations => apps::list(world, ask),
        Call::FindInstallation => apps::find(world, ask),
        Call::InstallationToken => apps::mint_token(world, ask),
        // Unknown, or a call of the scale-set half.
        _ => Err(Answer::not_found()),
    };
    result.unwrap_or_else(|refusal| refusal)
}

/// What an injected fault makes of an answer after everything is done.
fn after(world: &mut World, ask: &Ask<'_>, repo: Option<&str>, fault: Option<&What>, mut answer: Answer) -> Answer {
    if answer.status != 200 {
        return answer;
    }
    match fault {
        Some(What::EmptyList | What::EmptyJobs) => {
            answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("link"));
            if let Some(Value::Object(body)) = &mut answer.body {
                for value in body.values_mut() {
                    match value {
                        Value::Array(items) => items.clear(),
                        other => *other = json!(0),
                    }
                }
            }
        }
        Some(What::PageShift) => {
            if let Some(repo) = repo {
                shift(world, ask, repo);
            }
        }
        _ => {}
    }
    answer
}

/// Something new in the list just read: a run at its top, or a job at its end.
fn shift(world: &mut World, ask: &Ask<'_>, repo: &str) {
    let decoy = JobSpec::new("page shift", &["ubuntu-latest"], &[]);
    if ask.route.call == Call::ListRuns {
        // The repository was there a moment ago.
        let _ = world.queue_run(ask.now, repo, RunSpec::push(vec![decoy]));
    } else {
        let _ = world.add_job(ask.now, crate::world::RunId(ask.route.id), decoy);
    }
}
