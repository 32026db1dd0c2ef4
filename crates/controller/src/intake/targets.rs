//! Targets: what the operator configured to be served, and the credential each is asked with.

use settings::TargetKind;

use super::Intake;
use crate::{ports::World, time::Mono};

/// A configured target as the controller knows it.
#[derive(Debug)]
pub(super) struct TargetState {
    /// What the operator decided.
    pub settings: settings::Target,
    /// When its repositories are listed next; None if never, or just now.
    pub next_discovery: Option<Mono>,
    /// When they were last listed, by the wall clock in milliseconds.
    pub discovered_ms: Option<u64>,
    /// Listings failed in a row.
    pub failures: u32,
    /// What the forge last refused, until it succeeds.
    pub last_error: Option<String>,
}

impl TargetState {
    /// Its repositories are listed by the forge.
    pub fn is_discovered(&self) -> bool {
        matches!(self.settings.kind, TargetKind::Organisation | TargetKind::User | TargetKind::Instance)
    }

    /// They are being listed now.
    pub fn is_being_listed(&self) -> bool {
        self.is_discovered() && self.next_discovery.is_none()
    }
}

impl<W: World> Intake<'_, W> {
    /// Takes the targets from the settings.
    pub(super) fn configure_targets(&mut self) {
        for settings in self.settings.targets.clone() {
            let name = settings.name.clone();
            let (kind, with_repositories) = (settings.kind, settings.registers_with_repositories());
            let mut target =
                TargetState { settings, next_discovery: None, discovered_ms: None, failures: 0, last_error: None };
            target.next_discovery = target.is_discovered().then_some(Mono::START);
            self.targets.insert(name.clone(), target);
            if kind == TargetKind::Repository {
                self.add_repository(&name, &name, None, Mono::START);
            } else if !with_repositories {
                self.add_place(&name, &name, false);
            }
        }
    }
}
