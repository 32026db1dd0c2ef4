//! What people write, merged with the environment, checked into [`Settings`].
//!
//! Three steps that never mix: [`file`] parses a TOML or JSON file into optional fields, [`environment`] lays the
//! environment over it, [`check`] turns the result into [`Settings`] or a list of [`Problem`]s, each naming the key,
//! what is wrong with its value and the remedy. Secrets are never part of the settings; only the paths of their files.

mod cache;
pub mod check;
pub mod docker;
pub mod environment;
pub mod file;
mod limits;
mod pattern;
pub mod pool;
mod problem;
pub mod reach;
mod resolved;
mod settings;
pub mod token_file;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use problem::{Problem, Problems};
pub use reach::{Destination, Reach, Shared};
pub use settings::{
    Cache, Class, Credential, CredentialKind, Docker, Github, Http, IDS, Ids, Intake, Limits, NIX_STORE, Network,
    PRIVILEGED_COST, RUNNER_MOUNT, Root, Settings, Sharing, Target, TargetKind, Template, Webhook, is_store_path,
};

/// Reads `path` (if given), lays the environment over it and checks the result.
///
/// `env` looks a variable up; the real one is `|key| std::env::var(key).ok()`.
pub fn load(path: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Result<Settings, Problems> {
    let mut written = match path {
        Some(path) => file::read(path)?,
        None => file::Written::default(),
    };
    environment::apply(&mut written, env)?;
    check::check(written)
}
