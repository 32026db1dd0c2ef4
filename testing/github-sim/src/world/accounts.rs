//! Owners of repositories: organisations, users, and the enterprises organisations belong to.

use super::{Scope, World, WorldError};
use serde::{Deserialize, Serialize};

/// What an owner is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// An organisation; has runners and runner groups of its own.
    #[default]
    Organization,
    /// A person; has only repositories.
    User,
}

/// An owner to add or to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSpec {
    /// Login.
    pub login: String,
    /// What it is.
    #[serde(default)]
    pub kind: AccountKind,
    /// The enterprise an organisation belongs to.
    #[serde(default)]
    pub enterprise: Option<String>,
}

impl World {
    /// Adds an owner, or changes what is known of one. The owner of a repository nobody said anything of is an
    /// organisation in no enterprise.
    ///
    /// # Errors
    /// If a user is put into an enterprise, or the login is none.
    pub fn set_account(&mut self, spec: AccountSpec) -> Result<(), WorldError> {
        if spec.login.is_empty() || spec.login.contains('/') {
            return Err(WorldError::Refused(format!("{:?} is not a login", spec.login)));
        }
        if spec.kind == AccountKind::User && spec.enterprise.is_some() {
            return Err(WorldError::Refused("only organisations belong to enterprises".to_owned()));
        }
        self.note_owner(&spec.login);
        self.accounts.insert(spec.login.to_lowercase(), spec);
        Ok(())
    }

    /// An owner as it writes itself, and what it is; nothing if nobody ever heard of it.
    pub(crate) fn account(&self, login: &str) -> Option<(String, AccountKind)> {
        if let Some(spec) = self.accounts.get(&login.to_lowercase()) {
            return Some((spec.login.clone(), spec.kind));
        }
        let own = self.repos.values().find(|repo| repo.belongs_to(login));
        own.map(|repo| (repo.owner.clone(), AccountKind::Organization))
    }

    pub(super) fn enterprise_of(&self, login: &str) -> Option<&str> {
        self.accounts.get(&login.to_lowercase())?.enterprise.as_deref()
    }

    /// What the address of a repository, organisation or enterprise means, as the bootstrap of scale sets names it.
    pub(crate) fn scope_of_url(&self, url: &str) -> Option<Scope> {
        let path = url.parse::<http::Uri>().ok()?.path().to_owned();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            ["enterprises", name] => self.enterprise(name).map(Scope::Enterprise),
            [owner] => self.organization(owner).map(Scope::Org),
            [owner, name] => self.repo_id(&format!("{owner}/{name}")).ok().map(Scope::Repo),
            _ => None,
        }
    }

    /// An organisation as it writes itself.
    pub(crate) fn organization(&self, login: &str) -> Option<String> {
        self.account(login).filter(|(_, kind)| *kind == AccountKind::Organization).map(|(login, _)| login)
    }

    /// An enterprise as its first organisation writes it.
    pub(crate) fn enterprise(&self, name: &str) -> Option<String> {
        let all = self.accounts.values().filter_map(|account| account.enterprise.as_ref());
        all.filter(|own| own.eq_ignore_ascii_case(name)).min().cloned()
    }
}
