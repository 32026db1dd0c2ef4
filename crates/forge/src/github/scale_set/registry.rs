//! The scale set itself: found by name or created, its labels read back
//! (docs/github.md#finding-and-creating-a-scale-set).

use contract::Labels;
use http::{Method, StatusCode};
use serde_json::json;
use tracing::warn;

use super::{
    models::{Group, Listing, SetModel, Statistics, read},
    service::{Service, ServiceCall},
};
use crate::{ErrorKind, ForgeError, github::transport::Transport, wire::Wire};

/// Path of all scale sets.
pub(super) const SETS: &str = "_apis/runtime/runnerscalesets";
/// The group every scope has.
const DEFAULT_GROUP: u64 = 1;

/// The scale set as GitHub has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedSet {
    /// GitHub's id of the set. Message ids count within it: a set made anew starts again.
    pub id: u64,
    /// Id of its runner group.
    pub group_id: u64,
    /// Where it came from.
    pub origin: Origin,
    /// Its labels, as GitHub says.
    pub labels: Vec<String>,
    /// Labels asked for that it does not have: jobs with these never come. GHES before 3.21 drops all but one
    /// silently, unless its feature flag `DistributedTask.AllowRunnerScaleSetCustomLabels` is on.
    pub missing_labels: Vec<String>,
    /// Labels it has that were not asked for: jobs with these come as well.
    pub other_labels: Vec<String>,
    /// Its runners would update themselves: somebody else made the set so.
    pub self_update: bool,
    /// Its counts, if the answer had them.
    pub statistics: Option<Statistics>,
}

/// Where an open scale set came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    Found,
    /// It was there with other labels and has jobs, so it was left as it is.
    FoundBusy,
    /// It was not there.
    Created,
    /// It was there with other labels and no jobs; deleted and created.
    Recreated,
}

/// Finds or creates the scale set. The labels of a set cannot be changed for certain
/// (docs/github.md#finding-and-creating-a-scale-set), so a set with other labels is made anew, unless it has jobs.
pub(super) async fn open<T: Transport, W: Wire>(service: &Service<T, W>) -> Result<OpenedSet, ForgeError> {
    let group = group(service).await?;
    let wanted = &service.spec().labels;
    if let Some(set) = find(service, group).await? {
        if !differs(&set, wanted) {
            return Ok(opened(set, group, wanted, Origin::Found));
        }
        let set = get(service, set.id).await?;
        let jobs = set.statistics.is_none_or(|n| n.assigned_jobs + n.acquired_jobs + n.busy_runners > 0);
        if jobs {
            return Ok(opened(set, group, wanted, Origin::FoundBusy));
        }
        let has: Vec<_> = set.labels.iter().map(|label| label.name.as_str()).collect();
        warn!(set = set.id, name = set.name, ?has, ?wanted, "the scale set has other labels and no jobs: made anew");
        let delete = ServiceCall::new(Method::DELETE, format!("{SETS}/{}", set.id));
        service.expect(delete, &[StatusCode::NO_CONTENT, StatusCode::OK, StatusCode::NOT_FOUND]).await?;
        return Ok(opened(create(service, group).await?, group, wanted, Origin::Recreated));
    }
    match create(service, group).await {
        Ok(set) => Ok(opened(set, group, wanted, Origin::Created)),
        // Somebody was faster, or our own earlier try had been carried out after all: the name is taken.
        Err(error) if matches!(error.kind, ErrorKind::Refused | ErrorKind::Conflict) => {
            let set = find(service, group).await?.ok_or(ForgeError::new(ErrorKind::Refused, error.message))?;
            Ok(opened(set, group, wanted, Origin::Found))
        }
        Err(error) => Err(error),
    }
}

async fn group<T: Transport, W: Wire>(service: &Service<T, W>) -> Result<u64, ForgeError> {
    let Some(name) = &service.spec().runner_group else { return Ok(DEFAULT_GROUP) };
    let query = [("groupName", name.as_str())];
    let call = ServiceCall::new(Method::GET, "_apis/runtime/runnergroups/").query(&query);
    let answer = service.expect(call, &[StatusCode::OK]).await?;
    let groups: Listing<Group> = parsed("runner groups", &answer.body)?;
    let found = groups.value.into_iter().find(|group| group.name.eq_ignore_ascii_case(name));
    found.map(|group| group.id).ok_or_else(|| {
        let text = format!(
            "there is no runner group {name:?} for {}. Remedy: create it there, or correct the group's name",
            service.spec().config_url
        );
        ForgeError::new(ErrorKind::NotFound, text)
    })
}

async fn find<T: Transport, W: Wire>(service: &Service<T, W>, group: u64) -> Result<Option<SetModel>, ForgeError> {
    let name = service.spec().set_name.as_str();
    let group = group.to_string();
    let query = [("runnerGroupId", group.as_str()), ("name", name)];
    let answer = service.expect(ServiceCall::new(Method::GET, SETS).query(&query), &[StatusCode::OK]).await?;
    let sets: Listing<SetModel> = parsed("scale sets", &answer.body)?;
    Ok(sets.value.into_iter().find(|set| set.name.eq_ignore_ascii_case(name)))
}

async fn get<T: Transport, W: Wire>(service: &Service<T, W>, id: u64) -> Result<SetModel, ForgeError> {
    let answer = service.expect(ServiceCall::new(Method::GET, format!("{SETS}/{id}")), &[StatusCode::OK]).await?;
    parsed("the scale set", &answer.body)
}

async fn create<T: Transport, W: Wire>(service: &Service<T, W>, group: u64) -> Result<SetModel, ForgeError> {
    let spec = service.spec();
    let labels: Vec<_> = spec.labels.iter().map(|name| json!({"type": "System", "name": name})).collect();
    let body = json!({
        "name": spec.set_name,
        "runnerGroupId": group,
        "labels": labels,
        // The runner program comes with the container; a fresh copy of itself has no place to live in.
        "RunnerSetting": {"disableUpdate": true},
    });
    let call = ServiceCall::new(Method::POST, SETS).body(body);
    let answer = service.expect(call, &[StatusCode::OK, StatusCode::CREATED]).await?;
    parsed("the new scale set", &answer.body)
}

fn parsed<M: serde::de::DeserializeOwned>(what: &str, body: &[u8]) -> Result<M, ForgeError> {
    read(body).map_err(|error| ForgeError::new(ErrorKind::Unavailable, format!("{what}: {error}")))
}

fn differs(set: &SetModel, wanted: &[String]) -> bool {
    set.labels.iter().map(|label| &label.name).collect::<Labels>() != wanted.iter().collect()
}

fn opened(set: SetModel, group_id: u64, wanted: &[String], origin: Origin) -> OpenedSet {
    let labels: Vec<String> = set.labels.into_iter().map(|label| label.name).collect();
    let lacks = |of: &[String], all: &[String]| -> Vec<String> {
        let have: Labels = of.iter().collect();
        all.iter().filter(|label| !have.has(label)).cloned().collect()
    };
    OpenedSet {
        id: set.id,
        group_id,
        origin,
        missing_labels: lacks(&labels, wanted),
        other_labels: lacks(wanted, &labels),
        labels,
        self_update: set.setting.disable_update == Some(false),
        statistics: set.statistics,
    }
}
