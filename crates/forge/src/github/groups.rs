//! Runner groups by name (docs/github.md#repositories-and-runner-groups).

use std::collections::BTreeMap;

use http::StatusCode;

use super::{
    Github, PAGES, Route,
    models::{GroupModel, GroupsPage},
    next_path, parse,
    transport::{Call, Transport},
};
use crate::{ErrorKind, ForgeError, RunnerGroup, Scope};

/// The default group's id where it is not told otherwise; the only one there is for a repository.
const DEFAULT: u64 = 1;

impl<T: Transport> Github<T> {
    /// Id of the group that runners of `scope` join, from the cache if it is known.
    pub(super) async fn group(&self, route: &Route<'_, T>, scope: &str) -> Result<u64, ForgeError> {
        let place = Scope::parse(scope);
        if matches!(place, Scope::Repository(_)) {
            return Ok(DEFAULT);
        }
        if let Some(id) = self.groups.borrow().get(scope) {
            return Ok(*id);
        }
        let wanted = route.target.runner_group.as_deref();
        let groups = match self.groups_of(route, &place).await {
            Ok(groups) => groups,
            // Who may register runners may not be allowed to see groups.
            Err(error)
                if wanted.is_none()
                    && matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Forbidden | ErrorKind::NotFound) =>
            {
                return Ok(DEFAULT);
            }
            Err(error) => return Err(error),
        };
        let id = match (joined(&groups, wanted), wanted) {
            (Some(group), _) => group.id,
            (None, Some(name)) => return Err(unknown(scope, name, &groups)),
            (None, None) => DEFAULT,
        };
        self.groups.borrow_mut().insert(scope.to_owned(), id);
        Ok(id)
    }

    /// As [`Forge::runner_group`](crate::Forge::runner_group) promises.
    pub(super) async fn group_joined(&self, scope: &str) -> Result<Option<RunnerGroup>, ForgeError> {
        let (route, place) = (self.route(scope)?, Scope::parse(scope));
        if matches!(place, Scope::Repository(_)) {
            return Ok(None);
        }
        let groups = self.groups_of(&route, &place).await?;
        let group = joined(&groups, route.target.runner_group.as_deref());
        Ok(group.map(|group| RunnerGroup { name: group.name.clone(), admits_public: group.allows_public_repositories }))
    }

    /// All groups of an organisation or enterprise.
    pub(super) async fn groups_of(&self, route: &Route<'_, T>, place: &Scope) -> Result<Vec<GroupModel>, ForgeError> {
        let mut groups = BTreeMap::new();
        let mut next = Some(format!("{}/actions/runner-groups?per_page=100", super::path_of(place)));
        for _ in 0..PAGES {
            let Some(path) = next else { break };
            let answer = self.call(route, Call::get(&path), &[StatusCode::OK]).await?;
            let page: GroupsPage = parse(&path, &answer)?;
            groups.extend(page.runner_groups.into_iter().map(|group| (group.id, group)));
            next = next_path(&answer.headers, &route.login.root_path);
        }
        Ok(groups.into_values().collect())
    }
}

/// The group that runners join: the one wanted, else the default one.
pub(super) fn joined<'a>(groups: &'a [GroupModel], wanted: Option<&str>) -> Option<&'a GroupModel> {
    groups.iter().find(|group| match wanted {
        Some(name) => group.name.eq_ignore_ascii_case(name),
        None => group.default == Some(true),
    })
}

pub(super) fn unknown(scope: &str, name: &str, groups: &[GroupModel]) -> ForgeError {
    let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    let message = format!(
        "{scope}: there is no runner group {name:?}. Remedy: create it, or set the target's runner_group to one of: {}",
        names.join(", ")
    );
    ForgeError::new(ErrorKind::Refused, message)
}
