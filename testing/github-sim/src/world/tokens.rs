//! Which tokens are accepted, until when, and what for.

use super::{Repo, World};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How much of something a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Access {
    /// Looking.
    Read,
    /// Looking and changing.
    Write,
}

impl Access {
    /// As GitHub writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Permissions by GitHub's names, such as `actions` or `organization_self_hosted_runners`.
pub type Permissions = BTreeMap<String, Access>;

/// What a token allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// Everything everywhere; such answers name neither scopes nor permissions.
    #[default]
    Everything,
    /// A classic personal token.
    Classic {
        /// Such as `repo` and `admin:org`.
        scopes: BTreeSet<String>,
    },
    /// A fine-grained personal token.
    FineGrained {
        /// The account whose resources it is for; `None` for all accounts, which no real one is.
        #[serde(default)]
        owner: Option<String>,
        /// What it may do.
        permissions: Permissions,
        /// Only these repositories, `owner/name`; `None` for all.
        #[serde(default)]
        repositories: Option<BTreeSet<String>>,
    },
    /// A token of a GitHub App for one account.
    Installation {
        /// The account.
        owner: String,
        /// What it may do.
        permissions: Permissions,
        /// Only these repositories, `owner/name`; `None` for all of the account.
        #[serde(default)]
        repositories: Option<BTreeSet<String>>,
    },
}

impl Grant {
    /// Whether the token is meant for a repository; it sees public ones in any case.
    pub(crate) fn covers(&self, repo: &Repo) -> bool {
        let named = |names: &Option<BTreeSet<String>>| {
            names.as_ref().is_none_or(|names| names.iter().any(|name| name.eq_ignore_ascii_case(&repo.full_name())))
        };
        match self {
            Self::Everything => true,
            Self::Classic { scopes } => scopes.contains("repo") || (!repo.private && scopes.contains("public_repo")),
            Self::FineGrained { owner, repositories, .. } => {
                owner.as_ref().is_none_or(|owner| repo.belongs_to(owner)) && named(repositories)
            }
            Self::Installation { owner, repositories, .. } => repo.belongs_to(owner) && named(repositories),
        }
    }

    /// Permissions by name, where the token has such.
    pub(crate) fn permissions(&self) -> Option<&Permissions> {
        match self {
            Self::Everything | Self::Classic { .. } => None,
            Self::FineGrained { permissions, .. } | Self::Installation { permissions, .. } => Some(permissions),
        }
    }
}

/// A token to accept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenSpec {
    /// The token.
    pub token: String,
    /// Whose it is; `monalisa` if empty.
    pub login: String,
    /// What it allows.
    pub grant: Grant,
    /// Requests an hour, where other than for all.
    pub rate_limit: Option<u64>,
    /// For how many seconds it is accepted.
    pub lives_s: Option<u64>,
}

/// What is known of an accepted token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) login: String,
    pub(crate) grant: Grant,
    pub(crate) expires_at: Option<Duration>,
}

/// What an `Authorization` header amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bearer {
    /// An accepted token.
    Accepted(String),
    /// Something in three parts that a GitHub App signed.
    Jwt(String),
    /// There was none.
    Missing,
    /// There was a wrong, revoked or expired one.
    Bad,
}

#[derive(Debug)]
pub(crate) struct Tokens {
    accepted: BTreeMap<String, Known>,
}

impl Tokens {
    pub(super) fn new(tokens: &[String]) -> Self {
        Self { accepted: tokens.iter().map(|token| (token.clone(), Known::default())).collect() }
    }

    fn revoke(&mut self, token: &str) -> bool {
        self.accepted.remove(token).is_some()
    }

    pub(crate) fn judge(&self, now: Duration, header: Option<&str>) -> Bearer {
        let Some(header) = header else {
            return Bearer::Missing;
        };
        let Some((scheme, token)) = header.split_once(' ') else {
            return Bearer::Bad;
        };
        if !scheme.eq_ignore_ascii_case("bearer") && !scheme.eq_ignore_ascii_case("token") {
            return Bearer::Bad;
        }
        let token = token.trim();
        match self.accepted.get(token) {
            Some(known) if known.expires_at.is_none_or(|at| now < at) => Bearer::Accepted(token.to_owned()),
            Some(_) => Bearer::Bad,
            None if token.split('.').count() == 3 && scheme.eq_ignore_ascii_case("bearer") => {
                Bearer::Jwt(token.to_owned())
            }
            None => Bearer::Bad,
        }
    }
}

impl World {
    /// Accepts one more token, for good or for a while, for everything.
    pub fn add_token(&mut self, token: &str, expires_at: Option<Duration>) {
        self.tokens.accepted.insert(token.to_owned(), Known { expires_at, ..Known::default() });
    }

    /// Accepts one more token for what it allows, or changes one.
    pub fn set_token(&mut self, now: Duration, spec: TokenSpec) {
        let expires_at = spec.lives_s.map(|s| now + Duration::from_secs(s));
        self.limits.set_own(&spec.token, spec.rate_limit);
        let known = Known { login: spec.login, grant: spec.grant, expires_at };
        self.tokens.accepted.insert(spec.token, known);
    }

    /// Refuses a token from now on. Says whether it was accepted before.
    pub fn revoke_token(&mut self, token: &str) -> bool {
        self.tokens.revoke(token)
    }

    /// Refuses all tokens of GitHub App installations given out so far. Gives how many there were.
    pub fn revoke_installation_tokens(&mut self) -> usize {
        let before = self.tokens.accepted.len();
        self.tokens.accepted.retain(|_, known| !matches!(known.grant, Grant::Installation { .. }));
        before - self.tokens.accepted.len()
    }

    pub(super) fn revoke_installation_tokens_of(&mut self, account: &str) {
        let is_its =
            |grant: &Grant| matches!(grant, Grant::Installation { owner, .. } if owner.eq_ignore_ascii_case(account));
        self.tokens.accepted.retain(|_, known| !is_its(&known.grant));
    }

    /// What limits and counters are kept for: the token, or the installation it is one of many of.
    pub(crate) fn payer(&self, bearer: &Bearer) -> String {
        match bearer {
            Bearer::Accepted(token) => match self.token(token).map(|known| &known.grant) {
                Some(Grant::Installation { owner, .. }) => format!("installation of {}", owner.to_lowercase()),
                _ => token.clone(),
            },
            Bearer::Jwt(_) => "app".to_owned(),
            Bearer::Missing | Bearer::Bad => "nobody".to_owned(),
        }
    }

    pub(crate) fn token(&self, token: &str) -> Option<&Known> {
        self.tokens.accepted.get(token)
    }
}
