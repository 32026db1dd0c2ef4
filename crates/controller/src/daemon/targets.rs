//! What the operator named: repositories to look at, and places to register runners with.

use std::time::Duration;

use settings::TargetKind;

use super::Daemon;
use crate::edges::World;

/// A configured target as the controller knows it.
#[derive(Debug)]
pub(super) struct Target {
    /// What the operator decided.
    pub settings: settings::Target,
    /// When its repositories are listed next; `None` = never, or just now.
    pub next_discovery: Option<Duration>,
    /// When they were last listed, by the wall clock in milliseconds.
    pub discovered_ms: Option<u64>,
    /// Listings failed in a row.
    pub failures: u32,
    /// What the forge last refused, until it succeeds.
    pub last_error: Option<String>,
}

impl Target {
    /// Its repositories are listed by the forge.
    pub fn is_discovered(&self) -> bool {
        matches!(self.settings.kind, TargetKind::Organisation | TargetKind::User)
    }
}

impl<W: World> Daemon<'_, W> {
    /// Takes the targets from the settings: explicit repositories and organisations are there from the start.
    pub(super) fn configure_targets(&mut self) {
        for settings in self.settings.targets.clone() {
            let name = settings.name.clone();
            let mut target =
                Target { settings, next_discovery: None, discovered_ms: None, failures: 0, last_error: None };
            if target.is_discovered() {
                target.next_discovery = Some(Duration::ZERO);
            }
            let (kind, with_repositories) = (target.settings.kind, target.settings.registers_with_repositories());
            self.targets.insert(name.clone(), target);
            if kind == TargetKind::Repository {
                self.add_repository(&name, &name, None, Duration::ZERO);
            } else if !with_repositories {
                self.add_scope(&name, &name, false);
            }
        }
    }

    /// The target that a runner registered with `scope` serves. Of a repository nobody serves any more, its owner's.
    pub(super) fn target_of(&self, scope: &str) -> Option<&Target> {
        let named = self.scopes.get(scope).map(|place| place.target.as_str());
        named.or(scope.split('/').next()).and_then(|name| self.targets.get(name))
    }
}
