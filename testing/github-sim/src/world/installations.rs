//! Where the GitHub App is installed and what it may do there.

use super::{Access, Grant, Permissions, TokenSpec, World, WorldError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Id of the first installation.
const FIRST: u64 = 4_711;
/// Life of an installation token, in seconds.
pub(crate) const TOKEN_LIFE: u64 = 3_600;

/// An installation of the App in one account. Every owner of a repository has one unless told otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallationSpec {
    /// The account.
    pub owner: String,
    /// False once it was uninstalled: nobody finds it any more and its tokens are refused.
    #[serde(default = "yes")]
    pub installed: bool,
    /// Suspended ones get no tokens.
    #[serde(default)]
    pub suspended: bool,
    /// What it may do.
    #[serde(default = "all_permissions")]
    pub permissions: Permissions,
    /// Only these repositories, `owner/name`; `None` for all.
    #[serde(default)]
    pub repositories: Option<BTreeSet<String>>,
}

impl InstallationSpec {
    /// All repositories of an account, with all permissions a controller can need.
    #[must_use]
    pub fn of(owner: &str) -> Self {
        Self {
            owner: owner.to_owned(),
            installed: true,
            suspended: false,
            permissions: all_permissions(),
            repositories: None,
        }
    }
}

fn yes() -> bool {
    true
}

fn all_permissions() -> Permissions {
    let write = ["actions", "administration", "organization_self_hosted_runners"];
    let mut all: Permissions = write.iter().map(|name| ((*name).to_owned(), Access::Write)).collect();
    all.insert("metadata".to_owned(), Access::Read);
    all
}

/// Why there is no token for an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InstallationError {
    /// There is no such installation.
    Missing,
    /// It is suspended.
    Suspended,
    /// More is asked for than the App may do there: this.
    TooMuch(String),
}

impl World {
    /// Every account gets an installation when it is first heard of, so ids stay what they are.
    pub(super) fn note_owner(&mut self, owner: &str) {
        if !self.installations.iter().any(|own| own.owner.eq_ignore_ascii_case(owner)) {
            self.installations.push(InstallationSpec::of(owner));
        }
    }

    /// Changes what the App may do in an account.
    ///
    /// # Errors
    /// If nobody ever heard of the account.
    pub fn set_installation(&mut self, spec: InstallationSpec) -> Result<u64, WorldError> {
        let at = self.installations.iter().position(|own| own.owner.eq_ignore_ascii_case(&spec.owner));
        let at = at.ok_or_else(|| WorldError::Refused(format!("there is no account {:?}", spec.owner)))?;
        if !spec.installed {
            self.revoke_installation_tokens_of(&spec.owner);
        }
        self.installations[at] = spec;
        Ok(FIRST + at as u64)
    }

    /// Installations with their ids.
    pub(crate) fn installations(&self) -> impl Iterator<Item = (u64, &InstallationSpec)> {
        let all = self.installations.iter().enumerate().map(|(at, spec)| (FIRST + at as u64, spec));
        all.filter(|(_, spec)| spec.installed)
    }

    /// A token for an installation, for all it may do or for less.
    pub(crate) fn new_installation_token(
        &mut self,
        id: u64,
        permissions: Option<Permissions>,
        repositories: Option<BTreeSet<String>>,
    ) -> Result<(String, TokenSpec), InstallationError> {
        let spec = self.installations().find(|(own, _)| *own == id).map(|(_, spec)| spec.clone());
        let spec = spec.ok_or(InstallationError::Missing)?;
        if spec.suspended {
            return Err(InstallationError::Suspended);
        }
        for (name, access) in permissions.iter().flatten() {
            if spec.permissions.get(name).is_none_or(|own| own < access) {
                return Err(InstallationError::TooMuch(name.clone()));
            }
        }
        for wanted in repositories.iter().flatten() {
            let is_selected =
                spec.repositories.as_ref().is_none_or(|own| own.iter().any(|own| own.eq_ignore_ascii_case(wanted)));
            if self.repo_id(wanted).is_err() || !is_selected {
                return Err(InstallationError::TooMuch(wanted.clone()));
            }
        }
        let token = self.new_secret("ghs_", 36);
        let grant = Grant::Installation {
            owner: spec.owner,
            permissions: permissions.unwrap_or(spec.permissions),
            repositories: repositories.or(spec.repositories),
        };
        let spec = TokenSpec { token: token.clone(), grant, lives_s: Some(TOKEN_LIFE), ..TokenSpec::default() };
        self.set_token(self.now, spec.clone());
        Ok((token, spec))
    }
}
