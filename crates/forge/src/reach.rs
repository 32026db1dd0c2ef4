//! What a credential reaches at its forge, as `check` shows it.

use crate::ForgeError;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The forge has all that is asked of it.
    Version,
    /// See the target's repositories.
    Repositories,
    /// See runs and their jobs.
    Runs,
    /// See registered runners.
    Runners,
    /// Register runners.
    Register,
    /// Run jobs again.
    Rerun,
    /// The runner group is there.
    Group,
    /// The runner group serves public repositories, where there are such.
    PublicRepositories,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub reach: Reach,
    /// The repository or scope it was tried with.
    pub place: String,
    /// Why it does not work, with the remedy; `None` = it works.
    pub problem: Option<ForgeError>,
}
