//! What systemd says of container units, and the end of a container.

use std::{collections::BTreeMap, time::Duration};

use contract::ContainerName;
use tracing::{info, warn};

use super::{Event, Fleet, Outcome, PICKUP_KEPT};
use crate::{
    cause::{Cause, cause},
    phase::Phase,
    ports::{PortError, Records, Systemd, Unit, UnitState, World},
    record::Stage,
    time::Now,
};

/// How often all units are listed even if no signal came.
const RELIST: Duration = Duration::from_secs(30);
/// A container that ends by itself so soon, and without a job, speaks against the next one.
const FRUITLESS: Duration = Duration::from_secs(60);

impl<W: World> Fleet<'_, W> {
    /// Lists all units if that is due, and forgets pickups that cannot matter any more.
    pub fn list_if_due(&mut self, now: Now) {
        while self.pickups.front().is_some_and(|pickup| pickup.at < now.mono - PICKUP_KEPT) {
            self.pickups.pop_front();
        }
        if now.mono < self.next_list || self.listing {
            return;
        }
        self.listing = true;
        self.next_list = now.mono + RELIST;
        let (world, began) = (self.world, now.round);
        self.effects.start(async move { Outcome::Listed { began, result: world.systemd().list().await } });
    }

    /// A full listing: what is not in it is gone.
    pub(super) fn listed(&mut self, began: u64, result: Result<Vec<Unit>, PortError>, now: Now) {
        self.listing = false;
        let units = match result {
            Ok(units) => units,
            Err(error) => {
                warn!(%error, "units cannot be listed");
                self.systemd_error = Some(error.0);
                return;
            }
        };
        self.systemd_error = None;
        let units: BTreeMap<ContainerName, Unit> = units.into_iter().map(|unit| (unit.name.clone(), unit)).collect();
        self.orphans.retain(|name| units.get(name).is_some_and(|unit| is_there(unit.state)));
        // Only units whose start was answered before the listing began are expected in it.
        let expected: Vec<ContainerName> = self
            .containers
            .values()
            .filter(|c| c.requested_in < began)
            .filter(|c| match c.record.stage {
                Stage::Started => !c.in_flight,
                Stage::Stopping { .. } => true,
                Stage::Minting | Stage::Settling { .. } => false,
            })
            .map(|c| c.record.name.clone())
            .collect();
        for name in expected {
            let state = units.get(&name).map_or(UnitState::Inactive, |unit| unit.state);
            self.unit_is(&name, state, now);
        }
        for unit in units.into_values().filter(|unit| is_there(unit.state)) {
            let explained = self.containers.get(&unit.name).is_some_and(|container| !container.has_ended());
            if !explained && self.orphans.insert(unit.name.clone()) {
                self.stop_orphan(unit);
            }
        }
    }

    /// Changes heard by signal; an empty list = list them all.
    pub fn heard(&mut self, units: Vec<Unit>, now: Now) {
        if units.is_empty() {
            self.next_list = now.mono;
        }
        for unit in units {
            // A start whose answer is still under way is judged by the listing after it.
            let starting = self
                .containers
                .get(&unit.name)
                .is_some_and(|c| c.in_flight && c.record.stage == Stage::Started && !is_there(unit.state));
            if starting {
                self.next_list = now.mono;
            } else {
                self.unit_is(&unit.name, unit.state, now);
            }
        }
    }

    fn unit_is(&mut self, name: &ContainerName, state: UnitState, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        match container.record.stage {
            Stage::Started | Stage::Stopping { .. } if !is_there(state) => self.unit_ended(name, now),
            Stage::Started => {
                container.unit_is(state, now.wall.as_millis(), now.mono);
            }
            Stage::Minting | Stage::Stopping { .. } | Stage::Settling { .. } => {}
        }
    }

    /// Nothing explains this unit: neither a record nor a hand-over.
    pub(super) fn stop_orphan(&mut self, unit: Unit) {
        warn!(unit = %unit.name, class = unit.class, "a container unit that no record explains is stopped");
        let world = self.world;
        self.effects.start(async move {
            let result = world.systemd().stop(&unit.class, &unit.name).await;
            Outcome::Stopped { name: unit.name, result }
        });
    }

    /// The unit is gone: finds out why, and goes on to settle the registration.
    pub(super) fn unit_ended(&mut self, name: &ContainerName, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let decided = match container.record.stage {
            Stage::Stopping { cause } => Some(cause),
            _ => None,
        };
        let ending = self.world.records().ending(name).filter(|ending| container.owns(ending, now.wall));
        if let Some(ending) = &ending {
            container.ended_with(ending);
            for left in &ending.left_behind {
                warn!(container = %name, left, "teardown left something behind");
            }
        }
        let found = cause(&container.evidence(decided, ending.as_ref()));
        if let Some(ending) = ending {
            // What was said before a job explains no end after one.
            let said = container.trouble_message.take().filter(|_| !container.had_job());
            let words = said.or(ending.last_words).filter(|_| found.is_boot_failure());
            container.reason = container.reason.take().or(ending.error).or(words);
        }
        // Ended by itself as soon as it was there: the next one would as well.
        let is_fruitless = decided.is_none()
            && !found.is_boot_failure()
            && !container.had_job()
            && !container.stopped
            && now.mono - container.asked_at < FRUITLESS;
        self.end(name, found, now);
        if is_fruitless {
            self.report_failure(name);
        }
    }

    /// Nothing of the container is left on the host, or ever was; the registration remains to be settled.
    pub(super) fn end(&mut self, name: &ContainerName, cause: Cause, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        if let Some(feed) = container.feed.take() {
            feed.abort();
        }
        container.record.stage = Stage::Settling { cause };
        container.record.timeline.ended_ms.get_or_insert(now.wall.as_millis());
        container.in_flight = false;
        container.advance(if cause.is_good_order() { Phase::Gone } else { Phase::Failed }, now.mono);
        container.not_before = now.mono;
        let (class, scope) = (container.record.class.clone(), &container.record.scope);
        let reason = container.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        info!(container = %name, class, scope, cause = %cause, "{name}: ended: {cause}{reason}");
        let (had_job, container_task) = (container.had_job(), container.record.task);
        if container.record.set && had_job {
            self.events.push(Event::EndedWithJob { key: container.set_key() });
        }
        self.remember(name);
        // With the grant its job may have to be ended.
        if container_task.is_none() {
            self.take_back(name);
        }
        // After a job was taken, it may be the job that speaks, or that ended the runner: the next one is not held up.
        if cause.is_boot_failure() && !had_job {
            self.report_failure(name);
        }
        // After a job was taken, what speaks of a refusal is the job.
        if cause == Cause::RunnerRefused && !had_job {
            self.events.push(Event::RunnerRefused { class });
        }
    }
}

impl<W: World> Fleet<'_, W> {
    pub(super) fn take_back(&self, name: &ContainerName) {
        if let Err(error) = self.world.records().take_back(name) {
            warn!(container = %name, %error, "hand-over not taken back");
        }
    }
}

fn is_there(state: UnitState) -> bool {
    !matches!(state, UnitState::Inactive | UnitState::Failed)
}
