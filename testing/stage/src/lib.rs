//! The product in the lab against the simulated GitHub.

pub mod browser;
pub mod python;
pub mod registry;
pub mod scenario;
pub mod show;
mod stage;

pub use stage::{REPO, SERVICE, Stage, StageConfig, TOKEN, TOKEN_FILE, program, unit};
