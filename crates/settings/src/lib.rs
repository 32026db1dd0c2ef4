//! What people write, merged with the environment, checked into [`Settings`].
//!
//! Three steps that never mix: [`file`] parses a TOML or JSON file, [`environment`] lays the environment over it,
//! [`check`] turns the result into [`Settings`] or a list of [`Problem`]s, each naming the key, what is wrong with its
//! value and the remedy. Secrets are never part of the settings; only the paths of their files.
//!
//! The checked settings are also a file: `units` writes them as root, and every process that works for a container or
//! with the forge reads them back by [`resolved`], without a second check.
//!
//! # Where to add a key
//!
//! 1. `file.rs`: a field of its table, with description, default and range. This is where a key is defined. A table in
//!    which every key is kept as it is written (`Http`, `Ids`, `GithubApi`, `Webhook`) needs no more of this crate.
//! 2. `settings.rs` (`class_network.rs` for a class's network): the field of what the table is checked into; then the
//!    compiler names the line in `check/` that fills it. Only a rule beyond a range (a name, another key) takes more.
//! 3. `nix/options.nix`: the option; the command-line suite refuses a key without one, and another default.
//! 4. `UPDATE_REFERENCE=1 make command-line` writes docs/configuration.md anew, `make nix-options` docs/options.md.

mod cache;
pub mod check;
mod checker;
mod class_network;
mod class_size;
pub mod docker;
pub mod environment;
pub mod file;
mod gpu;
pub mod host_name;
mod hours;
mod nix;
mod pattern;
pub mod pool;
mod problem;
mod proxy;
mod range;
pub mod reference;
pub mod renewable;
pub mod resolved;
pub mod service;
mod settings;
mod short_form;
pub mod token_file;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use class_network::{ClassNetwork, Destination, SharedNetwork};
pub use class_size::ClassSize;
pub use file::{GithubApi, Http, Ids, Retry, Webhook};
pub use gpu::Gpu;
pub use hours::Hours;
pub use problem::{Problem, Problems};
pub use proxy::Proxy;
pub use service::Service;
pub use settings::{
    Admission, Cache, Class, Credential, CredentialKind, Device, Docker, ForgeKind, IDS, Intake, Limits, NIX_STORE,
    Network, Nix, PRIVILEGED_COST, RUNNER_MOUNT, Root, Settings, Sharing, Target, TargetKind, Template, is_store_path,
};

/// Reads `path` (if given), lays the environment over it and checks the result. Settings that were checked before
/// ([`resolved`]) are returned as they are.
///
/// `env` looks a variable up; the real one is `|key| std::env::var(key).ok()`.
pub fn load(path: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Result<Settings, Problems> {
    let (mut written, job_timeout) = match path {
        Some(path) if resolved::is_resolved(path) => return resolved::read(path),
        Some(path) => (file::read(path)?, file::JOB_TIMEOUT),
        None => (file::SettingsWritten::default(), file::JOB_TIMEOUT_WITHOUT_FILE),
    };
    written.job_timeout.get_or_insert(job_timeout);
    environment::apply(&mut written, env)?;
    check::check(written)
}
