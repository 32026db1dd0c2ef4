//! What may stop this host from serving jobs, seen coming.

pub mod runner_version;
