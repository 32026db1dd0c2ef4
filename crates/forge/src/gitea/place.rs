//! Places at a Gitea or Forgejo, and where each is below the API root.

use contract::ActFlavour;

/// Where runners are registered and jobs are listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// One repository, `owner/repository`.
    Repository(String),
    /// An organisation.
    Organisation(String),
    /// The account whose token is used, by its name.
    Account(String),
    /// All of the forge.
    Instance,
}

impl Place {
    fn path(&self) -> String {
        match self {
            Self::Repository(name) => format!("/repos/{name}"),
            Self::Organisation(name) => format!("/orgs/{name}"),
            Self::Account(_) => "/user".to_owned(),
            Self::Instance => "/admin".to_owned(),
        }
    }

    /// Its runners.
    pub fn runners(&self) -> String {
        format!("{}/actions/runners", self.path())
    }

    /// Its jobs that are not over.
    pub fn jobs(&self, flavour: ActFlavour) -> String {
        match (flavour, self) {
            (ActFlavour::Gitea, _) => {
                format!("{}/actions/jobs?status=queued&status=in_progress&status=waiting", self.path())
            }
            (ActFlavour::Forgejo, Self::Instance) => "/admin/runners/jobs".to_owned(),
            (ActFlavour::Forgejo, _) => format!("{}/actions/runners/jobs", self.path()),
        }
    }

    /// Its repositories.
    pub fn repositories(&self) -> String {
        match self {
            Self::Repository(name) => format!("/repos/{name}"),
            Self::Organisation(name) => format!("/orgs/{name}/repos"),
            Self::Account(name) => format!("/users/{name}/repos"),
            Self::Instance => "/repos/search".to_owned(),
        }
    }
}

/// `path` with `limit` entries a page, this page of them.
pub(super) fn page(path: &str, limit: usize, number: usize) -> String {
    let mark = if path.contains('?') { '&' } else { '?' };
    format!("{path}{mark}limit={limit}&page={number}")
}
