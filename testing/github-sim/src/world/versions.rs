//! Which runner versions GitHub still accepts, and until when.

use super::World;
use crate::runner_service::CURRENT_VERSION;
use std::collections::BTreeMap;
use std::time::Duration;

/// Released versions and when each stops getting jobs; the current one has no such date yet.
#[derive(Debug)]
pub(crate) struct Versions(BTreeMap<String, Option<Duration>>);

impl Default for Versions {
    fn default() -> Self {
        Self(BTreeMap::from([(CURRENT_VERSION.to_owned(), None)]))
    }
}

impl World {
    /// Refuses runners older than this from now on.
    pub fn set_minimum_runner_version(&mut self, version: Option<(u32, u32, u32)>) {
        self.config.minimum_runner_version = version;
    }

    /// Makes a version known, with the time from which its runners are refused.
    pub fn set_runner_deprecation(&mut self, version: &str, at: Option<Duration>) {
        self.versions.0.insert(version.to_owned(), at);
    }

    /// When a version stops getting jobs; nothing for one that was never released.
    pub(crate) fn runner_deprecation(&self, version: &str) -> Option<Option<Duration>> {
        self.versions.0.get(version).copied()
    }

    pub(super) fn is_too_old(&self, version: &str) -> bool {
        if let Some(Some(at)) = self.runner_deprecation(version)
            && self.now >= at
        {
            return true;
        }
        let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
        let mut next = || parts.next().flatten();
        match (self.config.minimum_runner_version, next(), next(), next()) {
            (Some(minimum), Some(major), Some(minor), Some(patch)) => (major, minor, patch) < minimum,
            (Some(_), ..) => true,
            (None, ..) => false,
        }
    }
}
