//! What a credential reaches, tried one by one without leaving anything behind (docs/github.md#permissions).

use http::{Method, StatusCode};

use super::{
    Github, Route, groups, path_of,
    transport::{Call, Transport},
};
use crate::{
    ErrorKind, ForgeError, Scope,
    reach::{Finding, Reach},
    selection::serves,
};

impl<T: Transport> Github<T> {
    /// Tries everything that serving `target` needs. Of many repositories one is tried. Registering is tried by asking
    /// for a registration token, which registers nothing and expires within the hour.
    pub async fn probe(&self, target: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut note = |reach, place: &str, problem: Option<ForgeError>| {
            findings.push(Finding { reach, place: place.to_owned(), problem });
        };
        let route = match self.route(target) {
            Ok(route) => route,
            Err(error) => {
                note(Reach::Repositories, target, Some(error));
                return findings;
            }
        };
        let scope = Scope::parse(&route.target.name);
        let mut tried = None;
        let mut any_public = false;
        if !matches!(scope, Scope::Enterprise(_)) {
            match self.repositories(&route.target.name).await {
                Ok(found) => {
                    let now = route.login.transport.now();
                    let mut served = found.iter().filter(|repository| serves(route.target, repository, now)).peekable();
                    tried = served.peek().map(|repository| repository.name.clone());
                    any_public = served.any(|repository| repository.public == Some(true));
                    let none = tried.is_none().then(|| {
                        let message = format!(
                            "{target}: none of its {} repositories is served. Remedy: correct include, exclude and \
                             pushed_within, or give the credential access to them",
                            found.len()
                        );
                        ForgeError::new(ErrorKind::NotFound, message)
                    });
                    note(Reach::Repositories, target, none);
                }
                Err(error) => note(Reach::Repositories, target, Some(error)),
            }
        }
        if let Some(repository) = &tried {
            let path = format!("/repos/{repository}/actions/runs?per_page=1");
            let runs = self.call(&route, Call::get(path), &[StatusCode::OK]).await;
            note(Reach::Runs, repository, runs.err());
        }
        let scope = match (route.target.registers_with_repositories(), tried) {
            (true, Some(repository)) => Scope::Repository(repository),
            (true, None) => return findings,
            (false, _) => scope,
        };
        let place = scope.to_string();
        let path = format!("{}/actions/runners?per_page=1", path_of(&scope));
        note(Reach::Runners, &place, self.call(&route, Call::get(path), &[StatusCode::OK]).await.err());
        let path = format!("{}/actions/runners/registration-token", path_of(&scope));
        let call = Call { method: Method::POST, ..Call::get(path) };
        let register = self.call(&route, call, &[StatusCode::CREATED, StatusCode::OK]).await;
        note(Reach::Register, &place, register.err());
        if !matches!(scope, Scope::Repository(_)) {
            self.probe_group(&route, &scope, any_public, &mut note).await;
        }
        findings
    }

    /// Tries whether jobs of `target` may be run again, with a job that there is not. None = there is nothing to try it
    /// with.
    pub async fn probe_rerun(&self, target: &str) -> Option<Finding> {
        let route = self.route(target).ok()?;
        let found = self.repositories(&route.target.name).await.ok()?;
        let now = route.login.transport.now();
        let place = found.into_iter().find(|repository| serves(route.target, repository, now))?.name;
        let problem = self.call(&route, Call::rerun(&place, 0), &[StatusCode::NOT_FOUND]).await.err();
        Some(Finding { reach: Reach::Rerun, place, problem })
    }

    async fn probe_group(
        &self,
        route: &Route<'_, T>,
        scope: &Scope,
        any_public: bool,
        note: &mut impl FnMut(Reach, &str, Option<ForgeError>),
    ) {
        let place = scope.to_string();
        let wanted = route.target.runner_group.as_deref();
        let groups = match self.groups_of(route, scope).await {
            Ok(groups) => groups,
            Err(error) => return note(Reach::Group, &place, Some(error)),
        };
        match (groups::joined(&groups, wanted), wanted) {
            (None, Some(name)) => note(Reach::Group, &place, Some(groups::unknown(&place, name, &groups))),
            (None, None) => note(Reach::Group, &place, None),
            (Some(group), _) => {
                note(Reach::Group, &place, None);
                // Such a group ignores their jobs without a word.
                let excluded = any_public && group.allows_public_repositories == Some(false);
                let problem = excluded.then(|| {
                    let message = format!(
                        "{place}: the runner group {:?} does not serve public repositories, of which the target has \
                         some: their jobs stay queued. Remedy: allow public repositories in the group, or exclude them",
                        group.name
                    );
                    ForgeError::new(ErrorKind::Refused, message)
                });
                note(Reach::PublicRepositories, &place, problem);
            }
        }
    }
}
