//! What an operator may ask for, and what is answered. Decided and done by the loop; the answer comes back by a channel.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::ToSchema;

/// What the loop is asked for.
#[derive(Debug)]
pub enum LoopCommand {
    /// Take no new jobs, finish what is being started, return. Containers go on.
    Shutdown,
    /// Something may have happened in a repository (`owner/repository`): look at it now. A hint, and no more.
    LookAgain {
        /// As the forge writes it. One that is not served is ignored.
        repository: String,
    },
    /// Do what an operator asks for.
    Operate(OperatorOrder),
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Take no new jobs, until told otherwise, over restarts as well. Running jobs go on; idle containers go.
    Drain {
        /// Of this class; none = the host.
        class: Option<String>,
    },
    /// Take jobs again.
    Resume {
        /// Of this class; none = the host. What else is drained stays so.
        class: Option<String>,
    },
    /// End a container, whatever it does.
    Stop {
        /// Its name.
        container: String,
    },
    /// Boot a container though no job asks for one. It goes by itself when none comes.
    Provision {
        /// `owner/repository` whose jobs it is to take, or another place runners are registered with.
        repo: String,
        /// Of this class; none = the smallest that serves there.
        class: Option<String>,
    },
}

/// An operation, who asked for it, and where the answer goes.
#[derive(Debug)]
pub struct OperatorOrder {
    /// What.
    pub operation: Operation,
    /// Who, for the journal: `uid 0`.
    pub by: String,
    /// Where to.
    pub answer: oneshot::Sender<Result<Done, Denied>>,
}

/// It is done, or certain to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// What was done, for people.
    pub message: String,
    /// The container it was done to, or that comes of it.
    pub container: Option<String>,
}

/// Why it is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no such class, container or repository.
    #[error("{0}")]
    NotFound(String),
    /// Not as things are now.
    #[error("{0}")]
    Conflict(String),
    /// Something failed.
    #[error("{0}")]
    Failed(String),
}
