//! A real Gitea in a place of the lab: built from its Go module once for all labs, started for one. And, as a program
//! beside it, a stand-in for the runners of Gitea and Forgejo, `fakeactrunner`.

mod build;
pub mod http;
mod server;
pub mod walk;

pub use server::{Gitea, Job, PORT};

/// The variable with the path of a real `gitea-runner` that is to run jobs in place of the stand-in.
pub const GITEA_RUNNER: &str = "GHA_LAB_GITEA_RUNNER";
/// The same of a `forgejo-runner`.
pub const FORGEJO_RUNNER: &str = "GHA_LAB_FORGEJO_RUNNER";
