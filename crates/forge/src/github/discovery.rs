//! The repositories of organisations and accounts (docs/github.md#repositories-and-runner-groups).

use std::collections::BTreeMap;

use http::StatusCode;
use settings::TargetKind;

use super::{
    Github,
    models::{RepositoriesPage, RepositoryModel},
    parse,
    transport::{Call, Transport},
};
use crate::{ErrorKind, ForgeError, Repository};

/// Pages read of a listing of repositories at most: 10,000 repositories.
const PAGES: usize = 100;

impl<T: Transport> Github<T> {
    pub(super) async fn repositories(&self, name: &str) -> Result<Vec<Repository>, ForgeError> {
        let route = self.route(name)?;
        let target = route.target;
        let listings = match (target.kind, route.login.is_installation) {
            (TargetKind::Repository, _) => {
                let path = format!("/repos/{}", target.name);
                let answer = self.call(&route, Call::get(&path), &[StatusCode::OK]).await?;
                let found: RepositoryModel = parse(&path, &answer)?;
                return Ok(vec![found.into()]);
            }
            (TargetKind::Enterprise | TargetKind::Instance, _) => {
                let message = format!("{}: the repositories of an enterprise cannot be listed", target.name);
                return Err(ForgeError::new(ErrorKind::Refused, message));
            }
            (_, true) => vec!["/installation/repositories?per_page=100".to_owned()],
            (TargetKind::Organisation, false) => {
                vec![format!("/orgs/{}/repos?sort=full_name&per_page=100", target.name)]
            }
            // Only the first shows private repositories, and only to their owner and collaborators.
            (TargetKind::User, false) => vec![
                "/user/repos?affiliation=owner,collaborator&sort=full_name&per_page=100".to_owned(),
                format!("/users/{}/repos?sort=full_name&per_page=100", target.name),
            ],
        };
        let mut refused = None;
        for listing in listings {
            let pages = self.pages(
                &route,
                &target.name,
                listing,
                PAGES,
                |kept| &mut kept.repositories,
                RepositoriesPage::repositories,
                |_| false,
            );
            let found = match pages.await {
                Ok(found) => found,
                // The second listing may still answer.
                Err(error)
                    if matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Forbidden) && refused.is_none() =>
                {
                    refused = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let is_theirs = |found: &RepositoryModel| {
                found.full_name.split_once('/').is_some_and(|(owner, _)| owner.eq_ignore_ascii_case(&target.name))
            };
            // One on a page that shifted while we read is seen twice (docs/github.md#pagination).
            let found: BTreeMap<u64, RepositoryModel> =
                found.into_iter().filter(is_theirs).map(|found| (found.id, found)).collect();
            if !found.is_empty() {
                return Ok(found.into_values().map(Repository::from).collect());
            }
        }
        self.kept(&target.name, |kept| kept.repositories.forget_unused(""));
        refused.map_or_else(|| Ok(Vec::new()), Err)
    }
}
