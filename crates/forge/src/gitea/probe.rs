//! What a token reaches, tried one by one without leaving anything behind.

use contract::ActFlavour;
use http::Method;

use super::{
    Gitea,
    models::{RegistrationToken, RunnersPage, Version},
    place::{Place, page},
};
use crate::{ErrorKind, Finding, ForgeError, Reach, selection::serves, wire::Wire};

/// The oldest versions that have all that is asked of them: runners for one job that can be disabled (Gitea), that can
/// be registered by the API and bound to a job (Forgejo).
const OLDEST: [(ActFlavour, &str, (u32, u32)); 2] =
    [(ActFlavour::Gitea, "Gitea", (1, 26)), (ActFlavour::Forgejo, "Forgejo", (15, 0))];

impl<W: Wire> Gitea<W> {
    /// Tries everything that serving `target` needs. Of many repositories one is tried. Registering is tried by asking
    /// for a registration token, which is the same each time and registers nothing.
    pub async fn probe(&self, target: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut note = |reach, place: &str, problem: Option<ForgeError>| {
            findings.push(Finding { reach, place: place.to_owned(), problem });
        };
        let version = match self.api.get::<Version>("/version").await {
            Ok(told) => self.too_old(&told.version),
            Err(error) => Some(error),
        };
        note(Reach::Version, target, version);
        let (place, settings) = match self.place(target).and_then(|place| Ok((place, self.target_of(target)?))) {
            Ok(found) => found,
            Err(error) => {
                note(Reach::Repositories, target, Some(error));
                return findings;
            }
        };
        let tried = match self.repositories(&place).await {
            Ok(found) => {
                let now = self.api.now();
                let tried = found.iter().find(|repository| serves(settings, repository, now));
                let none = tried.is_none().then(|| {
                    let message = format!(
                        "{target}: none of its {} repositories is served. Remedy: correct include, exclude and \
                         pushed_within, or give the token's user access to them",
                        found.len()
                    );
                    ForgeError::new(ErrorKind::NotFound, message)
                });
                note(Reach::Repositories, target, none);
                tried.map(|repository| repository.name.clone())
            }
            Err(error) => {
                note(Reach::Repositories, target, Some(error));
                None
            }
        };
        note(Reach::Runs, target, self.list(&place).await.err());
        let scope = match (settings.registers_with_repositories(), &tried) {
            (true, None) => return findings,
            (true, Some(repository)) => repository,
            (false, _) => target,
        };
        let registered = self.place(scope).unwrap_or(Place::Instance);
        let runners = self.api.get::<RunnersPage>(&page(&registered.runners(), 1, 1)).await;
        note(Reach::Runners, scope, runners.err());
        let token = format!("{}/registration-token", registered.runners());
        let method = if self.flavour == ActFlavour::Gitea { Method::POST } else { Method::GET };
        note(Reach::Register, scope, self.api.ask::<RegistrationToken>(method, &token, None).await.err());
        findings
    }

    /// What is wrong with a version, in words.
    fn too_old(&self, version: &str) -> Option<ForgeError> {
        let (_, name, oldest) = OLDEST.into_iter().find(|(flavour, ..)| *flavour == self.flavour)?;
        // Forgejo tells the Gitea whose API it has behind a plus sign: `15.0.1+gitea-1.22.0`.
        let is_forgejo = version.contains("+gitea");
        let mut numbers = version.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
        let refused = if is_forgejo != (self.flavour == ActFlavour::Forgejo) {
            let (is, word) = if is_forgejo { ("a Forgejo", "forgejo") } else { ("no Forgejo", "gitea") };
            format!("it is {is} (version {version}). Remedy: write kind = \"{word}\" in the credential")
        } else {
            match (numbers.next(), numbers.next()) {
                // Of a version without numbers, as developers build it, nobody knows.
                (Some(major), minor) if (major, minor.unwrap_or_default()) < oldest => {
                    format!("{name} {version} is older than {}.{}. Remedy: update it", oldest.0, oldest.1)
                }
                _ => return None,
            }
        };
        Some(ForgeError::new(ErrorKind::Refused, refused))
    }
}
